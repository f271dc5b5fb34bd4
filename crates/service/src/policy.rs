//! Who may do what, in Rego: the language of the Open Policy Agent.
//!
//! A policy is one file. In its package, `allow` has to be `true`; nothing else
//! lets a request through: not an undefined `allow`, not an error, not time that
//! runs out. Where the policy has a `deny`, that must be empty or `false`, and
//! what is in it names the rule that denied. A policy reaches no network and no
//! file.
//!
//! ```rego
//! package twinlock.xks
//!
//! allow if input.operation == "Decrypt"
//! allow if startswith(input.principal, "arn:aws:iam::111122223333:role/")
//!
//! deny contains "not from our network" if not input.vpc
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};
use serde::Serialize;

mod cases;

pub use cases::{Case, Cases, CasesError, Outcome};

/// The longest policy that is read.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;

/// How long one decision may take. By the clock on the wall, so a busy machine
/// counts too: many times what a policy needs.
pub const EXECUTION_LIMIT: Duration = Duration::from_millis(100);

/// A policy that was read and is ready to decide.
pub struct Policy {
    name: String,
    rules: Rules,
    limit: Duration,
    prototype: Engine,
    /// Engines decide one request at a time and are not cheap to make. There are
    /// as many as ever decided at the same time.
    engines: Mutex<Vec<Engine>>,
}

/// The rules that are asked, by their whole names.
struct Rules {
    allow: String,
    deny: Option<String>,
    reason: Option<String>,
}

/// What a policy says of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Whether it may go on.
    pub allow: bool,
    /// What denied it: what `deny` or `reason` says, or that no `allow` was true.
    pub rule: Option<String>,
    /// Why the policy could not decide, in which case it denies. For the log.
    pub error: Option<String>,
}

impl Policy {
    /// Reads the policy of that file, of this package.
    ///
    /// # Errors
    /// When it cannot be read, and as [`load`](Self::load).
    pub fn read(file: &Path, package: &str) -> Result<Self, PolicyError> {
        let name = file.display().to_string();
        let mut text = String::new();
        // One byte more than a policy may have, so that a longer one is refused.
        let bounded = File::open(file).map(|file| file.take(MAX_POLICY_BYTES as u64 + 1));
        bounded
            .and_then(|mut file| file.read_to_string(&mut text))
            .map_err(|error| PolicyError::Unreadable { name: name.clone(), error })?;
        Self::load(&text, &name, package)
    }

    /// Reads a policy of this package, `twinlock.xks` as an example. `name` is
    /// for messages: mostly its file.
    ///
    /// # Errors
    /// When it is no Rego, of another package, has no `allow`, or calls what is
    /// not there.
    pub fn load(text: &str, name: &str, package: &str) -> Result<Self, PolicyError> {
        Self::load_with_limit(text, name, package, EXECUTION_LIMIT)
    }

    fn load_with_limit(
        text: &str,
        name: &str,
        package: &str,
        limit: Duration,
    ) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(PolicyError::TooLong(name.to_owned()));
        }
        let mut engine = Engine::new();
        // What a policy prints would go to stderr.
        engine.set_gather_prints(true);
        engine.set_execution_timer_config(ExecutionTimerConfig {
            limit,
            check_interval: NonZeroU32::new(256).expect("not zero"),
        });
        let found = engine
            .add_policy(name.to_owned(), text.to_owned())
            .map_err(|error| PolicyError::Invalid(on_one_line(&format!("{error:#}"))))?;
        let expected = format!("data.{package}");
        if found != expected {
            let found = found.trim_start_matches("data.").to_owned();
            return Err(PolicyError::Package {
                name: name.to_owned(),
                found,
                package: package.to_owned(),
            });
        }
        let rules = Rules::of(&engine, name, &expected)?;
        let policy = Self {
            name: name.to_owned(),
            rules,
            limit,
            prototype: engine,
            engines: Mutex::default(),
        };
        policy.try_out()?;
        Ok(policy)
    }

    /// Decides. The input is what the policy calls `input`.
    #[must_use]
    pub fn decide(&self, input: &impl Serialize) -> Decision {
        let input = match serde_json::to_value(input) {
            Ok(input) => Value::from(input),
            Err(error) => return Decision::failed(error.to_string()),
        };
        let mut engine = self.engine();
        engine.set_input(input);
        let decision = self.rules.ask(&mut engine);
        // Nobody reads what it printed; it must not pile up.
        let _ = engine.take_prints();
        engine.set_input(Value::Undefined);
        self.engines.lock().unwrap_or_else(PoisonError::into_inner).push(engine);
        decision.unwrap_or_else(|error| Decision::failed(on_one_line(&error)))
    }

    /// What it was called when it was loaded.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn engine(&self) -> Engine {
        let idle = self.engines.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| self.prototype.clone())
    }
}

