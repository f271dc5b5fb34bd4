//! AWS KMS as a key holder, through the official SDK.
//!
//! ```no_run
//! use twinlock_keys::{KeyUri, ProviderKey};
//! use twinlock_remote_keys::aws_kms::{AwsKmsKey, Options};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let uri: KeyUri = "aws-kms://alias/archive".parse()?;
//! let key = AwsKmsKey::connect(&uri, &Options::new()).await?;
//! let provider = ProviderKey::new(key)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is sent
//!
//! One `Encrypt` per wrap and one `Decrypt` per unwrap, each with the key's
//! ARN as `KeyId` and an encryption context of the caller's pairs plus
//! `twinlock:share` = `v1/<side>/<pair id>`, so that IAM conditions can ask for
//! them and CloudTrail shows them. An answer for any other key is refused. The
//! caller needs `kms:Encrypt` to encrypt, `kms:Decrypt` to decrypt (and to read
//! back what was encrypted), and `kms:DescribeKey` where an alias is used.
//!
//! # Where and as whom
//!
//! Region: that of the ARN; only a bare `alias/…` asks [`Options::region`] and
//! then the usual chain (`AWS_REGION`, the profile, the instance). Credentials:
//! the usual chain too (environment, profiles with SSO, `credential_process`
//! and assumed roles, web identity, container and instance roles), unless
//! [`Options::profile`] names one. Endpoint: [`Options::endpoint`],
//! `AWS_ENDPOINT_URL_KMS`, `AWS_ENDPOINT_URL`, the profile's `endpoint_url`, or
//! AWS's own. Plain HTTP is refused but to this machine, since a share would
//! travel in the clear.
//!
//! A multi-Region key (`mrk-…`) has one ARN per region: the holder always uses
//! its own, whichever replica's ARN a header names.
//!
//! # Runtime
//!
//! The futures need a tokio runtime with time and I/O enabled, and the same one
//! for the life of the holder, as its pooled connections live there.
//!
//! # Secrets
//!
//! A share is wiped where this crate owns it. The SDK keeps copies (its request
//! and response bodies) that it frees without wiping; TLS does too.
//!
//! The SDK's logging is off inside our calls, whatever the subscriber's filter
//! says. Left alone, it redacts bodies and tokens, but with
//! `LOG_SIGNABLE_BODY=true` or `LOG_SENSITIVE_BODIES=true` in the environment
//! it prints them at TRACE, and some of its error messages repeat the request:
//! those bodies are shares. Each call leaves one DEBUG line of our own instead,
//! with the operation, the key and the request id; errors say what the SDK
//! found out about credentials and connections. What the SDK's tasks for
//! connections log is sizes. (`tracing` built with its
//! `log-always` feature goes around this: do not use that at TRACE.)

mod admin;
mod call;
mod client;
mod clock;
mod options;
mod refusal;

use std::collections::HashMap;

use aws_sdk_kms::Client;
use aws_sdk_kms::operation::RequestId as _;
use aws_sdk_kms::operation::decrypt::DecryptOutput;
use aws_sdk_kms::operation::encrypt::EncryptOutput;
use aws_sdk_kms::primitives::Blob;
use twinlock_keys::{
    BoxFuture, HolderAnswer, HolderError, HolderErrorKind, KeyHolder, KeyUri, Share,
    ShareAlgorithm, WrapContext, WrappedShare,
};
use zeroize::Zeroizing;

use crate::network;

pub use admin::{Examination, KeyFacts};
pub use options::Options;

use call::{Call, Operation};

/// The longest ciphertext that `Decrypt` takes, in bytes (KMS API reference,
/// `CiphertextBlob`).
const MAX_CIPHERTEXT_LEN: usize = 6144;

/// A symmetric encryption key in AWS KMS.
pub struct AwsKmsKey {
    uri: KeyUri,
    client: Client,
    options: Options,
}

impl AwsKmsKey {
    /// Makes a holder for the key that `uri` names.
    ///
    /// A key ARN costs no call: whether the key exists and may be used shows
    /// when it is used. An alias costs one `DescribeKey`, which turns it into
    /// the key ARN that [`KeyHolder::uri`] then gives and headers carry.
    ///
    /// # Errors
    /// When `uri` is not of the scheme `aws-kms`, when no region is known, and
    /// when an alias cannot be resolved to a symmetric encryption key.
    pub async fn connect(uri: &KeyUri, options: &Options) -> Result<Self, HolderError> {
        let client = client::open(uri, options).await?;
        let uri = if uri.is_alias() {
            admin::facts(&client, uri, options).await?.uri
        } else {
            uri.clone()
        };
        Ok(Self { uri, client, options: options.clone() })
    }

    /// Makes a new symmetric key, and the alias that `alias` names for it, and
    /// returns the URI of the key's ARN.
    ///
    /// Needs `kms:DescribeKey`, `kms:CreateKey` and `kms:CreateAlias`. The key
    /// gets the account's default key policy. It costs what AWS charges for a
    /// key until it is deleted.
    ///
    /// # Errors
    /// When `alias` is not an alias or is taken, and when AWS refuses. If only
    /// the last step fails, the message names the key that was made.
    pub async fn create(alias: &KeyUri, options: &Options) -> Result<KeyUri, HolderError> {
        admin::create(alias, options).await
    }

