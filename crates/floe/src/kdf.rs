//! `FLOE_KDF` (C2SP FLOE, "Internal functions"), on HKDF-Expand (RFC 5869, 2.3).
//!
//! FLOE expands from its 32-byte key directly. RFC 5869 asks for a PRK of at
//! least the hash's length, 48 bytes for SHA-384, and the `hkdf` crate refuses
//! a shorter one. HMAC itself is defined for every key length, so the expansion
//! is written on HMAC here. One block is all that FLOE ever takes of it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha384;
use zeroize::{Zeroize, Zeroizing};

use crate::header::HEADER_TAG_LEN;
use crate::params::{FLOE_IV_LEN, SegmentLen};
use crate::place::{Position, Rotation};

/// Output of SHA-384 in bytes: the most that one expansion gives.
pub(crate) const BLOCK_LEN: usize = 48;

pub(crate) type MessageKey = Zeroizing<[u8; BLOCK_LEN]>;
pub(crate) type SegmentKey = Zeroizing<[u8; 32]>;

/// What one payload's derivations have in common.
pub(crate) struct Kdf {
    segment_len: SegmentLen,
    iv: [u8; FLOE_IV_LEN],
    aad: Box<[u8]>,
}

impl Kdf {
    pub(crate) fn new(segment_len: SegmentLen, iv: [u8; FLOE_IV_LEN], aad: &[u8]) -> Self {
        Self { segment_len, iv, aad: aad.into() }
    }

    pub(crate) fn segment_len(&self) -> SegmentLen {
        self.segment_len
    }

    pub(crate) fn header_tag(&self, key: &Prk) -> [u8; HEADER_TAG_LEN] {
        *self.derive(key, b"HEADER_TAG:", &[])
    }

    pub(crate) fn message_key(&self, key: &Prk) -> MessageKey {
        self.derive(key, b"MESSAGE_KEY:", &[])
    }

    /// The key of every segment that shares `position`'s rotation.
    pub(crate) fn segment_key(
        &self,
        key: &MessageKey,
        position: Position,
        rotation: Rotation,
    ) -> SegmentKey {
        let first = rotation.first_position(position);
        self.derive(&Prk::new(&key[..]), b"DEK:", &first.to_be_bytes())
    }

    /// `FLOE_KDF(key, iv, aad, purpose, N)`.
    fn derive<const N: usize>(
        &self,
        key: &Prk,
        purpose: &[u8],
        number: &[u8],
    ) -> Zeroizing<[u8; N]> {
        let params = self.segment_len.encode();
        expand(key, &[&params, &self.iv, purpose, number, &self.aad])
    }
}

/// A key to expand from, set up once for all that is expanded.
pub(crate) struct Prk(Hmac<Sha384>);

impl Prk {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }
}

/// HKDF-Expand-SHA-384 of at most one block; `info` is the parts in a row.
pub(crate) fn expand<const N: usize>(prk: &Prk, info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= BLOCK_LEN, "more than one block") };
    let mut mac = prk.0.clone();
    for part in info {
        mac.update(part);
    }
    mac.update(&[1]);
    let mut block = mac.finalize().into_bytes();
    let mut okm = Zeroizing::new([0; N]);
    okm.copy_from_slice(&block[..N]);
    block.as_mut_slice().zeroize();
    okm
}
