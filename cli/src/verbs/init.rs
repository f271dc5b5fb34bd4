//! `twinlock init`: writes a profile, and makes the keys that it is asked to.

mod ask;
mod dke;
mod softhsm;

use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use twinlock::{KeyUri, Side};
use twinlock_keys::Pkcs11Uri;

use super::keys::{check_keys, create_key};
use crate::App;
use crate::args::InitArgs;
use crate::config::{KeyslotKeys, Place, Profile, create_private_folder};
use crate::exit::{Failure, Kind};
use crate::report::Outcome;
use crate::report::keys::KeyCheck;
use crate::settings::{self, Access, KeySpec, variable};

/// What `--json` says.
#[derive(Serialize)]
struct Report {
    profile: String,
    config: String,
    /// As the profile has them.
    provider: String,
    customer: String,
    /// The keyslot for recovery, if one was written.
    recovery: Option<RecoveryKeys>,
    /// Of a DKE service's public key.
    pins: Vec<String>,
    /// Keys, tokens and files that were made.
    created: Vec<String>,
    /// `null` with `--no-check`.
    keys: Option<Vec<KeyCheck>>,
}

#[derive(Serialize)]
struct RecoveryKeys {
    provider: String,
    customer: String,
}

pub(crate) fn run(app: &App<'_>, args: &InitArgs) -> Result<Outcome, Failure> {
    let place = Place::find(app.common.config.as_deref(), app.environment)?;
    let name = profile_name(app)?;
    if let Some(profile) = profile_to_add_to(&place, &name, args)? {
        return add_recovery(app, args, &place, &name, &profile);
    }
    refuse_existing(&place, &name, args.force)?;
    let wishes = Wishes::collect(app, args)?;
    let mut making = Making::new(&place, &name)?;
    let provider = making.provider(&wishes.provider)?;
    let customer = making.customer(&wishes.customer, args)?;
    refuse_one_key(&provider, &customer)?;
    let recovery = wishes.recovery.map(|recovery| recovery.beside(&provider, &customer));
    let recovery = recovery.transpose()?;
    let keys = texts_of(&provider, &customer);
    let recovery_keys = recovery.as_ref().map(|(provider, customer)| texts_of(provider, customer));
    let mut specs = vec![provider, customer];
    specs.extend(recovery.into_iter().flat_map(|(provider, customer)| [provider, customer]));
    let access = dke::access(app, &specs, &args.dke)?;
    place.write_profile(&name, &keys, recovery_keys.as_ref(), &access.dke)?;

    let report = Report {
        profile: name.clone(),
        config: place.path.display().to_string(),
        recovery: recovery_keys.map(RecoveryKeys::from),
        provider: keys.provider,
        customer: keys.customer,
        pins: access.dke.pins.clone(),
        created: making.created,
        keys: check(specs, &access, args).map_err(|failure| {
            failure.about(format!("the profile {name:?} was written, but its keys do not work"))
        })?,
    };
    let mut text = report.text(app.console.quiet);
    if dke::awaits_login(&access) {
        text += "log in next: `twinlock login`\n";
    }
    Ok(Outcome::new("init", text, &report))
}

/// The profile as it is, if all that is wanted is a keyslot for recovery.
fn profile_to_add_to(
    place: &Place,
    name: &str,
    args: &InitArgs,
) -> Result<Option<Profile>, Failure> {
    let itself = args.provider.is_some()
        || args.customer.is_some()
        || args.dev_provider
        || args.softhsm
        || args.force;
    match args.recovery_customer.is_some() && !itself && place.path.exists() {
        true => Ok(place.read()?.profiles.remove(name)),
        false => Ok(None),
    }
}

