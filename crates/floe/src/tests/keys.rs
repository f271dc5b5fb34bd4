//! Key derivation, rotation and the choice of a backend.

use super::support::{Case, READERS, bounds, message, segment_iv, unsealed};
use crate::kdf::{BLOCK_LEN, Kdf, Prk, expand};
use crate::place::{Position, Rotation};
use crate::{Backend, BackendError, Layout, OpenKey, SealKey, Sealer};

/// FLOE's PRK has 32 bytes, which the `hkdf` crate refuses; AWS-LC's HKDF does not.
#[cfg(feature = "backend-aws-lc")]
mod against_aws_lc {
    use aws_lc_rs::hkdf::{self, HKDF_SHA384};
    use proptest::prelude::*;

    use super::{BLOCK_LEN, Prk, expand};

    proptest! {
        #[test]
        fn expand_agrees(prk: [u8; 32], first: Vec<u8>, second: Vec<u8>) {
            let ours = expand::<BLOCK_LEN>(&Prk::new(&prk), &[&first, &second]);
            let mut theirs = [0; BLOCK_LEN];
            let prk = hkdf::Prk::new_less_safe(HKDF_SHA384, &prk);
            let info = [&first[..], &second[..]];
            prk.expand(&info, HKDF_SHA384).unwrap().fill(&mut theirs).unwrap();
            prop_assert_eq!(*ours, theirs);
        }
    }
}

#[test]
fn an_expansion_is_a_prefix_of_a_longer_one() {
    let key = Prk::new(b"key");
    let long = expand::<BLOCK_LEN>(&key, &[b"info"]);
    assert_eq!(*expand::<32>(&key, &[b"in", b"fo"]), long[..32]);
}

#[test]
fn a_key_serves_exactly_2_to_the_20_segments() {
    let kdf = Kdf::new(Case::new(64).segment_len, [1; 32], b"aad");
    let message_key = kdf.message_key(&Prk::new(&[2; 32]));
    let key = |position: u64| {
        *kdf.segment_key(&message_key, Position::new(position).unwrap(), Rotation::FLOE)
    };
    let rotation = 1 << 20;
    assert_eq!(key(0), key(rotation - 1));
    assert_ne!(key(rotation - 1), key(rotation));
    assert_eq!(key(rotation), key(2 * rotation - 1));
    assert_ne!(key(0), key((1 << 40) - 1));
}

/// A cached key must not outlive its rotation, in whichever order places come.
#[test]
fn places_in_any_order_get_their_own_key() {
    let case = Case { rotation: Rotation::every_power_of_two(2), ..Case::new(40) };
    let plaintext = message(8 * 23 + 3);
    for &backend in Backend::available() {
        let in_order = case.seal(backend, &plaintext);
        for open in READERS {
            assert_eq!(open(&case, backend, &in_order).unwrap(), plaintext);
        }
        let (key, header) = case.seal_key(backend);
        assert_eq!(seal_shuffled(&mut key.sealer(), &case, &header, &plaintext), in_order);
        // And the sooner rotation is not FLOE's: it fails from the second key on.
        let floe = Case { rotation: Rotation::FLOE, ..case.clone() };
        assert!(READERS.iter().all(|open| open(&floe, backend, &in_order).is_err()));
    }
}

fn seal_shuffled(sealer: &mut Sealer, case: &Case, header: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let layout = Layout::of_plaintext(case.segment_len, plaintext.len() as u64).unwrap();
    let mut payload = header.to_vec();
    payload.resize(header.len() + usize::try_from(layout.ciphertext_len()).unwrap(), 0);
    for step in 0..layout.segments() {
        let index = step * 7 % layout.segments(); // 7 and 24 have no common factor
        let mut segment = unsealed(&plaintext[bounds(layout.plaintext_range(index))]);
        sealer.seal(layout.place(index).unwrap(), segment_iv(index), &mut segment).unwrap();
        payload[header.len()..][bounds(layout.ciphertext_range(index))].copy_from_slice(&segment);
    }
    payload
}

#[test]
fn keys_cross_threads_and_stay_silent() {
    fn send_sync<T: Send + Sync>() {}
    fn send<T: Send>() {}
    send_sync::<SealKey>();
    send_sync::<OpenKey>();
    send::<crate::Sealer>();
    send::<crate::Opener>();

    let (key, header) = Case::new(64).seal_key(Backend::default());
    let open_key = Case::new(64).open_key(Backend::default(), &header).unwrap();
    assert_eq!(format!("{key:?} {:?}", key.sealer()), "SealKey { .. } Sealer { .. }");
    assert_eq!(format!("{open_key:?} {:?}", open_key.opener()), "OpenKey { .. } Opener { .. }");
}

#[test]
fn backends_are_named() {
    assert_eq!(Backend::available().first(), Some(&Backend::default()));
    for backend in Backend::available() {
        assert_eq!(backend.to_string().parse(), Ok(*backend));
    }
    for name in ["", "AWS-LC", "openssl"] {
        assert_eq!(name.parse::<Backend>(), Err(BackendError::Unknown));
    }
    #[cfg(not(feature = "backend-aws-lc"))]
    assert_eq!("aws-lc".parse::<Backend>(), Err(BackendError::NotBuilt));
    #[cfg(not(feature = "backend-rustcrypto"))]
    assert_eq!("rustcrypto".parse::<Backend>(), Err(BackendError::NotBuilt));
}
