//! The keys of the settings: what holds them, and whether they work.

use std::path::Path;

use twinlock::{HolderErrorKind, KeyUri};
use twinlock_keys::Pkcs11Uri;

use super::{Check, files};
use crate::exit::{Failure, Kind};
use crate::holders;
use crate::report::keys::{Token, TokenKey};
use crate::settings::{Access, KeySpec, Settings};

pub(super) async fn checks(settings: &Settings) -> Vec<Check> {
    let mut checks = Vec::new();
    for (_, spec) in settings.keys() {
        let name = spec.to_string();
        let of_key = match spec {
            KeySpec::AwsKms(_) => aws_kms(spec, &settings.access).await,
            KeySpec::AzureKv(_) | KeySpec::GcpKms(_) | KeySpec::Vault(_) => {
                vec![round_trip(spec, &settings.access).await]
            }
            KeySpec::Dke(uri) => dke(spec, uri, &settings.access).await,
            KeySpec::File(_) => in_file(spec, &settings.access).await,
            KeySpec::Pkcs11(uri) => pkcs11(spec, uri, &settings.access).await,
        };
        checks.extend(of_key.into_iter().map(|check| check.about(&name)));
    }
    checks
}

async fn in_file(spec: &KeySpec, access: &Access) -> Vec<Check> {
    let development = Check::warn(
        "holder",
        "a file, so nobody holds the key but this machine",
        "for development only: create one in a token or at a provider (`twinlock init`)",
    );
    vec![development, round_trip(spec, access).await]
}

/// Wraps and unwraps a random share.
async fn round_trip(spec: &KeySpec, access: &Access) -> Check {
    match holders::check(spec, access).await {
        Ok(check) => Check::ok("round trip", check.times()),
        Err(error) => Check::refused("round trip", error),
    }
}

// DKE services.

/// What is published can be looked at without a token.
async fn dke(spec: &KeySpec, uri: &KeyUri, access: &Access) -> Vec<Check> {
    const NAME: &str = "public key";
    let published = match holders::dke::published(uri, access).await {
        Ok(published) => published,
        Err(error) => return vec![Check::refused(NAME, error)],
    };
    let seen = format!("{} bits, version {}, {}", published.bits, published.version, published.pin);
    let public = match published.is_pinned {
        true => Check::ok(NAME, seen),
        false => Check::failed(
            NAME,
            &Failure::misconfigured(format!("{seen}: it is not pinned")).hint(
                "ask the key's owner for its pin; if it is this one, add it to `pins` in the \
                 profile's [dke]",
            ),
        ),
    };
    vec![public, round_trip(spec, access).await]
}

// AWS KMS.

async fn aws_kms(spec: &KeySpec, access: &Access) -> Vec<Check> {
    let examined = holders::aws_kms::examine(&spec.key_uri(), access).await;
    let mut checks = vec![match examined.facts {
        Ok(facts) if facts.state == "Enabled" => {
            Check::ok("key", format!("{}, {}, origin {}", facts.state, facts.spec, facts.origin))
        }
        Ok(facts) => {
            let failure = Failure::new(Kind::KeyDisabled, format!("its state is {}", facts.state));
            Check::failed("key", &failure.hint("see `aws kms describe-key`"))
        }
        Err(error) if error.kind() == HolderErrorKind::Denied && !spec.key_uri().is_alias() => {
            Check::warn(
                "key",
                "kms:DescribeKey is denied, so its state is not known",
                "allow kms:DescribeKey if you want to see it; encrypting and decrypting do \
                 without",
            )
        }
        Err(error) => Check::refused("key", error),
    }];
    checks.extend(examined.clock_ahead_seconds.map(clock));
    checks.push(round_trip(spec, access).await);
    checks
}

/// AWS refuses requests that are more than 5 minutes off.
const TOLERATED_SECONDS: u64 = 300;

fn clock(ahead_seconds: i64) -> Check {
    let (off, way) = match ahead_seconds {
        ..0 => (ahead_seconds.unsigned_abs(), "behind"),
        0.. => (ahead_seconds.unsigned_abs(), "ahead of"),
    };
    let seen = format!("{off} s {way} the provider's");
    match off {
        0..60 => Check::ok("clock", seen),
        60..TOLERATED_SECONDS => Check::warn("clock", seen, "set it: beyond 5 minutes AWS refuses"),
        _ => Check::failed("clock", &Failure::misconfigured(seen).hint("set this machine's clock")),
    }
}

