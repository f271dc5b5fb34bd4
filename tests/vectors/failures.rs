//! What does not open: each breaks one rule of `docs/format.md`, and all else
//! in it is in order.

use super::cbor::{Fields, Item};
use super::text::Vector;
use super::writer::{File, Payload, Side, URIS, bad_keyslots, keyslot, plaintext};

/// The plaintext of a full segment of 4096 bytes.
const FULL: usize = 4064;

const MALFORMED: &str = "malformed-header";

pub(super) fn all() -> Vec<Vector> {
    [
        prefix(),
        encoding(),
        fields(),
        contexts(),
        keyslots(),
        keys(),
        expectations(),
        floe(),
        segments(),
        ends(),
        detached(),
    ]
    .concat()
}

fn prefix() -> Vec<Vector> {
    let edit = |name: &str, rule, expect, at: usize, byte: u8| {
        header(name, rule, expect, |_, header| header[at] = byte)
    };
    vec![
        edit("magic_altered", "R1", "not-twinlock", 7, b'k'),
        whole("some_other_file", "R1", "not-twinlock", b"%PDF-1.7\n%".to_vec()),
        whole("four_bytes_of_another_file", "R1", "not-twinlock", b"TWIX".to_vec()),
        edit("version_0", "R2", "unsupported-version", 8, 0),
        edit("version_2", "R2", "unsupported-version", 8, 2),
        edit("reserved_byte", "R3", MALFORMED, 11, 1),
        header("body_too_long", "R4", MALFORMED, |_, header| {
            header[12..16].copy_from_slice(&65_489u32.to_be_bytes());
        }),
        header("body_of_4_gib", "R4", MALFORMED, |_, header| header[12..16].fill(0xff)),
        whole("no_bytes", "R5", "truncated-header", vec![]),
        cut_header("ends_in_the_magic", |_| 5),
        cut_header("ends_in_the_prefix", |_| 15),
        cut_header("ends_in_the_body", |_| 300),
        cut_header("ends_in_the_tag", |len| len - 1),
    ]
}

