//! What a caller may choose; the rest comes from the variables that the command
//! lines of OpenBao and Vault read.

use std::path::PathBuf;
use std::time::Duration;

use super::Auth;

/// How to reach Vault or OpenBao, as whom, and how long to wait for it.
///
/// ```
/// use std::time::Duration;
/// use twinlock_remote_keys::vault_transit::{Auth, Options};
///
/// let options = Options::new().auth(Auth::kubernetes("archive")).deadline(Duration::from_secs(3));
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) address: Option<String>,
    pub(super) attempts: u32,
    pub(super) auth: Auth,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) deadline: Duration,
    pub(super) namespace: Option<String>,
}

impl Options {
    /// Everything from the environment, 10 seconds for each call, 3 attempts
    /// within them.
    #[must_use]
    pub fn new() -> Self {
        Self {
            address: None,
            attempts: 3,
            auth: Auth::Usual,
            ca_file: None,
            deadline: Duration::from_secs(10),
            namespace: None,
        }
    }

    /// The URL to call instead of `https://` and the URI's host: an agent on
    /// this machine, or a server for tests.
    #[must_use]
    pub fn address(mut self, url: impl Into<String>) -> Self {
        self.address = Some(url.into());
        self
    }

    /// How often a call is sent at most (at least once) while the server
    /// throttles, is sealed or cannot be reached. Refusals are never sent
    /// again.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// As whom to call.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// A file of certificates in PEM: the only authorities that are trusted to
    /// vouch for the server.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// How long a wrap or unwrap may take in all: logging in, attempts and the
    /// waits between them.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The namespace that the engine and the login are in, as in `team/blue`.
    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = Some(name.into());
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
