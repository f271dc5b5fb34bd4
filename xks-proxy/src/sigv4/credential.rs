use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine as _};
use subtle::ConstantTimeEq;
use twinlock_keys::RandomnessError;
use zeroize::Zeroizing;

use super::SignatureError;
use super::signing_key::{Scope, SigningKey, SigningKeys};
use crate::uri_path::UriPathPrefix;

/// The most credentials of one key store. Two are valid while they are rotated.
pub const MAX_CREDENTIALS: usize = 16;

/// Names a secret and says nothing of it: 20 to 30 characters of `A-Z 2-7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessKeyId(Box<str>);

/// What KMS signs with: 43 to 64 characters of `A-Z a-z 0-9 + / =`.
///
/// Wiped when it is dropped, and not printable.
pub struct SecretAccessKey(Zeroizing<String>);

/// Why a text is no part of a credential. The text is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The access key id has other characters, or another length.
    #[error("an access key id is 20 to 30 characters of A-Z and 2-7")]
    AccessKeyId,
    /// The secret has other characters, or another length.
    #[error("a secret access key is 43 to 64 characters of A-Z a-z 0-9 + / =")]
    SecretAccessKey,
}

impl AccessKeyId {
    /// Checks an id.
    ///
    /// # Errors
    /// When KMS would not take it.
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        let valid =
            (20..=30).contains(&text.len()) && text.bytes().all(|it| ALPHABET.contains(&it));
        if valid { Ok(Self(text.into())) } else { Err(CredentialError::AccessKeyId) }
    }

    /// A fresh one: 24 characters, 120 random bits.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, RandomnessError> {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes)?;
        let characters = bytes.map(|byte| char::from(ALPHABET[usize::from(byte) % 32]));
        Ok(Self(characters.iter().collect::<String>().into()))
    }

    /// As it stands in headers.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SecretAccessKey {
    /// A copy of `text`, which the caller still has to wipe.
    ///
    /// # Errors
    /// When KMS would not take it.
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
        let valid = (43..=64).contains(&text.len()) && text.bytes().all(is_plain);
        if !valid {
            return Err(CredentialError::SecretAccessKey);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// A fresh one: 256 random bits in base64.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, RandomnessError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes)?;
        let mut text = Zeroizing::new(String::with_capacity(43));
        BASE64_STANDARD_NO_PAD.encode_string(bytes.as_slice(), &mut text);
        Ok(Self(text))
    }

    /// The characters. The name is long on purpose: each use is worth a look.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Of another length, for vectors that are not KMS's.
    #[cfg(test)]
    pub(super) fn of_any_length(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

/// An access key id and its secret, with the signing keys that it made of late.
pub struct Credential {
    id: AccessKeyId,
    secret: SecretAccessKey,
    signing_keys: SigningKeys,
}

impl Credential {
    /// Puts the two together.
    #[must_use]
    pub fn new(id: AccessKeyId, secret: SecretAccessKey) -> Self {
        Self { id, secret, signing_keys: SigningKeys::default() }
    }

    /// A fresh one.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, RandomnessError> {
        Ok(Self::new(AccessKeyId::generate()?, SecretAccessKey::generate()?))
    }

    /// What names it.
    #[must_use]
    pub fn id(&self) -> &AccessKeyId {
        &self.id
    }

    /// What proves it.
    #[must_use]
    pub fn secret(&self) -> &SecretAccessKey {
        &self.secret
    }

    /// The file that the KMS console reads when a key store is made (section
    /// "XKS proxy configuration in AWS KMS console"). It has the secret in it.
    #[must_use]
    pub fn console_json(&self, prefix: &UriPathPrefix) -> Zeroizing<String> {
        let mut json = Zeroizing::new(String::with_capacity(512));
        for part in [
            "{\n  \"XksProxyUriPath\": \"",
            &prefix.uri_path(),
            "\",\n  \"XksProxyAuthenticationCredential\": {\n    \"AccessKeyId\": \"",
            self.id.as_str(),
            "\",\n    \"RawSecretAccessKey\": \"",
            self.secret.expose(),
            "\"\n  }\n}\n",
        ] {
            json.push_str(part);
        }
        json
    }

    fn signing_key(&self, scope: &Scope) -> SigningKey {
        self.signing_keys.of(self.secret.expose(), scope)
    }
}

/// The credentials that are valid for a key store at the same time.
pub struct Credentials {
    valid: Vec<Credential>,
    /// Stands in for the one that an unknown id names, and matches nothing.
    nobody: Credential,
}

/// Why credentials are no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// None, or too many.
    #[error("a key store has 1 to {MAX_CREDENTIALS} credentials")]
    Size,
    /// An id must name one secret.
    #[error("two credentials of a key store have the same access key id")]
    RepeatedId,
}

impl Credentials {
    /// Checks number and ids.
    ///
    /// # Errors
    /// When nobody could ask, or an id would name two secrets.
    pub fn new(valid: Vec<Credential>) -> Result<Self, CredentialsError> {
        if !(1..=MAX_CREDENTIALS).contains(&valid.len()) {
            return Err(CredentialsError::Size);
        }
        let ids: HashSet<_> = valid.iter().map(Credential::id).collect();
        if ids.len() < valid.len() {
            return Err(CredentialsError::RepeatedId);
        }
        Ok(Self { valid, nobody: nobody() })
    }

    /// The ids, in the order that they were given.
    pub fn ids(&self) -> impl Iterator<Item = &AccessKeyId> {
        self.valid.iter().map(Credential::id)
    }

    /// Whether `signature` is what `sign` makes with the signing key of the
    /// credential that is named `id`: the same work if there is none.
    pub(super) fn check(
        &self,
        id: &AccessKeyId,
        scope: &Scope,
        signature: &[u8; 32],
        sign: impl FnOnce(SigningKey) -> [u8; 32],
    ) -> Result<(), SignatureError> {
        let known = self.valid.iter().find(|credential| credential.id == *id);
        let key = known.unwrap_or(&self.nobody).signing_key(scope);
        let matches = bool::from(sign(key).ct_eq(signature));
        match (known, matches) {
            (Some(_), true) => Ok(()),
            (Some(_), false) => Err(SignatureError::Mismatch),
            (None, _) => Err(SignatureError::AccessKeyUnknown),
        }
    }

    #[cfg(test)]
    pub(super) fn cached_keys(&self) -> Vec<usize> {
        self.valid.iter().map(|credential| credential.signing_keys.len()).collect()
    }
}

/// Its secret is known to everybody, which does not matter: what it signs is
/// refused.
fn nobody() -> Credential {
    let id = AccessKeyId("A".repeat(20).into());
    Credential::new(id, SecretAccessKey(Zeroizing::new("A".repeat(43))))
}

/// An AWS Region that a key store is called from, `eu-central-1` for instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(Arc<str>);

/// Why a text is no region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an AWS Region is 1 to 32 characters of a-z 0-9 and -")]
pub struct RegionError;

impl Region {
    /// Checks a region's name. Whether AWS has it is not known here.
    ///
    /// # Errors
    /// When it has other characters, or too many.
    pub fn parse(text: &str) -> Result<Self, RegionError> {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid = (1..=32).contains(&text.len()) && text.bytes().all(is_plain);
        if valid { Ok(Self(text.into())) } else { Err(RegionError) }
    }

    /// As it stands in scopes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Region {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
