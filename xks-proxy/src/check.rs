//! `check-config`: whether a configuration can be served, found out before it is.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use twinlock_pkcs11::Pkcs11Error;
use twinlock_service::tls::Tls;

use crate::config::{Config, HsmSettings};
use crate::counts::Counts;
use crate::failure::Failure;
use crate::health;
use crate::key_store::{Generation, problem_of};
use crate::state::State;
use crate::wire::HealthStatus;

/// Reads the configuration and everything that it names, logs in to each token,
/// and looks at each key. It changes nothing.
///
/// # Errors
/// When the configuration cannot be read, or what it names cannot.
pub fn run(file: &Path) -> Result<ExitCode, Failure> {
    let config = Config::read(file)?;
    let counts = Counts::open(config.state_directory.as_deref(), config.fleet_size)
        .map_err(|error| Failure::misconfigured(format!("state_directory: {error}")))?;
    let state = State::new(&config, None, &counts).map_err(Failure::misconfigured)?;
    if let Some(tls) = &config.listen.tls {
        Tls::load(tls).map_err(Failure::misconfigured)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.map_err(Failure::unavailable)?.block_on(check(&state));
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
        if let Err(error) = hsm.open().await {
            report.bad(format!("hsm {name}: {error}"));
            continue;
        }
        let health = health::check(hsm).await;
        match (health.state(), health.problem()) {
            (HealthStatus::Active, _) => {
                report.good(format!(
                    "hsm {name}: {}, logged in, the health key works",
                    health.model()
                ));
            }
            (state, problem) => {
                report.bad(format!("hsm {name}: {state:?}: {}", problem.unwrap_or("no reason")));
            }
        }
    }
    if let Some((one, other)) = same_token(state) {
        report.bad(format!(
            "hsms {one} and {other} are one token: there is no failover from one to the other, and \
             a key may serve two external keys unseen"
        ));
    }
    for generation in state.generations() {
        let found = generation.look_up().await;
        look_at(generation, found, &mut report);
        if let Some(problem) = generation.members().disagreement().await {
            report.bad(format!("key {}: {problem}", generation.name));
        }
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
    let name = &generation.name;
    if let Err(error) = found {
        report.bad(format!("key {name}: {error}"));
    }
    for (hsm, key) in generation.members().keys() {
        let HsmSettings { name: hsm, allow_extractable, .. } = hsm.settings();
        match problem_of(key, *allow_extractable) {
            None => report.good(format!("key {name}: {:?} on {hsm}", generation.object)),
            Some(problem) => {
                report.bad(format!("key {name}: {:?} on {hsm}: {problem}", generation.object));
            }
        }
    }
}
