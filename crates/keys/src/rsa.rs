//! The public part of an RSA key: wraps where the private one is not.

use std::fmt;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey, PublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

use crate::{HolderError, HolderErrorKind, Share, ShareAlgorithm, WrappedShare};

/// 65537, which every token uses unless told otherwise.
const EXPONENT: [u8; 3] = [1, 0, 1];
/// DER of the exponent, with which a `SubjectPublicKeyInfo` ends.
const EXPONENT_DER_LEN: usize = 2 + EXPONENT.len();

const MIN_BITS: u64 = 2048;
/// Larger ones gain nothing and take a token seconds.
const MAX_BITS: u64 = 8192;

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// Characters on a line of PEM (RFC 7468 section 2).
const LINE: usize = 64;

/// The public part of an RSA KEK: 2048 to 8192 bits, with the exponent 65537.
///
/// It wraps, as anybody can who has it, and never unwraps. Whoever gets it from
/// elsewhere compares [`RsaPublicKey::spki_sha256`] with what the key's owner
/// said: under an impostor's key everything works but the one thing that counts.
#[derive(Clone)]
pub struct RsaPublicKey {
    /// Without leading zeros.
    modulus: Vec<u8>,
    spki: Vec<u8>,
    key: PublicEncryptingKey,
}

/// Why an RSA public key cannot be had, or does not wrap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RsaKeyError {
    /// It has another pin than it was to have.
    #[error(
        "the public key {place} is not the one that spki-sha256 names; somebody may have \
         exchanged it: get it again from the key's owner (twinlock keys export-public)"
    )]
    OtherPin {
        /// Where it is, for instance `on the token`.
        place: String,
    },
    /// No key, or not one that can be a KEK: the text says why.
    #[error("{0}")]
    Unusable(String),
    /// A failure of the library.
    #[error("RSA-OAEP failed in this process")]
    Wrap,
}

impl From<RsaKeyError> for HolderError {
    fn from(error: RsaKeyError) -> Self {
        let kind = match error {
            RsaKeyError::OtherPin { .. } | RsaKeyError::Unusable(_) => {
                HolderErrorKind::Misconfigured
            }
            RsaKeyError::Wrap => HolderErrorKind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

impl RsaPublicKey {
    /// Reads one `PUBLIC KEY` block (RFC 7468 section 13), with nothing but
    /// white space around it.
    ///
    /// # Errors
    /// When it is none, or not of an RSA key that can be a KEK.
    pub fn from_pem(text: &str) -> Result<Self, RsaKeyError> {
        let body = text.trim_ascii().strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END));
        let body: String = body.ok_or_else(|| not_pem(text))?.split_ascii_whitespace().collect();
        let der = BASE64.decode(body).map_err(|_| not_pem(text))?;
        Self::from_der(&der)
    }

    /// Only the one encoding that [`RsaPublicKey::new`] makes: a pin is of bytes.
    fn from_der(spki: &[u8]) -> Result<Self, RsaKeyError> {
        let key = PublicEncryptingKey::from_der(spki).map_err(|_| not_an_rsa_key())?;
        let modulus = spki
            .len()
            .checked_sub(key.key_size_bytes() + EXPONENT_DER_LEN)
            .and_then(|start| spki.get(start..spki.len() - EXPONENT_DER_LEN))
            .ok_or_else(not_an_rsa_key)?;
        let same = Self::new(modulus, &EXPONENT).ok().filter(|same| same.spki == spki);
        same.ok_or_else(not_an_rsa_key)
    }

    /// The key of these numbers, big-endian, with leading zeros or without.
    ///
    /// # Errors
    /// When it cannot be a KEK: [`RsaPublicKey::problem`] says why.
    pub fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, RsaKeyError> {
        let modulus = without_zeros(modulus).to_vec();
        if let Some(problem) = problem(&modulus, exponent) {
            return Err(RsaKeyError::Unusable(format!("the RSA key cannot be used: {problem}")));
        }
        let parts = PublicKeyComponents { n: modulus.as_slice(), e: &EXPONENT };
        let spki: PublicKeyX509Der<'_> = parts.as_der().map_err(|_| not_an_rsa_key())?;
        let key: Result<PublicEncryptingKey, _> = parts.try_into();
        let key = key.map_err(|_| not_an_rsa_key())?;
        Ok(Self { spki: spki.as_ref().to_vec(), modulus, key })
    }

    /// The key as one `PUBLIC KEY` block.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let body = BASE64.encode(&self.spki);
        let mut pem = format!("{BEGIN}\n");
        for line in body.as_bytes().chunks(LINE) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem + END + "\n"
    }

