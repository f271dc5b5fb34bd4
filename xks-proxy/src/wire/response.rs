use std::collections::HashSet;
use std::num::NonZeroU32;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::ciphertext_metadata::CiphertextMetadata;

/// The most key managers that a GetHealthStatus may name.
pub const MAX_EKMS: usize = 10;

/// What Encrypt returns. `Debug` is left out: none of it belongs into a log.
pub struct EncryptResponse<'a> {
    /// As long as the plaintext; the tag is not in it.
    pub ciphertext: &'a [u8],
    /// What Decrypt will need to find the key; left out if empty.
    pub ciphertext_metadata: CiphertextMetadata,
    /// 12 or 16 bytes.
    pub iv: &'a [u8],
    /// The GCM tag.
    pub tag: &'a [u8; 16],
    /// The CDIV, if it was asked for.
    pub integrity_value: Option<[u8; 32]>,
}

impl EncryptResponse<'_> {
    /// One line of JSON.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(320 + base64_len(self.ciphertext.len()));
        push_field(&mut body, b"{\"authenticationTag\":\"", self.tag);
        push_field(&mut body, b",\"ciphertext\":\"", self.ciphertext);
        if let Some(value) = &self.integrity_value {
            push_field(&mut body, b",\"ciphertextDataIntegrityValue\":\"", value);
        }
        let metadata = self.ciphertext_metadata.as_bytes();
        if !metadata.is_empty() {
            push_field(&mut body, b",\"ciphertextMetadata\":\"", metadata);
        }
        push_field(&mut body, b",\"initializationVector\":\"", self.iv);
        body.push(b'}');
        body
    }
}

/// What Decrypt returns.
pub struct DecryptResponse<'a> {
    /// As long as the ciphertext.
    pub plaintext: &'a [u8],
}

impl DecryptResponse<'_> {
    /// One line of JSON, written into one allocation that is wiped when it is
    /// dropped.
    #[must_use]
    pub fn body(&self) -> Zeroizing<Vec<u8>> {
        const START: &[u8] = b"{\"plaintext\":\"";
        let len = START.len() + base64_len(self.plaintext.len()) + 2;
        let mut body = Zeroizing::new(Vec::with_capacity(len));
        push_field(&mut body, START, self.plaintext);
        body.push(b'}');
        debug_assert_eq!(body.len(), len, "nothing was allocated again");
        body
    }
}

/// `start`, the bytes in base64 and a quotation mark. The vector has the room.
fn push_field(out: &mut Vec<u8>, start: &[u8], bytes: &[u8]) {
    out.extend_from_slice(start);
    let at = out.len();
    out.resize(at + base64_len(bytes.len()), 0);
    BASE64_STANDARD.encode_slice(bytes, &mut out[at..]).expect("it has this length in base64");
    out.push(b'"');
}

fn base64_len(len: usize) -> usize {
    len.div_ceil(3) * 4
}

/// What GetKeyMetadata returns, of an AES-256 key: there are no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMetadataResponse {
    /// The key may encrypt.
    pub encrypts: bool,
    /// The key may decrypt.
    pub decrypts: bool,
    /// The key is not switched off.
    pub enabled: bool,
}

impl KeyMetadataResponse {
    /// One line of JSON.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let usages = [(self.encrypts, "ENCRYPT"), (self.decrypts, "DECRYPT")];
        let usages = usages.into_iter().filter(|(has, _)| *has).map(|(_, name)| name);
        to_json(&KeyMetadataBody {
            key_spec: "AES_256",
            key_usage: usages.collect(),
            key_status: if self.enabled { "ENABLED" } else { "DISABLED" },
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyMetadataBody {
    key_spec: &'static str,
    key_usage: Vec<&'static str>,
    key_status: &'static str,
}

/// What GetHealthStatus returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthResponse {
    /// How many proxies serve this key store.
    pub xks_proxy_fleet_size: NonZeroU32,
    /// Who makes the proxy.
    pub xks_proxy_vendor: String,
    /// Product and version of the proxy.
    pub xks_proxy_model: String,
    /// Who makes the HSMs, even if it is the same.
    pub ekm_vendor: String,
    /// The HSMs.
    pub ekm_fleet_details: EkmFleet,
}

impl HealthResponse {
    /// One line of JSON.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        to_json(self)
    }
}

/// One to ten external key managers with ids of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EkmFleet(Vec<Ekm>);

/// An external key manager: one HSM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ekm {
    /// Its name in the configuration.
    pub id: String,
    /// Product, version, and what else tells its capacity.
    pub model: String,
    /// How it is.
    pub health_status: HealthStatus,
}

/// How a key manager is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HealthStatus {
    /// Well.
    Active,
    /// Not well, and serving.
    Degraded,
    /// Not serving.
    Unavailable,
}

/// Why key managers are no fleet that KMS takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EkmFleetError {
    /// None, or too many.
    #[error("a key store has 1 to {MAX_EKMS} HSMs, since GetHealthStatus names no more")]
    Size,
    /// Two have the same id.
    #[error("two HSMs of a key store have the same name")]
    RepeatedId,
}

impl EkmFleet {
    /// Checks number and ids.
    ///
    /// # Errors
    /// When KMS would refuse the answer.
    pub fn new(ekms: Vec<Ekm>) -> Result<Self, EkmFleetError> {
        if !(1..=MAX_EKMS).contains(&ekms.len()) {
            return Err(EkmFleetError::Size);
        }
        let ids: HashSet<_> = ekms.iter().map(|ekm| &ekm.id).collect();
        if ids.len() < ekms.len() { Err(EkmFleetError::RepeatedId) } else { Ok(Self(ekms)) }
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, lists of them and a number become JSON")
}
