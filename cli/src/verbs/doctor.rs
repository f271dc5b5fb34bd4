//! `twinlock doctor`: what is wrong or unwise, and what to do about it.

mod files;
mod keys;
mod machine;

use serde::Serialize;
use twinlock::HolderError;

use crate::App;
use crate::args::DoctorArgs;
use crate::config::Place;
use crate::exit::{Failure, Kind};
use crate::holders;
use crate::origin::Origin;
use crate::report::Outcome;
use crate::settings::Settings;

/// What `--json` says.
#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    /// The key that it is about, or `null`.
    key: Option<String>,
    state: State,
    seen: String,
    /// What to do; `null` if all is well.
    advice: Option<String>,
    /// As `error.kind` has it, if the check failed.
    kind: Option<&'static str>,
    #[serde(skip)]
    failed: Option<Kind>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

pub(crate) fn run(app: &App<'_>, args: &DoctorArgs) -> Result<Outcome, Failure> {
    let mut checks = vec![configuration(app)];
    let settings = Settings::resolve(app.common, &args.keys, app.environment);
    checks.extend(machine::checks());
    match &settings {
        Ok(settings) => {
            checks.push(keyslots(settings));
            checks.extend(holders::runtime()?.block_on(keys::checks(settings)));
        }
        Err(failure) => checks.push(Check::failed("keys", failure)),
    }
    let report = Report { checks };
    Ok(Outcome::judged("doctor", report.text(app.console.quiet), &report, report.gravest()))
}

/// The configuration file names modules to load: who can change it runs code
/// as its user.
fn configuration(app: &App<'_>) -> Check {
    const NAME: &str = "configuration";
    let place = match Place::find(app.common.config.as_deref(), app.environment) {
        Ok(place) => place,
        Err(failure) => return Check::failed(NAME, &failure),
    };
    let path = place.path.display();
    if let Err(failure) = place.read() {
        return Check::failed(NAME, &failure);
    }
    if !place.path.exists() && place.origin == Origin::Default {
        return Check::ok(NAME, format!("{path} does not exist"));
    }
    match files::open_to_others(&place.path) {
        Some(problem) => Check::warn(
            NAME,
            format!("{path}: {problem}"),
            "the file names modules to load, so whoever can change it runs code as you: \
             chmod go-w",
        ),
        None => Check::ok(NAME, path.to_string()),
    }
}

fn keyslots(settings: &Settings) -> Check {
    const NAME: &str = "keyslots";
    let one_key = |pair: &&crate::settings::KeyPair| {
        pair.provider.key_uri().same_key(&pair.customer.key_uri())
    };
    if let Some(pair) = settings.pairs.iter().find(one_key) {
        let failure = Failure::misconfigured(format!("{} is on both sides", pair.provider))
            .hint("two holders need two keys");
        return Check::failed(NAME, &failure);
    }
    let needed: Vec<String> = settings.needed_keys().iter().map(ToString::to_string).collect();
    let number = settings.pairs.len();
    match needed.is_empty() {
        true => Check::ok(NAME, format!("{number}, no key is in all of them")),
        false => Check::warn(
            NAME,
            format!("{number}; all of them need {}", needed.join(" and ")),
            "the loss of such a key is the loss of all files: add a keyslot of other keys, with \
             `twinlock init --recovery-provider URI --recovery-customer URI`",
        ),
    }
}

impl Report {
    fn text(&self, quiet: bool) -> String {
        let mut out = String::new();
        let mut key = None;
        for check in self.checks.iter().filter(|check| !quiet || check.state == State::Fail) {
            if check.key != key {
                key.clone_from(&check.key);
                out += &format!("{}\n", key.as_deref().unwrap_or_default());
            }
            out += &check.text();
        }
        let count = |state| self.checks.iter().filter(|check| check.state == state).count();
        match (count(State::Fail), count(State::Warn)) {
            _ if quiet => {}
            (0, 0) => out += "all is well\n",
            (failed, warned) => out += &format!("{failed} failed, {warned} to think about\n"),
        }
        out
    }

    /// What the failures come down to: the first that a retry alone does not
    /// mend, or else the first.
    fn gravest(&self) -> Option<Kind> {
        let mut kinds = self.checks.iter().filter_map(|check| check.failed);
        let is_lasting = |kind: &Kind| kind.code() != Kind::Unavailable.code();
        kinds.clone().find(is_lasting).or_else(|| kinds.next())
    }
}

impl Check {
    fn ok(name: &'static str, seen: impl Into<String>) -> Self {
        let seen = seen.into();
        Self { name, key: None, state: State::Ok, seen, advice: None, kind: None, failed: None }
    }

    fn warn(name: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Warn, advice: Some(advice.into()), ..Self::ok(name, seen) }
    }

    fn failed(name: &'static str, failure: &Failure) -> Self {
        let advice = failure.hint.clone().unwrap_or_else(|| advice_for(failure.kind).to_owned());
        Self {
            state: State::Fail,
            advice: Some(advice),
            kind: Some(failure.kind.name()),
            failed: Some(failure.kind),
            ..Self::ok(name, &failure.message)
        }
    }

    fn refused(name: &'static str, error: HolderError) -> Self {
        Self::failed(name, &Failure::from(error))
    }

    fn about(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    fn text(&self) -> String {
        let state = match self.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        let advice = self.advice.as_ref().map(|advice| format!("{:22}-> {advice}\n", ""));
        format!("{state:<5} {:<15} {}\n{}", self.name, self.seen, advice.unwrap_or_default())
    }
}

/// For failures whose message says what it is about and not what to do.
fn advice_for(kind: Kind) -> &'static str {
    match kind {
        Kind::Denied => "ask whoever keeps the key for access, and check the credential",
        Kind::KeyNotFound => "correct the name in the profile, or create what is missing",
        Kind::KeyDisabled => "ask whoever keeps the key to switch it on",
        Kind::Unavailable | Kind::TimedOut => "try again later",
        Kind::Usage | Kind::Misconfigured => "correct the setting: `twinlock config show --origin`",
        _ => "see `twinlock keys check -vv`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(kinds: &[Kind]) -> Option<Kind> {
        let check = |kind: &Kind| Check::failed("x", &Failure::new(*kind, "no"));
        Report { checks: kinds.iter().map(check).collect() }.gravest()
    }

    #[test]
    fn a_retry_is_advised_only_if_it_may_mend_all() {
        assert_eq!(failing(&[]), None);
        assert_eq!(failing(&[Kind::TimedOut, Kind::Unavailable]), Some(Kind::TimedOut));
        assert_eq!(failing(&[Kind::TimedOut, Kind::Denied, Kind::Usage]), Some(Kind::Denied));
    }

    #[test]
    fn whoever_is_told_that_it_fails_is_told_what_to_do() {
        for kind in [Kind::Denied, Kind::Failed, Kind::TimedOut, Kind::Tampered] {
            let check = Check::failed("x", &Failure::new(kind, "no"));
            assert!(check.advice.is_some_and(|advice| advice.len() > 10));
        }
    }
}
