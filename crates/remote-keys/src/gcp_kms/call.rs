//! One call to Cloud KMS: bounded in time, repeated where that helps, silent
//! towards logs, and explained when it fails.

use std::time::Duration;

use google_cloud_gax::backoff_policy::BackoffPolicy as _;
use google_cloud_gax::exponential_backoff::ExponentialBackoffBuilder;
use google_cloud_gax::retry_state::RetryState;
use tokio::time::Instant;
use twinlock_keys::{HolderError, HolderErrorKind, KeyUri};

use super::Options;
use crate::network::{bounded, end_of};

/// What is being asked of which key.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) key: &'a KeyUri,
    attempts: u32,
    deadline: Duration,
}

/// What we ask of Cloud KMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    CreateCryptoKey,
    Decrypt,
    Encrypt,
    GetCryptoKey,
    LoadConfig,
}

/// An attempt that failed, and whether another may do better.
pub(super) struct Failed {
    error: HolderError,
    again: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(operation: Operation, key: &'a KeyUri, options: &Options) -> Self {
        Self { operation, key, attempts: options.attempts, deadline: options.deadline }
    }

    /// The same, sent once whatever happens.
    pub(super) fn once(self) -> Self {
        Self { attempts: 1, ..self }
    }

    /// Makes attempts until one succeeds, or fails in a way that stays, or
    /// there is no time left for another.
    ///
    /// The SDK's own repetition is off: it would not see that a checksum does
    /// not fit, nor when Google says to come back.
    pub(super) async fn send<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, HolderError>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let result = self.bounded(self.repeat(attempt)).await;
        self.log(&result);
        result
    }

    async fn repeat<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, HolderError>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let start = Instant::now();
        let mut made = 0;
        loop {
            let result = tokio::time::timeout(self.time_of_attempt(), attempt()).await;
            made += 1;
            let failed = match result {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failed)) => failed,
                Err(_) => self.timed_out().into(),
            };
            let wait = self.wait(&failed.error, made);
            let too_late = start.elapsed() + wait >= self.deadline;
            if !failed.again || made >= self.attempts || too_late {
                return Err(failed.error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Runs `work` within the deadline and with the SDK's logging off, which
    /// can be made to print requests.
    pub(super) async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, HolderError>>,
    ) -> Result<T, HolderError> {
        bounded("Google Cloud KMS", end_of(self.deadline), work, || self.timed_out()).await
    }

    fn time_of_attempt(&self) -> Duration {
        self.deadline / self.attempts.min(2)
    }

    /// Random waits of which the longest three take three tenths of the
    /// deadline, or what Google asks for (`google.rpc.RetryInfo`).
    fn wait(&self, error: &HolderError, made: u32) -> Duration {
        if let HolderErrorKind::Unavailable { retry_after: Some(wait) } = error.kind() {
            return wait;
        }
        let first = Duration::from_secs(1).min(self.deadline / 10);
        let backoff = ExponentialBackoffBuilder::new().with_initial_delay(first).clamp();
        backoff.on_failure(&RetryState::new(true).set_attempt_count(made))
    }

    pub(super) fn timed_out(&self) -> HolderError {
        let message = format!(
            "no answer to {self} within {:?}, from Google Cloud KMS or from whoever gives the \
             credentials: check the network, run `gcloud auth application-default login` if \
             there are no credentials, or raise the deadline",
            self.deadline,
        );
        HolderError::new(HolderErrorKind::TimedOut, message)
    }

    /// Says nothing more than that.
    pub(super) fn invalid_ciphertext(&self) -> HolderError {
        HolderError::invalid_ciphertext(format!(
            "{} does not open this share in this context",
            self.key
        ))
    }

    pub(super) fn failed(&self, what: &str) -> HolderError {
        let message = format!("{what} ({self}): check that the endpoint is Google Cloud KMS");
        HolderError::new(HolderErrorKind::Failed, message)
    }

    /// What was sent or answered was altered on the way, as its checksum shows.
    pub(super) fn corrupted(&self, what: &str) -> Failed {
        let message = format!(
            "{what} ({self}): something between here and Google Cloud KMS alters data; the \
             answer was thrown away"
        );
        Failed { error: HolderError::new(HolderErrorKind::Failed, message), again: true }
    }

    fn log<T>(&self, result: &Result<T, HolderError>) {
        let operation = self.operation.name();
        match result {
            Ok(_) => tracing::debug!(operation, key = %self.key, "Google Cloud KMS answered"),
            Err(error) => {
                tracing::debug!(operation, key = %self.key, %error, "Google Cloud KMS did not do it");
            }
        }
    }
}

/// `Encrypt with gcp-kms://…`
impl std::fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {}", self.operation.name(), self.key)
    }
}

impl From<HolderError> for Failed {
    fn from(error: HolderError) -> Self {
        let again = error.kind().is_retryable();
        Self { error, again }
    }
}

impl Failed {
    /// The same with the holder's own words.
    pub(super) fn with_answer(self, answer: twinlock_keys::HolderAnswer) -> Self {
        Self { error: self.error.with_answer(answer), ..self }
    }
}

impl Operation {
    /// As the Cloud KMS API names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Operation::CreateCryptoKey => "CreateCryptoKey",
            Operation::Decrypt => "Decrypt",
            Operation::Encrypt => "Encrypt",
            Operation::GetCryptoKey => "GetCryptoKey",
            Operation::LoadConfig => "loading the configuration",
        }
    }

    /// The permission that it needs, as IAM names it.
    pub(super) fn permission(self) -> &'static str {
        match self {
            Operation::CreateCryptoKey => "cloudkms.cryptoKeys.create",
            Operation::Decrypt => "cloudkms.cryptoKeyVersions.useToDecrypt",
            Operation::Encrypt => "cloudkms.cryptoKeyVersions.useToEncrypt",
            Operation::GetCryptoKey => "cloudkms.cryptoKeys.get",
            Operation::LoadConfig => "no permission",
        }
    }
}
