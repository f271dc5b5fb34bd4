//! One call to KMS: bounded in time, silent towards logs, and explained when
//! it fails.

use std::time::Duration;

use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use twinlock_keys::{HolderError, HolderErrorKind, KeyUri};

use super::refusal;
use crate::network::{bounded, end_of, printable};

/// What is being asked of which key.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) key: &'a KeyUri,
    deadline: Duration,
}

/// What we ask of KMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    CreateAlias,
    CreateKey,
    Decrypt,
    DescribeKey,
    Encrypt,
    LoadConfig,
}

impl<'a> Call<'a> {
    pub(super) fn new(operation: Operation, key: &'a KeyUri, deadline: Duration) -> Self {
        Self { operation, key, deadline }
    }

    /// Sends a request of the SDK.
    pub(super) async fn send<T, E>(
        &self,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, HolderError>
    where
        T: RequestId,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let result = self
            .bounded(async { request.await.map_err(|error| refusal::explain(self, &error)) })
            .await;
        self.log(&result);
        result
    }

    /// Runs `work` within the deadline and with the SDK's logging off, which an
    /// environment variable can make print shares.
    pub(super) async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, HolderError>>,
    ) -> Result<T, HolderError> {
        bounded("AWS KMS", end_of(self.deadline), work, || self.timed_out()).await
    }

    pub(super) fn timed_out(&self) -> HolderError {
        let message = format!(
            "no answer from AWS KMS to {self} within {:?}: check the network or raise the deadline",
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
        let message = format!("{what} ({self}): check that the endpoint is AWS KMS");
        HolderError::new(HolderErrorKind::Failed, message)
    }

    fn log<T: RequestId>(&self, result: &Result<T, HolderError>) {
        let operation = self.operation.name();
        match result {
            Ok(answer) => tracing::debug!(
                operation,
                key = %self.key,
                request_id = answer.request_id().map(printable),
                "AWS KMS answered"
            ),
            Err(error) => {
                tracing::debug!(operation, key = %self.key, %error, "AWS KMS did not do it");
            }
        }
    }
}

/// `Encrypt with aws-kms://…`
impl std::fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {}", self.operation.name(), self.key)
    }
}

impl Operation {
    /// As the KMS API names it; the permission is `kms:` and this.
    pub(super) fn name(self) -> &'static str {
        match self {
            Operation::CreateAlias => "CreateAlias",
            Operation::CreateKey => "CreateKey",
            Operation::Decrypt => "Decrypt",
            Operation::DescribeKey => "DescribeKey",
            Operation::Encrypt => "Encrypt",
            Operation::LoadConfig => "loading the configuration",
        }
    }
}