fn encoding() -> Vec<Vector> {
    let value = |name: &str, rule, raw: &[u8]| {
        body(name, rule, MALFORMED, |_, body| body.with(9, Item::Raw(raw.to_vec())))
    };
    vec![
        body("long_integer", "R6", MALFORMED, |_, body| body.with(4, Item::Raw(vec![0x18, 0]))),
        value("long_length", "R6", b"\x59\x00\x01a"),
        value("long_count", "R6", b"\x98\x01\x00"),
        value("indefinite_bytes", "R6", b"\x5f\x41a\xff"),
        raw_body("indefinite_body", "R6", |body| [&[0xbf], &body[1..], &[0xff]].concat()),
        value("reserved_additional_information", "R6", b"\x1c"),
        value("negative_integer", "R7", b"\x20"),
        value("tagged_value", "R7", b"\xc0\x60"),
        value("null", "R7", b"\xf6"),
        value("true", "R7", b"\xf5"),
        value("floating_point", "R7", b"\xf9\x3c\x00"),
        body("body_fields_out_of_order", "R8", MALFORMED, |_, body| body.with_swapped(1, 2)),
        body("body_field_twice", "R8", MALFORMED, |_, body| body.with_first_twice()),
        pair("keyslot_fields_out_of_order", "R8", MALFORMED, |_, pair| pair.with_swapped(0, 1)),
        share("share_fields_out_of_order", "R8", MALFORMED, |share| share.with_swapped(2, 3)),
        value("map_key_twice", "R8", b"\xa2\x01\x00\x01\x00"),
        value("text_not_utf8", "R9", b"\x62\xc0\x80"),
        value("five_deep_in_the_body", "R10", b"\x81\x81\x81\x81\x00"),
        share("five_deep_in_a_keyslot", "R10", MALFORMED, |share| {
            share.with(1, Item::Raw(b"\x81\x81\x81\x00".to_vec()))
        }),
        value("bytes_past_the_body", "R11", b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff"),
        value("array_of_too_many", "R11", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),
        content("keyslot_with_a_byte_behind", "R11", |content| content.push(0)),
        content("keyslot_cut_short", "R11", |content| {
            content.pop();
        }),
        raw_body("empty_body", "R11", |_| vec![]),
        raw_body("padding_not_zero", "R12", |body| [body, &[0, 0, 1, 0]].concat()),
    ]
}

fn fields() -> Vec<Vector> {
    let bytes = |len| Item::Bytes(vec![7; len]);
    let unknown = "unknown-field";
    vec![
        body("no_envelope_id", "R13", MALFORMED, |_, body| body.without(0)),
        body("no_encryption_context", "R13", MALFORMED, |_, body| body.without(6)),
        body("no_keyslot_field", "R13", MALFORMED, |_, body| body.without(8)),
        body("short_envelope_id", "R13", MALFORMED, |_, body| body.with(0, bytes(31))),
        body("generation_as_bytes", "R13", MALFORMED, |_, body| body.with(4, bytes(1))),
        raw_body("body_of_an_array", "R13", |_| vec![0x80]),
        raw_body("text_as_a_field_number", "R13", |body| {
            [&[body[0] + 1], &body[1..], b"\x61a\x00"].concat()
        }),
        pair("long_pair_id", "R13", MALFORMED, |_, pair| pair.with(0, bytes(33))),
        pair("no_customer_share", "R13", MALFORMED, |_, pair| pair.without(6)),
        pair("long_wrapped_dek", "R13", MALFORMED, |_, pair| pair.with(8, bytes(61))),
        share("no_check", "R13", MALFORMED, |share| share.without(6)),
        share("short_check", "R13", MALFORMED, |share| share.with(6, bytes(31))),
        body("unknown_even_field_in_the_body", "R14", unknown, |_, body| body.with(10, bytes(0))),
        pair("unknown_even_field_in_a_keyslot", "R14", unknown, |_, pair| pair.with(10, bytes(0))),
        share("unknown_even_field_in_a_share", "R14", unknown, |share| share.with(10, bytes(0))),
        body("payload_suite_0", "R15", "unsupported-suite", |_, body| body.with(2, Item::Uint(0))),
        body("payload_suite_2", "R15", "unsupported-suite", |_, body| body.with(2, Item::Uint(2))),
    ]
}

fn contexts() -> Vec<Vector> {
    let context = |name: &str, pairs: &[(&str, &str)]| {
        let file = File::named(name).with_context(Item::pairs(pairs));
        Vector::failure(name, "R16", MALFORMED, envelope(&file, &file.body().encode()))
    };
    let long = "v".repeat(4096 - 5);
    vec![
        context("context_with_an_empty_key", &[("", "v")]),
        context("context_with_a_reserved_key", &[("twinlock:share", "v")]),
        context("context_with_a_reserved_key_in_capitals", &[("AWS:kms", "v")]),
        context("context_with_a_line_feed", &[("k", "v\n")]),
        context("context_with_a_c1_control", &[("k\u{9b}", "v")]),
        context("context_of_4097_bytes", &[("k", &long)]),
        context("context_sorted_as_text", &[("aa", "2"), ("z", "1")]).of_rule("R8"),
        context("context_key_twice", &[("k", "1"), ("k", "1")]).of_rule("R8"),
        body("context_value_of_bytes", "R16", MALFORMED, |_, body| {
            body.with(6, Item::Map(vec![(Item::text("k"), Item::Bytes(vec![]))]))
        }),
    ]
}

fn keyslots() -> Vec<Vector> {
    let keyslots = |name: &str, rule, make: fn(&File) -> Vec<Item>| {
        body(name, rule, MALFORMED, |file, _| file.body_with(make(file)))
    };
    let uri = |name: &str, uri: &str| {
        share(name, "R18", MALFORMED, |share| share.with(0, Item::text(uri)))
    };
    let wrapped = |name: &str, len| {
        share(name, "R19", MALFORMED, |share| share.with(4, Item::Bytes(vec![7; len])))
    };
    let version = |name: &str, version: &str| {
        share(name, "R20", MALFORMED, |share| share.with(8, Item::text(version)))
    };
    vec![
        keyslots("no_keyslots", "R17", |_| vec![]),
        keyslots("seventeen_keyslots", "R17", |file| {
            [vec![keyslot(2, vec![]); 16], vec![ours(file)]].concat()
        }),
        keyslots("keyslot_of_three", "R17", |file| {
            let content = Item::Bytes(file.pair("pair").encode());
            vec![Item::Array(vec![Item::Uint(1), content, Item::Uint(0)])]
        }),
        keyslots("keyslot_without_its_byte_string", "R17", |file| {
            vec![Item::Array(vec![Item::Uint(1), file.pair("pair").item()])]
        }),
        uri("uri_empty", ""),
        uri("uri_with_a_space", "file:///a b"),
        uri("uri_with_an_escape", "file:///\u{1b}[2J"),
        uri("uri_beyond_ascii", "file:///\u{e9}"),
        uri("uri_of_1025_bytes", &format!("file:///{}", "u".repeat(1017))),
        wrapped("wrapped_share_empty", 0),
        wrapped("wrapped_share_of_6145_bytes", 6145),
        version("key_version_empty", ""),
        version("key_version_with_a_slash", "../2"),
        version("key_version_of_65_bytes", &"v".repeat(65)),
        share("one_key_for_both_shares", "R21", MALFORMED, |share| {
            share.with(0, Item::text(URIS[1]))
        }),
        keyslots("one_pair_in_two_keyslots", "R22", |file| vec![ours(file), ours(file)]),
    ]
}

fn keys() -> Vec<Vector> {
    let tampered = "tampered-header";
    let resigned = |name: &str, edit: fn(&File, Fields) -> Fields| {
        // Signed with the DEK of another file, as whoever lacks this one must.
        let file = File::named(name);
        let header = File::named("another file").header(&edit(&file, file.body()).encode());
        Vector::failure(name, "R25", tampered, [header, file.payload(5).bytes()].concat())
    };
    vec![
        share("share_altered", "R23", "refused-share", |share| {
            share.with(4, Item::Bytes(vec![7; 60]))
        }),
        share("share_of_no_length_that_its_holder_makes", "R23", "refused-share", |share| {
            share.with(4, Item::Bytes(vec![7; 61]))
        }),
        body("fifth_matching_keyslot", "Reading 4", "refused-share", |file, _| {
            file.body_with([bad_keyslots(file, 4), vec![ours(file)]].concat())
        }),
        share("check_altered", "R23", "wrong-share", |share| {
            share.with(6, Item::Bytes(vec![7; 32]))
        }),
        body("shares_on_each_others_side", "R23", "refused-share", |file, _| {
            let [provider, customer] =
                [Side::Provider, Side::Customer].map(|side| file.share(side, "pair"));
            let bytes = |share: &Fields| share.value(4).unwrap().clone();
            let swapped =
                (provider.clone().with(4, bytes(&customer)), customer.with(4, bytes(&provider)));
            file.body_with(vec![keyslot(1, file.pair_of("pair", swapped.0, swapped.1).encode())])
        }),
        body("shares_of_another_pair", "R23", "refused-share", |file, _| {
            let [provider, customer] =
                [Side::Provider, Side::Customer].map(|side| file.share(side, "other"));
            file.body_with(vec![keyslot(1, file.pair_of("pair", provider, customer).encode())])
        }),
        body("shares_of_another_context", "R23", "refused-share", |file, _| {
            let other = file.clone().with_context(Item::pairs(&[("k", "v")]));
            file.body_with(vec![keyslot(1, other.pair("pair").encode())])
        }),
        pair("wrapped_dek_altered", "R24", "wrong-dek", |_, pair| {
            pair.with(8, Item::Bytes(vec![7; 60]))
        }),
        body("keyslot_of_another_file", "R24", "wrong-dek", |file, _| {
            file.body_with(vec![ours(&File::named("another file"))])
        }),
        body("wrapped_dek_of_another_keyslot", "R24", "wrong-dek", |file, _| {
            let wrapped_dek = file.pair("other").value(8).unwrap().clone();
            file.body_with(vec![keyslot(1, file.pair("pair").with(8, wrapped_dek).encode())])
        }),
        header("header_tag_altered", "R25", tampered, |_, header| *header.last_mut().unwrap() ^= 1),
        header("header_tag_of_zeros", "R25", tampered, |_, header| {
            let tag = header.len() - 32;
            header[tag..].fill(0);
        }),
        resigned("generation_put_up", |_, body| body.with(4, Item::Uint(7))),
        resigned("odd_field_added", |_, body| body.with(9, Item::Uint(7))),
        resigned("keyslot_added", |file, _| file.body_with(vec![ours(file), keyslot(2, vec![])])),
        resigned("uri_of_an_unused_keyslot_altered", |file, _| {
            let share = file.share(Side::Provider, "other").with(0, Item::text("unheard-of:key"));
            let other = file.pair_of("other", share, file.share(Side::Customer, "other"));
            file.body_with(vec![keyslot(1, other.encode()), ours(file)])
        }),
        padding_cut_off(),
        body("another_dek_stops_before_the_good_keyslot", "R25", tampered, |file, _| {
            let forged = file.pair_with_dek_of(&File::named("another file"), "forged");
            file.body_with(vec![keyslot(1, forged.encode()), ours(file)])
        }),
        share("provider_unknown_to_the_reader", "Reading 4", "no-keyslot", |share| {
            share.with(0, Item::text("aws-kms://arn:aws:kms:eu-west-1:111122223333:key/k"))
        }),
        body("keyslots_of_unknown_kinds_only", "Reading 4", "no-keyslot", |_, body| {
            body.with(8, Item::Array(vec![keyslot(2, vec![]), keyslot(3, vec![1])]))
        }),
    ]
}

fn expectations() -> Vec<Vector> {
    let of_context = |name: &str, expect, pairs: &[(&str, &str)]| {
        let file = File::named(name).with_context(Item::pairs(pairs));
        Vector::failure(name, "R26", expect, envelope(&file, &file.body().encode()))
    };
    let pair = &[("object", "1")];
    vec![
        of_context("context_not_expected", "unexpected-context", pair),
        of_context("context_of_another_value", "wrong-context", &[("object", "2")]).expecting(pair),
        of_context("context_of_another_key", "wrong-context", &[("Object", "1")]).expecting(pair),
        of_context("context_missing", "wrong-context", &[]).expecting(pair),
        of_context("context_normalised", "wrong-context", &[("k", "e\u{301}")])
            .expecting(&[("k", "\u{e9}")]),
        body("generation_rolled_back", "Reading", "old-generation", |_, body| {
            body.with(4, Item::Uint(2))
        })
        .of_min_generation(3),
    ]
}

fn floe() -> Vec<Vector> {
    let params = |name: &str, at: usize, byte: u8| {
        let mut file = File::named(name);
        file.params[at] = byte;
        Vector::failure(name, "R28", "payload-header", envelope(&file, &file.body().encode()))
    };
    let segment_len = |name: &str, len| {
        let file = File::named(name).with_segment_len(len);
        let expect = if len > 16 << 20 { "payload-header" } else { "segment-length" };
        Vector::failure(name, "R28", expect, envelope(&file, &file.body().encode()))
    };
    let altered = |name: &str, at: usize| {
        payload(name, "R29", "payload-header", 0, |_, payload| payload.header[at] ^= 1)
    };
    vec![
        params("another_aead", 0, 1),
        params("another_kdf", 1, 1),
        params("another_iv_length", 9, 31),
        segment_len("segments_of_2_kib", 2048),
        segment_len("segments_of_no_power_of_two", 4096 + 1),
        segment_len("segments_of_32_mib", 32 << 20),
        altered("floe_iv_altered", 10),
        altered("floe_tag_altered", 73),
        payload("segment_length_altered", "R29", "payload-header", 0, |_, payload| {
            payload.header[2..6].copy_from_slice(&8192u32.to_be_bytes());
        }),
        payload("floe_header_of_another_file", "R29", "payload-header", 0, |_, payload| {
            payload.header = File::named("another file").floe_header();
        }),
        payload("payload_of_another_file", "R29", "payload-header", 0, |_, payload| {
            *payload = File::named("another file").payload(FULL);
        }),
    ]
}

/// All have three segments: two full ones and one of 100 bytes.
fn segments() -> Vec<Vector> {
    let field = |name: &str, expect, index: usize, field: u32| {
        payload(name, "R30", expect, index * FULL, |_, payload| {
            payload.segments[index][..4].copy_from_slice(&field.to_be_bytes());
        })
    };
    let altered = |name: &str, index: usize, at: usize| {
        payload(name, "R31", "segment", index * FULL, |_, payload| {
            payload.segments[index][at] ^= 0x80
        })
    };
    let moved = |name: &str, released, edit: fn(&mut Vec<Vec<u8>>)| {
        payload(name, "R31", "segment", released, |_, payload| edit(&mut payload.segments))
    };
    let resealed = |name: &str, index: usize, edit: fn(&File, &mut Vec<u8>)| {
        payload(name, "R31", "segment", index * FULL, |file, payload| {
            edit(file, &mut payload.segments[index])
        })
    };
    vec![
        field("length_field_of_zero", "segment", 1, 0),
        field("length_field_below_a_segment", "segment", 2, 31),
        field("length_field_above_a_segment", "segment", 0, 4097),
        field("length_field_one_too_small", "trailing", 2, 131).seeking("segment"),
        field("length_field_one_too_large", "truncated", 2, 133).seeking("segment"),
        field("full_segment_marked_as_last", "trailing", 0, 4096).seeking("segment"),
        field("last_segment_marked_as_full", "truncated", 2, u32::MAX).seeking("segment"),
        altered("nonce_altered", 0, 4),
        altered("first_byte_altered", 0, 16),
        altered("middle_segment_altered", 1, 2000),
        altered("last_segment_altered", 2, 100),
        altered("segment_tag_altered", 1, 4095),
        moved("segments_swapped", 0, |segments| segments.swap(0, 1)),
        moved("segment_repeated", FULL, |segments| segments.insert(1, segments[0].clone())),
        moved("first_segment_dropped", 0, |segments| drop(segments.remove(0))),
        moved("middle_segment_dropped", FULL, |segments| drop(segments.remove(1))),
        payload("last_segment_put_before_full_ones", "R33", "trailing", 0, |_, payload| {
            payload.segments.rotate_right(1);
        })
        .seeking("segment"),
        resealed("segment_of_another_file", 1, |_, segment| {
            *segment = File::named("another file").segment(1, false, &plaintext(2 * FULL)[FULL..]);
        }),
        resealed("last_segment_of_another_file", 2, |_, segment| {
            *segment = File::named("another file").segment(2, true, &[0; 100]);
        }),
        // Nobody without the key can make these; a faulty writer could.
        resealed("last_segment_sealed_as_another", 2, |file, segment| {
            let as_last = segment[..4].to_vec();
            *segment = file.segment(2, false, &[0; 100]);
            segment[..4].copy_from_slice(&as_last);
        }),
        resealed("segment_sealed_for_another_position", 1, |file, segment| {
            *segment = file.segment(9, false, &plaintext(FULL));
        }),
    ]
}

fn ends() -> Vec<Vector> {
    let cut = |name: &str, released, len: usize| {
        file(name, "R32", "truncated", released, |payload| payload.truncate(len))
    };
    let grown = |name: &str, tail: &[u8]| {
        file(name, "R33", "trailing", 2 * FULL, |payload| payload.extend(tail))
    };
    let segments = |n: usize| 74 + n * 4096;
    let whole = File::named("a whole one");
    let whole = [whole.header(&whole.body().encode()), whole.payload(1).bytes()].concat();
    vec![
        cut("no_payload", 0, 0),
        cut("ends_in_the_floe_header", 0, 73),
        cut("ends_behind_the_floe_header", 0, 74),
        cut("ends_in_a_length_field", 0, 77),
        cut("ends_in_the_first_segment", 0, 74 + 2000).seeking("segment"),
        cut("ends_behind_the_first_segment", FULL, segments(1)).seeking("segment"),
        cut("ends_behind_the_first_segment_and_a_byte", FULL, segments(1) + 1),
        cut("last_segment_missing", 2 * FULL, segments(2)).seeking("segment"),
        cut("last_byte_missing", 2 * FULL, segments(2) + 131).seeking("segment"),
        grown("a_byte_behind", &[0]).seeking("segment"),
        grown("a_segment_of_zeros_behind", &[0; 4096]).seeking("segment"),
        grown("a_whole_envelope_behind", &whole).seeking("segment"),
        payload("last_segment_twice", "R33", "trailing", 2 * FULL, |_, payload| {
            payload.segments.push(payload.segments[2].clone());
        })
        .seeking("segment"),
        payload("a_second_last_segment_behind", "R33", "trailing", 2 * FULL, |file, payload| {
            payload.segments.push(file.segment(3, true, &[0; 10]));
        })
        .seeking("segment"),
    ]
}

// === Makers ===

fn whole(name: &str, rule: &str, expect: &str, envelope: Vec<u8>) -> Vector {
    Vector::failure(name, rule, expect, envelope)
}

/// A header that is altered after it was signed.
fn header(name: &str, rule: &str, expect: &str, edit: impl Fn(&File, &mut Vec<u8>)) -> Vector {
    let file = File::named(name);
    let mut header = file.header(&file.body().encode());
    edit(&file, &mut header);
    Vector::failure(name, rule, expect, [header, file.payload(5).bytes()].concat())
}

fn cut_header(name: &str, len: impl Fn(usize) -> usize) -> Vector {
    let file = File::named(name);
    let mut header = file.header(&file.body().encode());
    header.truncate(len(header.len()));
    Vector::failure(name, "R5", "truncated-header", header)
}

/// A body that is altered before it is signed.
fn body(name: &str, rule: &str, expect: &str, edit: impl Fn(&File, Fields) -> Fields) -> Vector {
    let file = File::named(name);
    let body = edit(&file, file.body());
    Vector::failure(name, rule, expect, envelope(&file, &body.encode()))
}

fn raw_body(name: &str, rule: &str, edit: impl Fn(&[u8]) -> Vec<u8>) -> Vector {
    let file = File::named(name);
    let body = edit(&file.body().encode());
    Vector::failure(name, rule, MALFORMED, envelope(&file, &body))
}

fn pair(name: &str, rule: &str, expect: &str, edit: impl Fn(&File, Fields) -> Fields) -> Vector {
    body(name, rule, expect, |file, _| {
        file.body_with(vec![keyslot(1, edit(file, file.pair("pair")).encode())])
    })
}

/// The provider's share altered; the KEK is derived from what it then says.
fn share(name: &str, rule: &str, expect: &str, edit: impl Fn(Fields) -> Fields) -> Vector {
    body(name, rule, expect, |file, _| {
        let share = edit(file.share(Side::Provider, "pair"));
        let pair = file.pair_of("pair", share, file.share(Side::Customer, "pair"));
        file.body_with(vec![keyslot(1, pair.encode())])
    })
}

fn content(name: &str, rule: &str, edit: impl Fn(&mut Vec<u8>)) -> Vector {
    body(name, rule, MALFORMED, |file, _| {
        let mut content = file.pair("pair").encode();
        edit(&mut content);
        file.body_with(vec![keyslot(1, content)])
    })
}

fn detached() -> Vec<Vector> {
    const PREFIX: &str = "payload-prefix";
    let prefix = |name: &str, at: usize, byte: u8| {
        apart(name, "R27", PREFIX, |_, _, payload| payload[at] = byte)
    };
    let other = |file: &File| file.another();
    vec![
        prefix("payload_magic_altered", 7, b'l'),
        prefix("payload_version_2", 8, 2),
        prefix("payload_reserved_byte", 11, 1),
        apart("payload_of_another_header", "R27", PREFIX, |file, _, payload| {
            *payload = [other(file).payload_prefix(), other(file).payload(5).bytes()].concat();
        }),
        apart(
            "payload_of_another_header_with_our_prefix",
            "R29",
            "payload-header",
            |file, _, p| {
                *p = [file.payload_prefix(), other(file).payload(5).bytes()].concat();
            },
        ),
        apart("envelope_as_payload", "R27", PREFIX, |file, header, payload| {
            *payload = [header.clone(), file.payload(5).bytes()].concat();
        }),
        apart("payload_without_its_prefix", "R27", PREFIX, |file, _, payload| {
            *payload = file.payload(5).bytes();
        }),
        apart("payload_of_no_bytes", "R27", "truncated", |_, _, payload| payload.clear()),
        apart("ends_in_the_payload_prefix", "R27", "truncated", |_, _, p| p.truncate(43)),
        apart("ends_behind_the_payload_prefix", "R32", "truncated", |_, _, p| p.truncate(44)),
        apart("payload_with_a_byte_behind", "R33", "trailing", |_, _, payload| payload.push(0))
            .seeking("segment"),
        apart("detached_header_with_a_byte_behind", "R5", MALFORMED, |_, header, _| header.push(0)),
        apart("envelope_as_header", "R5", MALFORMED, |file, header, _| {
            header.extend(file.payload(5).bytes());
        }),
        apart("detached_header_cut_short", "R5", "truncated-header", |_, header, _| {
            header.truncate(header.len() - 1);
        }),
        apart("payload_as_header", "R1", "not-twinlock", |_, header, payload| {
            header.clone_from(payload);
        }),
        payload_alone(),
    ]
}

/// A good header kept apart, and a payload of 5 bytes, that `edit` takes apart.
fn apart(
    name: &str,
    rule: &str,
    expect: &str,
    edit: impl Fn(&File, &mut Vec<u8>, &mut Vec<u8>),
) -> Vector {
    let file = File::named(name);
    let mut header = file.header(&file.body().encode());
    let mut payload = [file.payload_prefix(), file.payload(5).bytes()].concat();
    edit(&file, &mut header, &mut payload);
    Vector::failure(name, rule, expect, payload).with_header(header)
}

fn payload_alone() -> Vector {
    let file = File::named("payload_without_its_header");
    let payload = [file.payload_prefix(), file.payload(5).bytes()].concat();
    whole("payload_without_its_header", "R1", "not-twinlock", payload)
}

/// A good header, and a payload of two full segments and one of 100 bytes that
/// `edit` takes apart.
fn payload(
    name: &str,
    rule: &str,
    expect: &str,
    released_len: usize,
    edit: impl Fn(&File, &mut Payload),
) -> Vector {
    let file = File::named(name);
    let mut payload = file.payload(2 * FULL + 100);
    edit(&file, &mut payload);
    let envelope = [file.header(&file.body().encode()), payload.bytes()].concat();
    Vector { released_len, ..Vector::failure(name, rule, expect, envelope) }
}

fn file(
    name: &str,
    rule: &str,
    expect: &str,
    released_len: usize,
    edit: impl Fn(&mut Vec<u8>),
) -> Vector {
    let file = File::named(name);
    let mut payload = file.payload(2 * FULL + 100).bytes();
    edit(&mut payload);
    let envelope = [file.header(&file.body().encode()), payload].concat();
    Vector { released_len, ..Vector::failure(name, rule, expect, envelope) }
}

fn envelope(file: &File, body: &[u8]) -> Vec<u8> {
    [file.header(body), file.payload(5).bytes()].concat()
}

fn ours(file: &File) -> Item {
    keyslot(1, file.pair("pair").encode())
}

fn padding_cut_off() -> Vector {
    let file = File::named("padding_cut_off");
    let body = file.body().encode();
    let padded = file.header(&[&*body, &[0; 8]].concat());
    let mut header = file.header(&[&*body, &[0; 7]].concat());
    let end = header.len();
    header[end - 32..].copy_from_slice(&padded[padded.len() - 32..]);
    let envelope = [header, file.payload(5).bytes()].concat();
    Vector::failure("padding_cut_off", "R25", "tampered-header", envelope)
}
