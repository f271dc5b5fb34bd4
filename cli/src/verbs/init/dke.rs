//! A key of a DKE service: which public key to trust, and where tokens come from.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use super::ask;
use crate::App;
use crate::args::InitDkeArgs;
use crate::config::{Dke, DkeAuth};
use crate::exit::{Failure, Kind};
use crate::holders;
use crate::settings::{self, Access, KeySpec};

/// How the keys among `specs` are reached that a DKE service keeps, with the pins
/// that were typed or confirmed.
pub(super) fn access(
    app: &App<'_>,
    specs: &[KeySpec],
    args: &InitDkeArgs,
) -> Result<Access, Failure> {
    let keys = specs.iter().filter(|spec| matches!(spec, KeySpec::Dke(_)));
    let mut keys = keys.peekable();
    if keys.peek().is_none() {
        return match is_empty(args) {
            true => Ok(Access::default()),
            false => Err(Failure::usage("no key of a DKE service is named")
                .hint("name it with --customer dke+https://…, or leave these flags out")),
        };
    }
    let mut access = Access::to_dke(settings_of(args)?, settings::logins(app.environment));
    for key in keys {
        confirm(app, key, &mut access)?;
    }
    Ok(access)
}

/// True if somebody has to log in before the keys can be used.
pub(super) fn awaits_login(access: &Access) -> bool {
    holders::dke::awaits_login(access)
}

fn is_empty(args: &InitDkeArgs) -> bool {
    args.pins.is_empty()
        && args.ca_file.is_none()
        && args.token_file.is_none()
        && args.issuer.is_none()
}

fn settings_of(args: &InitDkeArgs) -> Result<Dke, Failure> {
    let pin = |text: &String| {
        let pin = holders::dke::canonical_pin(text);
        pin.map_err(|error| Failure::usage(error.to_string()).about("--pin"))
    };
    Ok(Dke {
        pins: args.pins.iter().map(pin).collect::<Result<_, _>>()?,
        ca_file: absolute(args.ca_file.as_deref())?,
        token_file: absolute(args.token_file.as_deref())?,
        auth: args.issuer.as_ref().map(|_| DkeAuth::Login),
        issuer: args.issuer.clone(),
        client_id: args.client_id.clone(),
        scope: args.scope.clone(),
        ..Dke::default()
    })
}

/// A profile counts wherever its user is.
fn absolute(path: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    let absolute = |path| std::path::absolute(path).map_err(|error| Failure::file(path, &error));
    path.map(absolute).transpose()
}

/// Nothing is trusted because it was there: what a service shows is what somebody
/// typed, or what a person has compared.
fn confirm(app: &App<'_>, key: &KeySpec, access: &mut Access) -> Result<(), Failure> {
    let published = holders::runtime()?
        .block_on(holders::dke::published(&key.key_uri(), access))
        .map_err(|error| Failure::from(error).about(format!("the key {key}")))?;
    if published.is_pinned {
        return Ok(());
    }
    let shown = format!("{key} shows the public key {}", published.pin);
    if !access.dke.pins.is_empty() {
        return Err(Failure::misconfigured(format!("{shown}, which is not the one of --pin"))
            .hint("ask the key's owner: somebody may have exchanged it"));
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::usage(format!("{shown}, and there is no terminal to confirm it on"))
            .hint("ask the key's owner for its pin, and give that: --pin sha256:HEX"));
    }
    match ask::pin(app.console, &key.to_string(), &published.pin)? {
        true => {
            access.dke.pins.push(published.pin);
            Ok(())
        }
        false => Err(Failure::new(Kind::Misconfigured, "the public key was not confirmed").hint(
            "no profile was written; ask the key's owner for its pin and start again, with it \
                 as --pin",
        )),
    }
}
