//! Whatever parses is encoded the same way again; nothing panics.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use twinlock_format::{
    EncryptionContext, EnvelopeId, Header, Keyslot, Padding, PairId, PairKeyslot, ShareAlgorithm,
    ShareSlot, UnverifiedHeader, WrappedPair, schedule,
};

use crate::support::{Fields, Item, body_with, header, keyslot, pair, share};

proptest! {
    #[test]
    fn what_was_written_is_what_is_read(header in headers(), padding in 0_usize..3000, dek: [u8; 32]) {
        let key = schedule::header_key(&dek, &header.envelope_id());
        let bytes = header.encode(Padding::Bytes(padding)).unwrap().sign(&key);
        let parsed = UnverifiedHeader::parse(bytes).unwrap();
        prop_assert_eq!(parsed.header(), &header);
        prop_assert_eq!(parsed.padding_len(), padding);
        let verified = parsed.verify(&key).unwrap();
        prop_assert_eq!(verified.into_header(), header);
    }

    #[test]
    fn a_header_of_a_later_writer_is_kept_byte_for_byte(body in bodies(), padding in 0_usize..300) {
        let bytes = header(&[body.encode(), vec![0; padding]].concat());
        let parsed = UnverifiedHeader::parse(&*bytes).unwrap();
        prop_assert_eq!(parsed.padding_len(), padding);
        assert_reencodes(&parsed);

        // Rewrap with the same keyslots changes the generation and nothing else.
        let keyslots = parsed.header().keyslots().to_vec();
        let Ok(next) = parsed.header().rewrapped(keyslots) else { return Ok(()) };
        let generation = parsed.header().generation().0 + 1;
        let expected = header(&body.with(4, Item::Uint(generation)).encode());
        let encoded = next.encode(Padding::Bytes(0)).unwrap();
        prop_assert_eq!(encoded.as_bytes(), &expected[..expected.len() - 32]);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(parsed) = UnverifiedHeader::parse(bytes) {
            assert_reencodes(&parsed);
        }
    }

    #[test]
    fn arbitrary_bodies_do_not_panic(body in vec(any::<u8>(), 0..300)) {
        if let Ok(parsed) = UnverifiedHeader::parse(header(&body)) {
            assert_reencodes(&parsed);
        }
    }

    #[test]
    fn arbitrary_items_do_not_panic(body in items()) {
        if let Ok(parsed) = UnverifiedHeader::parse(header(&body.encode())) {
            assert_reencodes(&parsed);
        }
    }

    #[test]
    fn a_changed_header_is_refused_or_canonical(
        body in bodies(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let mut body = body.encode();
        for (index, byte, edit) in edits {
            let at = index.index(body.len());
            match edit {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => drop(body.remove(at)),
            }
        }
        if let Ok(parsed) = UnverifiedHeader::parse(header(&body)) {
            assert_reencodes(&parsed);
        }
    }
}

#[test]
fn every_flipped_bit_is_refused_or_seen_by_the_tag() {
    let key = schedule::header_key(&[7; 32], &EnvelopeId([1; 32]));
    let body = body_with(vec![keyslot(1, pair(1).encode()), keyslot(9, vec![1, 2])])
        .with(9, Item::Array(vec![Item::text("later")]));
    let parsed = UnverifiedHeader::parse(header(&body.encode())).unwrap();
    let bytes = parsed.header().encode(Padding::Bytes(5)).unwrap().sign(&key);
    UnverifiedHeader::parse(&*bytes).unwrap().verify(&key).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(parsed) = UnverifiedHeader::parse(flipped) {
            assert_reencodes(&parsed);
            assert!(parsed.verify(&key).is_err(), "bit {bit}");
        }
    }
}

fn assert_reencodes(parsed: &UnverifiedHeader) {
    let encoded = parsed.header().encode(Padding::Bytes(parsed.padding_len())).unwrap();
    let bytes = parsed.as_bytes();
    assert_eq!(encoded.as_bytes(), &bytes[..bytes.len() - 32]);
}

// Headers through the API.

fn headers() -> impl Strategy<Value = Header> {
    let keyslots = vec((pairs(), wrapped_deks()), 1..4);
    (any::<[u8; 32]>(), contexts(), keyslots).prop_map(|(id, context, keyslots)| {
        let keyslot = |(pair, dek)| Keyslot::from(PairKeyslot::new(pair, dek));
        let keyslots = keyslots.into_iter().map(keyslot).collect();
        Header::new(EnvelopeId(id), context, keyslots).unwrap()
    })
}

