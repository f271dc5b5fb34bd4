//! OAEP's padding (RFC 8017 section 7.1.2, step 3), taken off in constant time.
//!
//! Whether a padding is right may be told, and nothing else: a hint at how it is
//! wrong decrypts any ciphertext in some thousand tries (Manger, 2001). So every
//! byte is looked at, whatever the others are, and there is one answer for all of
//! them; where the message begins is acted upon only once the padding is right.

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

const HASH_LEN: usize = 32;
/// 0x00 || seed || hash of the label || 0x01
const MIN_LEN: usize = 1 + HASH_LEN + HASH_LEN + 1;

/// The message in `encoded`, as long as the modulus, if its padding is that of
/// OAEP with SHA-256, MGF1-SHA-256 and an empty label.
pub(super) fn unpad(mut encoded: Zeroizing<Vec<u8>>) -> Option<Zeroizing<Vec<u8>>> {
    if encoded.len() < MIN_LEN {
        return None; // no modulus is that short
    }
    let (first, rest) = encoded.split_at_mut(1);
    let (seed, block) = rest.split_at_mut(HASH_LEN);
    mask(seed, block);
    mask(block, seed);
    let (hash, padded) = block.split_at(HASH_LEN);
    let (ends_well, start) = end_of_padding(padded);
    let right = first[0].ct_eq(&0) & hash.ct_eq(&Sha256::digest([])) & ends_well;
    match bool::from(right) {
        true => Some(Zeroizing::new(padded[start as usize..].to_vec())),
        false => None,
    }
}

/// Whether `padded` is zeros, 0x01 and a message; and where that begins if it is.
fn end_of_padding(padded: &[u8]) -> (Choice, u32) {
    let (mut well, mut in_zeros, mut start) = (Choice::from(1), Choice::from(1), 0);
    for (next, byte) in (1..).zip(padded) {
        let is_one = byte.ct_eq(&1);
        well &= !in_zeros | byte.ct_eq(&0) | is_one;
        start.conditional_assign(&next, in_zeros & is_one);
        in_zeros &= !is_one;
    }
    (well & !in_zeros, start)
}

/// What `raw`, an RSA decryption, is with the zeros in front that some tokens
/// leave away; nothing if it is longer than `len`, the modulus. How many they
/// are is a secret (it is the first thing that Manger asks): the copy takes as
/// long as the token's answer is, and from there on nothing depends on it.
pub(super) fn left_padded(raw: &[u8], len: usize) -> Option<Zeroizing<Vec<u8>>> {
    let missing = len.checked_sub(raw.len())?;
    let mut padded = Zeroizing::new(vec![0; len]);
    padded[..raw.len()].copy_from_slice(raw);
    let mut moved = Zeroizing::new(vec![0; len]);
    // Moves all by 1, 2, 4 and so on, or by nothing, as the bits of `missing`
    // say.
    for bit in 0..usize::BITS - len.leading_zeros() {
        let distance = (1 << bit).min(len);
        moved[..distance].fill(0);
        moved[distance..].copy_from_slice(&padded[..len - distance]);
        let is_moved = u8::try_from(missing >> bit & 1).unwrap_or(0);
        select(&mut padded, &moved, Choice::from(is_moved));
    }
    Some(padded)
}

/// Makes `to` what `from` is if `choice` is true. All at once, since a choice for
/// each byte takes longer than all the rest: what the compiler cannot see into is
/// the mask.
fn select(to: &mut [u8], from: &[u8], choice: Choice) {
    let mask = choice.unwrap_u8().wrapping_neg();
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= (*to ^ from) & mask;
    }
}

/// MGF1 with SHA-256 (RFC 8017 appendix B.2.1) of `seed`, added to `target`.
fn mask(target: &mut [u8], seed: &[u8]) {
    for (counter, block) in (0u32..).zip(target.chunks_mut(HASH_LEN)) {
        let hash = Sha256::new().chain_update(seed).chain_update(counter.to_be_bytes());
        let hash = Zeroizing::new(<[u8; HASH_LEN]>::from(hash.finalize()));
        for (byte, mask) in block.iter_mut().zip(hash.iter()) {
            *byte ^= mask;
        }
    }
}

#[cfg(test)]
mod tests;
