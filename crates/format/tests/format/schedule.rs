//! The key schedule against an oracle: RFC 5869 written out on HMAC, and CBOR
//! from the tests' own writer.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use hmac::{Hmac, Mac};
use proptest::prelude::*;
use sha2::{Digest, Sha384};
use twinlock_format::schedule::{self, ShareBinding};
use twinlock_format::{
    EncryptionContext, EnvelopeId, PairId, PayloadSuite, ShareAlgorithm, ShareSlot, Side,
    UnverifiedHeader, WrappedPair, WrongKek, WrongShare,
};

use crate::support::{Item, body, header};

pub(crate) fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut hmac = <Hmac<Sha384> as KeyInit>::new_from_slice(key).unwrap();
    hmac.update(data);
    hmac.finalize().into_bytes().to_vec()
}

pub(crate) fn expand(prk: &[u8], info: &[u8], len: usize) -> Vec<u8> {
    hmac(prk, &[info, &[1]].concat())[..len].to_vec()
}

pub(crate) fn sha384(data: &[u8]) -> Vec<u8> {
    Sha384::digest(data).to_vec()
}

/// `H` of one side.
pub(crate) fn binding_hash(side: u64, pair_id: &PairId, context: &EncryptionContext) -> Vec<u8> {
    let id = Item::Bytes(pair_id.0.to_vec());
    sha384(&Item::Array(vec![Item::Uint(side), id, Item::Raw(context.encoded())]).encode())
}

pub(crate) fn kek_info(pair: &WrappedPair) -> Vec<u8> {
    let array = Item::Array(vec![
        Item::Uint(1),
        Item::Bytes(pair.pair_id().0.to_vec()),
        Item::text(pair.provider().uri()),
        Item::text(pair.customer().uri()),
        Item::Bytes(sha384(pair.provider().wrapped())),
        Item::Bytes(sha384(pair.customer().wrapped())),
    ]);
    [b"twinlock/v1 kek\0", &*array.encode()].concat()
}

pub(crate) fn payload_aad_input(id: &EnvelopeId, context: &EncryptionContext) -> Vec<u8> {
    let id = Item::Bytes(id.0.to_vec());
    Item::Array(vec![Item::Uint(1), id, Item::Raw(context.encoded())]).encode()
}

fn slot(uri: &str, wrapped: Vec<u8>) -> ShareSlot {
    ShareSlot::new(uri, ShareAlgorithm::HolderAead, wrapped, [0; 32], None).unwrap()
}

proptest! {
    #[test]
    fn the_dek_gives_what_the_page_says(dek: [u8; 32], id: [u8; 32], value in "[a-z]{0,40}") {
        let context = EncryptionContext::from_pairs([("k", value)]).unwrap();
        let prk = hmac(&id, &dek);
        let id = EnvelopeId(id);
        prop_assert_eq!(
            schedule::payload_key(&dek, &id).to_vec(),
            expand(&prk, b"twinlock/v1 payload", 32)
        );
        prop_assert_eq!(
            schedule::header_key(&dek, &id).as_bytes().to_vec(),
            expand(&prk, b"twinlock/v1 header", 48)
        );
        let (payload_key, header_key) = schedule::payload_and_header_key(&dek, &id);
        prop_assert_eq!(*payload_key, *schedule::payload_key(&dek, &id));
        prop_assert_eq!(*header_key.as_bytes(), *schedule::header_key(&dek, &id).as_bytes());
        let hash = sha384(&payload_aad_input(&id, &context));
        prop_assert_eq!(
            schedule::payload_aad(PayloadSuite::Floe, &id, &context).to_vec(),
            [b"twinlock/v1 payload aad\0", &*hash].concat()
        );
    }

    #[test]
    fn a_share_is_bound_as_the_page_says(share: [u8; 32], id: [u8; 32], value in "[a-z]{0,40}") {
        let context = EncryptionContext::from_pairs([("k", value)]).unwrap();
        let id = PairId(id);
        let binding = ShareBinding::new(&id, &context);
        for (side, number) in [(Side::Provider, 0), (Side::Customer, 1)] {
            let hash = binding_hash(number, &id, &context);
            let aad = binding.aad(side);
            prop_assert_eq!(aad.as_bytes().to_vec(), [b"twinlock/v1 share\0", &*hash].concat());
            let check = schedule::share_check(&share, aad);
            let expected = hmac(&share, &[b"twinlock/v1 share check\0", &*hash].concat());
            prop_assert_eq!(&check[..], &expected[..32]);
            prop_assert_eq!(schedule::verify_share_check(&share, aad, &check), Ok(()));
        }
    }

    #[test]
    fn the_kek_is_what_the_page_says(
        p: [u8; 32], c: [u8; 32], id: [u8; 32], pair_id: [u8; 32],
        uris in ("p[!-~]{0,40}", "c[!-~]{0,40}"),
        wrapped in (prop::collection::vec(any::<u8>(), 1..300), prop::collection::vec(any::<u8>(), 1..300)),
        dek: [u8; 32], nonce: [u8; 12],
    ) {
        let pair = WrappedPair::new(PairId(pair_id), slot(&uris.0, wrapped.0), slot(&uris.1, wrapped.1)).unwrap();
        let prk = hmac(&id, &[p, c].concat());
        let kek = schedule::kek(&p, &c, &EnvelopeId(id), &pair);
        prop_assert_eq!(kek.to_vec(), expand(&prk, &kek_info(&pair), 32));

        let wrapped_dek = schedule::wrap_dek(&kek, &EnvelopeId(id), &nonce, &dek);
        let aad = [b"twinlock/v1 dek\0", &id[..]].concat();
        let sealed = Aes256Gcm::new((&*kek).into())
            .encrypt((&nonce).into(), Payload { msg: &dek, aad: &aad })
            .unwrap();
        prop_assert_eq!(wrapped_dek.to_vec(), [&nonce[..], &sealed].concat());
        let opened = schedule::unwrap_dek(&kek, &EnvelopeId(id), &wrapped_dek).unwrap();
        prop_assert_eq!(*opened, dek);
    }
}

