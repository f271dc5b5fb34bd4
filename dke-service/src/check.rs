//! `check-config`: whether a configuration can be served, found out before it is.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use twinlock_pkcs11::{KeyFacts, Pkcs11Error};
use twinlock_service::tls::Tls;

use crate::config::{Config, SpkiSha256};
use crate::failure::Failure;
use crate::key::Generation;
use crate::state::State;

/// Reads the configuration and everything that it names, logs in to each token,
/// looks at each key, and asks each issuer for its keys. It changes nothing.
///
/// # Errors
/// When the configuration cannot be read, or what it names cannot.
pub fn run(file: &Path) -> Result<ExitCode, Failure> {
    let config = Config::read(file)?;
    let state = State::new(&config, None).map_err(Failure::misconfigured)?;
    if let Some(tls) = &config.listen.tls {
        Tls::load(tls).map_err(Failure::misconfigured)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut report = runtime.map_err(Failure::unavailable)?.block_on(check(&state));
    for issuer in config.issuer.iter().filter(|it| it.scopes.is_empty() && it.clients.is_empty()) {
        report.warn(format!(
            "issuer {:?} has neither scopes nor clients: a token that any application got for this \
             audience is good here",
            issuer.issuer
        ));
    }
    report.tell();
    match report.problems {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err(Failure::found("there is 1 problem")),
        problems => Err(Failure::found(format!("there are {problems} problems"))),
    }
}

/// What was found, a line each.
#[derive(Default)]
struct Report {
    lines: Vec<String>,
    problems: usize,
}

impl Report {
    fn good(&mut self, line: impl fmt::Display) {
        self.lines.push(format!("ok       {line}"));
    }

    fn warn(&mut self, line: impl fmt::Display) {
        self.lines.push(format!("warning  {line}"));
    }

    fn bad(&mut self, line: impl fmt::Display) {
        self.lines.push(format!("PROBLEM  {line}"));
        self.problems += 1;
    }

    fn tell(&self) {
        let mut output = std::io::stdout().lock();
        for line in &self.lines {
            let _ = writeln!(output, "{line}"); // nobody may be listening
        }
    }
}

async fn check(state: &State) -> Report {
    let mut report = Report::default();
    for hsm in &state.hsms {
        let name = hsm.name();
        match hsm.open().await {
            Ok(token) => report.good(format!("hsm {name}: {}, logged in", token.facts().model)),
            Err(error) => report.bad(format!("hsm {name}: {error}")),
        }
    }
    if let Some((one, other)) = same_token(state) {
        report.bad(format!(
            "hsms {one} and {other} are one token: there is no failover from one to the other"
        ));
    }
    for generation in state.generations() {
        let found = generation.look_up().await;
        look_at(generation, found, &mut report);
    }
    state.look_for_conflicts();
    let problems: BTreeSet<_> = state.wrong_keys().into_iter().collect();
    problems.iter().for_each(|problem| report.bad(format!("key {problem}")));
    state.bearer.refresh().await;
    let problems = state.bearer.problems();
    problems.iter().for_each(|problem| report.bad(format!("issuer: {problem}")));
    if problems.is_empty() {
        report.good(format!("issuers: the keys of all {} are known", state.issuers));
    }
    report
}

/// Two names for one token: the configuration can only compare URIs.
fn same_token(state: &State) -> Option<(&str, &str)> {
    let mut seen = HashMap::new();
    state.hsms.iter().find_map(|hsm| {
        let other = seen.insert(hsm.token()?.facts().identity(), hsm.name())?;
        Some((other, hsm.name()))
    })
}

fn look_at(generation: &Generation, found: Result<(), Pkcs11Error>, report: &mut Report) {
    let Generation { name, object, kid, .. } = generation;
    if let Err(error) = found {
        report.bad(format!("key {name}: {error}"));
    }
    for (hsm, key) in generation.members().keys() {
        let facts = key.facts();
        let padding = if key.is_unpadded_by_token() { "by the token" } else { "by us" };
        report.good(format!(
            "key {name}: {object:?} on {}, {}, OAEP {padding}, as {kid}, spki_sha256 {}",
            hsm.name(),
            described(facts),
            SpkiSha256(key.public_key().spki_sha256()),
        ));
    }
}

/// Its size, and what else it may be used with.
fn described(facts: &KeyFacts) -> String {
    let bits = facts.bits.map_or_else(|| "?".to_owned(), |bits| bits.to_string());
    let bound = match &facts.allowed_mechanisms {
        Some(mechanisms) => format!("bound to {}", mechanisms.join(", ")),
        None => "bound to no mechanism".to_owned(),
    };
    format!("RSA-{bits}, {bound}")
}