    /// Asks AWS what it knows about the key, with one `DescribeKey`. A key that
    /// is disabled or pending deletion is described too: see
    /// [`KeyFacts::state`].
    ///
    /// # Errors
    /// When AWS refuses or fails, and with
    /// [`Misconfigured`](HolderErrorKind::Misconfigured) when the key is not a
    /// symmetric encryption key.
    pub async fn describe(uri: &KeyUri, options: &Options) -> Result<KeyFacts, HolderError> {
        let client = client::open(uri, options).await?;
        admin::facts(&client, uri, options).await
    }

    /// As [`AwsKmsKey::describe`], and compares clocks: AWS refuses requests of
    /// a machine whose clock is more than five minutes off.
    pub async fn examine(uri: &KeyUri, options: &Options) -> Examination {
        admin::examine(uri, options).await
    }

    async fn wrap(
        &self,
        share: &Share,
        context: &WrapContext,
    ) -> Result<WrappedShare, HolderError> {
        let request = self
            .client
            .encrypt()
            .key_id(self.uri.key_name())
            .plaintext(Blob::new(share.expose()))
            .set_encryption_context(Some(encryption_context(context)?));
        let call = self.call(Operation::Encrypt);
        let answer = call.send(request.send()).await?;
        self.wrapped(&call, answer)
    }

    fn wrapped(&self, call: &Call<'_>, answer: EncryptOutput) -> Result<WrappedShare, HolderError> {
        self.check_key_id(call, answer.key_id(), answer.request_id())?;
        let bytes = answer.ciphertext_blob.map(Blob::into_inner).unwrap_or_default();
        if bytes.is_empty() || bytes.len() > MAX_CIPHERTEXT_LEN {
            return Err(call.failed("KMS answered Encrypt without a usable ciphertext"));
        }
        Ok(WrappedShare::new(ShareAlgorithm::HolderAead, bytes))
    }

    async fn unwrap(
        &self,
        wrapped: &WrappedShare,
        context: &WrapContext,
    ) -> Result<Share, HolderError> {
        let call = self.call(Operation::Decrypt);
        let len = wrapped.bytes().len();
        if wrapped.algorithm() != ShareAlgorithm::HolderAead || len == 0 || len > MAX_CIPHERTEXT_LEN
        {
            return Err(call.invalid_ciphertext());
        }
        let request = self
            .client
            .decrypt()
            .key_id(self.uri.key_name())
            .ciphertext_blob(Blob::new(wrapped.bytes()))
            .set_encryption_context(Some(encryption_context(context)?));
        let answer = call.send(request.send()).await?;
        self.unwrapped(&call, answer)
    }

    fn unwrapped(&self, call: &Call<'_>, answer: DecryptOutput) -> Result<Share, HolderError> {
        let evidence = evidence(answer.request_id());
        let checked = self.check_key_id(call, answer.key_id(), answer.request_id());
        let plaintext = Zeroizing::new(answer.plaintext.map(Blob::into_inner).unwrap_or_default());
        checked?;
        match Share::try_copy_of(&plaintext) {
            Some(share) => Ok(share.with_answer(evidence)),
            None => Err(call.invalid_ciphertext().with_answer(evidence)),
        }
    }

    /// KMS names the key that it used. Another one than ours is either not KMS
    /// or not what the caller asked for.
    fn check_key_id(
        &self,
        call: &Call<'_>,
        answered: Option<&str>,
        request_id: Option<&str>,
    ) -> Result<(), HolderError> {
        if answered == Some(self.uri.key_name()) {
            return Ok(());
        }
        let error = call.failed("KMS answered for another key than it was asked for");
        Err(error.with_answer(evidence(request_id)))
    }

    fn call(&self, operation: Operation) -> Call<'_> {
        Call::new(operation, &self.uri, self.options.deadline)
    }
}

impl KeyHolder for AwsKmsKey {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        Box::pin(self.wrap(share, context))
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(self.unwrap(wrapped, context))
    }
}

/// Of an answer that was not a refusal.
fn evidence(request_id: Option<&str>) -> HolderAnswer {
    HolderAnswer { code: "200".to_owned(), request_id: request_id.map(network::printable) }
}

/// The caller's pairs and ours (`docs/format.md`, shares).
fn encryption_context(context: &WrapContext) -> Result<HashMap<String, String>, HolderError> {
    let label = (WrapContext::LABEL_KEY.to_owned(), context.label().to_owned());
    let mut pairs = HashMap::from([label]);
    for (key, value) in context.pairs() {
        if pairs.insert(key.clone(), value.clone()).is_some() {
            return Err(HolderError::new(
                HolderErrorKind::Misconfigured,
                "the encryption context has a key twice, or one of Twinlock's own",
            ));
        }
    }
    Ok(pairs)
}
