//! The keys that clients know, and the keys on tokens beneath them.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use twinlock_pkcs11::{
    ErrorKind, Fleet, FleetOptions, KeyFacts, Pkcs11Error, RsaKey, RsaPublicKey,
};
use twinlock_service::limit::Rate;

use crate::access::Access;
use crate::config::{Config, GenerationSettings, KeySettings, KeyState, Purpose};
use crate::hsm::Hsm;
use crate::route::{KeyId, KeyName};

/// A key, as clients know it.
pub struct Key {
    pub(crate) name: KeyName,
    /// The same, for records and metrics.
    pub(crate) label: Arc<str>,
    pub(crate) purpose: Purpose,
    pub(crate) state: KeyState,
    pub(crate) cache_days: Option<u32>,
    pub(crate) rate: Option<Rate>,
    pub(crate) access: Access,
    /// The newest first; at least one.
    generations: Vec<Generation>,
}

/// A key on one or more tokens beneath it.
pub struct Generation {
    pub(crate) number: u32,
    pub(crate) id: KeyId,
    pub(crate) kid: String,
    pub(crate) object: String,
    /// `key:generation`, for people.
    pub(crate) name: Arc<str>,
    hsms: Vec<Arc<Hsm>>,
    hedge_after: Option<Duration>,
    members: ArcSwap<Members>,
}

/// Where a key was found.
pub(crate) struct Members {
    keys: Vec<(Arc<Hsm>, RsaKey)>,
    /// Of those.
    fleet: Option<Fleet<RsaKey>>,
    /// Why it is nowhere, if it is.
    error: Option<Pkcs11Error>,
}

impl Key {
    pub(crate) fn new(
        config: &Config,
        settings: &KeySettings,
        access: Access,
        hsms: &[Arc<Hsm>],
    ) -> Self {
        // In the order of preference that the key has.
        let named = |name: &String| hsms.iter().find(|hsm| hsm.name() == name).cloned();
        let hsms: Vec<_> = settings.hsms.iter().filter_map(named).collect();
        let generation = |it| Generation::new(config, settings, it, hsms.clone());
        let mut generations: Vec<_> = settings.generations.iter().map(generation).collect();
        generations.sort_by_key(|generation| std::cmp::Reverse(generation.number));
        Self {
            name: settings.name.clone(),
            label: settings.name.as_str().into(),
            purpose: settings.purpose,
            state: settings.state,
            cache_days: settings.cache_days.map(std::num::NonZeroU32::get),
            rate: settings.decrypts_per_second.map(|rate| Rate::new(rate, rate)),
            access,
            generations,
        }
    }

    /// The one that is published.
    pub(crate) fn newest(&self) -> &Generation {
        self.generations.first().expect("a key without generations was refused")
    }

    /// The one of that id.
    pub(crate) fn generation(&self, id: &str) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.id.as_str() == id)
    }

    pub(crate) fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.generations.iter()
    }
}

impl Generation {
    fn new(
        config: &Config,
        key: &KeySettings,
        settings: &GenerationSettings,
        hsms: Vec<Arc<Hsm>>,
    ) -> Self {
        Self {
            number: settings.number,
            id: settings.id.clone(),
            kid: config.public_url.kid(&key.name, &settings.id),
            object: settings.object.clone(),
            name: format!("{}:{}", key.name, settings.number).into(),
            hsms,
            hedge_after: config.hedge_after_ms.map(Duration::from_millis),
            members: ArcSwap::from_pointee(Members::none()),
        }
    }

    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// True if that token is to have it.
    pub(crate) fn is_on(&self, hsm: &Hsm) -> bool {
        self.hsms.iter().any(|it| std::ptr::eq(&**it, hsm))
    }

    /// Knows it where another generation did, of the same object: before a reload.
    pub(crate) fn inherit(&self, before: &Self) {
        let members = before.members();
        let is_kept =
            |(hsm, _): &&(Arc<Hsm>, RsaKey)| self.hsms.iter().any(|it| Arc::ptr_eq(it, hsm));
        let keys = members.keys.iter().filter(is_kept).cloned().collect();
        self.members.store(Arc::new(Members::new(keys, self.hedge_after, None)));
    }

    /// True if some token that should have it does not, as far as is known.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.members.load().keys.len() < self.hsms.len()
    }

    /// Looks for it on each of its tokens. Where a token does not answer, what
    /// was known of it stays: an outage does not make a key unknown.
    ///
    /// # Errors
    /// What the first token said that did not do it, but for those that miss it.
    pub(crate) async fn look_up(&self) -> Result<(), Pkcs11Error> {
        let before = self.members();
        let mut keys = Vec::with_capacity(self.hsms.len());
        let mut failed: Option<Pkcs11Error> = None;
        for hsm in &self.hsms {
            match hsm.key(&self.object).await {
                Ok(key) => keys.push((Arc::clone(hsm), key)),
                Err(error) => {
                    let known = before.key_on(hsm).filter(|_| error.kind() != ErrorKind::NotFound);
                    keys.extend(known.map(|key| (Arc::clone(hsm), key.clone())));
                    // It is missing when every token says so, and no sooner.
                    let is_missing = |error: &Pkcs11Error| error.kind() == ErrorKind::NotFound;
                    failed = failed.filter(|before| !is_missing(before)).or(Some(error));
                }
            }
        }
        self.members.store(Arc::new(Members::new(keys, self.hedge_after, failed.clone())));
        failed.map_or(Ok(()), Err)
    }
}

impl Members {
    /// A token that has another key under the same label, if one has: it does not
    /// decrypt what was encrypted under the first one.
    pub(crate) fn disagreement(&self) -> Option<String> {
        let (first, key) = self.keys.first()?;
        let differs = |(_, other): &&(_, RsaKey)| other.public_key() != key.public_key();
        let (other, _) = self.keys.iter().find(differs)?;
        Some(format!("{} has another key than {}", other.name(), first.name()))
    }

    fn none() -> Self {
        Self { keys: Vec::new(), fleet: None, error: None }
    }

    fn new(
        keys: Vec<(Arc<Hsm>, RsaKey)>,
        hedge_after: Option<Duration>,
        error: Option<Pkcs11Error>,
    ) -> Self {
        let options = FleetOptions { hedge_after };
        let fleet = Fleet::new(keys.iter().map(|(_, key)| key.clone()).collect(), options).ok();
        Self { keys, fleet, error }
    }

    pub(crate) fn fleet(&self) -> Option<&Fleet<RsaKey>> {
        self.fleet.as_ref()
    }

    /// Why there is no fleet.
    pub(crate) fn error(&self) -> Option<&Pkcs11Error> {
        self.error.as_ref()
    }

    /// What clients encrypt under: known for as long as one token has shown it.
    pub(crate) fn public_key(&self) -> Option<&RsaPublicKey> {
        self.keys.first().map(|(_, key)| key.public_key())
    }

    pub(crate) fn hsm(&self, member: usize) -> Option<&Arc<Hsm>> {
        self.keys.get(member).map(|(hsm, _)| hsm)
    }

    /// Each token with what it says of the key, and whether it takes the padding
    /// off itself.
    pub(crate) fn facts(&self) -> impl Iterator<Item = (&Hsm, &KeyFacts, bool)> {
        self.keys.iter().map(|(hsm, key)| (&**hsm, key.facts(), key.is_unpadded_by_token()))
    }

    fn key_on(&self, hsm: &Arc<Hsm>) -> Option<&RsaKey> {
        self.keys.iter().find(|(other, _)| Arc::ptr_eq(other, hsm)).map(|(_, key)| key)
    }
}
