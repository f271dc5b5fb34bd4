//! What a caller may choose; the rest is as with Google's own tools.

use std::path::PathBuf;
use std::time::Duration;

/// How to reach Google Cloud KMS, and how long to wait for it.
///
/// ```
/// use std::time::Duration;
/// use twinlock_remote_keys::gcp_kms::Options;
///
/// let options = Options::new()
///     .credentials_file("/run/secrets/archive.json")
///     .deadline(Duration::from_secs(3));
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) attempts: u32,
    pub(super) credentials_file: Option<PathBuf>,
    pub(super) deadline: Duration,
    pub(super) endpoint: Option<String>,
    pub(super) impersonate: Option<String>,
    pub(super) quota_project: Option<String>,
    pub(super) universe_domain: Option<String>,
}

impl Options {
    /// Application default credentials, Google's own endpoint, 10 seconds for
    /// each call, 3 attempts within them.
    #[must_use]
    pub fn new() -> Self {
        Self {
            attempts: 3,
            credentials_file: None,
            deadline: Duration::from_secs(10),
            endpoint: None,
            impersonate: None,
            quota_project: None,
            universe_domain: None,
        }
    }

    /// How often a call is sent at most (at least once) while Google throttles,
    /// fails or cannot be reached, or a checksum does not fit. Refusals are
    /// never sent again. If Google says how long to wait, that is how long, or
    /// the call ends at once where the deadline is nearer.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The file to take credentials from, instead of the application default
    /// credentials: a service account's key, a user's (`authorized_user`), a
    /// workload identity federation (`external_account`) or an impersonation
    /// (`impersonated_service_account`).
    ///
    /// Such a file may name addresses to get tokens from, and programs to run:
    /// it is as trusted as the configuration that names it.
    #[must_use]
    pub fn credentials_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials_file = Some(path.into());
        self
    }

    /// How long one call may take in all: credentials, attempts and the waits
    /// between them. One attempt gets at most half of it, so that a
    /// connection that hangs leaves room for another.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The URL to call instead of `https://cloudkms.googleapis.com`: a private
    /// or regional endpoint, or a server for tests.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// The service account to act as, by its email. The credentials need
    /// `iam.serviceAccounts.getAccessToken` on it.
    #[must_use]
    pub fn impersonate(mut self, service_account: impl Into<String>) -> Self {
        self.impersonate = Some(service_account.into());
        self
    }

    /// The project whose quota is used and billed, instead of the one that the
    /// credentials or `GOOGLE_CLOUD_QUOTA_PROJECT` name.
    #[must_use]
    pub fn quota_project(mut self, project: impl Into<String>) -> Self {
        self.quota_project = Some(project.into());
        self
    }

    /// The domain of a sovereign or private Google cloud, instead of
    /// `GOOGLE_CLOUD_UNIVERSE_DOMAIN` and `googleapis.com`. It is never taken
    /// from an answer.
    #[must_use]
    pub fn universe_domain(mut self, domain: impl Into<String>) -> Self {
        self.universe_domain = Some(domain.into());
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
