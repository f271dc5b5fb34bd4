//! What is served now. A reload makes another and puts it in its place at once.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use secrecy::ExposeSecret as _;
use twinlock_pkcs11::{ErrorKind, Pkcs11Error};

use twinlock_service::config::SecretSource;

use crate::authorization::Authorization;
use crate::config::{Config, CredentialSettings, HsmSettings, KeyStoreSettings};
use crate::counts::Counts;
use crate::hsm::Hsm;
use crate::key_store::{Generation, KeyStore};
use crate::sigv4::{Credential, Credentials, SecretAccessKey};

/// All key stores, and the tokens beneath them.
pub struct State {
    pub(crate) stores: HashMap<Arc<str>, Arc<KeyStore>>,
    pub(crate) hsms: Vec<Arc<Hsm>>,
    pub(crate) fleet_size: NonZeroU32,
}

/// How long a start or a reload waits for tokens.
const PATIENCE: Duration = Duration::from_secs(15);

/// Keys that are looked for side by side.
const AT_A_TIME: usize = 32;

/// Why a configuration cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

impl State {
    /// What `config` says, with secrets and policies read. Tokens that are in
    /// `before` with the same settings stay open.
    ///
    /// # Errors
    /// When a secret or a policy cannot be used.
    pub fn new(config: &Config, before: Option<&Self>, counts: &Counts) -> Result<Self, Unusable> {
        let hsms = config.hsm.iter().map(|hsm| kept_or_new(hsm, before));
        let hsms = hsms.collect::<Result<Vec<_>, _>>()?;
        let mut stores = HashMap::with_capacity(config.key_store.len());
        for settings in &config.key_store {
            let store = key_store(settings, &hsms, counts).map_err(|problem| {
                Unusable(format!("key store {:?}: {problem}", settings.path.as_str()))
            })?;
            stores.insert(Arc::clone(&store.path), Arc::new(store));
        }
        let state = Self { stores, hsms, fleet_size: config.fleet_size };
        if let Some(before) = before {
            state.inherit(before);
        }
        Ok(state)
    }

    /// What was known of keys stays known: a token may be away just now.
    fn inherit(&self, before: &Self) {
        let known: HashMap<_, _> = before
            .generations()
            .map(|generation| (generation.object.as_str(), generation))
            .collect();
        for generation in self.generations() {
            if let Some(before) = known.get(generation.object.as_str()) {
                generation.inherit(before);
            }
        }
    }

    /// Opens the tokens and looks for all keys.
    ///
    /// # Errors
    /// What only another configuration mends: a module that cannot be loaded, a
    /// token or a key that cannot be used as it is. Tokens and keys that may come
    /// back are waited for, and logged.
    pub async fn open(&self) -> Result<(), Unusable> {
        match tokio::time::timeout(PATIENCE, self.open_all()).await {
            Ok(opened) => opened,
            Err(_) => {
                tracing::warn!("not all tokens and keys were looked at in time; that goes on");
                Ok(())
            }
        }
    }

    async fn open_all(&self) -> Result<(), Unusable> {
        for (hsm, opened) in
            join_all(self.hsms.iter().map(|hsm| async move { (hsm, hsm.open().await) })).await
        {
            refuse_misconfigured(hsm.name(), opened.err())?;
        }
        let mut found = stream::iter(self.generations().map(look_up)).buffer_unordered(AT_A_TIME);
        while let Some((name, found)) = found.next().await {
            refuse_misconfigured(&name, found.err())?;
        }
        for generation in self.generations() {
            if let Some(problem) = generation.members().disagreement().await {
                return Err(Unusable(format!("{}: {problem}", generation.name)));
            }
        }
        Ok(())
    }

    pub(crate) fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.stores.values().flat_map(|store| store.generations())
    }
}

/// A token that is open stays so. One that is not may have another PIN now.
fn kept_or_new(settings: &HsmSettings, before: Option<&State>) -> Result<Arc<Hsm>, Unusable> {
    let mut known = before.into_iter().flat_map(|before| &before.hsms);
    if let Some(hsm) = known.find(|hsm| hsm.settings() == settings && hsm.token().is_some()) {
        return Ok(Arc::clone(hsm));
    }
    let pin = settings.pin.as_ref().map(SecretSource::read).transpose();
    let pin = pin.map_err(|error| Unusable(format!("the PIN of {}: {error}", settings.name)))?;
    Ok(Arc::new(Hsm::new(settings.clone(), pin)))
}

fn key_store(
    settings: &KeyStoreSettings,
    hsms: &[Arc<Hsm>],
    counts: &Counts,
) -> Result<KeyStore, String> {
    let credentials = settings.credential.iter().map(credential).collect::<Result<Vec<_>, _>>()?;
    let authorization = match &settings.policy {
        Some(policy) => Some(Authorization::load(policy).map_err(|error| error.to_string())?),
        None => None,
    };
    let credentials = Credentials::new(credentials).map_err(|error| error.to_string())?;
    Ok(KeyStore::new(settings, credentials, authorization, hsms, counts))
}

fn credential(settings: &CredentialSettings) -> Result<Credential, String> {
    let id = &settings.access_key_id;
    let secret = settings.secret_access_key.read();
    let secret = secret.map_err(|error| format!("the secret of {id}: {error}"))?;
    let secret = SecretAccessKey::parse(secret.expose_secret())
        .map_err(|error| format!("the secret of {id}: {error}"))?;
    Ok(Credential::new(id.clone(), secret))
}

async fn look_up(generation: &Generation) -> (Arc<str>, Result<(), Pkcs11Error>) {
    (Arc::clone(&generation.name), generation.look_up().await)
}

fn refuse_misconfigured(what: &str, error: Option<Pkcs11Error>) -> Result<(), Unusable> {
    match error {
        None => Ok(()),
        Some(error) if matches!(error.kind(), ErrorKind::Misconfigured) => {
            Err(Unusable(format!("{what}: {error}")))
        }
        Some(error) => {
            tracing::warn!(%error, "{what} cannot be used now");
            Ok(())
        }
    }
}

/// When the oldest secret of a key store was written, if its secrets are files.
pub(crate) fn oldest_secret(settings: &KeyStoreSettings) -> Option<SystemTime> {
    let files = settings.credential.iter().filter_map(|one| one.secret_access_key.path());
    files.filter_map(|file| std::fs::metadata(file).ok()?.modified().ok()).min()
}
