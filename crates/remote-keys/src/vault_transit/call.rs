//! One call: bounded in time, silent towards logs, and explained when it fails.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use twinlock_keys::{HolderError, HolderErrorKind, KeyUri};

use super::body::Answer;
use crate::network::{bounded, end_of};

/// What is being asked of which key.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) key: &'a KeyUri,
    pub(super) deadline: Deadline,
}

/// When a wrap or unwrap has to be over, whatever calls it takes.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    span: Duration,
    end: Instant,
}

/// What we ask of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    CreateKey,
    Decrypt,
    Encrypt,
    LogIn,
    ReadKey,
}

impl Deadline {
    pub(super) fn within(span: Duration) -> Self {
        Self { span, end: end_of(span) }
    }

    /// True if `wait` leaves time for more.
    pub(super) fn has_room_for(self, wait: Duration) -> bool {
        wait < self.end.saturating_duration_since(Instant::now())
    }
}

impl<'a> Call<'a> {
    pub(super) fn new(operation: Operation, key: &'a KeyUri, deadline: Deadline) -> Self {
        Self { operation, key, deadline }
    }

    /// Runs `work`, which is this call, and logs how it ended.
    pub(super) async fn run(
        &self,
        work: impl Future<Output = Result<Answer, HolderError>>,
    ) -> Result<Answer, HolderError> {
        let result = self.bounded(work).await;
        self.log(&result);
        result
    }

    /// Runs `work` within the deadline and with the libraries' logging off.
    pub(super) async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, HolderError>>,
    ) -> Result<T, HolderError> {
        bounded("Vault", self.deadline.end, work, || self.timed_out()).await
    }

    pub(super) fn timed_out(&self) -> HolderError {
        let message = format!(
            "no answer from Vault to {self} within {:?}: check the network or raise the deadline",
            self.deadline.span,
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
        let message =
            format!("{what} ({self}): check that the address is that of Vault or OpenBao");
        HolderError::new(HolderErrorKind::Failed, message)
    }

    fn log(&self, result: &Result<Answer, HolderError>) {
        let operation = self.operation.name();
        match result {
            Ok(answer) => tracing::debug!(
                operation,
                key = %self.key,
                request_id = answer.request_id(),
                "Vault answered"
            ),
            Err(error) => {
                tracing::debug!(operation, key = %self.key, %error, "Vault did not do it");
            }
        }
    }
}

/// `encrypt with vault://…`
impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.operation.name(), self.key)
    }
}

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Operation::CreateKey => "create",
            Operation::Decrypt => "decrypt",
            Operation::Encrypt => "encrypt",
            Operation::LogIn => "login",
            Operation::ReadKey => "read",
        }
    }
}
