//! Vault and OpenBao, through `twinlock-remote-keys`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use twinlock::{HolderError, HolderErrorKind, KeyHolder, KeyUri, Side};
use twinlock_remote_keys::vault_transit::{Auth, Credential, KeyFacts, Options, VaultTransitKey};

use super::{milliseconds, round_trip};
use crate::config::{Vault, VaultAuth};
use crate::report::keys::{self, KeyCheck};
use crate::settings::Access;

pub(crate) async fn open(uri: &KeyUri, access: &Access) -> Result<Arc<dyn KeyHolder>, HolderError> {
    Ok(Arc::new(VaultTransitKey::connect(uri, &options(access)?)?))
}

/// Creates the key that `uri` names, in an engine that is mounted.
pub(crate) async fn create(uri: &KeyUri, access: &Access) -> Result<KeyUri, HolderError> {
    VaultTransitKey::create(uri, &options(access)?).await?;
    Ok(uri.clone())
}

pub(crate) async fn check(uri: &KeyUri, access: &Access) -> Result<KeyCheck, HolderError> {
    let options = options(access)?;
    let start = Instant::now();
    let facts = match VaultTransitKey::describe(uri, &options).await {
        // Whoever may only encrypt and decrypt has a key that works.
        Err(error) if error.kind() == HolderErrorKind::Denied => None,
        answer => Some(answer?),
    };
    let find_ms = facts.is_some().then(|| milliseconds(start.elapsed()));
    let start = Instant::now();
    let key = VaultTransitKey::connect(uri, &options)?;
    let open_ms = milliseconds(start.elapsed());
    let check = round_trip(&key, Side::Provider).await?;
    Ok(KeyCheck { open_ms, find_ms, vault: facts.map(Into::into), ..check })
}

fn options(access: &Access) -> Result<Options, HolderError> {
    let vault = &access.vault;
    let mut options = Options::new().auth(auth(vault)?);
    if let Some(url) = &vault.address {
        options = options.address(url);
    }
    if let Some(path) = &vault.ca_file {
        options = options.ca_file(path);
    }
    if let Some(name) = &vault.namespace {
        options = options.namespace(name);
    }
    if let Some(deadline) = access.deadline {
        options = options.deadline(deadline);
    }
    Ok(options)
}

fn auth(vault: &Vault) -> Result<Auth, HolderError> {
    let file = |path: &Option<PathBuf>| path.clone().map(Credential::File);
    let mount = |usual: &str| vault.auth_mount.clone().unwrap_or_else(|| usual.to_owned());
    Ok(match vault.auth {
        None => file(&vault.token_file).map_or(Auth::Usual, Auth::Token),
        Some(VaultAuth::AppRole) => Auth::AppRole {
            mount: mount("approle"),
            role_id: needed(&vault.role_id, "role_id")?,
            secret_id: file(&vault.secret_id_file)
                .unwrap_or_else(|| Credential::Variable("VAULT_SECRET_ID".to_owned())),
        },
        Some(VaultAuth::Kubernetes) => Auth::Kubernetes {
            mount: mount("kubernetes"),
            role: needed(&vault.role, "role")?,
            jwt: file(&vault.jwt_file).unwrap_or_else(Credential::service_account),
        },
    })
}

fn needed(setting: &Option<String>, name: &str) -> Result<String, HolderError> {
    setting.clone().ok_or_else(|| {
        HolderError::new(
            HolderErrorKind::Misconfigured,
            format!("this way to log in to Vault needs {name} in the profile's [vault]"),
        )
    })
}

impl From<KeyFacts> for keys::VaultKey {
    fn from(facts: KeyFacts) -> Self {
        Self {
            kind: facts.kind,
            latest_version: facts.latest_version,
            min_decryption_version: facts.min_decryption_version,
            derived: facts.derived,
            exportable: facts.exportable,
            deletion_allowed: facts.deletion_allowed,
        }
    }
}
