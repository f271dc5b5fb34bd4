//! One call: bounded in time, silent towards logs, and explained when it fails.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use twinlock_keys::{HolderError, HolderErrorKind, KeyUri};

use super::client::Answer;
use crate::network::{bounded, end_of};

/// What is being asked for which key.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    /// What it is about: a key or an issuer.
    pub(super) subject: &'a str,
    pub(super) deadline: Deadline,
}

/// When a wrap or unwrap has to be over, whatever calls it takes.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    span: Duration,
    end: Instant,
}

/// What we ask of a service, or of who gives tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Decrypt,
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
        Self { operation, subject: key.as_str(), deadline }
    }

    /// To log in with `issuer`.
    pub(super) fn to_issuer(issuer: &'a str, deadline: Deadline) -> Self {
        Self { operation: Operation::LogIn, subject: issuer, deadline }
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
        bounded("dke+https", self.deadline.end, work, || self.timed_out()).await
    }

    pub(super) fn timed_out(&self) -> HolderError {
        let message = format!(
            "no answer to {self} within {:?}: check the network or raise the deadline",
            self.deadline.span,
        );
        HolderError::new(HolderErrorKind::TimedOut, message)
    }

    /// Says nothing more than that.
    pub(super) fn invalid_ciphertext(&self) -> HolderError {
        HolderError::invalid_ciphertext(format!(
            "{} does not open this share, or no longer has the version that wrapped it",
            self.subject
        ))
    }

    pub(super) fn failed(&self, what: &str) -> HolderError {
        HolderError::new(HolderErrorKind::Failed, format!("{what} ({self})"))
    }

    pub(super) fn not_the_service(&self) -> HolderError {
        self.failed(match self.operation {
            Operation::LogIn => {
                "what answered is no issuer of OpenID Connect: check `issuer` in the profile's [dke]"
            }
            _ => {
                "what answered is no service of Double Key Encryption: check the key's host, \
                 prefix and name"
            }
        })
    }

    fn log(&self, result: &Result<Answer, HolderError>) {
        let (operation, subject) = (self.operation.name(), self.subject);
        match result {
            Ok(answer) => tracing::debug!(
                operation,
                subject,
                status = answer.status,
                request_id = answer.request_id,
                "the service answered"
            ),
            Err(error) => {
                tracing::debug!(operation, subject, %error, "the service did not answer");
            }
        }
    }
}

/// `decrypt with dke+https://…`
impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation.name(), self.subject)
    }
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Decrypt => "decrypt with",
            Operation::LogIn => "get a token from",
            Operation::ReadKey => "read",
        }
    }
}
