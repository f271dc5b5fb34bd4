//! format.md#R1 to R22: each rule broken once, everything else in order.

use twinlock_format::limits::{MAX_BODY_LEN, MAX_CONTEXT_LEN, MAX_HEADER_LEN};
use twinlock_format::{HeaderError, Prefix, UnverifiedHeader};

use crate::support::{
    Fields, Item, body, body_with, header, keyslot, pair, parse_body, parse_pair, parse_share,
    share,
};

#[test]
fn the_template_that_is_broken_below_parses() {
    parse_body(&body()).unwrap();
    parse_pair(&pair(1)).unwrap();
    parse_share(&share("p:2")).unwrap();
}

#[test]
fn r1_another_magic() {
    for at in 0..8 {
        let mut bytes = header(&body().encode());
        bytes[at] ^= 0x20;
        assert_eq!(UnverifiedHeader::parse(&*bytes), Err(HeaderError::NotTwinlock));
        assert_eq!(Prefix::parse(&bytes[..=at]), Err(HeaderError::NotTwinlock));
    }
}

#[test]
fn r2_another_version() {
    for version in [0, 2, 255] {
        let mut bytes = header(&body().encode());
        bytes[8] = version;
        let refused = HeaderError::UnsupportedVersion(version);
        assert_eq!(UnverifiedHeader::parse(bytes), Err(refused));
    }
}

#[test]
fn r3_a_reserved_byte() {
    for at in 9..12 {
        let mut bytes = header(&body().encode());
        bytes[at] = 1;
        assert_malformed(UnverifiedHeader::parse(bytes), Some(9), "three zero bytes");
    }
}

#[test]
fn r4_a_body_over_the_limit() {
    let prefix = |len: usize| {
        let len = u32::try_from(len).unwrap().to_be_bytes();
        Prefix::parse(&[b"TWINLOCK\x01\0\0\0", &len[..]].concat())
    };
    assert_eq!(prefix(MAX_BODY_LEN).unwrap().header_len(), MAX_HEADER_LEN);
    assert_malformed(prefix(MAX_BODY_LEN + 1), Some(12), "at most 65,488");
    assert_malformed(prefix(u32::MAX as usize), Some(12), "at most 65,488");
}

#[test]
fn r5_every_truncation() {
    let bytes = header(&body().encode());
    for have in 0..bytes.len() {
        let need = if have < 16 { 16 } else { bytes.len() };
        let refused = HeaderError::Truncated { have, need };
        assert_eq!(UnverifiedHeader::parse(&bytes[..have]), Err(refused));
    }
    let longer = [&*bytes, b"F"].concat();
    assert_malformed(UnverifiedHeader::parse(longer), Some(bytes.len()), "end of the header");
}

/// In the place where anything well encoded is allowed: an odd field's value.
fn parse_value(value: &[u8]) -> Result<UnverifiedHeader, HeaderError> {
    parse_body(&body().with(9, Item::Raw(value.to_vec())))
}

