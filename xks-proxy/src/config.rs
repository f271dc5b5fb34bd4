//! The configuration: one TOML file, read whole and checked before anything is
//! opened.
//!
//! What [`Config::read`] returns can be served: names are unique, and whatever
//! refers to something else refers to something that is there. Secrets are named
//! here and read by whoever needs them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use twinlock_keys::Pkcs11Uri;
use twinlock_service::config::{self, SecretSource};
use twinlock_service::listen::ListenSettings;
use twinlock_service::log::LogSettings;
use twinlock_service::ops::OpsSettings;
use twinlock_service::tls::TlsSettings;
use twinlock_service::traces::TraceSettings;

use crate::aad::AadForm;
use crate::ciphertext_metadata::CiphertextMetadata;
use crate::failure::Failure;
use crate::sigv4::{AccessKeyId, Region};
use crate::uri_path::{ExternalKeyId, UriPathPrefix};
use crate::wire::MAX_EKMS;

/// Everything that the file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where KMS connects to.
    pub listen: ListenSettings,
    /// Where load balancers and Prometheus connect to.
    #[serde(default = "default_operations")]
    pub operations: OpsSettings,
    /// What is written where.
    #[serde(default)]
    pub log: LogSettings,
    /// Where spans of requests go; nowhere if not said.
    pub traces: Option<TraceSettings>,
    /// How many proxies like this one serve the same key stores; KMS is told, and
    /// each may use that part of a key's encryptions.
    #[serde(default = "one")]
    pub fleet_size: NonZeroU32,
    /// Where the proxy keeps how often each key has encrypted.
    pub state_directory: Option<PathBuf>,
    /// The tokens.
    pub hsm: Vec<HsmSettings>,
    /// The key stores.
    pub key_store: Vec<KeyStoreSettings>,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HsmSettings {
    /// Its name here, in logs, in metrics and in the health that KMS sees.
    pub name: String,
    /// Which token, of which module: an RFC 7512 URI with `module-path`.
    #[serde(deserialize_with = "token_uri")]
    pub token: Pkcs11Uri,
    /// Where its user PIN is.
    pub pin: Option<SecretSource>,
    /// Sessions that work side by side; what is known of the vendor if not said.
    pub sessions: Option<usize>,
    /// The label of an AES key that no key store uses: health is tried with it.
    pub health_key: String,
    /// Keys that can leave the token are accepted.
    #[serde(default)]
    pub allow_extractable: bool,
}

/// One key store: what AWS calls an external key store proxy's path.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyStoreSettings {
    /// The URI path prefix; empty for none.
    pub path: UriPathPrefix,
    /// The regions that KMS may call from.
    pub regions: Vec<Region>,
    /// How the AAD reaches the token.
    #[serde(default)]
    pub aad: AadForm,
    /// Requests a second beyond which KMS is told to wait; none if not said.
    pub requests_per_second: Option<NonZeroU32>,
    /// Milliseconds until a request is answered, whatever the tokens do. KMS gives
    /// up after 250.
    #[serde(default = "default_deadline_ms")]
    pub deadline_ms: u64,
    /// Milliseconds after which a second token is asked, too, if a key has one.
    pub hedge_after_ms: Option<u64>,
    /// Who may sign: more than one while credentials are exchanged.
    pub credential: Vec<CredentialSettings>,
    /// The external keys.
    #[serde(default)]
    pub key: Vec<KeySettings>,
    /// Who may do what, beyond what KMS's own policies say.
    pub policy: Option<PolicySettings>,
}

/// One pair of the form that AWS's console takes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialSettings {
    /// 20 to 30 of `A-Z2-7`.
    pub access_key_id: AccessKeyId,
    /// Where the secret is.
    pub secret_access_key: SecretSource,
}

/// One external key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// The name that KMS knows it by.
    pub id: ExternalKeyId,
    /// What it may be used for.
    #[serde(default)]
    pub state: KeyState,
    /// The tokens that have it, the preferred one first.
    pub hsms: Vec<String>,
    /// The keys on the tokens beneath it; the one with the highest number encrypts.
    pub generations: Vec<GenerationSettings>,
}

/// What an external key may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Everything.
    #[default]
    Enabled,
    /// Nothing, until it is enabled again.
    Disabled,
    /// Decrypting what it encrypted before.
    DecryptOnly,
}

