//! What is served now. A reload makes another and puts it in its place at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use twinlock_pkcs11::{ErrorKind, Pkcs11Error};
use twinlock_service::config::SecretSource;

use crate::access::{Access, Ldap};
use crate::bearer::Bearer;
use crate::challenge::Challenge;
use crate::config::{Config, HsmSettings, KeySettings};
use crate::hsm::Hsm;
use crate::key::{Generation, Key};
use crate::public_url::PublicUrl;
use crate::route::KeyName;

/// All keys, the tokens beneath them, and who decides about callers.
pub struct State {
    pub(crate) public_url: PublicUrl,
    pub(crate) challenge: Challenge,
    pub(crate) bearer: Bearer,
    /// How many it has.
    pub(crate) issuers: usize,
    pub(crate) deadline: Duration,
    pub(crate) keys: HashMap<KeyName, Key>,
    pub(crate) hsms: Vec<Arc<Hsm>>,
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
    /// `before` with the same settings stay open, and what was known of keys and
    /// issuers stays known.
    ///
    /// # Errors
    /// When something that it names cannot be used.
    pub fn new(config: &Config, before: Option<&Self>) -> Result<Self, Unusable> {
        let origin = config.public_url.origin();
        let hsms = config.hsm.iter().map(|hsm| kept_or_new(hsm, before));
        let hsms = hsms.collect::<Result<Vec<_>, _>>()?;
        let state = Self {
            public_url: config.public_url.clone(),
            challenge: Challenge::new(&config.challenge, origin).map_err(Unusable)?,
            bearer: Bearer::new(&config.issuer, origin).map_err(Unusable)?,
            issuers: config.issuer.len(),
            deadline: config.deadline(),
            keys: keys(config, &hsms)?,
            hsms,
        };
        if let Some(before) = before {
            state.inherit(before);
        }
        Ok(state)
    }

    /// A token or an issuer may be away just now.
    fn inherit(&self, before: &Self) {
        self.bearer.inherit(&before.bearer);
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
    /// token or a key that cannot be used as it is, one key beneath two. Tokens and
    /// keys that may come back are waited for, and logged.
    pub async fn open(&self) -> Result<(), Unusable> {
        match tokio::time::timeout(PATIENCE, self.open_all()).await {
            Ok(opened) => opened?,
            Err(_) => {
                tracing::warn!("not all tokens and keys were looked at in time; that goes on");
            }
        }
        self.conflict().map_or(Ok(()), |problem| Err(Unusable(problem)))
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
        Ok(())
    }

    /// Keys that are not what they should be beside others, as far as is known:
    /// one on several tokens that is not the same on all, or one beneath two names.
    /// (Labels do not tell: a key can have two of them.)
    pub(crate) fn conflict(&self) -> Option<String> {
        let mut seen = HashMap::new();
        self.generations().find_map(|generation| {
            let members = generation.members();
            if let Some(problem) = members.disagreement() {
                return Some(format!("{}: {problem}", generation.name));
            }
            let pin = members.public_key()?.spki_sha256();
            let other = seen.insert(pin, &generation.name)?;
            Some(format!(
                "{other} and {} are the same key on the tokens; a key has one purpose and one \
                 list of who may use it",
                generation.name
            ))
        })
    }

    pub(crate) fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.keys.values().flat_map(Key::generations)
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

fn keys(config: &Config, hsms: &[Arc<Hsm>]) -> Result<HashMap<KeyName, Key>, Unusable> {
    let ldap = config.ldap.as_ref().map(Ldap::new).transpose();
    let ldap = ldap.map_err(|problem| Unusable(format!("ldap: {problem}")))?.map(Arc::new);
    let key = |settings: &KeySettings| {
        let access = Access::new(&settings.access, ldap.clone());
        let access =
            access.map_err(|problem| Unusable(format!("key {}: {problem}", settings.name)))?;
        Ok((settings.name.clone(), Key::new(config, settings, access, hsms)))
    };
    config.key.iter().map(key).collect()
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
