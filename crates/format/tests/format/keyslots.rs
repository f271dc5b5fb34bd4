//! What a reader can open, what it keeps, and what a writer may make.

use twinlock_format::{
    EncryptionContext, EnvelopeId, Generation, Header, InvalidHeader, InvalidShareSlot, KekSuite,
    Keyslot, PairId, PairKeyslot, SameKey, ShareAlgorithm, ShareSlot, Side, WrappedPair,
};

use crate::support::{Item, body, body_with, keyslot, pair, parse_body, parse_pair, share};

fn slot(uri: &str) -> ShareSlot {
    ShareSlot::new(uri, ShareAlgorithm::HolderAead, vec![1], [2; 32], None).unwrap()
}

fn wrapped_pair(id: u8) -> WrappedPair {
    WrappedPair::new(PairId([id; 32]), slot("p:1"), slot("c:1")).unwrap()
}

fn pair_keyslot(id: u8) -> Keyslot {
    PairKeyslot::new(wrapped_pair(id), [0; 60]).into()
}

fn header(keyslots: Vec<Keyslot>) -> Result<Header, InvalidHeader> {
    Header::new(EnvelopeId([0; 32]), EncryptionContext::new(), keyslots)
}

#[test]
fn an_unknown_kind_is_passed_over_and_kept() {
    for kind in [0, 2, u64::MAX] {
        let slots = vec![keyslot(kind, b"\xff not CBOR".to_vec()), keyslot(1, pair(1).encode())];
        let parsed = parse_body(&body_with(slots)).unwrap();
        let [Keyslot::Unknown(unknown), Keyslot::Pair(_)] = parsed.header().keyslots() else {
            panic!("{:?}", parsed.header().keyslots());
        };
        assert_eq!((unknown.kind(), unknown.content()), (kind, &b"\xff not CBOR"[..]));
        assert_eq!(parsed.header().supported_keyslots().count(), 1);
    }
}

#[test]
fn unknown_algorithms_disable_a_keyslot_only() {
    let later = [
        pair(1).with(2, Item::Uint(2)),
        pair(1).with(4, share("p:1").with(2, Item::Uint(4)).item()),
        pair(1).with(6, share("c:1").with(2, Item::Uint(0)).item()),
    ];
    for fields in later {
        let parsed = parse_pair(&fields).unwrap();
        let keyslot = parsed.header().keyslots()[0].as_pair().unwrap();
        assert!(!keyslot.is_supported());
        assert_eq!(parsed.header().supported_keyslots().count(), 0);
    }
}

#[test]
fn every_field_of_a_keyslot_is_read() {
    let customer = share("c:9").with(2, Item::Uint(2)).with(8, Item::text("v-1"));
    let parsed = parse_pair(&pair(5).with(6, customer.item())).unwrap();
    let keyslot = parsed.header().supported_keyslots().next().unwrap();
    assert_eq!(keyslot.kek_suite(), KekSuite::HkdfSha384Aes256Gcm);
    assert_eq!(keyslot.wrapped_dek(), &[8; 60]);
    assert_eq!(keyslot.pair().pair_id(), PairId([5; 32]));
    assert_eq!(keyslot.pair().share(Side::Provider).uri(), "p:1");
    assert_eq!(keyslot.pair().provider().key_version(), None);
    let customer = keyslot.pair().share(Side::Customer);
    assert_eq!(customer.uri(), "c:9");
    assert_eq!(customer.algorithm(), ShareAlgorithm::RsaOaepSha256);
    assert_eq!(customer.wrapped(), b"wrapped");
    assert_eq!(customer.check(), &[6; 32]);
    assert_eq!(customer.key_version(), Some("v-1"));
}

#[test]
fn generations_of_every_width_are_read() {
    for n in [0, 23, 24, 255, 256, 65535, 65536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        let parsed = parse_body(&body().with(4, Item::Uint(n))).unwrap();
        assert_eq!(parsed.header().generation(), Generation(n));
    }
}

#[test]
fn a_rewrap_counts_up_and_stops_at_the_last_generation() {
    let first = header(vec![pair_keyslot(1)]).unwrap();
    assert_eq!(first.generation(), Generation(0));
    let second = first.rewrapped(vec![pair_keyslot(2)]).unwrap();
    assert_eq!(second.generation(), Generation(1));
    assert_eq!(second.envelope_id(), first.envelope_id());

    let last = parse_body(&body().with(4, Item::Uint(u64::MAX))).unwrap();
    let refused = last.header().rewrapped(vec![pair_keyslot(2)]);
    assert_eq!(refused, Err(InvalidHeader::LastGeneration));
}

#[test]
fn a_writer_is_held_to_the_same_rules() {
    let many = |n: u8| header((0..n).map(pair_keyslot).collect());
    assert!(many(1).is_ok() && many(16).is_ok());
    assert_eq!(many(0), Err(InvalidHeader::KeyslotCount(0)));
    assert_eq!(many(17), Err(InvalidHeader::KeyslotCount(17)));
    let twice = header(vec![pair_keyslot(1), pair_keyslot(2), pair_keyslot(1)]);
    assert_eq!(twice, Err(InvalidHeader::RepeatedPair(PairId([1; 32]))));
    assert_eq!(WrappedPair::new(PairId([1; 32]), slot("k:1"), slot("k:1")), Err(SameKey));
}

#[test]
fn a_share_slot_is_held_to_the_same_rules() {
    let new = |uri: &str, algorithm, len, version: Option<&str>| {
        ShareSlot::new(uri, algorithm, vec![0; len], [0; 32], version.map(str::to_owned)).map(drop)
    };
    let aead = ShareAlgorithm::HolderAead;
    assert_eq!(new(&"u".repeat(1024), aead, 6144, Some(&"v".repeat(64))), Ok(()));
    assert_eq!(new("", aead, 1, None), Err(InvalidShareSlot::Uri));
    assert_eq!(new("a b", aead, 1, None), Err(InvalidShareSlot::Uri));
    assert_eq!(new(&"u".repeat(1025), aead, 1, None), Err(InvalidShareSlot::Uri));
    assert_eq!(new("u", aead, 0, None), Err(InvalidShareSlot::WrappedLength(0)));
    assert_eq!(new("u", aead, 6145, None), Err(InvalidShareSlot::WrappedLength(6145)));
    assert_eq!(new("u", aead, 1, Some("")), Err(InvalidShareSlot::KeyVersion));
    assert_eq!(new("u", aead, 1, Some("a/b")), Err(InvalidShareSlot::KeyVersion));
    assert_eq!(
        new("u", ShareAlgorithm::Unsupported(1), 1, None),
        Err(InvalidShareSlot::UnsupportedAlgorithm(1))
    );
}
