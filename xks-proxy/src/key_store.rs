//! Key stores, their external keys, and the keys on tokens beneath those.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use twinlock_pkcs11::{AeadKey, ErrorKind, Fleet, FleetOptions, KeyFacts, KeyKind, Pkcs11Error};
use twinlock_service::limit::Rate;

use crate::aad::AadForm;
use crate::authorization::Authorization;
use crate::ciphertext_metadata::CiphertextMetadata;
use crate::config::{GenerationSettings, KeySettings, KeyState, KeyStoreSettings};
use crate::counts::{Count, Counts};
use crate::hsm::Hsm;
use crate::sigv4::{Credentials, Region};
use crate::uri_path::ExternalKeyId;
use crate::wire::MAX_EKMS;

/// How long a token may take to show that its key is the right one.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is served below one path. Key stores share tokens and nothing else.
pub struct KeyStore {
    pub(crate) path: Arc<str>,
    pub(crate) regions: Vec<Region>,
    pub(crate) aad: AadForm,
    pub(crate) deadline: Duration,
    pub(crate) credentials: Credentials,
    pub(crate) rate: Option<Rate>,
    pub(crate) authorization: Option<Authorization>,
    pub(crate) keys: HashMap<ExternalKeyId, Key>,
    /// The tokens that its keys are on, each once.
    pub(crate) hsms: Vec<Arc<Hsm>>,
}

/// An external key.
pub struct Key {
    pub(crate) state: KeyState,
    /// The newest first; at least one.
    generations: Vec<Generation>,
}

/// A key on one or more tokens beneath an external key.
pub struct Generation {
    pub(crate) number: u32,
    pub(crate) object: String,
    pub(crate) count: Arc<Count>,
    /// `store:key:generation`, for people.
    pub(crate) name: Arc<str>,
    foreign_metadata: Option<CiphertextMetadata>,
    hsms: Vec<Arc<Hsm>>,
    hedge_after: Option<Duration>,
    members: ArcSwap<Members>,
}

/// Where a key was found.
#[derive(Clone)]
pub(crate) struct Members {
    keys: Vec<(Arc<Hsm>, AeadKey)>,
    /// Of those.
    fleet: Option<Fleet>,
    /// Why it is nowhere, if it is.
    error: Option<Pkcs11Error>,
}

impl KeyStore {
    pub(crate) fn new(
        settings: &KeyStoreSettings,
        credentials: Credentials,
        authorization: Option<Authorization>,
        hsms: &[Arc<Hsm>],
        counts: &Counts,
    ) -> Self {
        // KMS asks for the health of a key store before it has any key.
        let used = |hsm: &&Arc<Hsm>| {
            let mut names = settings.key.iter().flat_map(|key| &key.hsms);
            settings.key.is_empty() || names.any(|name| name == hsm.name())
        };
        let keys =
            settings.key.iter().map(|key| (key.id.clone(), Key::new(settings, key, hsms, counts)));
        Self {
            path: Arc::from(settings.path.as_str()),
            regions: settings.regions.clone(),
            aad: settings.aad,
            deadline: settings.deadline(),
            credentials,
            rate: settings.requests_per_second.map(|rate| Rate::new(rate, rate)),
            authorization,
            keys: keys.collect(),
            hsms: hsms.iter().filter(used).take(MAX_EKMS).cloned().collect(),
        }
    }

    pub(crate) fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.keys.values().flat_map(|key| &key.generations)
    }
}

impl Key {
    fn new(
        store: &KeyStoreSettings,
        settings: &KeySettings,
        hsms: &[Arc<Hsm>],
        counts: &Counts,
    ) -> Self {
        // In the order of preference that the key has.
        let named = |name: &String| hsms.iter().find(|hsm| hsm.name() == name).cloned();
        let hsms: Vec<_> = settings.hsms.iter().filter_map(named).collect();
        let name = |number| format!("{}:{}:{number}", store.path, settings.id);
        let mut generations: Vec<_> = settings
            .generations
            .iter()
            .map(|generation| {
                let name = name(generation.number);
                let count = counts.of(&generation.object);
                Generation::new(store, generation, name, count, hsms.clone())
            })
            .collect();
        generations.sort_by_key(|generation| std::cmp::Reverse(generation.number));
        Self { state: settings.state, generations }
    }