    /// The SHA-256 of its `SubjectPublicKeyInfo` (DER): its pin.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.spki).into()
    }

    /// The size of its modulus in bits.
    #[must_use]
    pub fn bits(&self) -> u64 {
        bit_length(&self.modulus)
    }

    /// Its modulus, big-endian, without leading zeros.
    #[must_use]
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// Its public exponent: always 65537.
    #[must_use]
    pub fn exponent(&self) -> u32 {
        65537
    }

    /// The length of its modulus, and of each ciphertext, in bytes.
    #[must_use]
    pub fn modulus_len(&self) -> usize {
        self.modulus.len()
    }

    /// RSA-OAEP with SHA-256, MGF1-SHA-256 and no label (RFC 8017 section 7.1.1).
    ///
    /// # Errors
    /// [`RsaKeyError::Wrap`], when the library or its random numbers fail.
    pub fn wrap(&self, share: &Share) -> Result<WrappedShare, RsaKeyError> {
        let failed = |_| RsaKeyError::Wrap;
        let key = OaepPublicEncryptingKey::new(self.key.clone()).map_err(failed)?;
        let mut bytes = vec![0; key.ciphertext_size()];
        let wrapped = key.encrypt(&OAEP_SHA256_MGF1SHA256, share.expose(), &mut bytes, None);
        let wrapped = wrapped.map_err(failed)?.to_vec();
        Ok(WrappedShare::new(ShareAlgorithm::RsaOaepSha256, wrapped))
    }

    /// True if `bytes` can be a ciphertext of this key: as long as the modulus,
    /// and less than it. Tokens answer others in all sorts of ways.
    #[must_use]
    pub fn can_be_asked(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.modulus.len() && bytes < self.modulus.as_slice()
    }

    /// Refuses a key whose pin is another. `place` says where it is.
    ///
    /// # Errors
    /// [`RsaKeyError::OtherPin`].
    pub fn check_pin(&self, pin: &[u8; 32], place: &str) -> Result<(), RsaKeyError> {
        match self.spki_sha256() == *pin {
            true => Ok(()),
            false => Err(RsaKeyError::OtherPin { place: place.to_owned() }),
        }
    }

    /// The size in bits of a modulus, big-endian, with leading zeros or without.
    #[must_use]
    pub fn bits_of(modulus: &[u8]) -> u64 {
        bit_length(modulus)
    }

    /// Why an RSA key of these numbers, big-endian, cannot be a KEK; nothing if
    /// it can.
    #[must_use]
    pub fn problem(modulus: &[u8], exponent: &[u8]) -> Option<String> {
        problem(without_zeros(modulus), exponent)
    }
}

/// Of a modulus without leading zeros.
fn problem(modulus: &[u8], exponent: &[u8]) -> Option<String> {
    let bits = bit_length(modulus);
    if !(MIN_BITS..=MAX_BITS).contains(&bits) {
        return Some(format!("it has {bits} bits; an RSA key has {MIN_BITS} to {MAX_BITS} here"));
    }
    if !bits.is_multiple_of(8) || modulus.last().is_none_or(|byte| byte % 2 == 0) {
        return Some(format!("its modulus, of {bits} bits, is not one of an RSA key"));
    }
    let is_usual = without_zeros(exponent) == EXPONENT;
    (!is_usual).then(|| "its public exponent is not 65537".to_owned())
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// The size of a number in bits.
fn bit_length(number: &[u8]) -> u64 {
    let digits = without_zeros(number);
    let unused = digits.first().map_or(0, |first| first.leading_zeros());
    digits.len() as u64 * 8 - u64::from(unused)
}

/// It does not repeat the text: what was given by mistake may be a secret.
fn not_pem(text: &str) -> RsaKeyError {
    let problem = match text.contains("PRIVATE KEY") {
        true => "it holds a private key, which belongs nowhere but in a token",
        false => "it has to hold one PEM block, BEGIN PUBLIC KEY, and nothing else",
    };
    RsaKeyError::Unusable(format!("this is no public key: {problem}"))
}

fn not_an_rsa_key() -> RsaKeyError {
    RsaKeyError::Unusable(
        "this is no RSA public key that can be used: it needs 2048 to 8192 bits, the exponent \
         65537, and the encoding that `twinlock keys export-public` writes"
            .to_owned(),
    )
}

impl PartialEq for RsaPublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for RsaPublicKey {}

impl fmt::Debug for RsaPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RsaPublicKey").field("bits", &self.bits()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
