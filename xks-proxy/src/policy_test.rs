//! `policy test`: what a policy says of each case of a file.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use twinlock_service::policy::{Cases, Outcome};

use crate::authorization;
use crate::failure::Failure;

/// Runs the cases and prints what came of each.
///
/// # Errors
/// When policy or cases cannot be read, or a case comes out otherwise than it
/// says.
pub fn run(policy: &Path, cases: &Path) -> Result<ExitCode, Failure> {
    let policy = authorization::load(policy).map_err(Failure::misconfigured)?;
    let outcomes = Cases::read(cases).map_err(Failure::misconfigured)?.run(&policy);
    let mut output = std::io::stdout().lock();
    for outcome in &outcomes {
        let _ = writeln!(output, "{}", line(outcome)); // nobody may be listening
    }
    match outcomes.iter().filter(|outcome| !outcome.passed).count() {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(Failure::found(format!("{failed} of {} cases failed", outcomes.len()))),
    }
}

fn line(Outcome { name, decision, passed }: &Outcome) -> String {
    let verdict = if *passed { "ok    " } else { "FAILED" };
    let decided = if decision.allow { "allowed" } else { "denied" };
    let rule = decision.rule.as_ref().map(|rule| format!(" ({rule})")).unwrap_or_default();
    let error = decision.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    format!("{verdict}  {name}: {decided}{rule}{error}")
}
