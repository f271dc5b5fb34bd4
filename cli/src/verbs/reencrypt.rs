//! `twinlock reencrypt`

use serde::Serialize;
use twinlock::file::{FileReencrypt, reencrypt_file};
use twinlock::{Decryptor, EncryptorBuilder, EnvelopeId, Header, escape_untrusted};

use super::encrypt::warn_of_needed_keys;
use super::{expecting, is_dash};
use crate::App;
use crate::args::ReencryptArgs;
use crate::exit::Failure;
use crate::holders::{self, Equipped, Opened};
use crate::input::{self, Candidate, Input};
use crate::output::Destination;
use crate::progress;
use crate::report::{self, Outcome};
use crate::settings::{KeyPair, Settings};

/// What whoever wants to shut an old key out must not be left to believe.
const COPIES: &str = "Copies of the old file elsewhere still open with the old keys.";

/// What `--json` says.
#[derive(Serialize)]
struct Report {
    input: String,
    output: String,
    /// True if the new file has taken the place of the old one.
    in_place: bool,
    plaintext_len: u64,
    envelope_len: u64,
    envelope_id: String,
    old_envelope_id: String,
    context: serde_json::Value,
    keyslots: Vec<Keys>,
    /// Of the old file, as its header names them; null for what a newer version
    /// made.
    old_keyslots: Vec<Option<Keys>>,
}

#[derive(PartialEq, Serialize)]
struct Keys {
    provider: String,
    customer: String,
}

pub(crate) fn run(app: &App<'_>, args: &ReencryptArgs) -> Result<Outcome, Failure> {
    let settings = Settings::resolve(app.common, &args.keys, app.environment)?;
    warn_of_needed_keys(&settings);
    let opening = with_old_keys(&settings, args)?;
    let decryptor = expecting(&args.expected)?;
    let destination = destination(args);
    if destination.is_none() && is_dash(&args.input) {
        return Err(Failure::usage("stdin cannot be replaced").hint("name the output with -o"));
    }
    let mut input = Input::open(&args.input)?;
    if let Some(destination) = &destination {
        destination.check(&args.output, &input)?;
    }
    let name = input.name().to_owned();
    let candidates = input::headers(Some(&mut input), args.header.as_deref())?;
    let checked = candidates.iter().map(|candidate| decryptor.check(&candidate.header));
    let checked = checked.reduce(Result::or).unwrap_or(Ok(()));
    checked.map_err(|error| Failure::from(error).about(&name))?;

    let keys = KeySettings { new: &settings, opening: &opening };
    let done = match &destination {
        None => in_place(args, candidates, decryptor, keys),
        Some(destination) => elsewhere(app, args, input, candidates, decryptor, keys, destination),
    }
    .map_err(|failure| failure.about_content(&name))?;

    let output = destination.as_ref().map_or_else(|| name.clone(), Destination::name);
    let report = Report::new(name, output, destination.is_none(), &done, &settings);
    let text = match app.console.quiet {
        true => String::new(),
        false => report.text(),
    };
    Ok(Outcome::new("reencrypt", text, &report))
}

/// Where `-o` says; `None` for the file's own place.
pub(crate) fn destination(args: &ReencryptArgs) -> Option<Destination> {
    args.output.output.as_ref()?;
    Some(Destination::choose(&args.output, Destination::Stdout))
}

/// The settings with the keys that only the old file has.
fn with_old_keys(settings: &Settings, args: &ReencryptArgs) -> Result<Settings, Failure> {
    let mut opening = settings.clone();
    for keyslot in &args.from {
        opening.pairs.push(KeyPair::of_flag(keyslot, "--from-keyslot")?);
    }
    Ok(opening)
}

/// The keys to encrypt with, and those with which the old file may open.
#[derive(Clone, Copy)]
struct KeySettings<'a> {
    new: &'a Settings,
    opening: &'a Settings,
}

impl KeySettings<'_> {
    async fn equip(
        self,
        decryptor: Decryptor,
        candidates: &[Candidate],
        opened: &Opened,
    ) -> Result<Decryptor, Failure> {
        let headers: Vec<&Header> =
            candidates.iter().map(|candidate| candidate.header.header()).collect();
        Ok(Equipped::of(decryptor, &headers, self.opening, opened).await?.decryptor)
    }

    async fn builder(self, opened: &Opened) -> Result<EncryptorBuilder, Failure> {
        holders::encryptor_of(self.new, opened).await
    }
}