/// Adds a keyslot to a profile, and changes nothing else of it.
fn add_recovery(
    app: &App<'_>,
    args: &InitArgs,
    place: &Place,
    name: &str,
    profile: &Profile,
) -> Result<Outcome, Failure> {
    let incomplete = || Failure::usage(format!("the profile {name:?} has no keys of its own yet"));
    let provider = profile.provider.clone().ok_or_else(incomplete)?;
    let customer = profile.customer.clone().ok_or_else(incomplete)?;
    let recovery = Recovery::typed(args)?.expect("the flag was looked at above");
    let first = (parse(Side::Provider, &provider)?, parse(Side::Customer, &customer)?);
    let recovery = recovery.beside(&first.0, &first.1)?;
    let keys = texts_of(&recovery.0, &recovery.1);
    // First tried, then written: a profile with a key that is not there encrypts
    // nothing.
    let access = Access::to_dke(profile.dke.clone(), settings::logins(app.environment));
    access.refuse_two_services([&first.0, &first.1, &recovery.0, &recovery.1])?;
    let checked = check(vec![recovery.0, recovery.1], &access, args).map_err(|failure| {
        failure.about(format!("the profile {name:?} is as it was, for a key does not work"))
    })?;
    if !profile.keyslots.contains(&keys) {
        place.add_keyslot(name, &keys)?;
    }
    let report = Report {
        profile: name.to_owned(),
        config: place.path.display().to_string(),
        provider,
        customer,
        recovery: Some(keys.into()),
        pins: access.dke.pins.clone(),
        created: Vec::new(),
        keys: checked,
    };
    Ok(Outcome::new("init", report.text(app.console.quiet), &report))
}

/// Tries all keys once, unless that is not wanted; those of a service that nobody
/// has logged in to yet cannot be.
fn check(
    mut specs: Vec<KeySpec>,
    access: &Access,
    args: &InitArgs,
) -> Result<Option<Vec<KeyCheck>>, Failure> {
    if args.no_check {
        return Ok(None);
    }
    let mut seen = Vec::new();
    let awaits_login = dke::awaits_login(access);
    specs.retain(|spec| {
        let can_be = !(awaits_login && matches!(spec, KeySpec::Dke(_)));
        let is_new = can_be && !seen.contains(spec);
        seen.push(spec.clone());
        is_new
    });
    check_keys(&specs, access).map(Some)
}

