//! Testing a policy: inputs, and what it has to say of each.

use std::path::Path;

use serde::Deserialize;

use super::{Decision, Policy};
use crate::config::{self, ConfigError};

/// A file of cases, in TOML or, where its name ends in `.json`, in JSON.
///
/// ```toml
/// [[case]]
/// name = "the backup role may decrypt"
/// input = { operation = "Decrypt", principal = "arn:aws:iam::111122223333:role/backup" }
/// expect = "allow"
///
/// [[case]]
/// name = "nobody else"
/// input = { operation = "Decrypt", principal = "arn:aws:iam::111122223333:user/eve" }
/// expect = "deny"
/// rule = "no `allow` was true"
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The cases, at least one.
    #[serde(rename = "case")]
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// What the policy sees as `input`.
    pub input: serde_json::Value,
    /// What it has to decide.
    pub expect: Expect,
    /// Which rule has to deny it, if that matters.
    pub rule: Option<String>,
}

/// What a policy has to decide.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// The request may go on.
    Allow,
    /// It may not.
    Deny,
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The name of the case.
    pub name: String,
    /// What the policy decided.
    pub decision: Decision,
    /// Whether that is what was expected.
    pub passed: bool,
}

impl Cases {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or has no cases.
    pub fn read(path: &Path) -> Result<Self, CasesError> {
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let cases: Self = match is_json {
            true => serde_json::from_str(&config::text_of(path)?)
                .map_err(|error| CasesError::Json(path.display().to_string(), error))?,
            false => config::read(path)?,
        };
        match cases.cases.is_empty() {
            true => Err(CasesError::Empty(path.display().to_string())),
            false => Ok(cases),
        }
    }

    /// Has a policy decide each. A policy that could not decide passes none.
    #[must_use]
    pub fn run(&self, policy: &Policy) -> Vec<Outcome> {
        self.cases.iter().map(|case| case.run(policy)).collect()
    }
}

impl Case {
    fn run(&self, policy: &Policy) -> Outcome {
        let decision = policy.decide(&self.input);
        let is_expected = decision.allow == (self.expect == Expect::Allow);
        let is_rule = self.rule.is_none() || self.rule == decision.rule;
        let passed = is_expected && is_rule && decision.error.is_none();
        Outcome { name: self.name.clone(), decision, passed }
    }
}

/// Why there are no cases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CasesError {
    /// The file cannot be read, or is not TOML of cases.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It is not JSON of cases.
    #[error("{0}: {1}")]
    Json(String, serde_json::Error),
    /// A test without cases would pass.
    #[error("{0} has no cases")]
    Empty(String),
}
