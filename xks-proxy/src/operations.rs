//! The four operations, of a request whose signature was verified.

mod decrypt;
mod encrypt;
mod health;
mod metadata;

use std::borrow::Cow;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use twinlock_pkcs11::{Done, ErrorKind, Fleet, Pkcs11Error};
use twinlock_service::log::micros;
use zeroize::Zeroizing;

use crate::authorization::{Input, Verdict};
use crate::error::{ErrorName, XksError};
use crate::key_store::{Generation, Key, KeyStore, Members};
use crate::metrics::Metrics;
use crate::record::Record;
use crate::state::State;
use crate::uri_path::{ExternalKeyId, Operation};
use crate::wire::RequestMetadata;

/// A verified request.
pub(crate) struct Call<'a> {
    pub(crate) state: &'a State,
    pub(crate) store: &'a KeyStore,
    pub(crate) metrics: &'a Metrics,
    pub(crate) body: &'a [u8],
    /// When it has to be answered.
    pub(crate) until: Instant,
    /// It is about a ciphertext of the caller's.
    pub(crate) decrypts: bool,
}

/// What KMS is told, and what people here are told of it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: XksError,
    pub(crate) cause: Option<Cow<'static, str>>,
}

/// The body of an answer.
pub(crate) type Answer = Result<Zeroizing<Vec<u8>>, Refusal>;

impl From<XksError> for Refusal {
    fn from(error: XksError) -> Self {
        Self { error, cause: None }
    }
}

impl Refusal {
    pub(crate) fn new(name: ErrorName, message: &'static str) -> Self {
        XksError::new(name, message).into()
    }

    /// Of a key that is switched off.
    fn disabled() -> Self {
        Self::new(
            ErrorName::InvalidState,
            "The external key is disabled in the proxy's configuration.",
        )
    }

    pub(crate) fn because(mut self, cause: impl Into<Cow<'static, str>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl Call<'_> {
    pub(crate) async fn answer(&self, operation: &Operation, record: &mut Record) -> Answer {
        match operation {
            Operation::Health => health::answer(self, record),
            Operation::Metadata(id) => metadata::answer(self, id, record).await,
            Operation::Encrypt(id) => encrypt::answer(self, id, record).await,
            Operation::Decrypt(id) => decrypt::answer(self, id, record).await,
        }
    }

    /// The external key, if there is one of that name and its policy allows it.
    /// Whether a key is there is no secret from whoever signed for its key store,
    /// so that comes first.
    fn key(
        &self,
        operation: &'static str,
        id: &ExternalKeyId,
        metadata: &RequestMetadata<'_>,
        record: &mut Record,
    ) -> Result<&Key, Refusal> {
        let Some(key) = self.store.keys.get(id) else {
            return Err(Refusal::new(
                ErrorName::KeyNotFound,
                "This key store has no external key of this name. Compare the XksKeyId in KMS with \
                 the keys in the proxy's configuration.",
            ));
        };
        self.authorize(&Input::new(operation, &self.store.path, id.as_str(), metadata), record)?;
        Ok(key)
    }

    fn authorize(&self, input: &Input<'_>, record: &mut Record) -> Result<(), Refusal> {
        let Some(authorization) = &self.store.authorization else { return Ok(()) };
        match authorization.ask(input) {
            Verdict::Allowed => Ok(()),
            Verdict::WouldBeDenied(rule) => {
                self.metrics.denial(&self.store.path, true);
                record.policy_rule = rule;
                record.policy_would_deny = true;
                Ok(())
            }
            Verdict::Failed(error) => Err(Refusal::new(
                ErrorName::Internal,
                "The external key store proxy's own policy could not decide. Retry; its log has \
                 the reason.",
            )
            .because(error)),
            Verdict::Denied(rule) => {
                self.metrics.denial(&self.store.path, false);
                record.policy_rule = rule;
                Err(Refusal::new(
                    ErrorName::AccessDenied,
                    "The external key store proxy's own policy denies this request. Its log has \
                     the rule.",
                ))
            }
        }
    }

    /// How long a token may take now.
    fn left(&self) -> Result<Duration, Refusal> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(Refusal::new(ErrorName::DependencyTimeout, TOO_LATE)),
            left => Ok(left),
        }
    }

