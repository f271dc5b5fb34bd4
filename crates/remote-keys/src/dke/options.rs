//! What a caller may choose.

use std::path::PathBuf;
use std::time::Duration;

use super::{Credential, Pin, TokenSource};

/// How to reach a service, which of its keys to trust, as whom to call, and how
/// long to wait.
///
/// ```
/// use std::time::Duration;
/// use twinlock_remote_keys::dke::{Options, TokenSource};
///
/// let command = ["get-token", "--for", "https://dke.example.org"].map(str::to_owned);
/// let options =
///     Options::new().token(TokenSource::Command(command.into())).deadline(Duration::from_secs(3));
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) attempts: u32,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) deadline: Duration,
    pub(super) pins: Vec<Pin>,
    pub(super) token: TokenSource,
}

impl Options {
    /// No pin, the token in the variable `TWINLOCK_DKE_TOKEN`, 10 seconds for
    /// each call, 3 attempts within them.
    #[must_use]
    pub fn new() -> Self {
        Self {
            attempts: 3,
            ca_file: None,
            deadline: Duration::from_secs(10),
            pins: Vec::new(),
            token: Self::usual_token(),
        }
    }

    /// The token in the variable `TWINLOCK_DKE_TOKEN`.
    #[must_use]
    pub fn usual_token() -> TokenSource {
        TokenSource::Bearer(Credential::Variable("TWINLOCK_DKE_TOKEN".to_owned()))
    }

    /// How often a call is sent at most (at least once) while the service
    /// throttles, fails or cannot be reached. Refusals are never sent again, but
    /// for one with a newer token.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// A file of certificates in PEM: the only authorities that are trusted to
    /// vouch for the service and for who gives tokens.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// How long a wrap or unwrap may take in all: getting a token, attempts and
    /// the waits between them.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// One more public key that may wrap. Without any, none may.
    #[must_use]
    pub fn pin(mut self, pin: Pin) -> Self {
        self.pins.push(pin);
        self
    }

    /// Where the bearer token comes from.
    #[must_use]
    pub fn token(mut self, source: TokenSource) -> Self {
        self.token = source;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
