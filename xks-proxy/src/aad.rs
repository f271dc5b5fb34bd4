//! The AAD that the HSM gets (section "Encrypt", `ciphertextMetadata`).
//!
//! The caller's AAD and the ciphertext metadata, each behind its length, so that
//! neither can be taken for the other and the tag covers both.

use std::fmt;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::ciphertext_metadata::CiphertextMetadata;

/// The most bytes of AAD that a request may have.
pub const MAX_LEN: usize = 8192;

/// The caller's `additionalAuthenticatedData`, 8192 bytes at the most.
///
/// `Debug` prints its length only.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Aad(Option<Vec<u8>>);

/// AAD has more than 8192 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("AAD has more than {MAX_LEN} bytes")]
pub struct TooLong;

/// How the caller's AAD stands in the AAD that the HSM gets. It belongs to a
/// key store for as long as there are ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
pub enum AadForm {
    /// As it is: what the specification asks for.
    #[default]
    #[serde(rename = "specification")]
    Specification,
    /// Its SHA-256, and its own length before it: a key store that moves here
    /// from a proxy which does so keeps its ciphertexts.
    #[serde(rename = "sha-256")]
    Sha256,
}

impl Aad {
    /// Takes the bytes of a request.
    ///
    /// # Errors
    /// When they are more than 8192.
    pub fn new(bytes: Vec<u8>) -> Result<Self, TooLong> {
        if bytes.len() <= MAX_LEN { Ok(Self(Some(bytes))) } else { Err(TooLong) }
    }

    /// Of a request without AAD.
    #[must_use]
    pub fn absent() -> Self {
        Self(None)
    }

    /// The bytes: none if it is absent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The AAD for the HSM: `BE16(length) || AAD || BE8(length) || metadata`,
    /// with SHA-256(AAD) in the place of a present AAD if `form` says so.
    #[must_use]
    pub fn for_token(&self, metadata: &CiphertextMetadata, form: AadForm) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + self.as_bytes().len().max(32) + 1 + 20);
        out.extend_from_slice(&self.len().to_be_bytes());
        match (&self.0, form) {
            (Some(bytes), AadForm::Sha256) => out.extend_from_slice(&Sha256::digest(bytes)),
            _ => out.extend_from_slice(self.as_bytes()),
        }
        out.push(metadata.len());
        out.extend_from_slice(metadata.as_bytes());
        out
    }

    fn len(&self) -> u16 {
        u16::try_from(self.as_bytes().len()).expect("new() lets 8192 bytes pass and no more")
    }
}

impl fmt::Debug for Aad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aad({} bytes)", self.as_bytes().len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn aad(bytes: &[u8]) -> Aad {
        Aad::new(bytes.to_vec()).unwrap()
    }

    fn metadata(bytes: &[u8]) -> CiphertextMetadata {
        CiphertextMetadata::parse(bytes).unwrap()
    }

    #[test]
    fn each_part_stands_behind_its_length() {
        let form = AadForm::Specification;
        assert_eq!(aad(b"abc").for_token(&metadata(b"xy"), form), b"\0\x03abc\x02xy");
        assert_eq!(Aad::absent().for_token(&metadata(b"xy"), form), b"\0\0\x02xy");
        assert_eq!(aad(b"abc").for_token(&metadata(b""), form), b"\0\x03abc\0");
        assert_eq!(Aad::absent().for_token(&metadata(b""), form), b"\0\0\0");
        let longest = aad(&[b'a'; 8192]).for_token(&metadata(&[7; 20]), form);
        assert_eq!(longest.len(), 2 + 8192 + 1 + 20);
        assert_eq!(longest[..3], [0x20, 0, b'a']);
    }

    #[test]
    fn our_metadata_ends_the_aad() {
        let bytes = aad(b"a").for_token(&CiphertextMetadata::of_generation(7), AadForm::default());
        assert_eq!(bytes, b"\0\x01a\x05\x01\0\0\0\x07");
    }

    /// FIPS 180-4's example of a one-block message, "abc".
    #[test]
    fn the_other_form_has_the_hash_and_the_length_of_what_was_hashed() {
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let expected = [&b"\0\x03"[..], &hex::decode(hash).unwrap(), b"\x02xy"].concat();
        assert_eq!(aad(b"abc").for_token(&metadata(b"xy"), AadForm::Sha256), expected);
    }

    #[test]
    fn in_the_other_form_absent_is_not_empty() {
        let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let empty = [&b"\0\0"[..], &hex::decode(of_nothing).unwrap(), b"\0"].concat();
        assert_eq!(aad(b"").for_token(&metadata(b""), AadForm::Sha256), empty);
        assert_eq!(Aad::absent().for_token(&metadata(b""), AadForm::Sha256), b"\0\0\0");
    }

    /// Nothing can be moved from one part to the other.
    #[test]
    fn no_two_pairs_have_the_same_form() {
        let mut seen = HashMap::new();
        let parts: [&[u8]; 8] =
            [b"", b"\0", b"\x01", b"\0\0", b"\0\x01", b"a", b"\x01a", b"\0a\x01"];
        for first in parts {
            for second in parts {
                let bytes = aad(first).for_token(&metadata(second), AadForm::Specification);
                assert_eq!(seen.insert(bytes, (first, second)), None, "{first:?} {second:?}");
            }
        }
    }

    #[test]
    fn it_has_8192_bytes_at_the_most() {
        assert!(Aad::new(vec![1; 8192]).is_ok());
        for len in [8193, 65_536, 70_000] {
            assert_eq!(Aad::new(vec![1; len]), Err(TooLong), "{len}");
        }
    }

    #[test]
    fn debug_prints_no_byte_of_it() {
        assert_eq!(format!("{:?}", aad(b"project=nile")), "Aad(12 bytes)");
    }
}