/// One key on the tokens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationSettings {
    /// From 1 on; part of each ciphertext.
    pub number: u32,
    /// Its label on each token (`CKA_LABEL`).
    pub object: String,
    /// The ciphertext metadata of what another proxy encrypted with this key,
    /// base64; empty for none.
    pub foreign_metadata: Option<ForeignMetadata>,
}

/// Ciphertext metadata of another proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignMetadata(pub CiphertextMetadata);

/// A secondary authorization.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySettings {
    /// Rego, package `twinlock.xks`.
    pub file: PathBuf,
    /// Only log what would be denied.
    #[serde(default)]
    pub dry_run: bool,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// When it cannot be read, has unknown fields, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let config: Self = config::read(path).map_err(Failure::misconfigured)?;
        let problem = config.problem();
        problem.map_or(Ok(config), |problem| {
            Err(Failure::misconfigured(format!("{}: {problem}", path.display())))
        })
    }

    /// Every file that it names, to watch them for changes.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let tls = self.listen.tls.iter().flat_map(TlsSettings::files);
        let stores = self.key_store.iter();
        let credentials = stores.clone().flat_map(|store| &store.credential);
        let secrets = credentials.filter_map(|credential| credential.secret_access_key.path());
        let policies = stores.filter_map(|store| Some(store.policy.as_ref()?.file.clone()));
        tls.chain(secrets).chain(policies).collect()
    }

    /// What contradicts itself, if anything does.
    fn problem(&self) -> Option<String> {
        self.own_problem()
            .or_else(|| unique("hsm", self.hsm.iter().map(|hsm| &hsm.name)))
            .or_else(|| unique("hsm.token", self.hsm.iter().map(|hsm| hsm.token.profile_uri())))
            .or_else(|| self.hsm.iter().find_map(HsmSettings::problem))
            .or_else(|| unique("key_store.path", self.key_store.iter().map(|store| &store.path)))
            .or_else(|| self.key_store.iter().find_map(|store| self.problem_of(store)))
            .or_else(|| self.shared_credential())
            .or_else(|| self.shared_object())
    }

    fn own_problem(&self) -> Option<String> {
        let said = |problem: &str| Some(problem.to_owned());
        match self {
            Self { hsm, .. } if hsm.is_empty() => said("there is no [[hsm]]"),
            Self { key_store, .. } if key_store.is_empty() => said("there is no [[key_store]]"),
            _ => self.traces.as_ref()?.check().err().map(|error| error.to_string()),
        }
    }

    fn problem_of(&self, store: &KeyStoreSettings) -> Option<String> {
        let known: HashSet<_> = self.hsm.iter().map(|hsm| hsm.name.as_str()).collect();
        store
            .problem()
            .or_else(|| unique("key.id", store.key.iter().map(|key| &key.id)))
            .or_else(|| store.key.iter().find_map(|key| key.problem(&known)))
            .map(|problem| format!("key store {:?}: {problem}", store.path.as_str()))
    }

    /// Key stores are isolated: what signs for one must not sign for another.
    fn shared_credential(&self) -> Option<String> {
        let ids = self.key_store.iter().flat_map(|store| &store.credential);
        unique("access_key_id", ids.map(|credential| &credential.access_key_id))
    }

    /// An object beneath two external keys would decrypt the ciphertexts of both.
    fn shared_object(&self) -> Option<String> {
        let mut seen = HashMap::new();
        let health = self.hsm.iter().map(|hsm| (hsm, hsm.health_key.as_str(), "health".to_owned()));
        let keys = self.key_store.iter().flat_map(|store| {
            store
                .key
                .iter()
                .flat_map(move |key| key.generations.iter().map(move |g| (store, key, g)))
        });
        let used = keys.flat_map(|(store, key, generation)| {
            let name = format!("{}:{}:{}", store.path, key.id, generation.number);
            let hsms = self.hsm.iter().filter(|hsm| key.hsms.contains(&hsm.name));
            hsms.map(move |hsm| (hsm, generation.object.as_str(), name.clone()))
        });
        health.chain(used).find_map(|(hsm, object, name)| {
            let other = seen.insert((&hsm.name, object), name.clone())?;
            Some(format!("the object {object:?} on {:?} serves both {other} and {name}", hsm.name))
        })
    }
}