fn profile_name(app: &App<'_>) -> Result<String, Failure> {
    let name = match &app.common.profile {
        Some(name) => name.clone(),
        None => variable(app.environment, "TWINLOCK_PROFILE")?.unwrap_or("default".to_owned()),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !name.is_empty() && name.len() <= 64 && name.chars().all(fits) && !name.starts_with('.') {
        true => Ok(name),
        false => {
            Err(Failure::usage("a profile's name is 1 to 64 letters, digits, '-', '_' and '.'"))
        }
    }
}

fn refuse_existing(place: &Place, name: &str, force: bool) -> Result<(), Failure> {
    let exists = place.path.exists() && place.read()?.profiles.contains_key(name);
    match exists && !force {
        true => Err(Failure::new(
            Kind::OutputExists,
            format!("there is a profile {name:?} in {} already", place.path.display()),
        )
        .hint("choose another name with --profile, or add --force to replace it")),
        false => Ok(()),
    }
}

/// What the user wants for each side.
struct Wishes {
    provider: Wish,
    customer: Wish,
    recovery: Option<Recovery>,
}

/// The keys of a second keyslot.
struct Recovery {
    /// Without it, that of the first keyslot.
    provider: Option<KeySpec>,
    customer: KeySpec,
}

impl Recovery {
    fn typed(args: &InitArgs) -> Result<Option<Self>, Failure> {
        let read = |side, uri: &Option<String>, flag| {
            let parse = |uri: &String| parse(side, uri).map_err(|failure| failure.about(flag));
            uri.as_ref().map(parse).transpose()
        };
        let provider = read(Side::Provider, &args.recovery_provider, "--recovery-provider")?;
        let customer = read(Side::Customer, &args.recovery_customer, "--recovery-customer")?;
        Ok(customer.map(|customer| Self { provider, customer }))
    }

    /// Its two keys, beside a first keyslot of these keys.
    fn beside(self, provider: &KeySpec, customer: &KeySpec) -> Result<(KeySpec, KeySpec), Failure> {
        let own = self.provider.unwrap_or_else(|| provider.clone());
        let all = [provider, &own, customer, &self.customer];
        Access::default().refuse_two_services(all)?;
        refuse_one_key(&own, &self.customer)?;
        if own.is(provider) && self.customer.is(customer) {
            return Err(Failure::usage(
                "the keys for recovery are those of the profile: their loss is still the loss of \
                 every file",
            )
            .hint(
                "name a key in another token, or the public part of one, and another provider key",
            ));
        }
        Ok((own, self.customer))
    }
}

enum Wish {
    /// This key, which exists.
    Use(KeySpec),
    /// A new one: a file for the provider, a SoftHSM key for the customer.
    Create,
}

impl Wishes {
    fn collect(app: &App<'_>, args: &InitArgs) -> Result<Self, Failure> {
        let provider = typed(Side::Provider, args.provider.as_deref(), args.dev_provider)?;
        let customer = typed(Side::Customer, args.customer.as_deref(), args.softhsm)?;
        let asks = provider.is_none() || customer.is_none();
        let recovery = Recovery::typed(args)?;
        Ok(Self {
            provider: or_ask(provider, Side::Provider, app)?,
            customer: or_ask(customer, Side::Customer, app)?.with_module(args.module.as_deref())?,
            recovery: match recovery {
                // Whoever named both keys wants no questions.
                None if asks => ask::recovery(app.console)?,
                recovery => recovery,
            },
        })
    }
}

impl Wish {
    /// The same key, reached through `module` if it does not name one.
    fn with_module(self, module: Option<&Path>) -> Result<Self, Failure> {
        match (self, module) {
            (Self::Use(KeySpec::Pkcs11(uri)), Some(module)) if uri.module_path().is_none() => {
                let uri = uri.with_module_path(text_of(module)?);
                Ok(Self::Use(KeySpec::Pkcs11(Box::new(uri))))
            }
            (wish, _) => Ok(wish),
        }
    }
}

/// What the flags say about one side, if anything.
fn typed(side: Side, uri: Option<&str>, create: bool) -> Result<Option<Wish>, Failure> {
    match uri {
        Some(uri) => parse(side, uri)
            .map(|spec| Some(Wish::Use(spec)))
            .map_err(|failure| failure.about(format!("--{side}"))),
        None => Ok(create.then_some(Wish::Create)),
    }
}

fn or_ask(wish: Option<Wish>, side: Side, app: &App<'_>) -> Result<Wish, Failure> {
    match wish {
        Some(wish) => Ok(wish),
        None if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => {
            ask::key(app.console, side)
        }
        None => Err(Failure::usage(format!(
            "no {side} key is given, and there is no terminal to ask on"
        ))
        .hint("give --provider URI or --dev-provider, and --customer URI or --softhsm")),
    }
}

/// A key of `side` as a profile may have it.
fn parse(side: Side, uri: &str) -> Result<KeySpec, Failure> {
    let spec = KeySpec::parse(uri)?;
    let scheme = spec.key_uri().scheme();
    if !scheme.fits(side) {
        return Err(Failure::usage(format!("{scheme} keys cannot be the {side} key")));
    }
    match &spec {
        KeySpec::Pkcs11(uri) if uri.pin_value().is_some() => Err(Failure::usage(
            "a PIN has no place in a profile",
        )
        .hint("put it into a file that only you can read, and name it: pin-source=file:PATH")),
        _ => Ok(spec),
    }
}

/// What was made so far, in a folder of the configuration.
struct Making<'a> {
    folder: PathBuf,
    profile: &'a str,
    created: Vec<String>,
}