fn contexts() -> impl Strategy<Value = EncryptionContext> {
    btree_map("[^\\p{Cc}:]{1,20}", "\\P{Cc}{0,40}", 0..8)
        .prop_map(|pairs| EncryptionContext::from_pairs(pairs).unwrap())
}

fn wrapped_deks() -> impl Strategy<Value = [u8; 60]> {
    vec(any::<u8>(), 60).prop_map(|bytes| bytes.try_into().unwrap())
}

fn pairs() -> impl Strategy<Value = WrappedPair> {
    (any::<[u8; 32]>(), share_slots("p"), share_slots("c"))
        .prop_map(|(id, p, c)| WrappedPair::new(PairId(id), p, c).unwrap())
}

fn share_slots(scheme: &'static str) -> impl Strategy<Value = ShareSlot> {
    let algorithm = prop_oneof![
        Just(ShareAlgorithm::HolderAead),
        Just(ShareAlgorithm::RsaOaepSha256),
        Just(ShareAlgorithm::AesKw),
    ];
    let version = prop::option::of("[A-Za-z0-9-]{1,64}");
    ("[!-~]{1,60}", algorithm, vec(any::<u8>(), 1..600), any::<[u8; 32]>(), version).prop_map(
        move |(uri, algorithm, wrapped, check, version)| {
            ShareSlot::new(format!("{scheme}{uri}"), algorithm, wrapped, check, version).unwrap()
        },
    )
}

// Headers as a later writer may make them.

fn bodies() -> impl Strategy<Value = Fields> {
    let known =
        (pair_fields(), odd_fields()).prop_map(|(fields, odd)| (1, with_odd(fields, odd).encode()));
    let unknown = (2_u64.., vec(any::<u8>(), 0..80));
    let keyslots = vec(prop_oneof![known, unknown], 1..5);
    (keyslots, any::<u64>(), odd_fields()).prop_map(|(mut keyslots, generation, odd)| {
        for (i, (kind, content)) in keyslots.iter_mut().enumerate() {
            if *kind == 1 {
                content[4] = u8::try_from(i).unwrap(); // the pair id's first byte
            }
        }
        let keyslots = keyslots.into_iter().map(|(kind, content)| keyslot(kind, content));
        with_odd(body_with(keyslots.collect()).with(4, Item::Uint(generation)), odd)
    })
}

fn pair_fields() -> impl Strategy<Value = Fields> {
    (any::<u64>(), odd_fields(), odd_fields(), any::<u64>()).prop_map(|(suite, p, c, algorithm)| {
        pair(0)
            .with(2, Item::Uint(suite))
            .with(4, with_odd(share("p:1").with(2, Item::Uint(algorithm)), p).item())
            .with(6, with_odd(share("c:1").with(8, Item::text("v-1")), c).item())
    })
}

fn odd_fields() -> impl Strategy<Value = Vec<(u64, Item)>> {
    vec((any::<u64>().prop_map(|key| key | 1), odd_values()), 0..3)
}

/// Canonical values of depth 1 at most, so that they fit inside a share.
fn odd_values() -> impl Strategy<Value = Item> {
    let map = btree_map(any::<u64>(), any::<u64>(), 0..4).prop_map(|map| {
        Item::Map(map.into_iter().map(|(k, v)| (Item::Uint(k), Item::Uint(v))).collect())
    });
    let array = vec(any::<u64>().prop_map(Item::Uint), 0..4).prop_map(Item::Array);
    prop_oneof![scalars(), array, map]
}

fn with_odd(fields: Fields, odd: Vec<(u64, Item)>) -> Fields {
    odd.into_iter().fold(fields, |fields, (key, value)| fields.with(key, value))
}

// Anything at all.

fn scalars() -> impl Strategy<Value = Item> {
    prop_oneof![
        any::<u64>().prop_map(Item::Uint),
        vec(any::<u8>(), 0..40).prop_map(Item::Bytes),
        ".{0,20}".prop_map(Item::Text),
    ]
}

fn items() -> impl Strategy<Value = Item> {
    let raw = vec(any::<u8>(), 1..10).prop_map(Item::Raw);
    prop_oneof![9 => scalars(), 1 => raw].prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Item::Array),
            vec((0_u64..12, inner.clone()), 0..6).prop_map(|fields| Fields(fields).item()),
            vec((inner.clone(), inner), 0..6).prop_map(Item::Map),
        ]
    })
}