// Tokens.

async fn pkcs11(spec: &KeySpec, uri: &Pkcs11Uri, access: &Access) -> Vec<Check> {
    if uri.public_key().is_some() && uri.module_path().is_none() {
        return vec![exported(spec, access).await];
    }
    let mut checks = Vec::new();
    match holders::pkcs11::module(uri, access).await {
        Ok(module) => checks.push(module_check(&module)),
        Err(error) => return vec![Check::refused("module", error)],
    }
    let token = match holders::pkcs11::token(uri, access).await {
        Ok(token) => token,
        Err(error) => {
            checks.push(Check::refused("token", error));
            return checks;
        }
    };
    checks.push(Check::ok("token", format!("{}, vendor {}", token.describe(), token.vendor)));
    let pin = pin(&token, uri);
    let may_log_in = pin.failed.is_none();
    checks.extend([pin, sessions(&token)]);
    checks.push(match holders::pkcs11::mechanisms(uri, access).await {
        Ok(list) => mechanisms(&list),
        Err(error) => Check::refused("mechanisms", error),
    });
    if may_log_in {
        checks.extend(key(spec, access).await);
    }
    checks
}

/// A key whose token is elsewhere.
async fn exported(spec: &KeySpec, access: &Access) -> Check {
    const NAME: &str = "public key";
    match holders::check(spec, access).await {
        Ok(check) => Check::ok(
            NAME,
            format!("{}; whether its token unwraps is for a restore drill to show", check.times()),
        ),
        Err(error) => Check::refused(NAME, error),
    }
}

fn module_check(module: &holders::pkcs11::ModuleFacts) -> Check {
    let seen = format!(
        "{} ({} {}, PKCS#11 {})",
        module.path, module.description, module.version, module.cryptoki_version
    );
    match files::open_to_others(Path::new(&module.path)) {
        Some(problem) => Check::warn(
            "module",
            format!("{seen}: {problem}"),
            "the module is code inside of this program: chmod go-w, or install it where only \
             root writes",
        ),
        None => Check::ok("module", seen),
    }
}

/// From what the token says by itself: no PIN is tried for that.
fn pin(token: &Token, uri: &Pkcs11Uri) -> Check {
    const NAME: &str = "PIN";
    let denied = |seen: &str, advice: &str| {
        Check::failed(NAME, &Failure::new(Kind::Denied, seen).hint(advice))
    };
    if !token.login_required {
        return Check::ok(NAME, "not needed");
    }
    if token.user_pin_locked {
        return denied(
            "locked after too many wrong tries",
            "the token's security officer has to set a new one",
        );
    }
    if token.user_pin_final_try {
        return denied(
            "one more wrong PIN locks the token, so none was tried",
            "log in once with another tool and a PIN that you are sure of, for instance \
             pkcs11-tool --login --list-objects",
        );
    }
    if token.user_pin_count_low {
        return Check::warn(
            NAME,
            "a wrong one was tried since the last login",
            "look for a program or profile with an old PIN, before it locks the token",
        );
    }
    match (uri.pin_value(), uri.pin_source()) {
        (Some(_), _) => Check::warn(
            NAME,
            "stands in the URI",
            "put it into a file that only you can read: pin-source=file:<path>",
        ),
        (None, Some(source)) => Check::ok(NAME, format!("from {source}; no wrong tries")),
        (None, None) => Check::ok(NAME, "from the environment; no wrong tries"),
    }
}

fn sessions(token: &Token) -> Check {
    const NAME: &str = "sessions";
    match token.free_sessions {
        Some(0) => Check::failed(
            NAME,
            &Failure::new(Kind::Unavailable, "none is free")
                .hint("close another program that uses the token, or raise its limit"),
        ),
        Some(free) => Check::ok(NAME, format!("{free} free")),
        None => Check::ok(NAME, "no limit that the token tells"),
    }
}

