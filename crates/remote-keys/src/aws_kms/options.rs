//! What a caller may choose; the rest is the usual AWS chain.

use std::path::PathBuf;
use std::time::Duration;

/// How to reach AWS KMS, and how long to wait for it.
///
/// ```
/// use std::time::Duration;
/// use twinlock_remote_keys::aws_kms::Options;
///
/// let options = Options::new().profile("archive").deadline(Duration::from_secs(3));
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) attempts: u32,
    pub(super) deadline: Duration,
    pub(super) endpoint: Option<String>,
    pub(super) profile: Option<String>,
    pub(super) profile_file: Option<PathBuf>,
    pub(super) region: Option<String>,
}

impl Options {
    /// Everything from the usual AWS chain, 10 seconds for each call, 3
    /// attempts within them.
    #[must_use]
    pub fn new() -> Self {
        Self {
            attempts: 3,
            deadline: Duration::from_secs(10),
            endpoint: None,
            profile: None,
            profile_file: None,
            region: None,
        }
    }

    /// How often a call is sent at most (at least once) while AWS throttles,
    /// fails or cannot be reached. Refusals are never sent again.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
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

    /// The URL to call instead of AWS's own: a VPC endpoint, or a server for
    /// tests.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// The profile to take credentials from. As with the AWS command line, a
    /// profile named here goes before credentials in the environment, which a
    /// profile named by `AWS_PROFILE` does not.
    #[must_use]
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profile = Some(name.into());
        self
    }

    /// The file to read profiles from, in the form of `~/.aws/config`, instead
    /// of the usual two. Without [`Options::profile`] its `default` is used.
    #[must_use]
    pub fn profile_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.profile_file = Some(path.into());
        self
    }

    /// The region of bare aliases. An ARN has its own.
    #[must_use]
    pub fn region(mut self, name: impl Into<String>) -> Self {
        self.region = Some(name.into());
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