#[test]
fn r6_to_r11_encodings() {
    let refused: &[(&str, &[u8], &str)] = &[
        ("R6 23 in one byte more", b"\x18\x17", "shortest"),
        ("R6 255 in two bytes", b"\x19\x00\xff", "shortest"),
        ("R6 65535 in four bytes", b"\x1a\x00\x00\xff\xff", "shortest"),
        ("R6 2^32-1 in eight bytes", b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff", "shortest"),
        ("R6 long length of bytes", b"\x58\x01a", "shortest"),
        ("R6 long length of text", b"\x78\x01a", "shortest"),
        ("R6 long count of an array", b"\x98\x01\x00", "shortest"),
        ("R6 long count of a map", b"\xb8\x01\x00\x00", "shortest"),
        ("R6 indefinite bytes", b"\x5f\x41a\xff", "definite"),
        ("R6 indefinite text", b"\x7f\x61a\xff", "definite"),
        ("R6 indefinite array", b"\x9f\x00\xff", "definite"),
        ("R6 indefinite map", b"\xbf\x00\x00\xff", "definite"),
        ("R6 reserved 28", b"\x1c", "definite"),
        ("R6 reserved 29", b"\x5d", "definite"),
        ("R6 reserved 30", b"\x9e", "definite"),
        ("R7 negative integer", b"\x20", "unsigned integer"),
        ("R7 tag", b"\xc0\x60", "unsigned integer"),
        ("R7 bignum", b"\xc2\x41\x01", "unsigned integer"),
        ("R7 false", b"\xf4", "unsigned integer"),
        ("R7 null", b"\xf6", "unsigned integer"),
        ("R7 undefined", b"\xf7", "unsigned integer"),
        ("R7 half float", b"\xf9\x3c\x00", "unsigned integer"),
        ("R7 float", b"\xfa\x47\xc3\x50\x00", "unsigned integer"),
        ("R7 double", b"\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a", "unsigned integer"),
        ("R7 negative integer in an array", b"\x82\x00\x20", "unsigned integer"),
        ("R7 break alone", b"\xff", "definite"),
        ("R8 unsorted", b"\xa2\x01\x00\x00\x00", "ascending"),
        ("R8 twice", b"\xa2\x01\x00\x01\x00", "ascending"),
        ("R8 text sorted as text", b"\xa2\x62aa\x00\x61z\x00", "ascending"),
        ("R8 text before number", b"\xa2\x61z\x00\x01\x00", "ascending"),
        ("R8 within a map's key", b"\xa1\xa2\x01\x00\x00\x00\x00", "ascending"),
        ("R9 a lone continuation", b"\x61\x80", "UTF-8"),
        ("R9 overlong", b"\x62\xc0\x80", "UTF-8"),
        ("R9 a surrogate", b"\x63\xed\xa0\x80", "UTF-8"),
        ("R9 beyond Unicode", b"\x64\xf4\x90\x80\x80", "UTF-8"),
        ("R10 five arrays", b"\x81\x81\x81\x81\x00", "at most 4"),
        ("R10 five maps", b"\xa1\x00\xa1\x00\xa1\x00\xa1\x00\x00", "at most 4"),
        ("R10 an empty array at depth five", b"\x81\x81\x81\x80", "at most 4"),
        ("R10 in a map's key", b"\xa1\x81\x81\x80\x00", "at most 4"),
        ("R11 nothing", b"", "ends where it should"),
        ("R11 an argument cut off", b"\x19\x01", "ends where it should"),
        ("R11 bytes cut off", b"\x42a", "ends where it should"),
        ("R11 text cut off", b"\x62a", "ends where it should"),
        ("R11 an array cut off", b"\x82\x00", "ends where it should"),
        ("R11 a map cut off", b"\xa1\x00", "ends where it should"),
        ("R11 2^64-1 bytes", b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", "ends where it should"),
        ("R11 2^64-1 elements", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "ends where it should"),
        ("R11 2^64-1 entries", b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff", "ends where it should"),
    ];
    for (name, value, expected) in refused {
        println!("{name}"); // shown when the next line fails
        assert_malformed(parse_value(value), None, expected);
    }
}

#[test]
fn encodings_that_are_at_a_limit_are_accepted() {
    let accepted: &[&[u8]] = &[
        b"\x17",
        b"\x18\x18",
        b"\x19\x01\x00",
        b"\x1a\x00\x01\x00\x00",
        b"\x1b\x00\x00\x00\x01\x00\x00\x00\x00",
        b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x81\x81\x81\x00",
        b"\xa1\x81\x80\x00",
        b"\xa2\x61z\x00\x62aa\x00",
        b"\xa2\x01\x00\x61z\x00",
        b"\x64\xf4\x8f\xbf\xbf",
    ];
    for value in accepted {
        let parsed = parse_value(value).unwrap_or_else(|e| panic!("{}: {e}", hex::encode(value)));
        assert_eq!(reencoded(&parsed), signed_part(&parsed), "{}", hex::encode(value));
    }
}

#[test]
fn r8_fields_out_of_order_or_twice() {
    let mut swapped = body();
    swapped.0.swap(1, 2);
    assert_malformed(parse_body(&swapped), None, "ascending");

    let mut twice = body();
    twice.0.insert(2, twice.0[1].clone());
    assert_malformed(parse_body(&twice), None, "ascending");

    let context = Item::map_of_text(&[("aa", "1"), ("b", "2")]);
    assert_malformed(parse_body(&body().with(6, context)), None, "ascending");

    let mut swapped = share("p:1");
    swapped.0.swap(0, 1);
    assert_malformed(parse_share(&swapped), None, "ascending");
}

#[test]
fn r10_depth_counts_from_the_keyslots_item() {
    let nested = |arrays| Item::Raw([vec![0x81; arrays], vec![0]].concat());
    parse_share(&share("p:1").with(1, nested(2))).unwrap();
    assert_malformed(parse_share(&share("p:1").with(1, nested(3))), None, "at most 4");
    parse_pair(&pair(1).with(1, nested(3))).unwrap();
    assert_malformed(parse_pair(&pair(1).with(1, nested(4))), None, "at most 4");
}

#[test]
fn r11_bytes_behind_a_keyslots_item() {
    let content = [pair(1).encode(), vec![0]].concat();
    let bytes = body_with(vec![keyslot(1, content)]);
    assert_malformed(parse_body(&bytes), None, "the end of the keyslot");
}

#[test]
fn r11_a_keyslots_item_may_not_borrow_from_what_follows() {
    let mut content = pair(1).encode();
    content.pop();
    let bytes = body_with(vec![keyslot(1, content), keyslot(1, pair(2).encode())]);
    assert_malformed(parse_body(&bytes), None, "ends where it should");
}

#[test]
fn r12_padding_that_is_not_zero() {
    for at in 0..3 {
        let mut padding = [0; 3];
        padding[at] = 1;
        let map = body().encode();
        let offset = 16 + map.len() + at;
        let bytes = header(&[&*map, &padding].concat());
        assert_malformed(UnverifiedHeader::parse(bytes), Some(offset), "a zero byte of padding");
    }
}

#[test]
fn r13_each_required_field_missing_or_of_another_type() {
    for key in [0, 2, 4, 6, 8] {
        let there = format!("(key {key})");
        assert_malformed(parse_body(&body().without(key)), Some(16), &there);
        assert_malformed(parse_pair(&pair(1).without(key)), None, &there);
        for wrong in [
            Item::Array(vec![Item::Array(vec![])]),
            Item::Map(vec![(Item::Uint(1), Item::Uint(1))]),
        ] {
            assert!(parse_body(&body().with(key, wrong.clone())).is_err(), "{key}");
            assert!(parse_pair(&pair(1).with(key, wrong)).is_err(), "{key}");
        }
    }
    for key in [0, 2, 4, 6] {
        let there = format!("(key {key})");
        assert_malformed(parse_share(&share("p:1").without(key)), None, &there);
    }
}

#[test]
fn r13_byte_strings_of_another_length_or_type() {
    let body_of = |key, value| parse_body(&body().with(key, value));
    let pair_of = |key, value| parse_pair(&pair(1).with(key, value));
    let share_of = |key, value| parse_share(&share("p:1").with(key, value));
    for len in [0, 31, 33] {
        assert_malformed(body_of(0, Item::Bytes(vec![0; len])), None, "an envelope id of 32");
        assert_malformed(pair_of(0, Item::Bytes(vec![0; len])), None, "a pair id of 32");
        assert_malformed(share_of(6, Item::Bytes(vec![0; len])), None, "a check of 32");
    }
    for len in [0, 59, 61] {
        assert_malformed(pair_of(8, Item::Bytes(vec![0; len])), None, "a wrapped DEK of 60");
    }
    assert_malformed(body_of(0, Item::Text("i".repeat(32))), None, "an envelope id");
    assert_malformed(body_of(4, Item::Bytes(vec![0])), None, "a generation");
    assert_malformed(pair_of(2, Item::text("1")), None, "a KEK suite");
    assert_malformed(share_of(0, Item::Bytes(b"p:1".to_vec())), None, "a key URI");
    assert_malformed(share_of(4, Item::text("wrapped")), None, "a wrapped share");
    assert_malformed(share_of(8, Item::Uint(1)), None, "a key version");
}

#[test]
fn r13_a_key_that_is_no_number() {
    let mut entries = vec![(Item::text("a"), Item::Uint(1))];
    for (key, value) in body().0 {
        entries.push((Item::Uint(key), value));
    }
    entries.rotate_left(1);
    let bytes = header(&Item::Map(entries).encode());
    assert_malformed(UnverifiedHeader::parse(bytes), None, "unsigned integer as map key");
    let bytes = header(&Item::Array(vec![]).encode());
    assert_malformed(UnverifiedHeader::parse(bytes), Some(16), "the body's map");
    assert_malformed(UnverifiedHeader::parse(header(b"")), Some(16), "ends where it should");
}

#[test]
fn r14_an_unknown_even_field() {
    for key in [10, 24, 0x1_0000_0000, u64::MAX - 1] {
        let parsed = [
            parse_body(&body().with(key, Item::Uint(0))),
            parse_pair(&pair(1).with(key, Item::Uint(0))),
            parse_share(&share("p:1").with(key, Item::Uint(0))),
        ];
        for result in parsed {
            assert!(matches!(result, Err(HeaderError::UnknownField { key: k, .. }) if k == key));
        }
    }
}

#[test]
fn r15_another_payload_suite() {
    for suite in [0, 2, u64::MAX] {
        let refused = HeaderError::UnsupportedPayloadSuite(suite);
        assert_eq!(parse_body(&body().with(2, Item::Uint(suite))), Err(refused));
    }
}

#[test]
fn r16_contexts() {
    let refused: &[(&[(&str, &str)], &str)] = &[
        (&[("", "v")], "not empty"),
        (&[("twinlock:share", "v")], "reserved"),
        (&[("TwinLock:", "v")], "reserved"),
        (&[("AWS:x", "v")], "reserved"),
        (&[("k\n", "v")], "control"),
        (&[("k", "v\u{7f}")], "control"),
        (&[("k", "\u{9b}v")], "control"),
        (&[("k", "\0")], "control"),
    ];
    for (pairs, expected) in refused {
        let context = Item::map_of_text(pairs);
        assert_malformed(parse_body(&body().with(6, context)), None, expected);
    }
    let of_another_type = [
        Item::Map(vec![(Item::Uint(1), Item::text("v"))]),
        Item::Map(vec![(Item::text("k"), Item::Bytes(vec![]))]),
        Item::Array(vec![]),
    ];
    for context in of_another_type {
        assert_malformed(parse_body(&body().with(6, context)), None, "an encryption context");
    }
    parse_body(&body().with(6, Item::Map(vec![]))).unwrap();
}

#[test]
fn r16_a_context_at_its_limit() {
    // A map's head, the key with its head, and the value's head of three bytes.
    let value_of = |len| "v".repeat(len - 1 - 2 - 3);
    let context_of = |len| Item::map_of_text(&[("k", &*value_of(len))]);
    assert_eq!(context_of(MAX_CONTEXT_LEN).encode().len(), MAX_CONTEXT_LEN);
    parse_body(&body().with(6, context_of(MAX_CONTEXT_LEN))).unwrap();
    let longer = body().with(6, context_of(MAX_CONTEXT_LEN + 1));
    assert_malformed(parse_body(&longer), None, "at most 4096 bytes");
}

#[test]
fn r17_the_number_and_form_of_keyslots() {
    let unknown = |n: usize| body_with(vec![keyslot(2, vec![]); n]);
    parse_body(&unknown(1)).unwrap();
    parse_body(&unknown(16)).unwrap();
    assert_malformed(parse_body(&unknown(0)), None, "1 to 16 keyslots");
    assert_malformed(parse_body(&unknown(17)), None, "1 to 16 keyslots");

    let (kind, content) = (Item::Uint(1), Item::Bytes(pair(1).encode()));
    let deformed = [
        Item::Array(vec![kind.clone()]),
        Item::Array(vec![kind.clone(), content.clone(), Item::Uint(0)]),
        Item::Array(vec![content.clone(), kind.clone()]),
        Item::Array(vec![kind.clone(), Item::text("")]),
        Item::Map(vec![(kind, content)]),
    ];
    for keyslot in deformed {
        assert_malformed(parse_body(&body_with(vec![keyslot])), None, "a keyslot");
    }
}

#[test]
fn r18_key_uris() {
    let uri_of = |uri: &str| parse_share(&share(uri));
    uri_of("!").unwrap();
    uri_of("~").unwrap();
    uri_of(&"u".repeat(1024)).unwrap();
    for uri in ["", " ", "a b", "a\u{7f}", "a\n", "\u{e9}", "a\u{202e}b", &"u".repeat(1025)] {
        assert_malformed(uri_of(uri), None, "a key URI of 1 to 1024");
    }
}

#[test]
fn r19_lengths_of_a_wrapped_share() {
    let wrapped_of = |len| parse_share(&share("p:1").with(4, Item::Bytes(vec![0; len])));
    wrapped_of(1).unwrap();
    wrapped_of(6144).unwrap();
    for len in [0, 6145] {
        assert_malformed(wrapped_of(len), None, "a wrapped share of 1 to 6144");
    }
}

#[test]
fn r20_key_versions() {
    let version_of = |version: &str| parse_share(&share("p:1").with(8, Item::text(version)));
    version_of("1").unwrap();
    version_of(&"Az09-".repeat(13)[..64]).unwrap();
    for version in ["", "a b", "a_b", "a.b", "a/b", "\u{e9}", &"v".repeat(65)] {
        assert_malformed(version_of(version), None, "a key version of 1 to 64");
    }
}

#[test]
fn r21_one_key_for_both_shares() {
    let same = pair(1).with(6, share("p:1").item());
    assert_malformed(parse_pair(&same), None, "two shares of different keys");
}

#[test]
fn r22_one_pair_in_two_keyslots() {
    let keyslots =
        |a, b| body_with(vec![keyslot(1, pair(a).encode()), keyslot(1, pair(b).encode())]);
    parse_body(&keyslots(1, 2)).unwrap();
    assert_malformed(parse_body(&keyslots(1, 1)), None, "each share pair once");
}

#[test]
fn an_error_inside_a_keyslot_says_where_in_the_header_it_is() {
    let fields: Fields = share("p:1").with(0, Item::text("URI WITH SPACES"));
    let bytes =
        header(&body_with(vec![keyslot(1, pair(1).with(4, fields.item()).encode())]).encode());
    let text = bytes.windows(15).position(|w| w == b"URI WITH SPACES").unwrap();
    assert_malformed(UnverifiedHeader::parse(bytes), Some(text - 1), "a key URI");
}

fn reencoded(parsed: &UnverifiedHeader) -> Vec<u8> {
    let padding = twinlock_format::Padding::Bytes(parsed.padding_len());
    parsed.header().encode(padding).unwrap().as_bytes().to_vec()
}

fn signed_part(parsed: &UnverifiedHeader) -> &[u8] {
    let bytes = parsed.as_bytes();
    &bytes[..bytes.len() - 32]
}

#[track_caller]
fn assert_malformed<T: std::fmt::Debug>(
    result: Result<T, HeaderError>,
    at: Option<usize>,
    fragment: &str,
) {
    let Err(HeaderError::Malformed { offset, expected }) = result else {
        panic!("not refused as malformed: {result:?}");
    };
    assert!(expected.contains(fragment), "{expected:?} does not say {fragment:?}");
    assert_eq!(at.unwrap_or(offset), offset, "{expected}");
}
