//! `twinlock keys create`, `list` and `check`

use serde::Serialize;
use twinlock::{FileKek, KeyUri};
use twinlock_keys::Pkcs11Uri;

use crate::App;
use crate::args::{KeyArgs, KeysArgs, KeysVerb};
use crate::exit::{Failure, Kind};
use crate::holders;
use crate::report::Outcome;
use crate::report::keys::{KeyCheck, Token};
use crate::settings::{self, Access, KeySpec, Settings};

/// What `--json` says for `keys create`.
#[derive(Serialize)]
struct Created {
    /// Its name as headers have it.
    uri: String,
    /// What to put into a profile.
    profile_uri: String,
}

/// What `--json` says for `keys list`.
#[derive(Serialize)]
struct Listed {
    tokens: Vec<Token>,
}

/// What `--json` says for `keys check`.
#[derive(Serialize)]
struct Checked {
    keys: Vec<KeyCheck>,
}

pub(crate) fn run(app: &App<'_>, args: &KeysArgs) -> Result<Outcome, Failure> {
    match &args.verb {
        KeysVerb::Create { uri } => create(app, uri),
        KeysVerb::List { uri } => list(app, uri.as_deref()),
        KeysVerb::Check { uri } => check(app, uri.as_deref()),
    }
}

fn create(app: &App<'_>, uri: &str) -> Result<Outcome, Failure> {
    let spec = KeySpec::parse(uri)?;
    let access = settings::access(app.common, app.environment)?;
    let created = create_key(&spec, &access)?;
    let report = Created {
        uri: created.to_string(),
        profile_uri: match &spec {
            KeySpec::Pkcs11(uri) => uri.profile_uri(),
            _ => created.to_string(),
        },
    };
    Ok(Outcome::new("keys create", format!("created {created}\n"), &report))
}

/// Creates the key that `spec` names and returns its name as headers have it.
pub(super) fn create_key(spec: &KeySpec, access: &Access) -> Result<KeyUri, Failure> {
    let runtime = holders::runtime()?;
    let created = match spec {
        KeySpec::AwsKms(uri) => runtime.block_on(holders::aws_kms::create(uri, access)),
        KeySpec::AzureKv(uri) => runtime.block_on(holders::azure_kv::create(uri, access)),
        KeySpec::GcpKms(uri) => runtime.block_on(holders::gcp_kms::create(uri, access)),
        KeySpec::Pkcs11(uri) => runtime.block_on(holders::pkcs11::create(uri, access)),
        KeySpec::Vault(uri) => runtime.block_on(holders::vault::create(uri, access)),
        KeySpec::File(uri) => {
            return match FileKek::create(uri) {
                Ok(()) => Ok(uri.clone()),
                Err(error) => Err(Failure::new(Kind::Io, error.to_string())),
            };
        }
    };
    created.map_err(|error| Failure::from(error).about(format!("the key {spec}")))
}

fn list(app: &App<'_>, uri: Option<&str>) -> Result<Outcome, Failure> {
    let access = settings::access(app.common, app.environment)?;
    let uri = match uri {
        Some(uri) if !uri.starts_with("pkcs11:") => {
            return Err(Failure::usage("only tokens are listed: the URI must begin with pkcs11:")
                .hint("`twinlock keys check` tries a key of any kind"));
        }
        Some(uri) => Pkcs11Uri::parse_any(uri)?,
        None => token_of_profile(app).unwrap_or_default(),
    };
    let tokens = holders::runtime()?.block_on(holders::pkcs11::list(&uri, &access))?;
    let report = Listed { tokens };
    Ok(Outcome::new("keys list", describe(&report.tokens), &report))
}

/// The profile's token, if it has one.
fn token_of_profile(app: &App<'_>) -> Option<Pkcs11Uri> {
    let settings = Settings::resolve(app.common, &KeyArgs::default(), app.environment).ok()?;
    settings.pairs.into_iter().find_map(|pair| match pair.customer {
        KeySpec::Pkcs11(uri) => Some(*uri),
        _ => None,
    })
}

fn describe(tokens: &[Token]) -> String {
    let mut out = String::new();
    for token in tokens {
        out += &format!("token {}\n", token.describe());
        for key in token.keys.iter().flatten() {
            let name = key.uri.as_deref().unwrap_or("a key without a name");
            out += &format!("  {name}\n    {}\n", key.describe());
            if let Some(problem) = &key.problem {
                out += &format!("    no customer key: {problem}\n");
            }
        }
        if token.keys.as_ref().is_some_and(Vec::is_empty) {
            out += "  no keys\n";
        }
    }
    match out.is_empty() {
        true => "no tokens\n".to_owned(),
        false => out,
    }
}

fn check(app: &App<'_>, uri: Option<&str>) -> Result<Outcome, Failure> {
    let (specs, access) = match uri {
        Some(uri) => (vec![KeySpec::parse(uri)?], settings::access(app.common, app.environment)?),
        None => {
            let settings = Settings::resolve(app.common, &KeyArgs::default(), app.environment)?;
            let specs = settings.keys().into_iter().map(|(_, spec)| spec.clone()).collect();
            (specs, settings.access)
        }
    };
    let report = Checked { keys: check_keys(&specs, &access)? };
    let text = match app.console.quiet {
        true => String::new(),
        false => report.keys.iter().map(KeyCheck::text).collect(),
    };
    Ok(Outcome::new("keys check", text, &report))
}

/// Tries all keys, in order.
pub(super) fn check_keys(specs: &[KeySpec], access: &Access) -> Result<Vec<KeyCheck>, Failure> {
    let runtime = holders::runtime()?;
    let check = |spec: &KeySpec| {
        runtime
            .block_on(holders::check(spec, access))
            .map_err(|error| Failure::from(error).about(format!("the key {spec}")))
    };
    specs.iter().map(check).collect()
}