    /// The one that encrypts.
    pub(crate) fn newest(&self) -> &Generation {
        self.generations.first().expect("a key without generations was refused")
    }

    /// The one that made a ciphertext with this metadata.
    pub(crate) fn generation_of(&self, metadata: CiphertextMetadata) -> Option<&Generation> {
        let number = metadata.generation();
        let of_ours = |generation: &&Generation| Some(generation.number) == number;
        let foreign = |generation: &&Generation| generation.foreign_metadata == Some(metadata);
        self.generations.iter().find(foreign).or_else(|| self.generations.iter().find(of_ours))
    }
}

impl Generation {
    fn new(
        store: &KeyStoreSettings,
        settings: &GenerationSettings,
        name: String,
        count: Arc<Count>,
        hsms: Vec<Arc<Hsm>>,
    ) -> Self {
        Self {
            number: settings.number,
            object: settings.object.clone(),
            count,
            name: Arc::from(name),
            foreign_metadata: settings.foreign_metadata.map(|metadata| metadata.0),
            hsms,
            hedge_after: store.hedge_after_ms.map(Duration::from_millis),
            members: ArcSwap::from_pointee(Members::none()),
        }
    }

    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// True if several tokens may do the same call.
    pub(crate) fn is_hedged(&self) -> bool {
        self.hedge_after.is_some()
    }

    /// The tokens that are to have it.
    pub(crate) fn hsms(&self) -> &[Arc<Hsm>] {
        &self.hsms
    }

    /// Knows it where another generation did, of the same object: before a reload.
    pub(crate) fn inherit(&self, before: &Self) {
        let members = before.members();
        let is_kept =
            |(hsm, _): &&(Arc<Hsm>, AeadKey)| self.hsms.iter().any(|it| Arc::ptr_eq(it, hsm));
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
    /// A token that has another key under the same label, if one has: what the
    /// first one encrypts, it does not decrypt. Data would be lost through it.
    pub(crate) async fn disagreement(&self) -> Option<String> {
        let mut keys = self.keys.iter();
        let (first, key) = keys.next()?;
        let data = b"twinlock-xks looks whether these tokens have the same key".to_vec();
        let sealed = key.encrypt(data.into(), Vec::new(), PATIENCE).await.result.ok()?;
        for (hsm, key) in keys {
            let back = key.decrypt(sealed.clone(), Vec::new(), PATIENCE).await.result;
            if back.is_err_and(|error| error.kind() == ErrorKind::BadCiphertext) {
                return Some(format!("{} has another key than {}", hsm.name(), first.name()));
            }
        }
        None
    }

    fn none() -> Self {
        Self { keys: Vec::new(), fleet: None, error: None }
    }

    fn new(
        keys: Vec<(Arc<Hsm>, AeadKey)>,
        hedge_after: Option<Duration>,
        error: Option<Pkcs11Error>,
    ) -> Self {
        let options = FleetOptions { hedge_after };
        let fleet = Fleet::new(keys.iter().map(|(_, key)| key.clone()).collect(), options).ok();
        Self { keys, fleet, error }
    }

    pub(crate) fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref()
    }

    /// Why there is no fleet.
    pub(crate) fn error(&self) -> Option<&Pkcs11Error> {
        self.error.as_ref()
    }

    pub(crate) fn hsm(&self, member: usize) -> Option<&Arc<Hsm>> {
        self.keys.get(member).map(|(hsm, _)| hsm)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (&Hsm, &KeyFacts)> {
        self.keys.iter().map(|(hsm, key)| (&**hsm, key.facts()))
    }

    fn key_on(&self, hsm: &Arc<Hsm>) -> Option<&AeadKey> {
        self.keys.iter().find(|(other, _)| Arc::ptr_eq(other, hsm)).map(|(_, key)| key)
    }
}

/// Why a key on a token cannot be beneath an external key; nothing if it can.
pub(crate) fn problem_of(key: &KeyFacts, allow_extractable: bool) -> Option<String> {
    match (key.kind, key.bits) {
        (KeyKind::Aes, Some(256)) => key.kek_problem(allow_extractable),
        (kind, _) => Some(format!("it is no AES-256 key ({kind})")),
    }
}
