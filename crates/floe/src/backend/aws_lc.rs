//! AES-256-GCM by AWS-LC.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{Aead, Forged};
use crate::kdf::SegmentKey;
use crate::segment::{SegmentIv, TAG_LEN};

pub(super) struct AwsLc(LessSafeKey);

impl AwsLc {
    pub(super) fn new(key: &SegmentKey) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &key[..]).expect("AES-256 takes 32 bytes");
        Self(LessSafeKey::new(key))
    }
}

impl Aead for AwsLc {
    fn seal_in_place(
        &self,
        nonce: &[u8; SegmentIv::LEN],
        aad: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG_LEN] {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), text)
            .expect("a segment is shorter than AES-GCM's 2^36 bytes");
        tag.as_ref().try_into().expect("AES-GCM's tag is 16 bytes")
    }

    fn open_in_place(
        &self,
        nonce: &[u8; SegmentIv::LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        match self.0.open_in_place_separate_tag(nonce, Aad::from(aad), tag, text) {
            Ok(_) => Ok(()),
            Err(_) => Err(Forged),
        }
    }
}
