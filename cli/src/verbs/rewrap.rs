//! `twinlock rewrap`

mod tree;

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use twinlock::file::{
    FileRewrap, RewrapFileError, preview_rewrap_file, preview_rewrap_header_file, rewrap_file,
    rewrap_header_file,
};
use twinlock::{Decryptor, KeySelector, KeyUri, KeyslotChange, KeyslotKeys, RewrapPlan, Side};

use super::{expecting, is_dash};
use crate::App;
use crate::args::RewrapArgs;
use crate::exit::Failure;
use crate::holders::{self, Equipped, NewKeys, Opened};
use crate::input::{self, Input};
use crate::report::{self, Outcome};
use crate::settings::{KeyPair, KeySpec, Settings};

/// What whoever rotates a key must not be left to believe.
const NOT_REVOKED: &str = "Rewrap is not revocation: an old copy of the header still opens the \
                           payload with the old keys. `twinlock reencrypt` makes a new DEK.";

/// What `--json` says.
#[derive(Serialize)]
struct Report {
    input: String,
    #[serde(flatten)]
    facts: Facts,
}

/// What it says of one file.
#[derive(Serialize)]
struct Facts {
    dry_run: bool,
    changed: bool,
    changes: Vec<Change>,
    /// An earlier rewrap had been cut short; it is finished, but for a dry run.
    repaired: bool,
    /// The new header did not fit in place: the file was written anew.
    rewritten: bool,
    /// Always false: old headers still open the payload.
    revokes: bool,
    envelope_id: String,
    generation: u64,
    context: serde_json::Value,
}

#[derive(Serialize)]
struct Change {
    before: Option<Keys>,
    after: Option<Keys>,
}

#[derive(Serialize)]
struct Keys {
    provider: String,
    customer: String,
}

pub(crate) fn run(app: &App<'_>, args: &RewrapArgs) -> Result<Outcome, Failure> {
    if args.recursive {
        return tree::run(app, args);
    }
    let file = args.header.as_deref().or(args.input.as_deref());
    let file = file
        .filter(|file| !is_dash(file))
        .ok_or_else(|| Failure::usage("rewrap changes a file in place, and stdin is a stream"))?;
    let settings = Settings::resolve(app.common, &args.keys, app.environment)?;
    let new_keys = new_keys(args, &settings)?;
    let plan = plan(args)?;
    let decryptor = expecting(&args.expected)?;

    let mut input = args.input.as_deref().map(Input::open).transpose()?;
    let name = file.display().to_string();
    let candidates = input::headers(input.as_mut(), args.header.as_deref())?;
    let headers: Vec<_> = candidates.iter().map(|candidate| &candidate.header).collect();
    let checked = headers.iter().map(|header| decryptor.check(header)).reduce(Result::or);
    checked.unwrap_or(Ok(())).map_err(|error| Failure::from(error).about(&name))?;
    if let (Some(payload), Some(_)) = (&mut input, &args.header) {
        input::check_payload(payload, headers[0])?;
    }

    let done = holders::runtime()?.block_on(async {
        let headers: Vec<_> = headers.iter().map(|header| header.header()).collect();
        let opened = Opened::default();
        let Equipped { decryptor, .. } =
            Equipped::of(decryptor, &headers, &settings, &opened).await?;
        let plan = new_keys.open(plan, &settings.access, &opened).await?;
        let done = rewrap(&decryptor, file, &plan, args.header.is_some(), args.dry_run).await;
        done.map_err(|error| Failure::from(error).about(&name))
    })?;

    let text = match app.console.quiet {
        true => String::new(),
        false => text(&name, args.dry_run, &done),
    };
    let report = Report { input: name, facts: Facts::new(args.dry_run, &done) };
    Ok(Outcome::new("rewrap", text, &report))
}

/// `is_apart` says that the file is a header alone.
async fn rewrap(
    decryptor: &Decryptor,
    file: &Path,
    plan: &RewrapPlan,
    is_apart: bool,
    dry_run: bool,
) -> Result<FileRewrap, RewrapFileError> {
    match (is_apart, dry_run) {
        (false, false) => rewrap_file(decryptor, file, plan).await,
        (false, true) => preview_rewrap_file(decryptor, file, plan).await,
        (true, false) => rewrap_header_file(decryptor, file, plan).await,
        (true, true) => preview_rewrap_header_file(decryptor, file, plan).await,
    }
}

