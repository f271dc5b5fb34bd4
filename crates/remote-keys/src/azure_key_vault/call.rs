//! One call to a vault: bounded in time, silent towards logs, and explained
//! when it fails.

use std::time::Duration;

use azure_core::http::Response;
use azure_core::http::headers::{HeaderName, Headers};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use twinlock_keys::{HolderAnswer, HolderError, HolderErrorKind, KeyUri};

use super::{Options, refusal};
use crate::network::{bounded, end_of, printable};

/// What is being asked of which key, and until when.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) key: &'a KeyUri,
    attempts: u32,
    deadline: Duration,
    until: Instant,
}

/// What we ask of a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    CreateKey,
    GetKey,
    LoadConfig,
    UnwrapKey,
    WrapKey,
}

/// What a vault answered.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) model: T,
    pub(super) request_id: Option<String>,
}

/// When an operation that begins now has to be done.
pub(super) fn until(options: &Options) -> Instant {
    end_of(options.deadline)
}

impl<'a> Call<'a> {
    pub(super) fn new(
        operation: Operation,
        key: &'a KeyUri,
        options: &Options,
        until: Instant,
    ) -> Self {
        Self { operation, key, attempts: options.attempts, deadline: options.deadline, until }
    }

    /// The same, sent at most once.
    pub(super) fn once(mut self) -> Self {
        self.attempts = 1;
        self
    }

    /// Sends a request of the SDK, again and again while that can help.
    pub(super) async fn send<T, F>(&self, request: impl Fn() -> F) -> Result<Answer<T>, HolderError>
    where
        T: DeserializeOwned,
        F: Future<Output = azure_core::Result<Response<T>>>,
    {
        let result = self.bounded(self.repeated(request)).await;
        self.log(&result);
        result
    }

    /// Runs `work` until the deadline and with the SDK's logging off.
    pub(super) async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, HolderError>>,
    ) -> Result<T, HolderError> {
        bounded("Azure Key Vault", self.until, work, || self.timed_out()).await
    }

    async fn repeated<T, F>(&self, request: impl Fn() -> F) -> Result<Answer<T>, HolderError>
    where
        T: DeserializeOwned,
        F: Future<Output = azure_core::Result<Response<T>>>,
    {
        let mut sent = 0;
        loop {
            let error = match self.attempt(request()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            sent += 1;
            let Some(wait) = self.wait(sent, error.kind()) else { return Err(error) };
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        request: impl Future<Output = azure_core::Result<Response<T>>>,
    ) -> Result<Answer<T>, HolderError> {
        let limit = self.deadline / self.attempts.min(2);
        match tokio::time::timeout(limit, request).await {
            Ok(Ok(response)) => self.parsed(response),
            Ok(Err(error)) => Err(refusal::explain(self, &error)),
            Err(_) => Err(self.timed_out()),
        }
    }

    fn parsed<T: DeserializeOwned>(&self, response: Response<T>) -> Result<Answer<T>, HolderError> {
        let request_id = request_id(response.headers());
        match response.into_model() {
            Ok(model) => Ok(Answer { model, request_id }),
            Err(_) => {
                let error = self.failed("the answer was not one of Azure Key Vault");
                Err(error.with_answer(evidence(request_id)))
            }
        }
    }

    /// How long to wait before the next attempt, if there is one: what Azure
    /// asked for or a tenth of the deadline, unless that is too long.
    fn wait(&self, sent: u32, kind: HolderErrorKind) -> Option<Duration> {
        if sent >= self.attempts || !kind.is_retryable() {
            return None;
        }
        let asked = match kind {
            HolderErrorKind::Unavailable { retry_after } => retry_after,
            _ => None,
        };
        let wait = asked.unwrap_or((self.deadline / 10).min(Duration::from_secs(1)));
        (wait < self.until.saturating_duration_since(Instant::now())).then_some(wait)
    }

    pub(super) fn timed_out(&self) -> HolderError {
        let message = format!(
            "no answer from Azure Key Vault to {self} within {:?}: check the network or raise the \
             deadline",
            self.deadline,
        );
        HolderError::new(HolderErrorKind::TimedOut, message)
    }

    /// Says nothing more than that.
    pub(super) fn invalid_ciphertext(&self) -> HolderError {
        HolderError::invalid_ciphertext(format!("{} does not open this share", self.key))
    }

    pub(super) fn failed(&self, what: &str) -> HolderError {
        let message = format!("{what} ({self}): check that the host is Azure Key Vault");
        HolderError::new(HolderErrorKind::Failed, message)
    }

    fn log<T>(&self, result: &Result<Answer<T>, HolderError>) {
        let operation = self.operation.name();
        match result {
            Ok(answer) => tracing::debug!(
                operation,
                key = %self.key,
                request_id = answer.request_id,
                "Azure Key Vault answered"
            ),
            Err(error) => {
                tracing::debug!(operation, key = %self.key, %error, "Azure Key Vault did not do it");
            }
        }
    }
}

/// `wrapKey with azure-kv://…`
impl std::fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {}", self.operation.name(), self.key)
    }
}

impl Operation {
    /// As the Key Vault API names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Operation::CreateKey => "createKey",
            Operation::GetKey => "getKey",
            Operation::LoadConfig => "loading the configuration",
            Operation::UnwrapKey => "unwrapKey",
            Operation::WrapKey => "wrapKey",
        }
    }

    /// The permission that it needs: of an access policy, and as the last part
    /// of an action of Azure's roles.
    pub(super) fn permission(self) -> &'static str {
        match self {
            Operation::CreateKey => "keys/create",
            Operation::GetKey | Operation::LoadConfig => "keys/get (read)",
            Operation::UnwrapKey => "keys/unwrapKey",
            Operation::WrapKey => "keys/wrapKey",
        }
    }
}

/// Of an answer that was not a refusal.
pub(super) fn evidence(request_id: Option<String>) -> HolderAnswer {
    HolderAnswer { code: "200".to_owned(), request_id }
}

pub(super) fn request_id(headers: &Headers) -> Option<String> {
    headers.get_optional_str(&HeaderName::from_static("x-ms-request-id")).map(printable)
}
