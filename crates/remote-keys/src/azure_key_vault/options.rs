//! What a caller may choose; the rest follows from the vault's host and the
//! environment.

use std::path::PathBuf;
use std::time::Duration;

use twinlock_keys::ShareAlgorithm;

use super::Credential;

/// How to reach a vault or Managed HSM, as whom, and how long to wait for it.
///
/// ```
/// use std::time::Duration;
/// use twinlock_remote_keys::azure_key_vault::{Credential, Options};
///
/// let options = Options::new()
///     .credential(Credential::ManagedIdentity { client_id: None })
///     .deadline(Duration::from_secs(3));
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) algorithm: Option<ShareAlgorithm>,
    pub(super) attempts: u32,
    pub(super) authority: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) credential: Credential,
    pub(super) deadline: Duration,
    pub(super) endpoint: Option<String>,
    pub(super) scope: Option<String>,
}

impl Options {
    /// [`Credential::Usual`], 10 seconds for each operation, 3 attempts within
    /// them.
    #[must_use]
    pub fn new() -> Self {
        Self {
            algorithm: None,
            attempts: 3,
            authority: None,
            ca_file: None,
            credential: Credential::Usual,
            deadline: Duration::from_secs(10),
            endpoint: None,
            scope: None,
        }
    }

    /// How to wrap, instead of asking the vault once what kind of key it is,
    /// for callers without the permission `keys/get`:
    /// [`RsaOaepSha256`](ShareAlgorithm::RsaOaepSha256) or
    /// [`AesKw`](ShareAlgorithm::AesKw).
    #[must_use]
    pub fn algorithm(mut self, algorithm: ShareAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// How often a call is sent at most (at least once) while Azure throttles,
    /// fails or cannot be reached. Refusals are never sent again.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Where Entra ID gives tokens, instead of what `AZURE_AUTHORITY_HOST` or
    /// the vault's cloud says: an `https://` URL.
    #[must_use]
    pub fn authority(mut self, url: impl Into<String>) -> Self {
        self.authority = Some(url.into());
        self
    }

    /// A file of certificates in PEM that are trusted beside the system's, for
    /// the vault and for Entra ID.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// As whom to call.
    #[must_use]
    pub fn credential(mut self, credential: Credential) -> Self {
        self.credential = credential;
        self
    }

    /// How long one wrap or unwrap may take in all: credentials, attempts and
    /// the waits between them. One attempt gets at most half of it, so that a
    /// connection that hangs leaves room for another.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The `https://` URL to connect to instead of the URI's host: a gateway,
    /// or a server for tests. Token and answers are still about that host.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// What tokens are asked for, as in `https://vault.azure.net/.default`, for
    /// a host that is in none of Azure's clouds. A vault's own challenge is
    /// never asked: it would choose what our credential is good for.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
