//! AWS KMS, through `twinlock-remote-keys`.

use std::sync::Arc;
use std::time::Instant;

use twinlock::{HolderError, HolderErrorKind, KeyHolder, KeyUri, Side};
use twinlock_remote_keys::aws_kms::{AwsKmsKey, KeyFacts, Options};

use super::{milliseconds, round_trip};
use crate::report::keys::{self, KeyCheck};
use crate::settings::Access;

pub(crate) async fn open(uri: &KeyUri, access: &Access) -> Result<Arc<dyn KeyHolder>, HolderError> {
    Ok(Arc::new(AwsKmsKey::connect(uri, &options(access)).await?))
}

/// Creates a key and the alias that `uri` names, and returns the key's name as
/// headers have it.
pub(crate) async fn create(uri: &KeyUri, access: &Access) -> Result<KeyUri, HolderError> {
    AwsKmsKey::create(uri, &options(access)).await
}

pub(crate) async fn check(uri: &KeyUri, access: &Access) -> Result<KeyCheck, HolderError> {
    let start = Instant::now();
    let facts = match AwsKmsKey::describe(uri, &options(access)).await {
        // Whoever may only encrypt and decrypt has a key that works.
        Err(error) if error.kind() == HolderErrorKind::Denied && !uri.is_alias() => None,
        answer => Some(answer?),
    };
    let find_ms = facts.is_some().then(|| milliseconds(start.elapsed()));
    let uri = facts.as_ref().map_or(uri, |facts| &facts.uri);
    let start = Instant::now();
    let key = AwsKmsKey::connect(uri, &options(access)).await?;
    let open_ms = milliseconds(start.elapsed());
    let check = round_trip(&key, Side::Provider).await?;
    Ok(KeyCheck { open_ms, find_ms, aws_kms: facts.map(Into::into), ..check })
}

/// What a look at a key brought to light.
pub(crate) struct Examined {
    pub(crate) facts: Result<keys::AwsKmsKey, HolderError>,
    pub(crate) clock_ahead_seconds: Option<i64>,
}

pub(crate) async fn examine(uri: &KeyUri, access: &Access) -> Examined {
    let examined = AwsKmsKey::examine(uri, &options(access)).await;
    Examined {
        facts: examined.facts.map(Into::into),
        clock_ahead_seconds: examined.clock_ahead_seconds,
    }
}

fn options(access: &Access) -> Options {
    let mut options = Options::new();
    if let Some(name) = &access.aws.profile {
        options = options.profile(name);
    }
    if let Some(name) = &access.aws.region {
        options = options.region(name);
    }
    if let Some(url) = &access.aws.endpoint {
        options = options.endpoint(url);
    }
    if let Some(deadline) = access.deadline {
        options = options.deadline(deadline);
    }
    options
}

impl From<KeyFacts> for keys::AwsKmsKey {
    fn from(facts: KeyFacts) -> Self {
        Self {
            state: facts.state,
            spec: facts.spec,
            manager: facts.manager,
            origin: facts.origin,
            multi_region: facts.multi_region,
        }
    }
}
