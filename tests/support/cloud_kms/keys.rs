//! The keys of the small Cloud KMS, and what it does with them.

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use twinlock_keys::Share;

use super::{Check, Refusal};

const RING: &str = "projects/blue/locations/europe-west3/keyRings/files";

/// `CryptoKeyPurpose`, with the numbers of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    EncryptDecrypt = 1,
    AsymmetricSign = 5,
    Mac = 9,
}

/// `CryptoKeyVersionState`, with the numbers of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Enabled = 1,
    Disabled = 2,
    Destroyed = 3,
    DestroyScheduled = 4,
}

#[derive(Default)]
pub(super) struct Keys {
    keys: BTreeMap<String, Key>,
}

struct Key {
    purpose: Purpose,
    /// The last is the primary one. Numbers begin with 1.
    versions: Vec<Version>,
}

struct Version {
    cipher: Aes256Gcm,
    state: State,
}

type Checks<'a> = &'a dyn Fn(Check) -> bool;

impl Keys {
    pub(super) fn create(&mut self, purpose: Purpose) -> String {
        let name = format!("{RING}/cryptoKeys/key-{}", self.keys.len() + 1);
        self.keys.insert(name.clone(), Key { purpose, versions: vec![Version::new()] });
        name
    }

    pub(super) fn rotate(&mut self, key: &str) {
        self.keys.get_mut(key).expect("a key").versions.push(Version::new());
    }

    pub(super) fn set_state(&mut self, key: &str, state: State) {
        let versions = &mut self.keys.get_mut(key).expect("a key").versions;
        versions.iter_mut().for_each(|version| version.state = state);
    }

    /// `cryptoKeys.encrypt`
    pub(super) fn encrypt(
        &self,
        name: &str,
        body: &Value,
        checks: Checks<'_>,
    ) -> Result<Value, Refusal> {
        let key = self.usable(name, checks)?;
        let (plaintext, aad) = (bytes(body, "plaintext")?, aad(body, checks)?);
        let verified = checksum(body, "plaintext", Check::PlaintextCrc32c, checks)?;
        let number = key.versions.len();
        let version = &key.versions[number - 1];
        version.check(name, number, checks)?;

        let nonce = &random()[..12];
        let payload = Payload { msg: &plaintext, aad: &aad };
        let nonce_of = Nonce::try_from(nonce).expect("12 bytes");
        let sealed = version.cipher.encrypt(&nonce_of, payload).expect("a short plaintext");
        let number_byte = u8::try_from(number).expect("few versions");
        let ciphertext = [&[number_byte], nonce, &sealed[..]].concat();
        Ok(json!({
            "name": version_name(name, number),
            "ciphertext": STANDARD.encode(&ciphertext),
            "ciphertextCrc32c": crc32c(&ciphertext).to_string(),
            "verifiedPlaintextCrc32c": verified,
            "verifiedAdditionalAuthenticatedDataCrc32c":
                body["additionalAuthenticatedDataCrc32c"].is_string(),
            "protectionLevel": 1,
        }))
    }

    /// `cryptoKeys.decrypt`
    pub(super) fn decrypt(
        &self,
        name: &str,
        body: &Value,
        checks: Checks<'_>,
    ) -> Result<Value, Refusal> {
        let key = self.usable(name, checks)?;
        let (ciphertext, aad) = (bytes(body, "ciphertext")?, aad(body, checks)?);
        checksum(body, "ciphertext", Check::CiphertextCrc32c, checks)?;
        let plaintext = match checks(Check::Key) {
            true => key.open(name, &ciphertext, &aad, checks)?,
            false => {
                let mut all = self.keys.iter();
                all.find_map(|(name, key)| key.open(name, &ciphertext, &aad, checks).ok())
                    .ok_or_else(not_decrypted)?
            }
        };
        Ok(json!({
            "plaintext": STANDARD.encode(&plaintext),
            "plaintextCrc32c": crc32c(&plaintext).to_string(),
            "usedPrimary": true,
            "protectionLevel": 1,
        }))
    }

    /// `cryptoKeys.get`
    pub(super) fn describe(&self, name: &str) -> Result<Value, Refusal> {
        let key = self.find(name)?;
        let (purpose, number) = (key.purpose, key.versions.len());
        let mut described = json!({ "name": name, "purpose": purpose as i32 });
        if purpose == Purpose::EncryptDecrypt {
            described["primary"] = json!({
                "name": version_name(name, number),
                "state": key.versions[number - 1].state as i32,
                "algorithm": 1,
                "protectionLevel": 1,
            });
        }
        Ok(described)
    }