#[test]
fn the_lengths_are_the_pages() {
    let context = EncryptionContext::new();
    assert_eq!(ShareBinding::new(&PairId([0; 32]), &context).provider().as_bytes().len(), 66);
    let aad = schedule::payload_aad(PayloadSuite::Floe, &EnvelopeId([0; 32]), &context);
    assert_eq!(aad.len(), 72);
}

/// format.md#R23
#[test]
fn r23_a_share_of_another_side_pair_or_context_fails_its_check() {
    let context = |value| EncryptionContext::from_pairs([("k", value)]).unwrap();
    let binding = ShareBinding::new(&PairId([1; 32]), &context("v"));
    let (share, aad) = ([5; 32], binding.provider());
    let check = schedule::share_check(&share, aad);
    let wrong = Err(WrongShare);
    assert_eq!(schedule::verify_share_check(&[6; 32], aad, &check), wrong);
    assert_eq!(schedule::verify_share_check(&share, binding.customer(), &check), wrong);
    let others = [
        ShareBinding::new(&PairId([2; 32]), &context("v")),
        ShareBinding::new(&PairId([1; 32]), &context("w")),
        ShareBinding::new(&PairId([1; 32]), &EncryptionContext::new()),
    ];
    for other in others {
        assert_eq!(schedule::verify_share_check(&share, other.provider(), &check), wrong);
    }
    for bit in 0..256 {
        let mut changed = check;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(schedule::verify_share_check(&share, aad, &changed), wrong);
    }
}

/// format.md#R24
#[test]
fn r24_a_wrapped_dek_opens_under_its_own_kek_and_envelope_only() {
    let (kek, id) = ([1; 32], EnvelopeId([2; 32]));
    let wrapped = schedule::wrap_dek(&kek, &id, &[3; 12], &[4; 32]);
    let fails = |kek, id, wrapped: [u8; 60]| {
        schedule::unwrap_dek(kek, id, &wrapped).err() == Some(WrongKek)
    };
    assert!(fails(&[9; 32], &id, wrapped));
    assert!(fails(&kek, &EnvelopeId([9; 32]), wrapped));
    for bit in 0..60 * 8 {
        let mut changed = wrapped;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(fails(&kek, &id, changed), "bit {bit}");
    }
}

#[test]
fn the_kek_depends_on_every_part() {
    let pair = |id: u8, p: &str, c: &str, wp: &[u8], wc: &[u8]| {
        WrappedPair::new(PairId([id; 32]), slot(p, wp.to_vec()), slot(c, wc.to_vec())).unwrap()
    };
    let kek = |p: u8, c: u8, id: u8, pair: &WrappedPair| {
        schedule::kek(&[p; 32], &[c; 32], &EnvelopeId([id; 32]), pair).to_vec()
    };
    let base = pair(1, "p", "c", b"wp", b"wc");
    let mut keks = vec![
        kek(1, 2, 3, &base),
        kek(2, 1, 3, &base),
        kek(9, 2, 3, &base),
        kek(1, 9, 3, &base),
        kek(1, 2, 9, &base),
        kek(1, 2, 3, &pair(9, "p", "c", b"wp", b"wc")),
        kek(1, 2, 3, &pair(1, "x", "c", b"wp", b"wc")),
        kek(1, 2, 3, &pair(1, "p", "x", b"wp", b"wc")),
        kek(1, 2, 3, &pair(1, "c", "p", b"wc", b"wp")),
        kek(1, 2, 3, &pair(1, "p", "c", b"x", b"wc")),
        kek(1, 2, 3, &pair(1, "p", "c", b"wp", b"x")),
    ];
    let count = keks.len();
    keks.sort();
    keks.dedup();
    assert_eq!(keks.len(), count);
}

/// format.md#R25
#[test]
fn r25_a_header_verifies_under_its_own_key_only() {
    let id = EnvelopeId([1; 32]);
    let key = schedule::header_key(&[7; 32], &id);
    let mut bytes = header(&body().encode());
    let end = bytes.len() - 32;
    let tag = hmac(key.as_bytes(), &bytes[..end]);
    bytes[end..].copy_from_slice(&tag[..32]);
    let parsed = UnverifiedHeader::parse(bytes).unwrap();
    assert!(parsed.clone().verify(&schedule::header_key(&[8; 32], &id)).is_err());
    assert!(parsed.clone().verify(&schedule::header_key(&[7; 32], &EnvelopeId([2; 32]))).is_err());
    parsed.verify(&key).unwrap();
}

#[test]
fn aws_sees_side_and_pair() {
    let id = PairId([0xab; 32]);
    assert_eq!(schedule::AWS_SHARE_KEY, "twinlock:share");
    assert_eq!(
        schedule::aws_share_label(Side::Provider, &id),
        format!("v1/provider/{}", "ab".repeat(32))
    );
    assert_eq!(
        schedule::aws_share_label(Side::Customer, &id),
        format!("v1/customer/{}", "ab".repeat(32))
    );
}
