//! What the same bytes cost without Twinlock: the limits to compare with.
//!
//! Each copies a piece into its work buffer first, as any reader or writer of
//! a file does, and cuts the bytes as FLOE does with the same segment length.

use std::hint::black_box;

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::{Case, plaintext};

const KEY: [u8; 32] = [7; 32];
const AAD: [u8; 9] = [9; 9];
const OVERHEAD: usize = twinlock_floe::SEGMENT_OVERHEAD;

/// Copies the bytes, piece by piece, and does nothing else.
#[must_use]
pub fn memcpy(segment_len: u32, total: usize) -> Case {
    let input = plaintext(total);
    let mut buffer = vec![0; segment_len as usize - OVERHEAD];
    Case::new(format!("memcpy/{segment_len}"), total, move || {
        for piece in input.chunks(buffer.len()) {
            buffer[..piece.len()].copy_from_slice(piece);
            black_box(&mut buffer);
        }
    })
}

/// AES-256-GCM by AWS-LC.
#[must_use]
pub fn aws_lc_seal(segment_len: u32, total: usize) -> Case {
    let (key, input) = (aws_lc_key(), plaintext(total));
    let mut buffer = vec![0; segment_len as usize - OVERHEAD];
    Case::new(format!("aws-lc seal/{segment_len}"), total, move || {
        for (piece, nonce) in input.chunks(buffer.len()).zip(0..) {
            let buffer = &mut buffer[..piece.len()];
            buffer.copy_from_slice(piece);
            let tag = key.seal_in_place_separate_tag(aws_lc_nonce(nonce), Aad::from(AAD), buffer);
            let _ = black_box(tag.expect("a piece is short"));
        }
    })
}

/// Seals each slot in place by AWS-LC, but for what stands before and after.
pub(crate) fn aws_lc_seal_pieces<'a>(
    slots: impl Iterator<Item = &'a mut [u8]>,
    before: usize,
    after: usize,
) {
    let key = aws_lc_key();
    for (slot, nonce) in slots.zip(0..) {
        let end = slot.len() - after;
        let sealed = key.seal_in_place_separate_tag(
            aws_lc_nonce(nonce),
            Aad::from(AAD),
            &mut slot[before..end],
        );
        slot[end..].copy_from_slice(&sealed.expect("a piece is short").as_ref()[..after]);
    }
}

/// AES-256-GCM by AWS-LC.
#[must_use]
pub fn aws_lc_open(segment_len: u32, total: usize) -> Case {
    let key = aws_lc_key();
    let step = segment_len as usize - OVERHEAD;
    let mut input = plaintext(total);
    let mut tags = Vec::new();
    for (piece, nonce) in input.chunks_mut(step).zip(0..) {
        let tag = key.seal_in_place_separate_tag(aws_lc_nonce(nonce), Aad::from(AAD), piece);
        tags.push(tag.expect("a piece is short"));
    }
    let mut buffer = vec![0; step];
    Case::new(format!("aws-lc open/{segment_len}"), total, move || {
        for ((piece, tag), nonce) in input.chunks(step).zip(&tags).zip(0..) {
            let buffer = &mut buffer[..piece.len()];
            buffer.copy_from_slice(piece);
            let nonce = aws_lc_nonce(nonce);
            let opened =
                key.open_in_place_separate_tag(nonce, Aad::from(AAD), tag.as_ref(), buffer);
            black_box(opened.expect("it was sealed above"));
        }
    })
}

/// AES-256-GCM by AWS-LC, from one buffer into another.
#[must_use]
pub fn aws_lc_seal_from(segment_len: u32, total: usize) -> Case {
    let (key, input) = (aws_lc_key(), plaintext(total));
    let mut buffer = vec![0; segment_len as usize - OVERHEAD];
    let mut tag = [0; 16];
    Case::new(format!("aws-lc seal_from/{segment_len}"), total, move || {
        for (piece, nonce) in input.chunks(buffer.len()).zip(0..) {
            let (nonce, buffer) = (aws_lc_nonce(nonce), &mut buffer[..piece.len()]);
            key.seal_out_of_place_scatter(nonce, Aad::from(AAD), piece, buffer, &[], &mut tag)
                .expect("a piece is short");
            black_box(buffer);
        }
    })
}

/// AES-256-GCM by AWS-LC, from one buffer into another.
#[must_use]
pub fn aws_lc_open_into(segment_len: u32, total: usize) -> Case {
    let key = aws_lc_key();
    let mut buffer = vec![0; segment_len as usize - OVERHEAD];
    let (mut input, mut tags) = (plaintext(total), Vec::new());
    for (piece, nonce) in input.chunks_mut(buffer.len()).zip(0..) {
        let tag = key.seal_in_place_separate_tag(aws_lc_nonce(nonce), Aad::from(AAD), piece);
        tags.push(tag.expect("a piece is short"));
    }
    Case::new(format!("aws-lc open_into/{segment_len}"), total, move || {
        for ((piece, tag), nonce) in input.chunks(buffer.len()).zip(&tags).zip(0..) {
            let (nonce, buffer) = (aws_lc_nonce(nonce), &mut buffer[..piece.len()]);
            key.open_separate_gather(nonce, Aad::from(AAD), piece, tag.as_ref(), buffer)
                .expect("it was sealed above");
            black_box(buffer);
        }
    })
}

/// AES-256-GCM by RustCrypto.
#[must_use]
pub fn aes_gcm_seal(segment_len: u32, total: usize) -> Case {
    let (key, input) = (Aes256Gcm::new(&KEY.into()), plaintext(total));
    let mut buffer = vec![0; segment_len as usize - OVERHEAD];
    Case::new(format!("aes-gcm seal/{segment_len}"), total, move || {
        for (piece, number) in input.chunks(buffer.len()).zip(0..) {
            let buffer = &mut buffer[..piece.len()];
            buffer.copy_from_slice(piece);
            let tag = key.encrypt_inout_detached(&nonce(number).into(), &AAD, buffer.into());
            let _ = black_box(tag.expect("a piece is short"));
        }
    })
}

/// AES-256-GCM by RustCrypto.
#[must_use]
pub fn aes_gcm_open(segment_len: u32, total: usize) -> Case {
    let key = Aes256Gcm::new(&KEY.into());
    let step = segment_len as usize - OVERHEAD;
    let mut input = plaintext(total);
    let mut tags = Vec::new();
    for (piece, number) in input.chunks_mut(step).zip(0..) {
        let tag = key.encrypt_inout_detached(&nonce(number).into(), &AAD, piece.into());
        tags.push(tag.expect("a piece is short"));
    }
    let mut buffer = vec![0; step];
    Case::new(format!("aes-gcm open/{segment_len}"), total, move || {
        for ((piece, tag), number) in input.chunks(step).zip(&tags).zip(0..) {
            let buffer = &mut buffer[..piece.len()];
            buffer.copy_from_slice(piece);
            key.decrypt_inout_detached(&nonce(number).into(), &AAD, buffer.into(), tag)
                .expect("it was sealed above");
            black_box(buffer);
        }
    })
}

fn aws_lc_key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY).expect("AES-256 takes 32 bytes"))
}

fn aws_lc_nonce(number: u32) -> Nonce {
    Nonce::assume_unique_for_key(nonce(number))
}

/// Counted, for the bytes of a benchmark need no secrecy.
fn nonce(number: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[8..].copy_from_slice(&number.to_be_bytes());
    nonce
}