impl<'a> Making<'a> {
    fn new(place: &Place, profile: &'a str) -> Result<Self, Failure> {
        let folder = place.folder();
        let made = create_private_folder(folder).and_then(|()| folder.canonicalize());
        let folder = made.map_err(|error| Failure::file(folder, &error))?;
        Ok(Self { folder, profile, created: Vec::new() })
    }

    fn provider(&mut self, wish: &Wish) -> Result<KeySpec, Failure> {
        if let Wish::Use(spec) = wish {
            return Ok(spec.clone());
        }
        let path = self.folder.join(format!("{}-provider.kek", self.profile));
        let spec = KeySpec::File(file_uri(&path)?);
        // One that is there already may be all that opens some file.
        if !path.exists() {
            create_key(&spec, &Access::default())?;
            self.created.push(path.display().to_string());
        }
        Ok(spec)
    }

    fn customer(&mut self, wish: &Wish, args: &InitArgs) -> Result<KeySpec, Failure> {
        match wish {
            Wish::Use(spec) => Ok(spec.clone()),
            Wish::Create => softhsm::create(&self.folder, args, &mut self.created),
        }
    }
}

fn refuse_one_key(provider: &KeySpec, customer: &KeySpec) -> Result<(), Failure> {
    match provider.key_uri().same_key(&customer.key_uri()) {
        true => Err(Failure::usage("provider and customer are the same key: two holders need two")),
        false => Ok(()),
    }
}

fn texts_of(provider: &KeySpec, customer: &KeySpec) -> KeyslotKeys {
    KeyslotKeys { provider: profile_text(provider), customer: profile_text(customer) }
}

impl From<KeyslotKeys> for RecoveryKeys {
    fn from(keys: KeyslotKeys) -> Self {
        Self { provider: keys.provider, customer: keys.customer }
    }
}

/// The key as the profile has it.
fn profile_text(spec: &KeySpec) -> String {
    match spec {
        KeySpec::Pkcs11(uri) => Pkcs11Uri::profile_uri(uri),
        KeySpec::AwsKms(uri)
        | KeySpec::AzureKv(uri)
        | KeySpec::Dke(uri)
        | KeySpec::File(uri)
        | KeySpec::GcpKms(uri)
        | KeySpec::Vault(uri) => uri.to_string(),
    }
}

/// The `file` URI of an absolute path.
fn file_uri(path: &Path) -> Result<KeyUri, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encoded: String = path
        .as_os_str()
        .as_bytes()
        .iter()
        .map(|&byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect();
    Ok(KeyUri::parse(&format!("file://{encoded}"))?)
}

fn text_of(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| {
        Failure::usage(format!("{} is not UTF-8, as profiles have to be", path.display()))
    })
}

impl Report {
    fn text(&self, quiet: bool) -> String {
        if quiet {
            return String::new();
        }
        let mut out = String::new();
        for created in &self.created {
            out += &format!("created {created}\n");
        }
        for check in self.keys.iter().flatten() {
            out += &check.text();
        }
        out += &format!("wrote profile {:?} to {}\n", self.profile, self.config);
        if let Some(keys) = &self.recovery {
            out += &format!(
                "  with a keyslot for recovery\n    provider  {}\n    customer  {}\n",
                keys.provider, keys.customer
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_has_a_uri_that_leads_back_to_it() {
        let odd = std::ffi::OsStr::from_bytes(b"/home/me \xff/a,b;c?.kek");
        let uri = file_uri(Path::new(odd)).unwrap();
        assert_eq!(uri.file_path().as_deref(), Some(Path::new(odd)));
    }

    #[test]
    fn a_pin_is_kept_out_of_profiles() {
        let failure = parse(Side::Customer, "pkcs11:token=t;object=o?pin-value=1234").unwrap_err();
        assert!(!format!("{failure:?}").contains("1234"));
    }
}
