//! `twinlock keys create`, `export-public`, `list` and `check`

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::Serialize;
use twinlock::{FileKek, KeyUri};
use twinlock_keys::Pkcs11Uri;
use zeroize::Zeroizing;

use crate::App;
use crate::args::values::KekType;
use crate::args::{KeyArgs, KeysArgs, KeysVerb, OutputArgs};
use crate::exit::{Failure, Kind};
use crate::holders;
use crate::input::DASH;
use crate::output::Destination;
use crate::report::keys::{KeyCheck, Token};
use crate::report::{Outcome, hex};
use crate::settings::{self, Access, KeySpec, Settings};

/// The longest private key, in bytes: one of 8192 bits has less.
const MAX_PRIVATE_KEY: usize = 8 * 1024;

/// What `--json` says for `keys create`.
#[derive(Serialize)]
struct Created {
    /// Its name as headers have it.
    uri: String,
    /// What to put into a profile.
    profile_uri: String,
}

/// What `--json` says for `keys export-public`.
#[derive(Serialize)]
struct Exported {
    /// Its name as headers have it.
    uri: String,
    bits: u64,
    spki_sha256: String,
    /// What to name it by where its token is not.
    public_key_uri: String,
    output: String,
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
        KeysVerb::Create { uri, from: Some(file), .. } => import(app, uri, file),
        KeysVerb::Create { uri, kek_type, from: None } => create(app, uri, *kek_type),
        KeysVerb::ExportPublic { uri, output } => export_public(app, uri, output),
        KeysVerb::List { uri } => list(app, uri.as_deref()),
        KeysVerb::Check { uri } => check(app, uri.as_deref()),
    }
}

fn create(app: &App<'_>, uri: &str, kek_type: KekType) -> Result<Outcome, Failure> {
    let spec = KeySpec::parse(uri)?;
    let access = settings::access_to(&spec, app.common, app.environment)?;
    let created = create_key_of(&spec, kek_type, &access)?;
    let profile_uri = match &spec {
        KeySpec::Pkcs11(uri) => uri.profile_uri(),
        _ => created.to_string(),
    };
    Ok(Created { uri: created.to_string(), profile_uri }.outcome())
}

impl Created {
    fn outcome(&self) -> Outcome {
        Outcome::new("keys create", format!("created {}\n", self.uri), self)
    }
}

fn import(app: &App<'_>, uri: &str, file: &Path) -> Result<Outcome, Failure> {
    let spec = KeySpec::parse(uri)?;
    let KeySpec::Pkcs11(uri) = &spec else {
        return Err(Failure::usage("only tokens (pkcs11:) take a private key"));
    };
    let access = settings::access_to(&spec, app.common, app.environment)?;
    let private_key = read_private_key(file)?;
    let created = holders::runtime()?
        .block_on(holders::pkcs11::import(uri, &private_key, &access))
        .map_err(|error| Failure::from(error).about(format!("the key {}", uri.key_uri())))?;
    Ok(Created { uri: created.to_string(), profile_uri: uri.profile_uri() }.outcome())
}

/// All of a file, or of stdin for `-`.
fn read_private_key(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // With room for all, so that nothing is left behind as it grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PRIVATE_KEY + 1024));
    let most = MAX_PRIVATE_KEY as u64 + 1;
    let is_stdin = file == Path::new(DASH);
    let read = match is_stdin {
        true => io::stdin().lock().take(most).read_to_end(&mut bytes),
        false => fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    let name = if is_stdin { Path::new("stdin") } else { file };
    match read.map_err(|error| Failure::file(name, &error))? {
        ..=MAX_PRIVATE_KEY => Ok(bytes),
        _ => Err(Failure::usage(format!("{} is too long for a private key", name.display()))),
    }
}

/// Creates the symmetric key that `spec` names and returns its name as headers
/// have it.
pub(super) fn create_key(spec: &KeySpec, access: &Access) -> Result<KeyUri, Failure> {
    create_key_of(spec, KekType::Aes256, access)
}

/// The same for a key of any type.
fn create_key_of(spec: &KeySpec, kek_type: KekType, access: &Access) -> Result<KeyUri, Failure> {
    if kek_type != KekType::Aes256 && !matches!(spec, KeySpec::Pkcs11(_)) {
        return Err(Failure::usage("only keys in tokens (pkcs11:) can be RSA keys")
            .hint("leave --type out"));
    }
    let runtime = holders::runtime()?;
    let created = match spec {
        KeySpec::AwsKms(uri) => runtime.block_on(holders::aws_kms::create(uri, access)),
        KeySpec::AzureKv(uri) => runtime.block_on(holders::azure_kv::create(uri, access)),
        KeySpec::Dke(_) => {
            return Err(Failure::usage("keys of a DKE service are made where the service is")
                .hint("its administrator adds one; `twinlock init --customer URI` then names it"));
        }
        KeySpec::GcpKms(uri) => runtime.block_on(holders::gcp_kms::create(uri, access)),
        KeySpec::Pkcs11(uri) => runtime.block_on(holders::pkcs11::create(uri, kek_type, access)),
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

fn export_public(app: &App<'_>, uri: &str, output: &OutputArgs) -> Result<Outcome, Failure> {
    let KeySpec::Pkcs11(uri) = KeySpec::parse(uri)? else {
        return Err(Failure::usage(
            "only RSA keys in tokens (pkcs11:) have a public part to export",
        ));
    };
    let destination = destination(output);
    let path = path_in_uri(&destination)?;
    let access = settings::access(app.common, app.environment)?;
    let part = holders::runtime()?
        .block_on(holders::pkcs11::public_part(&uri, &access))
        .map_err(|error| Failure::from(error).about(format!("the key {}", uri.key_uri())))?;
    write(&destination, output, &part.pem)?;

    let name = uri.key_uri();
    let here = Pkcs11Uri::parse(name.as_str())?;
    let elsewhere = here.with_public_key(format!("file:{path}"), part.spki_sha256);
    let report = Exported {
        uri: name.to_string(),
        bits: part.bits,
        spki_sha256: hex(&part.spki_sha256),
        public_key_uri: elsewhere.profile_uri(),
        output: destination.name(),
    };
    Ok(Outcome::new("keys export-public", report.text(), &report))
}

/// Stdout, unless `-o` says otherwise.
pub(super) fn destination(output: &OutputArgs) -> Destination {
    Destination::choose(output, Destination::Stdout)
}

/// The file's path, to be named in a URI; an example if there is none.
fn path_in_uri(destination: &Destination) -> Result<String, Failure> {
    let Destination::File(path) = destination else { return Ok("/path/key.pem".to_owned()) };
    let absolute = std::path::absolute(path).map_err(|error| Failure::file(path, &error))?;
    absolute
        .into_os_string()
        .into_string()
        .map_err(|_| Failure::usage("the path is not UTF-8, and a URI has to name it"))
}

fn write(destination: &Destination, args: &OutputArgs, text: &str) -> Result<(), Failure> {
    let mut output = destination.open(args, None, Some(text.len() as u64))?;
    output.write_all(text.as_bytes())?;
    output.finish()
}

impl Exported {
    fn text(&self) -> String {
        format!(
            "public key of {} ({} bits)\n  spki-sha256  {}\n  to encrypt without the token: \
             --customer '{}'\n",
            self.uri, self.bits, self.spki_sha256, self.public_key_uri
        )
    }
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
        Some(uri) => {
            let spec = KeySpec::parse(uri)?;
            let access = settings::access_to(&spec, app.common, app.environment)?;
            (vec![spec], access)
        }
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