/// Those that wrap or unwrap a share. Whether they work shows in the round trip.
const USEFUL: [&str; 3] = ["CKM_AES_GCM", "CKM_RSA_PKCS_OAEP", "CKM_RSA_X_509"];

fn mechanisms(list: &[String]) -> Check {
    const NAME: &str = "mechanisms";
    let useful: Vec<&str> =
        USEFUL.into_iter().filter(|name| list.iter().any(|it| it == name)).collect();
    match useful.is_empty() {
        false => Check::ok(NAME, format!("{}; {} in all", useful.join(", "), list.len())),
        true => Check::failed(
            NAME,
            &Failure::misconfigured(format!("none of its {} wraps a share", list.len()))
                .hint("use a token, or a firmware, that does CKM_AES_GCM"),
        ),
    }
}

async fn key(spec: &KeySpec, access: &Access) -> Vec<Check> {
    match holders::check(spec, access).await {
        Ok(check) => {
            let key = check.key.as_ref().map(flags);
            key.into_iter().chain([Check::ok("round trip", check.times())]).collect()
        }
        Err(error) => vec![Check::refused("key", error)],
    }
}

fn flags(key: &TokenKey) -> Check {
    let seen = key.describe();
    match (key.sensitive, key.extractable) {
        (Some(true), Some(false)) => Check::ok("key", seen),
        _ => Check::warn(
            "key",
            seen,
            "it can leave its token, or the token does not say that it cannot: create one there \
             (`twinlock keys create`) and rewrap",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn token() -> Token {
        Token {
            label: "t".to_owned(),
            manufacturer: String::new(),
            model: String::new(),
            serial: String::new(),
            slot_id: 0,
            initialized: true,
            login_required: true,
            user_pin_count_low: false,
            user_pin_final_try: false,
            user_pin_locked: false,
            free_sessions: None,
            vendor: "unknown".to_owned(),
            keys: None,
        }
    }

    fn state_of(token: &Token) -> (State, Option<Kind>) {
        let uri = "pkcs11:token=t;object=o?pin-source=file:/p".parse().unwrap();
        let check = pin(token, &uri);
        (check.state, check.failed)
    }

    #[test]
    fn what_a_token_says_of_its_pin_decides_whether_one_is_tried() {
        assert!(state_of(&token()) == (State::Ok, None));
        let low = Token { user_pin_count_low: true, ..token() };
        assert!(state_of(&low) == (State::Warn, None));
        let last = Token { user_pin_final_try: true, ..low };
        assert!(state_of(&last) == (State::Fail, Some(Kind::Denied)));
        let locked = Token { user_pin_locked: true, ..last };
        assert!(state_of(&locked) == (State::Fail, Some(Kind::Denied)));
        assert!(pin(&locked, &"pkcs11:token=t;object=o".parse().unwrap()).seen.contains("locked"));
    }

    #[test]
    fn a_token_that_wraps_nothing_is_of_no_use() {
        let list = ["CKM_SHA256", "CKM_AES_GCM"].map(str::to_owned);
        assert!(mechanisms(&list).seen == "CKM_AES_GCM; 2 in all");
        assert!(mechanisms(&list[..1]).failed == Some(Kind::Misconfigured));
    }

    #[test]
    fn a_pin_in_a_uri_is_not_shown() {
        let uri = "pkcs11:token=t;object=o?pin-value=8642".parse().unwrap();
        let check = pin(&token(), &uri);
        assert!(check.state == State::Warn && !check.text().contains("8642"));
    }

    #[test]
    fn a_clock_that_is_off_is_found() {
        for (ahead, state) in [(0, State::Ok), (-59, State::Ok), (-61, State::Warn)] {
            assert!(clock(ahead).state == state, "{ahead}");
        }
        assert!(clock(301).failed == Some(Kind::Misconfigured));
        assert!(clock(-400).seen.contains("400 s behind"));
        assert!(clock(i64::MIN).failed.is_some());
    }

    #[test]
    fn a_token_without_a_free_session_is_worth_a_retry() {
        let full = Token { free_sessions: Some(0), ..token() };
        assert!(sessions(&full).failed == Some(Kind::Unavailable));
    }
}