    /// Notes where the time went, and turns a token's error into KMS's.
    async fn settle<T>(
        &self,
        done: Done<T>,
        generation: &Generation,
        members: &Members,
        record: &mut Record,
    ) -> Result<T, Refusal> {
        record.queue_us = Some(micros(done.queued));
        record.hsm_us = Some(micros(done.in_token));
        if let Some(hsm) = members.hsm(done.member) {
            record.hsm = Some(hsm.name().to_owned());
            self.metrics.token(hsm.name(), done.queued, done.in_token);
        }
        match done.result {
            Ok(done) => Ok(done),
            Err(error) => Err(self.of_failure(&error, generation).await),
        }
    }

    /// The tokens of a generation, if one of them has it.
    async fn fleet<'a>(
        &self,
        generation: &Generation,
        members: &'a Members,
    ) -> Result<&'a Fleet, Refusal> {
        match (members.fleet(), members.error()) {
            (Some(fleet), _) => Ok(fleet),
            (None, Some(error)) => Err(self.of_failure(error, generation).await),
            (None, None) => Err(Refusal::new(ErrorName::Internal, FAILED)
                .because(format!("{} was not looked for yet", generation.name))),
        }
    }

    async fn of_failure(&self, error: &Pkcs11Error, generation: &Generation) -> Refusal {
        match error.kind() {
            // Nobody gave it a ciphertext.
            ErrorKind::BadCiphertext if !self.decrypts => {
                Refusal::new(ErrorName::Internal, FAILED).because(error.to_string())
            }
            ErrorKind::NotFound => self.of_missing(error, generation).await,
            _ => of_token(error),
        }
    }

    /// A token that lost all of its keys is ill, and says nothing of this one; nor
    /// does one that is away.
    async fn of_missing(&self, error: &Pkcs11Error, generation: &Generation) -> Refusal {
        let others = generation.hsms().iter().map(|hsm| hsm.key(&hsm.settings().health_key));
        let others = tokio::time::timeout_at(self.until.into(), join_all(others)).await;
        match others.is_ok_and(|others| others.iter().all(Result::is_ok)) {
            true => of_token(error),
            false => Refusal::new(ErrorName::Internal, FAILED)
                .because(format!("{error}; nor has the token its health key")),
        }
    }
}

/// Notes what KMS says of a request.
fn note(metadata: &RequestMetadata<'_>, record: &mut Record) {
    let owned = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
    record.kms_request_id = Some(metadata.kms_request_id.to_string());
    record.kms_operation = Some(metadata.kms_operation.to_string());
    record.kms_key_arn = owned(&metadata.kms_key_arn);
    record.principal = owned(&metadata.aws_principal_arn);
    record.source_vpc = owned(&metadata.aws_source_vpc);
    record.source_vpce = owned(&metadata.aws_source_vpce);
    record.via_service = owned(&metadata.kms_via_service);
}

const FAILED: &str = "The HSM failed. Retry; the proxy's log has the reason.";
const TOO_LATE: &str = "The HSM did not answer in time. Retry.";

/// What KMS makes of it counts here: it retries what is told to be transient, and
/// takes everything else for the last word on this key. So an outage must never
/// look like a key that is gone or a ciphertext that is bad.
fn of_token(error: &Pkcs11Error) -> Refusal {
    let (name, message) = match error.kind() {
        _ if error.is_forbidden_use() => (
            ErrorName::InvalidKeyUsage,
            "The HSM does not let this key be used for this operation. See the key's attributes \
             CKA_ENCRYPT and CKA_DECRYPT.",
        ),
        ErrorKind::BadCiphertext => (
            ErrorName::InvalidCiphertext,
            "The key does not decrypt this ciphertext: it, its metadata, IV, tag or AAD are not \
             what Encrypt returned or was given.",
        ),
        ErrorKind::NotFound => (
            ErrorName::KeyNotFound,
            "The HSM has no key for this external key. See the generations in the proxy's \
             configuration.",
        ),
        ErrorKind::Busy if error.retry_after().is_none() => {
            (ErrorName::Throttling, "The HSM has as much to do as it can. Retry later.")
        }
        ErrorKind::TimedOut => (ErrorName::DependencyTimeout, TOO_LATE),
        _ => (ErrorName::Internal, FAILED),
    };
    Refusal::new(name, message).because(error.to_string())
}
