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

    fn seal_from(
        &self,
        nonce: &[u8; SegmentIv::LEN],
        aad: &[u8],
        plaintext: &[u8],
        ciphertext: &mut [u8],
    ) -> [u8; TAG_LEN] {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut tag = [0; TAG_LEN];
        self.0
            .seal_out_of_place_scatter(nonce, Aad::from(aad), plaintext, ciphertext, &[], &mut tag)
            .expect("a segment is shorter than AES-GCM's 2^36 bytes, and both are as long");
        tag
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

    fn open_into(
        &self,
        nonce: &[u8; SegmentIv::LEN],
        aad: &[u8],
        ciphertext: &[u8],
        plaintext: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0
            .open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, plaintext)
            .map_err(|_| Forged)
    }
}
