//! AES-256-GCM by RustCrypto.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};

use super::{Aead, Forged};
use crate::kdf::SegmentKey;
use crate::segment::{SegmentIv, TAG_LEN};

pub(super) struct RustCrypto(Aes256Gcm);

impl RustCrypto {
    pub(super) fn new(key: &SegmentKey) -> Self {
        let key: &[u8; 32] = key;
        Self(Aes256Gcm::new(key.into()))
    }
}

impl Aead for RustCrypto {
    fn seal_in_place(
        &self,
        nonce: &[u8; SegmentIv::LEN],
        aad: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG_LEN] {
        self.0
            .encrypt_inout_detached(nonce.into(), aad, text.into())
            .expect("a segment is shorter than AES-GCM's 2^36 bytes")
            .into()
    }

    fn seal_from(
        &self,
        nonce: &[u8; SegmentIv::LEN],
        aad: &[u8],
        plaintext: &[u8],
        ciphertext: &mut [u8],
    ) -> [u8; TAG_LEN] {
        self.0
            .encrypt_inout_detached(nonce.into(), aad, both(plaintext, ciphertext))
            .expect("a segment is shorter than AES-GCM's 2^36 bytes")
            .into()
    }

    fn open_in_place(
        &self,
        nonce: &[u8; SegmentIv::LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged> {
        self.0
            .decrypt_inout_detached(nonce.into(), aad, text.into(), tag.into())
            .map_err(|_| Forged)
    }

    fn open_into(
        &self,
        nonce: &[u8; SegmentIv::LEN],
        aad: &[u8],
        ciphertext: &[u8],
        plaintext: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged> {
        self.0
            .decrypt_inout_detached(nonce.into(), aad, both(ciphertext, plaintext), tag.into())
            .map_err(|_| Forged)
    }
}

fn both<'i, 'o>(from: &'i [u8], into: &'o mut [u8]) -> InOutBuf<'i, 'o, u8> {
    InOutBuf::new(from, into).expect("both are as long")
}
