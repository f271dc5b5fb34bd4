//! Google Cloud KMS, through `twinlock-remote-keys`.

use std::sync::Arc;
use std::time::Instant;

use twinlock::{HolderError, HolderErrorKind, KeyHolder, KeyUri, Side};
use twinlock_remote_keys::gcp_kms::{GcpKmsKey, KeyFacts, Options};

use super::{milliseconds, round_trip};
use crate::report::keys::{self, KeyCheck};
use crate::settings::Access;

pub(crate) async fn open(uri: &KeyUri, access: &Access) -> Result<Arc<dyn KeyHolder>, HolderError> {
    Ok(Arc::new(GcpKmsKey::connect(uri, &options(access)).await?))
}

/// Creates the key that `uri` names, in a key ring that exists.
pub(crate) async fn create(uri: &KeyUri, access: &Access) -> Result<KeyUri, HolderError> {
    GcpKmsKey::create(uri, &options(access)).await?;
    Ok(uri.clone())
}

pub(crate) async fn check(uri: &KeyUri, access: &Access) -> Result<KeyCheck, HolderError> {
    let start = Instant::now();
    let facts = match GcpKmsKey::describe(uri, &options(access)).await {
        // Whoever may only encrypt and decrypt has a key that works.
        Err(error) if error.kind() == HolderErrorKind::Denied => None,
        answer => Some(answer?),
    };
    let find_ms = facts.is_some().then(|| milliseconds(start.elapsed()));
    let start = Instant::now();
    let key = GcpKmsKey::connect(uri, &options(access)).await?;
    let open_ms = milliseconds(start.elapsed());
    let check = round_trip(&key, Side::Provider).await?;
    Ok(KeyCheck { open_ms, find_ms, gcp_kms: facts.map(Into::into), ..check })
}

fn options(access: &Access) -> Options {
    let mut options = Options::new();
    if let Some(path) = &access.gcp.credentials_file {
        options = options.credentials_file(path);
    }
    if let Some(url) = &access.gcp.endpoint {
        options = options.endpoint(url);
    }
    if let Some(account) = &access.gcp.impersonate {
        options = options.impersonate(account);
    }
    if let Some(project) = &access.gcp.quota_project {
        options = options.quota_project(project);
    }
    if let Some(domain) = &access.gcp.universe_domain {
        options = options.universe_domain(domain);
    }
    if let Some(deadline) = access.deadline {
        options = options.deadline(deadline);
    }
    options
}

impl From<KeyFacts> for keys::GcpKmsKey {
    fn from(facts: KeyFacts) -> Self {
        Self {
            version: facts.version,
            state: facts.state,
            algorithm: facts.algorithm,
            protection_level: facts.protection_level,
        }
    }
}