impl Policy {
    /// Finds now what would deny every request later: a name that is no rule.
    fn try_out(&self) -> Result<(), PolicyError> {
        let mut engine = self.prototype.clone();
        engine.set_input(Value::new_object());
        match self.rules.ask(&mut engine) {
            Err(error) if error.contains("not a valid rule path") => {
                let problem =
                    format!("{}: `allow`, `deny` and `reason` are rules by themselves", self.name);
                Err(PolicyError::Invalid(problem))
            }
            // With an empty input, a good policy may fail or take its time.
            _ => Ok(()),
        }
    }
}

impl Rules {
    fn of(engine: &Engine, name: &str, package: &str) -> Result<Self, PolicyError> {
        let rule = |rule: &str| {
            let is_there = engine.has_declared_rule_rooted_at(name, rule);
            let is_there = is_there.map_err(|error| PolicyError::Invalid(format!("{error:#}")))?;
            Ok::<_, PolicyError>(is_there.then(|| format!("{package}.{rule}")))
        };
        let allow = rule("allow")?.ok_or_else(|| PolicyError::NoAllow(name.to_owned()))?;
        Ok(Self { allow, deny: rule("deny")?, reason: rule("reason")? })
    }

    fn ask(&self, engine: &mut Engine) -> Result<Decision, String> {
        let mut ask =
            |rule: &String| engine.eval_rule(rule.clone()).map_err(|error| format!("{error:#}"));
        if let Some(denied) =
            self.deny.as_ref().map(&mut ask).transpose()?.as_ref().and_then(denial)
        {
            return Ok(Decision::denied(denied));
        }
        if ask(&self.allow)? == Value::Bool(true) {
            return Ok(Decision { allow: true, rule: None, error: None });
        }
        let reason = self.reason.as_ref().map(&mut ask).transpose()?;
        let reason = reason.as_ref().and_then(|reason| reason.as_string().ok());
        Ok(Decision::denied(reason.map_or("no `allow` was true", |reason| reason)))
    }
}

/// What a `deny` that is not empty says.
fn denial(deny: &Value) -> Option<String> {
    let names: Vec<String> = match deny {
        Value::Undefined | Value::Null | Value::Bool(false) => Vec::new(),
        Value::Set(reasons) => reasons.iter().map(name_of).collect(),
        Value::Array(reasons) => reasons.iter().map(name_of).collect(),
        Value::Object(reasons) => reasons.keys().map(name_of).collect(),
        other => vec![name_of(other)],
    };
    (!names.is_empty()).then(|| names.join("; "))
}

fn name_of(reason: &Value) -> String {
    match reason {
        Value::Bool(_) => "deny".to_owned(),
        Value::String(text) => text.to_string(),
        other => other.to_string(),
    }
}

impl Decision {
    fn denied(rule: impl AsRef<str>) -> Self {
        let rule = rule.as_ref().chars().take(MAX_RULE_CHARS).collect();
        Self { allow: false, rule: Some(rule), error: None }
    }

    fn failed(error: String) -> Self {
        let rule = Some("the policy could not decide".to_owned());
        Self { allow: false, rule, error: Some(error) }
    }
}

/// A line of a log is no place for a novel.
const MAX_RULE_CHARS: usize = 256;

/// An error on one line: where, and what. The excerpt between is left out.
fn on_one_line(error: &str) -> String {
    let lines = || error.lines().map(str::trim).filter(|line| !line.is_empty());
    let place = lines().find_map(|line| line.strip_prefix("--> "));
    let what = lines().find(|line| line.starts_with("error: "));
    match (place, what) {
        (Some(place), Some(what)) => format!("{place}: {what}"),
        _ => lines().collect::<Vec<_>>().join(" "),
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, limit, .. } = self;
        f.debug_struct("Policy").field("name", name).field("limit", limit).finish_non_exhaustive()
    }
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Its file cannot be read.
    #[error("cannot read the policy {name}: {error}")]
    Unreadable {
        /// Which file.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// It is not Rego.
    #[error("the policy cannot be read: {0}")]
    Invalid(String),
    /// It would decide about something else.
    #[error("{name} is a policy of package `{found}`: it must begin with `package {package}`")]
    Package {
        /// Which policy.
        name: String,
        /// Its package.
        found: String,
        /// The package that was asked for.
        package: String,
    },
    /// It would deny everything.
    #[error("{0} has no rule `allow`, so it would deny every request")]
    NoAllow(String),
    /// No policy is that long.
    #[error("{0} is longer than {MAX_POLICY_BYTES} bytes")]
    TooLong(String),
}

#[cfg(test)]
mod tests;