fn in_place(
    args: &ReencryptArgs,
    candidates: Vec<Candidate>,
    decryptor: Decryptor,
    keys: KeySettings<'_>,
) -> Result<Done, Failure> {
    let done = holders::runtime()?.block_on(async {
        let opened = Opened::default();
        let decryptor = keys.equip(decryptor, &candidates, &opened).await?;
        let builder = keys.builder(&opened).await?;
        Ok::<_, Failure>(reencrypt_file(&decryptor, &args.input, builder).await?)
    })?;
    Ok(Done::from(done))
}

/// Reads the old file once, and writes a new one.
fn elsewhere(
    app: &App<'_>,
    args: &ReencryptArgs,
    mut input: Input,
    candidates: Vec<Candidate>,
    decryptor: Decryptor,
    keys: KeySettings<'_>,
    destination: &Destination,
) -> Result<Done, Failure> {
    let mut output = destination.open(&args.output, input.metadata(), input.len())?;
    let (envelope, mut encryptor) = holders::runtime()?.block_on(async {
        let (opened, settings) = (Opened::default(), keys.opening);
        let envelope = holders::open_envelope(candidates, decryptor, settings, &opened).await?;
        let builder = keys.builder(&opened).await?.context(envelope.header().context().clone());
        Ok::<_, Failure>((envelope, builder.prepare().await?))
    })?;
    let envelope_id = encryptor.envelope_id();
    let (progress, total) = (encryptor.progress(), input.len());
    input.heed(&progress);
    let reader = envelope.reader(input)?;
    let plaintext_len = progress::watch(progress, total, app.hides_progress(), || {
        encryptor.encrypt(reader, &mut output)
    })?;
    let envelope_len = output.written();
    output.finish()?;
    Ok(Done { old: envelope.header().clone(), envelope_id, plaintext_len, envelope_len })
}

struct Done {
    old: Header,
    envelope_id: EnvelopeId,
    plaintext_len: u64,
    envelope_len: u64,
}

impl From<FileReencrypt> for Done {
    fn from(done: FileReencrypt) -> Self {
        let FileReencrypt { old, envelope_id, plaintext_len, envelope_len, .. } = done;
        Self { old, envelope_id, plaintext_len, envelope_len }
    }
}

impl Report {
    fn new(
        input: String,
        output: String,
        in_place: bool,
        done: &Done,
        settings: &Settings,
    ) -> Self {
        let old_keyslots = done.old.keyslots().iter().map(|keyslot| {
            let pair = keyslot.as_pair()?.pair();
            let [provider, customer] = [pair.provider(), pair.customer()];
            Some(Keys { provider: provider.uri().to_owned(), customer: customer.uri().to_owned() })
        });
        Self {
            input,
            output,
            in_place,
            plaintext_len: done.plaintext_len,
            envelope_len: done.envelope_len,
            envelope_id: done.envelope_id.to_string(),
            old_envelope_id: done.old.envelope_id().to_string(),
            context: report::context(done.old.context()),
            keyslots: settings.pairs.iter().map(Keys::of).collect(),
            old_keyslots: old_keyslots.collect(),
        }
    }

    fn text(&self) -> String {
        let mut text = match self.in_place {
            true => format!("{}: encrypted anew\n", self.input),
            false => format!("{}: encrypted anew to {}\n", self.input, self.output),
        };
        for keyslot in &self.old_keyslots {
            match keyslot {
                Some(keys) if self.keyslots.contains(keys) => {}
                Some(Keys { provider, customer }) => {
                    let [provider, customer] =
                        [provider, customer].map(|uri| escape_untrusted(uri));
                    text += &format!("  no longer of {provider} and {customer}\n");
                }
                None => text += "  no longer of a keyslot that a newer version had made\n",
            }
        }
        text + COPIES + "\n"
    }
}

impl Keys {
    fn of(pair: &KeyPair) -> Self {
        Self { provider: pair.provider.to_string(), customer: pair.customer.to_string() }
    }
}
