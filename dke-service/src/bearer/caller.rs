//! Who calls, once that is proven.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

/// Whoever an issuer's token speaks for. Only a verified token makes one.
#[derive(Clone)]
pub struct Caller {
    issuer: Arc<str>,
    claims: Map<String, Value>,
}

/// What a log has of a claim, in characters.
const MAX_NAME: usize = 256;

impl Caller {
    pub(crate) fn new(issuer: Arc<str>, claims: Map<String, Value>) -> Self {
        Self { issuer, claims }
    }

    /// Whose token it was.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What the token says of its bearer under this name.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// All that the token says.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// A name that people know, for the log alone: `upn`, `preferred_username`,
    /// `unique_name`, `email` or `sub`, whichever is there first.
    #[must_use]
    pub fn user(&self) -> Option<String> {
        let names = ["upn", "preferred_username", "unique_name", "email", "sub"];
        names.into_iter().find_map(|name| self.text(name))
    }

    /// The `oid`: who it is for as long as the tenant exists.
    #[must_use]
    pub fn oid(&self) -> Option<String> {
        self.text("oid")
    }

    /// The `tid`.
    #[must_use]
    pub fn tenant(&self) -> Option<String> {
        self.text("tid")
    }

    /// The `sub`: who it is to the issuer, and to this application alone.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        self.text("sub")
    }

    /// True if the token lacks one of the names that a policy is told.
    pub(crate) fn has_no_name(&self) -> bool {
        [self.user(), self.oid(), self.tenant(), self.client()].contains(&None)
    }

    /// The application that the token was given to: `appid`, `azp` or
    /// `client_id`.
    #[must_use]
    pub fn client(&self) -> Option<String> {
        super::claims::client(&self.claims).map(shortened)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.claims.get(name).and_then(Value::as_str).map(shortened)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_NAME).collect()
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut caller = f.debug_struct("Caller");
        caller.field("issuer", &self.issuer).field("oid", &self.oid()).finish_non_exhaustive()
    }
}
