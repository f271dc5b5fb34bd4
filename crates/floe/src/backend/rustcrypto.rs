//! AES-256-GCM by RustCrypto.

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
}
