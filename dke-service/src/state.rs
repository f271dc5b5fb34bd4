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
        for generation in self.generations() {
            if let Some(before) = before.with_object_of(generation) {
                generation.inherit(before);
            }
        }
    }

    /// Opens the tokens and looks for all keys.
    ///
    /// # Errors
    /// What only another configuration mends: a module that cannot be loaded, a
    /// token or a key that cannot be used as it is, one key beneath two. Tokens and
    /// keys that may come back are waited for, and logged. So is whatever is wrong
    /// with what was there `before`: it would be wrong without a reload, too, and
    /// must not keep anybody from being taken off a list.
    pub async fn open(&self, before: Option<&Self>) -> Result<(), Unusable> {
        match tokio::time::timeout(PATIENCE, self.open_all(before)).await {
            Ok(opened) => opened?,
            Err(_) => {
                tracing::warn!("not all tokens and keys were looked at in time; that goes on");
            }
        }
        for (generation, problem) in self.look_for_conflicts() {
            match self.is_new(generation, before) {
                true => return Err(Unusable(problem)),
                false => tracing::error!(problem, "a key is not served"),
            }
        }
        Ok(())
    }

    async fn open_all(&self, before: Option<&Self>) -> Result<(), Unusable> {
        for (hsm, opened) in
            join_all(self.hsms.iter().map(|hsm| async move { (hsm, hsm.open().await) })).await
        {
            let known = before.is_some_and(|before| before.has_hsm_of(hsm.settings()));
            refuse_misconfigured(hsm.name(), opened.err(), !known)?;
        }
        let mut found = stream::iter(self.generations().map(look_up)).buffer_unordered(AT_A_TIME);
        while let Some((generation, found)) = found.next().await {
            let is_new = self.is_new(generation, before);
            refuse_misconfigured(&generation.name, found.err(), is_new)?;
            let members = generation.members();
            if let Some(problem) = members.replaced().filter(|_| is_new) {
                return Err(Unusable(problem.to_owned()));
            }
        }
        Ok(())
    }

    fn is_new(&self, generation: &Generation, before: Option<&Self>) -> bool {
        before.and_then(|before| before.with_object_of(generation)).is_none()
    }

    fn with_object_of(&self, generation: &Generation) -> Option<&Generation> {
        self.generations().find(|it| generation.is_of_object_of(it))
    }

    fn has_hsm_of(&self, settings: &HsmSettings) -> bool {
        self.hsms.iter().any(|hsm| hsm.settings() == settings)
    }

    /// Keys that are not what they should be beside others, as far as is known:
    /// one on several tokens that is not the same on all, or one beneath two names.
    /// (Labels do not tell: a key can have two of them.) From now on they are not
    /// served, and all others are.
    pub(crate) fn look_for_conflicts(&self) -> Vec<(&Generation, String)> {
        let conflicts = self.conflicts();
        for generation in self.generations() {
            let is_it = |(of, _): &&(&Generation, String)| std::ptr::eq(*of, generation);
            let problem = conflicts.iter().find(is_it).map(|(_, problem)| problem.clone());
            generation.set_conflict(problem);
        }
        conflicts
    }

    fn conflicts(&self) -> Vec<(&Generation, String)> {
        let mut conflicts = Vec::new();
        let mut seen: HashMap<[u8; 32], Vec<&Generation>> = HashMap::new();
        for generation in self.generations() {
            let members = generation.members();
            if let Some(problem) = members.disagreement() {
                conflicts.push((generation, format!("{}: {problem}", generation.name)));
            } else if let Some(key) = members.public_key() {
                seen.entry(key.spki_sha256()).or_default().push(generation);
            }
        }
        for of_one_key in seen.into_values().filter(|generations| generations.len() > 1) {
            let names: Vec<_> = of_one_key.iter().map(|generation| &*generation.name).collect();
            let problem = format!(
                "{} are the same key on the tokens; a key has one purpose and one list of who may \
                 use it",
                names.join(" and ")
            );
            conflicts.extend(of_one_key.into_iter().map(|it| (it, problem.clone())));
        }
        conflicts
    }

    /// What is wrong with each generation that is beneath two names or was exchanged,
    /// as far as is known.
    pub(crate) fn wrong_keys(&self) -> Vec<String> {
        self.generations().filter_map(Generation::problem).collect()
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

async fn look_up(generation: &Generation) -> (&Generation, Result<(), Pkcs11Error>) {
    (generation, generation.look_up().await)
}

fn refuse_misconfigured(
    what: &str,
    error: Option<Pkcs11Error>,
    is_new: bool,
) -> Result<(), Unusable> {
    match error {
        None => Ok(()),
        Some(error) if is_new && matches!(error.kind(), ErrorKind::Misconfigured) => {
            Err(Unusable(format!("{what}: {error}")))
        }
        Some(error) => {
            tracing::warn!(%error, "{what} cannot be used now");
            Ok(())
        }
    }
}
