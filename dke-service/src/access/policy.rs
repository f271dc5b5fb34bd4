//! A key's policy in Rego. "No" unless it says yes.

use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value};
use twinlock_service::policy::Policy;

use crate::bearer::Caller;

/// The package that a policy's `allow` is in.
pub const PACKAGE: &str = "twinlock.dke";

/// A key's policy.
pub(super) struct AccessPolicy(Policy);

/// What a policy sees as `input`. What a token does not say is `null`.
#[derive(Debug, Serialize)]
struct Input<'a> {
    /// The name of the key.
    key: &'a str,
    /// The id of its generation.
    generation: &'a str,
    /// A name of the user, for people: base decisions upon `claims`.
    user: Option<String>,
    oid: Option<String>,
    tenant: Option<String>,
    issuer: &'a str,
    /// The application.
    client: Option<String>,
    /// All claims of the token.
    claims: &'a Map<String, Value>,
    /// Seconds since 1970.
    time: u64,
}

/// What came of asking.
pub(super) enum Verdict {
    Allowed,
    /// By which rule.
    Denied(String),
    /// It could not decide, which is no verdict on the caller.
    Failed(String),
}

impl AccessPolicy {
    pub(super) fn load(file: &Path) -> Result<Self, String> {
        Policy::read(file, PACKAGE).map(Self).map_err(|error| error.to_string())
    }

    pub(super) fn ask(&self, caller: &Caller, key: &str, generation: &str) -> Verdict {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let decision = self.0.decide(&Input {
            key,
            generation,
            user: caller.user(),
            oid: caller.oid(),
            tenant: caller.tenant(),
            issuer: caller.issuer(),
            client: caller.client(),
            claims: caller.claims(),
            time: now.as_secs(),
        });
        match (decision.allow, decision.error) {
            (_, Some(error)) => Verdict::Failed(format!("{}: {error}", self.0.name())),
            (true, None) => Verdict::Allowed,
            (false, None) => Verdict::Denied(decision.rule.unwrap_or_default()),
        }
    }
}
