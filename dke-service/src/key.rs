//! The keys that clients know, and the keys on tokens beneath them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use twinlock_pkcs11::{ErrorKind, Fleet, FleetOptions, Pkcs11Error, RsaKey, RsaPublicKey};
use twinlock_service::limit::Rate;

use crate::access::Access;
use crate::config::{Config, GenerationSettings, KeySettings, KeyState, Purpose, SpkiSha256};
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
    /// The public key that it is, by its SHA-256: as the configuration says, or the
    /// first that a token showed. A label is no name: whoever may write to a token
    /// can give it to another key, and files would be protected under that one.
    pin: OnceLock<[u8; 32]>,
    members: ArcSwap<Members>,
    /// Why it must not be used, if it must not.
    conflict: ArcSwapOption<String>,
}

/// Where a key was found.
pub(crate) struct Members {
    keys: Vec<(Arc<Hsm>, RsaKey)>,
    /// Of those.
    fleet: Option<Fleet<RsaKey>>,
    /// What the first token said on which it was not found, if there is one.
    error: Option<Pkcs11Error>,
    /// Which token has another key under its label, if one has.
    replaced: Option<String>,
    /// True if no token is known to have the right one.
    is_lost: bool,
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
            pin: settings.spki_sha256.map_or_else(OnceLock::new, |pin| OnceLock::from(pin.0)),
            members: ArcSwap::from_pointee(Members::none()),
            conflict: ArcSwapOption::empty(),
        }
    }

    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// True if that token is to have it.
    pub(crate) fn is_on(&self, hsm: &Hsm) -> bool {
        self.hsms.iter().any(|it| std::ptr::eq(&**it, hsm))
    }

    /// True if that one is the same object of the same token: before a reload.
    pub(crate) fn is_of_object_of(&self, other: &Self) -> bool {
        let is_on = |hsm: &Arc<Hsm>| other.hsms.iter().any(|it| it.name() == hsm.name());
        self.object == other.object && self.hsms.iter().any(is_on)
    }

    /// Knows of it what that one did, unless the configuration says otherwise.
    pub(crate) fn inherit(&self, before: &Self) {
        if let Some(pin) = before.pin.get() {
            self.pin.get_or_init(|| *pin);
        }
        let members = before.members();
        let is_kept = |(hsm, key): &&(Arc<Hsm>, RsaKey)| {
            self.is_its(key) && self.hsms.iter().any(|it| Arc::ptr_eq(it, hsm))
        };
        let keys = members.keys.iter().filter(is_kept).cloned().collect();
        self.members.store(Arc::new(Members::new(keys, self.hedge_after)));
    }

    /// True unless it is known to be another key.
    fn is_its(&self, key: &RsaKey) -> bool {
        self.pin.get().is_none_or(|pin| *pin == key.public_key().spki_sha256())
    }

    /// Why it must not be used, if it must not.
    pub(crate) fn conflict(&self) -> Option<Arc<String>> {
        self.conflict.load_full()
    }

    /// What it has to be mended for: it is beneath two names, or a token has another
    /// key under its label.
    pub(crate) fn problem(&self) -> Option<String> {
        let conflict = self.conflict().map(|problem| (*problem).clone());
        conflict.or_else(|| self.members().replaced().map(str::to_owned))
    }

    /// True if it decrypts as far as is known: it is nobody else's, and was found on
    /// a token that answers or did so before.
    pub(crate) fn is_served(&self) -> bool {
        self.conflict().is_none() && !self.members().is_lost
    }

    /// True if a token that answers has no such key that can be used.
    pub(crate) fn is_lacking(&self) -> bool {
        let kind = self.members().error().map(Pkcs11Error::kind);
        matches!(kind, Some(ErrorKind::NotFound | ErrorKind::Misconfigured))
    }

    pub(crate) fn set_conflict(&self, conflict: Option<String>) {
        self.conflict.store(conflict.map(Arc::new));
    }

    /// True if some token that should have it does not, as far as is known.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.members.load().keys.len() < self.hsms.len()
    }

    /// Looks for it on each of its tokens. Where a token does not answer, what
    /// was known of it stays: an outage does not make a key unknown. The same where
    /// a token has another key under its label, which is not used.
    ///
    /// # Errors
    /// What the first token said that did not do it, but for those that miss it.
    pub(crate) async fn look_up(&self) -> Result<(), Pkcs11Error> {
        let before = self.members();
        let mut keys = Vec::with_capacity(self.hsms.len());
        let mut failed: Option<Pkcs11Error> = None;
        let (mut replaced, mut lost) = (None, Vec::new());
        for hsm in &self.hsms {
            match hsm.key(&self.object).await {
                Ok(key) if !self.is_its(&key) => {
                    replaced = Some(self.replaced_on(hsm, &key));
                    lost.extend(before.key_on(hsm).map(|key| (Arc::clone(hsm), key.clone())));
                }
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
        if let Some((_, key)) = keys.first() {
            self.pin.get_or_init(|| key.public_key().spki_sha256());
        }
        if let Some(problem) = replaced.as_ref().filter(|_| before.replaced.is_none()) {
            tracing::error!(key = &*self.name, problem, "a key is not the one that it was");
        }
        // Known all the same: clients are told the public part that it was.
        let is_lost = keys.is_empty();
        let members = Members::new(if is_lost { lost } else { keys }, self.hedge_after);
        let error = failed.clone();
        self.members.store(Arc::new(Members { error, replaced, is_lost, ..members }));
        failed.map_or(Ok(()), Err)
    }

    fn replaced_on(&self, hsm: &Hsm, key: &RsaKey) -> String {
        let pin = |pin: [u8; 32]| SpkiSha256(pin).to_string();
        format!(
            "{}: under the label {:?} {} has the public key {} in the place of {}, and it is not \
             used. If that is intended, say so by spki_sha256; otherwise somebody who should not \
             writes to the token",
            self.name,
            self.object,
            hsm.name(),
            pin(key.public_key().spki_sha256()),
            self.pin.get().copied().map(pin).unwrap_or_default(),
        )
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

    /// A token that has another key under the label than it had, or should have.
    pub(crate) fn replaced(&self) -> Option<&str> {
        self.replaced.as_deref()
    }

    fn none() -> Self {
        Self { keys: Vec::new(), fleet: None, error: None, replaced: None, is_lost: true }
    }

    fn new(keys: Vec<(Arc<Hsm>, RsaKey)>, hedge_after: Option<Duration>) -> Self {
        let options = FleetOptions { hedge_after };
        let fleet = Fleet::new(keys.iter().map(|(_, key)| key.clone()).collect(), options).ok();
        Self { is_lost: keys.is_empty(), keys, fleet, ..Self::none() }
    }

    pub(crate) fn fleet(&self) -> Option<&Fleet<RsaKey>> {
        self.fleet.as_ref()
    }

    /// Why it was not found on one of its tokens: where it is on none, why there is no
    /// fleet.
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

    /// Each token with its key.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&Hsm, &RsaKey)> {
        self.keys.iter().map(|(hsm, key)| (&**hsm, key))
    }

    fn key_on(&self, hsm: &Arc<Hsm>) -> Option<&RsaKey> {
        self.keys.iter().find(|(other, _)| Arc::ptr_eq(other, hsm)).map(|(_, key)| key)
    }
}
