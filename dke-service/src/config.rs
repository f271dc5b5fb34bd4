//! The configuration: one TOML file, read whole and checked before anything is
//! opened.
//!
//! What [`Config::read`] returns can be served: names are unique, whatever refers
//! to something else refers to something that is there, and nothing on a token is
//! beneath two keys. Secrets are named here and read by whoever needs them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use twinlock_keys::Pkcs11Uri;
use twinlock_service::config::{self, SecretSource};
use twinlock_service::listen::ListenSettings;
use twinlock_service::log::LogSettings;
use twinlock_service::ops::OpsSettings;
use twinlock_service::tls::TlsSettings;
use twinlock_service::traces::TraceSettings;

use crate::access::{AccessSettings, LdapSettings};
use crate::bearer::IssuerSettings;
use crate::challenge::{Challenge, ChallengeSettings};
use crate::failure::Failure;
use crate::public_url::PublicUrl;
use crate::route::{KeyId, KeyName};

/// Everything that the file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients reach the service: what `kid` is built from, and a path below
    /// which the keys are.
    #[serde(deserialize_with = "public_url")]
    pub public_url: PublicUrl,
    /// Where clients connect to.
    pub listen: ListenSettings,
    /// Where load balancers and Prometheus connect to.
    #[serde(default = "default_operations")]
    pub operations: OpsSettings,
    /// What is written where.
    #[serde(default)]
    pub log: LogSettings,
    /// Where spans of requests are sent.
    pub traces: Option<TraceSettings>,
    /// Milliseconds that a token may take for a request.
    #[serde(default = "default_deadline_ms")]
    pub deadline_ms: u64,
    /// Milliseconds after which a second token is asked, too, if a key has one.
    pub hedge_after_ms: Option<u64>,
    /// What a caller without a token is told.
    #[serde(default)]
    pub challenge: ChallengeSettings,
    /// Who makes tokens for callers.
    pub issuer: Vec<IssuerSettings>,
    /// The directory in which groups are looked up.
    pub ldap: Option<LdapSettings>,
    /// The tokens that keep the keys.
    pub hsm: Vec<HsmSettings>,
    /// The keys.
    pub key: Vec<KeySettings>,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HsmSettings {
    /// Its name here, in logs and in metrics.
    pub name: String,
    /// Which token, of which module: an RFC 7512 URI with `module-path`.
    #[serde(deserialize_with = "token_uri")]
    pub token: Pkcs11Uri,
    /// Where its user PIN is.
    pub pin: Option<SecretSource>,
    /// Sessions that work side by side; what is known of the vendor if not said.
    pub sessions: Option<usize>,
    /// Keys that can leave the token are accepted.
    #[serde(default)]
    pub allow_extractable: bool,
}

/// One key, as clients know it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// The name that a label's URL, or a key URI, ends with.
    pub name: KeyName,
    /// What it is for, and the only thing.
    pub purpose: Purpose,
    /// Whether it may be used.
    #[serde(default)]
    pub state: KeyState,
    /// The tokens that have it, the preferred one first.
    pub hsms: Vec<String>,
    /// Days for which clients may keep the public part; if not said they ask for
    /// it each time.
    pub cache_days: Option<NonZeroU32>,
    /// Decryptions in a second beyond which callers are told to wait; none if not
    /// said.
    pub decrypts_per_second: Option<NonZeroU32>,
    /// The keys on the tokens beneath it; the one with the highest number is
    /// published, and all decrypt.
    pub generations: Vec<GenerationSettings>,
    /// Who may decrypt.
    pub access: AccessSettings,
}

/// What a key is for. Each use is an oracle for what the key wraps, so there is
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A sensitivity label of Microsoft's: messages are of any length.
    MicrosoftLabel,
    /// Twinlock's shares: messages have 32 bytes, and others are refused.
    Shares,
}

impl Purpose {
    /// As the configuration has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MicrosoftLabel => "microsoft-label",
            Self::Shares => "shares",
        }
    }
}

/// Whether a key may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// For everything.
    #[default]
    Enabled,
    /// For nothing, until it is enabled again: it is not published either.
    Disabled,
}

/// One key on the tokens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationSettings {
    /// From 1 on.
    pub number: u32,
    /// What it is called in every `kid`: a GUID, for instance.
    pub id: KeyId,
    /// The label of the private key on each token (`CKA_LABEL`).
    pub object: String,
    /// The public key that it is; the first that a token shows if not said.
    pub spki_sha256: Option<SpkiSha256>,
}

/// The SHA-256 of a public key's `SubjectPublicKeyInfo` (DER), in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpkiSha256(pub [u8; 32]);

impl fmt::Display for SpkiSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<'de> Deserialize<'de> for SpkiSha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
        let bytes = text.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        let bytes = bytes.collect::<Option<Vec<_>>>().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("spki_sha256 has 64 hexadecimal digits"))
    }
}