fn plan(args: &RewrapArgs) -> Result<RewrapPlan, Failure> {
    let mut plan = RewrapPlan::new();
    if let Some(key) = &args.from_key {
        let key: Result<KeySelector, _> = key.parse();
        plan = plan.from_key(key.map_err(|e| Failure::from(e).about("--from-key"))?);
    }
    for keyslot in &args.remove {
        let KeyPair { provider, customer } = KeyPair::of_flag(keyslot, "--remove-keyslot")?;
        plan = plan.remove_keyslot(named(&provider)?, named(&customer)?);
    }
    Ok(match args.remove_unopened {
        true => plan.remove_unopened(),
        false => plan,
    })
}

fn named(spec: &KeySpec) -> Result<KeyUri, Failure> {
    let uri = spec.key_uri();
    match uri.is_alias() {
        true => Err(Failure::usage(format!(
            "--remove-keyslot: {uri} is an alias; name the key as `twinlock inspect` shows it"
        ))),
        false => Ok(uri),
    }
}

/// The keys that are to come in, together with which `settings` are used.
fn new_keys(args: &RewrapArgs, settings: &Settings) -> Result<NewKeys, Failure> {
    let of_flag = |side, uri: &Option<String>, flag| {
        uri.as_deref().map(|uri| KeySpec::of_flag(side, uri, flag)).transpose()
    };
    let new = NewKeys {
        provider: of_flag(Side::Provider, &args.to_provider, "--to-provider")?,
        customer: of_flag(Side::Customer, &args.to_customer, "--to-customer")?,
        keyslots: args
            .add
            .iter()
            .map(|keyslot| KeyPair::of_flag(keyslot, "--add-keyslot"))
            .collect::<Result<_, _>>()?,
    };
    let pairs = settings.pairs.iter().chain(&new.keyslots);
    let keys = pairs.flat_map(|pair| [&pair.provider, &pair.customer]);
    settings.access.refuse_two_services(keys.chain(&new.provider).chain(&new.customer))?;
    Ok(new)
}

fn text(name: &str, dry_run: bool, done: &FileRewrap) -> String {
    let mut text = String::new();
    let mut line = |content: String| writeln!(text, "{content}").expect("a String takes all");
    match (done.repaired, dry_run) {
        (true, false) => line(format!("{name}: finished a rewrap that had been cut short")),
        (true, true) => line(format!("{name}: would finish a rewrap that was cut short")),
        (false, _) => {}
    }
    let generation = done.header.generation();
    match (done.changes.is_empty(), dry_run) {
        (true, _) => line(format!("{name}: no keyslot to change, generation {generation}")),
        (false, true) => line(format!("{name}: would change, now generation {generation}")),
        (false, false) => line(format!("{name}: changed, now generation {generation}")),
    }
    for change in &done.changes {
        let keys = |keys: &Option<KeyslotKeys>| keys.as_ref().map(KeyslotKeys::to_string);
        line(match (keys(&change.before), keys(&change.after)) {
            (Some(before), Some(after)) => format!("  from {before}\n    to {after}"),
            (Some(before), None) => format!("  removed {before}"),
            (None, after) => format!("  added {}", after.unwrap_or_default()),
        });
    }
    if done.changes.iter().any(|change| change.before.is_some()) {
        line(NOT_REVOKED.to_owned());
    }
    text
}

impl Facts {
    fn new(dry_run: bool, done: &FileRewrap) -> Self {
        Self {
            dry_run,
            changed: !dry_run && !done.changes.is_empty(),
            changes: done.changes.iter().map(Change::of).collect(),
            repaired: done.repaired,
            rewritten: done.rewritten,
            revokes: false,
            envelope_id: done.header.envelope_id().to_string(),
            generation: done.header.generation().0,
            context: report::context(done.header.context()),
        }
    }
}

impl Change {
    fn of(change: &KeyslotChange) -> Self {
        let keys = |keys: &KeyslotKeys| Keys {
            provider: keys.provider.clone(),
            customer: keys.customer.clone(),
        };
        Self { before: change.before.as_ref().map(keys), after: change.after.as_ref().map(keys) }
    }
}