impl HsmSettings {
    fn problem(&self) -> Option<String> {
        let name = &self.name;
        if !is_name(name) {
            return Some(format!("the hsm {name:?} needs a name of up to 64 of A-Za-z0-9-._"));
        }
        if self.token.object().is_some() || self.token.id().is_some() {
            return Some(format!("hsm {name:?}: its URI names a key; keys name theirs themselves"));
        }
        (self.health_key.is_empty()).then(|| format!("hsm {name:?}: health_key is empty"))
    }
}

impl KeyStoreSettings {
    /// When a request is answered at the latest.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    fn problem(&self) -> Option<String> {
        let said = |problem: &str| Some(problem.to_owned());
        match self {
            Self { regions, .. } if regions.is_empty() => said("regions is empty"),
            Self { credential, .. } if credential.is_empty() => said("it has no credential"),
            Self { key, .. } if hsms_of(key).len() > MAX_EKMS => Some(format!(
                "its keys are on more than {MAX_EKMS} tokens, and KMS is told of no more"
            )),
            Self { deadline_ms, .. } if !(10..=10_000).contains(deadline_ms) => {
                said("deadline_ms must be from 10 to 10000; KMS gives up after 250")
            }
            _ => None,
        }
    }
}

impl KeySettings {
    fn problem(&self, known: &HashSet<&str>) -> Option<String> {
        self.own_problem(known).map(|problem| format!("key {:?}: {problem}", self.id.as_str()))
    }

    fn own_problem(&self, known: &HashSet<&str>) -> Option<String> {
        if let Some(hsm) = self.hsms.iter().find(|hsm| !known.contains(hsm.as_str())) {
            return Some(format!("there is no hsm {hsm:?}"));
        }
        if self.hsms.is_empty() || self.generations.is_empty() {
            return Some("it needs at least one of hsms and one of generations".to_owned());
        }
        let numbers = self.generations.iter().map(|generation| generation.number);
        let foreign = self.generations.iter().filter_map(|generation| generation.foreign_metadata);
        unique("hsms", &self.hsms)
            .or_else(|| unique("generation", numbers))
            .or_else(|| unique("foreign_metadata", foreign.map(|it| it.0.as_bytes().to_vec())))
            .or_else(|| self.generations.iter().find_map(GenerationSettings::problem))
            .or_else(|| self.taken_metadata())
    }

    /// Metadata of another proxy that is what we write for another generation.
    fn taken_metadata(&self) -> Option<String> {
        let of_ours = |number| CiphertextMetadata::of_generation(number);
        let is_taken = |foreign: &GenerationSettings| {
            let others = self.generations.iter().filter(|other| other.number != foreign.number);
            let mut theirs = others.map(|other| of_ours(other.number));
            foreign.foreign_metadata.is_some_and(|it| theirs.any(|ours| ours == it.0))
        };
        let taken = self.generations.iter().find(|generation| is_taken(generation))?;
        Some(format!(
            "generation {}: its foreign_metadata is another generation's own",
            taken.number
        ))
    }
}

impl GenerationSettings {
    fn problem(&self) -> Option<String> {
        match self {
            Self { number: 0, .. } => Some("generations count from 1".to_owned()),
            Self { object, number, .. } if object.is_empty() => {
                Some(format!("generation {number} has no object"))
            }
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for ForeignMetadata {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok();
        let metadata = bytes.and_then(|bytes| CiphertextMetadata::parse(&bytes).ok());
        metadata.map(Self).ok_or_else(|| serde::de::Error::custom("not base64 of up to 20 bytes"))
    }
}

fn hsms_of(keys: &[KeySettings]) -> HashSet<&String> {
    keys.iter().flat_map(|key| &key.hsms).collect()
}

/// The first that is there twice.
fn unique<T: Eq + std::hash::Hash + fmt::Debug>(
    what: &str,
    items: impl IntoIterator<Item = T>,
) -> Option<String> {
    let mut seen = HashSet::new();
    let twice = |item: T| match seen.contains(&item) {
        true => Some(format!("{what}: {item:?} is there twice")),
        false => {
            seen.insert(item);
            None
        }
    };
    items.into_iter().find_map(twice)
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

fn token_uri<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Pkcs11Uri, D::Error> {
    Pkcs11Uri::parse_any(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn default_operations() -> OpsSettings {
    OpsSettings { address: SocketAddr::from(([127, 0, 0, 1], 9443)) }
}

fn default_deadline_ms() -> u64 {
    200
}

#[cfg(test)]
mod tests;
