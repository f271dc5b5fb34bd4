//! Making keys, and asking what AWS knows about one.

use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::types::{KeyMetadata, KeySpec, KeyUsageType};
use twinlock_keys::{HolderError, HolderErrorKind, KeyUri};

use super::call::{Call, Operation};
use super::clock::Clock;
use super::{Options, client};
use crate::network;

/// What AWS knows about a symmetric encryption key. The words are those of the
/// KMS API.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyFacts {
    /// The URI of its key ARN.
    pub uri: KeyUri,
    /// `Enabled`, `Disabled`, `PendingDeletion`, …
    pub state: String,
    /// True for a multi-Region key.
    pub multi_region: bool,
    /// Always `SYMMETRIC_DEFAULT`.
    pub spec: String,
    /// `CUSTOMER`, or `AWS` for a key that only AWS services can use.
    pub manager: String,
    /// Where the key material comes from: `AWS_KMS`, `EXTERNAL`,
    /// `AWS_CLOUDHSM`, `EXTERNAL_KEY_STORE`.
    pub origin: String,
}

impl KeyFacts {
    /// True if the key can be used as it is.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.state == "Enabled"
    }
}

/// What a look at a key brought to light.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Examination {
    /// What AWS knows about it.
    pub facts: Result<KeyFacts, HolderError>,
    /// How far this machine's clock is ahead of AWS's, if an answer came, even
    /// one that refused. The time that it took is part of it.
    pub clock_ahead_seconds: Option<i64>,
}

pub(super) async fn examine(uri: &KeyUri, options: &Options) -> Examination {
    let clock = Clock::default();
    let facts = match client::open(uri, options).await {
        Ok(client) => facts_and_time(&client, uri, options, &clock).await,
        Err(error) => Err(error),
    };
    Examination { facts, clock_ahead_seconds: clock.ahead_seconds() }
}

pub(super) async fn facts(
    client: &Client,
    uri: &KeyUri,
    options: &Options,
) -> Result<KeyFacts, HolderError> {
    facts_and_time(client, uri, options, &Clock::default()).await
}

async fn facts_and_time(
    client: &Client,
    uri: &KeyUri,
    options: &Options,
    clock: &Clock,
) -> Result<KeyFacts, HolderError> {
    let call = Call::new(Operation::DescribeKey, uri, options.deadline);
    let request = client.describe_key().key_id(uri.key_name());
    let answer = call.send(request.customize().interceptor(clock.clone()).send()).await?;
    let metadata = answer.key_metadata.ok_or_else(|| call.failed("KMS described nothing"))?;
    refuse_unless_symmetric(uri, &metadata)?;
    Ok(KeyFacts {
        uri: uri_of(&call, &metadata)?,
        state: word(metadata.key_state().map(|state| state.as_str())),
        multi_region: metadata.multi_region().unwrap_or_default(),
        spec: word(metadata.key_spec().map(|spec| spec.as_str())),
        manager: word(metadata.key_manager().map(|manager| manager.as_str())),
        origin: word(metadata.origin().map(|origin| origin.as_str())),
    })
}

pub(super) async fn create(alias: &KeyUri, options: &Options) -> Result<KeyUri, HolderError> {
    let client = client::open(alias, options).await?;
    let name = alias_name(alias)?;
    refuse_if_taken(&client, alias, options).await?;
    let key = create_key(&client, alias, options).await?;
    let call = Call::new(Operation::CreateAlias, alias, options.deadline);
    let request = client.create_alias().alias_name(name).target_key_id(key.key_name());
    match call.send(request.send()).await {
        Ok(_) => Ok(key),
        Err(error) => Err(without_alias(&key, &error)),
    }
}

/// Never sent twice: each `CreateKey` that arrives makes a key.
async fn create_key(
    client: &Client,
    alias: &KeyUri,
    options: &Options,
) -> Result<KeyUri, HolderError> {
    let once = aws_sdk_kms::config::Builder::new().retry_config(RetryConfig::disabled());
    let request = client
        .create_key()
        .description(format!("Twinlock provider KEK ({})", alias.key_name()))
        .key_spec(KeySpec::SymmetricDefault)
        .key_usage(KeyUsageType::EncryptDecrypt)
        .customize()
        .config_override(once);
    let call = Call::new(Operation::CreateKey, alias, options.deadline);
    let answer = call.send(request.send()).await?;
    let metadata = answer.key_metadata.ok_or_else(|| call.failed("KMS made no key"))?;
    uri_of(&call, &metadata)
}

/// Asked first, so that a name that is taken does not leave a key behind.
async fn refuse_if_taken(
    client: &Client,
    alias: &KeyUri,
    options: &Options,
) -> Result<(), HolderError> {
    match facts(client, alias, options).await {
        Ok(facts) => Err(misconfigured(format!("{alias} exists and means {}", facts.uri))),
        Err(error) if error.kind() == HolderErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn alias_name(uri: &KeyUri) -> Result<&str, HolderError> {
    let resource = uri.key_name().rsplit(':').next().filter(|_| uri.is_alias());
    resource.ok_or_else(|| {
        misconfigured(format!(
            "AWS chooses the ids of new keys: name an alias, as in aws-kms://alias/twinlock, \
             instead of {uri}"
        ))
    })
}

fn without_alias(key: &KeyUri, error: &HolderError) -> HolderError {
    let message = format!(
        "made {key}, but not its alias: {error}. Use the key by that name, add the alias with \
         `aws kms create-alias`, or remove the key with `aws kms schedule-key-deletion`"
    );
    HolderError::new(error.kind(), message)
}

fn refuse_unless_symmetric(uri: &KeyUri, metadata: &KeyMetadata) -> Result<(), HolderError> {
    let spec = metadata.key_spec() == Some(&KeySpec::SymmetricDefault);
    let usage = metadata.key_usage() == Some(&KeyUsageType::EncryptDecrypt);
    if spec && usage {
        return Ok(());
    }
    Err(misconfigured(format!(
        "{uri} is not a symmetric encryption key but {} for {}: make one with `twinlock keys \
         create aws-kms://alias/<name>`",
        word(metadata.key_spec().map(|spec| spec.as_str())),
        word(metadata.key_usage().map(|usage| usage.as_str())),
    )))
}

fn uri_of(call: &Call<'_>, metadata: &KeyMetadata) -> Result<KeyUri, HolderError> {
    let arn = metadata.arn().unwrap_or_default();
    KeyUri::parse(&format!("aws-kms://{arn}"))
        .ok()
        .filter(|uri| !uri.is_alias())
        .ok_or_else(|| call.failed("KMS described a key without a key ARN"))
}

fn word(text: Option<&str>) -> String {
    text.map_or_else(|| "unknown".to_owned(), network::printable)
}

fn misconfigured(message: String) -> HolderError {
    HolderError::new(HolderErrorKind::Misconfigured, message)
}
