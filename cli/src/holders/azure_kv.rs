//! Azure Key Vault and Managed HSM, through `twinlock-remote-keys`.

use std::sync::Arc;
use std::time::Instant;

use twinlock::{HolderError, HolderErrorKind, KeyHolder, KeyUri, Side};
use twinlock_keys::ShareAlgorithm;
use twinlock_remote_keys::azure_key_vault::{AzureKeyVaultKey, Credential, KeyFacts, Options};

use super::{milliseconds, round_trip};
use crate::config::{AzureAlgorithm, AzureCredential};
use crate::report::keys::{self, KeyCheck};
use crate::settings::Access;

pub(crate) async fn open(uri: &KeyUri, access: &Access) -> Result<Arc<dyn KeyHolder>, HolderError> {
    Ok(Arc::new(AzureKeyVaultKey::connect(uri, &options(access)).await?))
}

/// Creates a key of the name that `uri` has.
pub(crate) async fn create(uri: &KeyUri, access: &Access) -> Result<KeyUri, HolderError> {
    Ok(AzureKeyVaultKey::create(uri, &options(access)).await?.uri)
}

pub(crate) async fn check(uri: &KeyUri, access: &Access) -> Result<KeyCheck, HolderError> {
    let start = Instant::now();
    let facts = match AzureKeyVaultKey::describe(uri, &options(access)).await {
        // Whoever may only wrap and unwrap has a key that works.
        Err(error) if error.kind() == HolderErrorKind::Denied => None,
        answer => Some(answer?),
    };
    let find_ms = facts.is_some().then(|| milliseconds(start.elapsed()));
    let start = Instant::now();
    let key = AzureKeyVaultKey::connect(uri, &options(access)).await?;
    let open_ms = milliseconds(start.elapsed());
    let check = round_trip(&key, Side::Provider).await?;
    Ok(KeyCheck { open_ms, find_ms, azure_kv: facts.map(Into::into), ..check })
}

fn options(access: &Access) -> Options {
    let azure = &access.azure;
    let mut options = Options::new();
    if let Some(deadline) = access.deadline {
        options = options.deadline(deadline);
    }
    if let Some(algorithm) = azure.algorithm {
        options = options.algorithm(match algorithm {
            AzureAlgorithm::A256kw => ShareAlgorithm::AesKw,
            AzureAlgorithm::RsaOaep256 => ShareAlgorithm::RsaOaepSha256,
        });
    }
    if let Some(credential) = azure.credential {
        options = options.credential(match credential {
            AzureCredential::AzureCli => Credential::AzureCli,
            AzureCredential::Environment => Credential::Environment,
            AzureCredential::ManagedIdentity => {
                Credential::ManagedIdentity { client_id: azure.client_id.clone() }
            }
            AzureCredential::WorkloadIdentity => Credential::WorkloadIdentity,
        });
    }
    if let Some(url) = &azure.authority {
        options = options.authority(url);
    }
    if let Some(path) = &azure.ca_file {
        options = options.ca_file(path);
    }
    if let Some(url) = &azure.endpoint {
        options = options.endpoint(url);
    }
    if let Some(scope) = &azure.scope {
        options = options.scope(scope);
    }
    options
}

impl From<KeyFacts> for keys::AzureKey {
    fn from(facts: KeyFacts) -> Self {
        Self {
            enabled: facts.is_enabled(),
            kind: facts.kind,
            bits: facts.bits,
            version: facts.version,
            operations: facts.operations,
        }
    }
}