    /// `cryptoKeys.create`
    pub(super) fn make(
        &mut self,
        parent: &str,
        query: &str,
        body: &Value,
    ) -> Result<Value, Refusal> {
        let id = query.split('&').find_map(|pair| pair.strip_prefix("cryptoKeyId="));
        let key_ring = parent.strip_suffix("/cryptoKeys").filter(|ring| *ring == RING);
        let (Some(id), Some(ring)) = (id, key_ring) else {
            return Err(Refusal::new(404, "NOT_FOUND", &format!("KeyRing {parent} not found.")));
        };
        if body["purpose"] != json!(1) {
            return Err(invalid("the purpose of a new key is missing"));
        }
        let name = format!("{ring}/cryptoKeys/{id}");
        if self.keys.contains_key(&name) {
            let message = format!("CryptoKey {name} already exists.");
            return Err(Refusal::new(409, "ALREADY_EXISTS", &message));
        }
        let key = Key { purpose: Purpose::EncryptDecrypt, versions: vec![Version::new()] };
        self.keys.insert(name.clone(), key);
        self.describe(&name)
    }

    fn usable(&self, name: &str, checks: Checks<'_>) -> Result<&Key, Refusal> {
        let key = self.find(name)?;
        if checks(Check::Purpose) && key.purpose != Purpose::EncryptDecrypt {
            return Err(invalid(&format!("The purpose of {name} must be ENCRYPT_DECRYPT.")));
        }
        Ok(key)
    }

    fn find(&self, name: &str) -> Result<&Key, Refusal> {
        let missing = || Refusal::new(404, "NOT_FOUND", &format!("CryptoKey {name} not found."));
        self.keys.get(name).ok_or_else(missing)
    }
}

impl Key {
    fn open(
        &self,
        name: &str,
        ciphertext: &[u8],
        aad: &[u8],
        checks: Checks<'_>,
    ) -> Result<Vec<u8>, Refusal> {
        let (&number, rest) = ciphertext.split_first().ok_or_else(not_decrypted)?;
        let (nonce, sealed) = rest.split_at_checked(12).ok_or_else(not_decrypted)?;
        let index = usize::from(number).checked_sub(1).ok_or_else(not_decrypted)?;
        let version = self.versions.get(index).ok_or_else(not_decrypted)?;
        version.check(name, usize::from(number), checks)?;
        let nonce = Nonce::try_from(nonce).expect("12 bytes");
        let opened = version.cipher.decrypt(&nonce, Payload { msg: sealed, aad });
        opened.map_err(|_| not_decrypted())
    }
}

impl Version {
    fn new() -> Self {
        let cipher = Aes256Gcm::new_from_slice(&random()).expect("32 bytes");
        Self { cipher, state: State::Enabled }
    }

    fn check(&self, key: &str, number: usize, checks: Checks<'_>) -> Result<(), Refusal> {
        if self.state == State::Enabled || !checks(Check::State) {
            return Ok(());
        }
        let state = match self.state {
            State::Enabled => "ENABLED",
            State::Disabled => "DISABLED",
            State::Destroyed => "DESTROYED",
            State::DestroyScheduled => "DESTROY_SCHEDULED",
        };
        let name = version_name(key, number);
        let message = format!("{name} is not enabled, current state is: {state}.");
        Err(Refusal::new(400, "FAILED_PRECONDITION", &message))
    }
}

fn version_name(key: &str, number: usize) -> String {
    format!("{key}/cryptoKeyVersions/{number}")
}

/// What the server binds: nothing while it does not look at the AAD.
fn aad(body: &Value, checks: Checks<'_>) -> Result<Vec<u8>, Refusal> {
    checksum(body, "additionalAuthenticatedData", Check::AadCrc32c, checks)?;
    match checks(Check::Aad) {
        true => bytes(body, "additionalAuthenticatedData"),
        false => Ok(Vec::new()),
    }
}

/// True if there was a checksum, and it fits.
fn checksum(body: &Value, field: &str, check: Check, checks: Checks<'_>) -> Result<bool, Refusal> {
    // int64 is a string in JSON (proto3, JSON mapping).
    let Some(given) = body[format!("{field}Crc32c")].as_str() else {
        return Ok(false);
    };
    let computed = crc32c(&bytes(body, field)?).to_string();
    if checks(check) && given != computed {
        let message =
            format!("The checksum in field {field}_crc32c did not match the data in {field}.");
        return Err(invalid(&message));
    }
    Ok(true)
}

fn bytes(body: &Value, field: &str) -> Result<Vec<u8>, Refusal> {
    let text = body[field].as_str().unwrap_or_default();
    STANDARD.decode(text).map_err(|_| invalid(&format!("{field} is not base64")))
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(400, "INVALID_ARGUMENT", message)
}

fn not_decrypted() -> Refusal {
    invalid("Decryption failed: verify that 'name' refers to the correct CryptoKey.")
}

fn random() -> [u8; 32] {
    *Share::random().expect("randomness").expose()
}

/// CRC-32C bit by bit, by another hand than the holder's.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| match crc & 1 {
            1 => (crc >> 1) ^ 0x82f6_3b78,
            _ => crc >> 1,
        })
    })
}