/// Longest time for which clients may keep a public key: a rotation reaches them
/// only after it.
pub const MAX_CACHE_DAYS: u32 = 365;

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

    /// How long a token may take for a request.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// Every file that it names, to watch them for changes.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let tls = self.listen.tls.iter().flat_map(TlsSettings::files);
        let cas = self.issuer.iter().filter_map(|issuer| issuer.ca.clone());
        let directory = self.ldap.iter().flat_map(LdapSettings::files);
        let policies = self.key.iter().filter_map(|key| key.access.policy.clone());
        tls.chain(cas).chain(directory).chain(policies).collect()
    }

    /// What contradicts itself, if anything does.
    fn problem(&self) -> Option<String> {
        self.own_problem()
            .or_else(|| unique("hsm", self.hsm.iter().map(|hsm| &hsm.name)))
            .or_else(|| unique("hsm.token", self.hsm.iter().map(|hsm| hsm.token.profile_uri())))
            .or_else(|| self.hsm.iter().find_map(HsmSettings::problem))
            .or_else(|| unique("key.name", self.key.iter().map(|key| &key.name)))
            .or_else(|| self.problem_of_keys())
            .or_else(|| self.problem_of_issuers())
            .or_else(|| self.traces.as_ref()?.check().err().map(|error| error.to_string()))
            .or_else(|| self.shared_object())
    }

    fn own_problem(&self) -> Option<String> {
        let said = |problem: &str| Some(problem.to_owned());
        let asks_for_certificates = |tls: &TlsSettings| tls.client.is_some();
        match self {
            Self { issuer, .. } if issuer.is_empty() => said("there is no [[issuer]]"),
            Self { hsm, .. } if hsm.is_empty() => said("there is no [[hsm]]"),
            Self { key, .. } if key.is_empty() => said("there is no [[key]]"),
            Self { listen, .. } if listen.tls.as_ref().is_some_and(asks_for_certificates) => said(
                "listen.tls.client: there are Office clients that break off when they are asked \
                 for a certificate, even if they need not have one; callers are known by their \
                 tokens",
            ),
            Self { deadline_ms, .. } if !(100..=60_000).contains(deadline_ms) => {
                said("deadline_ms must be from 100 to 60000")
            }
            _ => Challenge::new(&self.challenge, self.public_url.origin()).err(),
        }
    }

    fn problem_of_keys(&self) -> Option<String> {
        let known: HashSet<_> = self.hsm.iter().map(|hsm| hsm.name.as_str()).collect();
        self.key.iter().find_map(|key| key.problem(&known))
    }

    /// Where there are several issuers, whose claims count for what has to be said:
    /// each of them could vouch for any user, role or SID.
    fn problem_of_issuers(&self) -> Option<String> {
        let of_keys = self.key.iter().find_map(|key| {
            let problem = self.problem_of_names(&key.access.issuers);
            Some(format!("key {:?}: access.issuers {}", key.name.as_str(), problem?))
        });
        of_keys.or_else(|| {
            let of_directory = self.problem_of_names(self.ldap.as_ref()?.issuer.as_slice());
            Some(format!("ldap.issuer {}", of_directory?))
        })
    }

    fn problem_of_names(&self, named: &[String]) -> Option<String> {
        let is_there = |name: &&String| self.issuer.iter().any(|it| it.issuer == **name);
        if let Some(name) = named.iter().find(|name| !is_there(name)) {
            return Some(format!("names {name:?}, which is the `issuer` of no [[issuer]]"));
        }
        let is_open = named.is_empty() && self.issuer.len() > 1;
        is_open.then(|| {
            "has to say whose tokens count, since there are several [[issuer]]: each could vouch \
             for anybody's name, role or SID"
                .to_owned()
        })
    }

    /// An object beneath two keys would decrypt what was encrypted for either, and
    /// whoever may use one could use the other.
    fn shared_object(&self) -> Option<String> {
        let mut seen = HashMap::new();
        let generations =
            self.key.iter().flat_map(|key| key.generations.iter().map(move |it| (key, it)));
        let used = generations.flat_map(|(key, generation)| {
            let name = format!("{}:{}", key.name, generation.number);
            key.hsms.iter().map(move |hsm| (hsm, &generation.object, name.clone()))
        });
        used.into_iter().find_map(|(hsm, object, name)| {
            let other = seen.insert((hsm, object), name.clone())?;
            Some(format!(
                "the object {object:?} on {hsm:?} is beneath both {other} and {name}; a key has \
                 one purpose and one list of who may use it"
            ))
        })
    }
}

impl HsmSettings {
    fn problem(&self) -> Option<String> {
        let name = &self.name;
        if !is_name(name) {
            return Some(format!("the hsm {name:?} needs a name of up to 64 of A-Za-z0-9-._"));
        }
        let names_a_key = self.token.object().is_some() || self.token.id().is_some();
        names_a_key
            .then(|| format!("hsm {name:?}: its URI names a key; keys name theirs themselves"))
    }
}

impl KeySettings {
    fn problem(&self, known: &HashSet<&str>) -> Option<String> {
        self.own_problem(known).map(|problem| format!("key {:?}: {problem}", self.name.as_str()))
    }

    fn own_problem(&self, known: &HashSet<&str>) -> Option<String> {
        if let Some(hsm) = self.hsms.iter().find(|hsm| !known.contains(hsm.as_str())) {
            return Some(format!("there is no hsm {hsm:?}"));
        }
        if self.hsms.is_empty() || self.generations.is_empty() {
            return Some("it needs at least one of hsms and one of generations".to_owned());
        }
        if self.access.names_nobody() {
            return Some("its access names nobody who may use it".to_owned());
        }
        if self.cache_days.is_some_and(|days| days.get() > MAX_CACHE_DAYS) {
            return Some(format!("cache_days must be at most {MAX_CACHE_DAYS}"));
        }
        let generations = || self.generations.iter();
        unique("hsms", &self.hsms)
            .or_else(|| unique("generation", generations().map(|it| it.number)))
            .or_else(|| unique("generations.id", generations().map(|it| &it.id)))
            .or_else(|| generations().find_map(GenerationSettings::problem))
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

/// The first that is there twice.
fn unique<T: Eq + Hash + fmt::Debug>(
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

fn token_uri<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pkcs11Uri, D::Error> {
    Pkcs11Uri::parse_any(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

fn public_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PublicUrl, D::Error> {
    PublicUrl::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

fn default_operations() -> OpsSettings {
    OpsSettings { address: SocketAddr::from(([127, 0, 0, 1], 9444)) }
}

fn default_deadline_ms() -> u64 {
    5000
}

#[cfg(test)]
mod tests;
