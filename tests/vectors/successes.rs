//! What opens.

use super::cbor::{Fields, Item};
use super::text::Vector;
use super::writer::{File, Side, bad_keyslots, keyslot, plaintext};

/// The plaintext of a full segment of 4096 bytes.
const FULL: usize = 4064;

pub(super) fn all() -> Vec<Vector> {
    [lengths(), headers(), keyslots(), contexts(), detached()].concat()
}

fn lengths() -> Vec<Vector> {
    vec![
        of_len("empty", 0),
        of_len("one_byte", 1),
        of_len("one_segment_less_a_byte", FULL - 1),
        of_len("one_segment", FULL),
        of_len("one_segment_and_a_byte", FULL + 1),
        of_len("several_segments", 3 * FULL + 1000),
        empty_last_segment(),
        of_segment_len("segments_of_8_kib", 8 << 10, 9000),
        of_segment_len("segments_of_16_mib", 16 << 20, 1),
    ]
}

fn headers() -> Vec<Vector> {
    vec![
        of_body("unknown_odd_fields", |file| {
            let share = file.share(Side::Provider, "pair").with(1, Item::text("later"));
            let pair = file.pair_of("pair", share, file.share(Side::Customer, "pair"));
            let pair = pair.with(7, Item::Array(vec![Item::Uint(u64::MAX), deep_map(2)]));
            file.body_with(vec![keyslot(1, pair.encode())])
                .with(9, deep_map(3))
                .with(u64::MAX, Item::Uint(0))
        }),
        of_body("last_generation", |file| file.body().with(4, Item::Uint(u64::MAX))),
        with_padding("some_padding", |_| 1000),
        with_padding("largest_padding", |body| 65_488 - body.len()),
        largest_header(),
    ]
}

fn keyslots() -> Vec<Vector> {
    let strange = |file: &File| keyslot(u64::MAX, file.pair("strange").encode());
    vec![
        of_body("key_version", |file| {
            let share = file.share(Side::Customer, "pair").with(8, Item::text("Az09-"));
            let pair = file.pair_of("pair", file.share(Side::Provider, "pair"), share);
            file.body_with(vec![keyslot(1, pair.encode())])
        }),
        of_body("unknown_kind_before_ours", |file| {
            file.body_with(vec![strange(file), keyslot(0, vec![0xff]), ours(file)])
        }),
        of_body("unknown_kek_suite_beside_ours", |file| {
            let shares = [Side::Provider, Side::Customer].map(|side| file.share(side, "later"));
            let [provider, customer] = shares;
            let later = file.pair_of_suite(2, "later", provider, customer);
            file.body_with(vec![keyslot(1, later.encode()), ours(file)])
        }),
        of_body("unknown_share_algorithm_beside_ours", |file| {
            let provider = file.share(Side::Provider, "later").with(2, Item::Uint(4));
            let later = file.pair_of("later", provider, file.share(Side::Customer, "later"));
            file.body_with(vec![ours(file), keyslot(1, later.encode())])
        }),
        of_body("other_holders_keyslot_first", |file| {
            let at = |side, uri| file.share(side, "other").with(0, Item::text(uri));
            let provider = at(Side::Provider, "aws-kms://arn:aws:kms:eu-west-1:111122223333:key/k");
            let other = file.pair_of("other", provider, at(Side::Customer, "unheard-of:key"));
            file.body_with(vec![keyslot(1, other.encode()), ours(file)])
        }),
        of_body("refused_share_then_a_good_keyslot", |file| {
            let share = file.share(Side::Provider, "bad").with(4, Item::Bytes(vec![0; 60]));
            let bad = file.pair_of("bad", share, file.share(Side::Customer, "bad"));
            file.body_with(vec![keyslot(1, bad.encode()), ours(file)])
        }),
        of_body("wrong_check_then_a_good_keyslot", |file| {
            let share = file.share(Side::Customer, "bad").with(6, Item::Bytes(vec![0; 32]));
            let bad = file.pair_of("bad", file.share(Side::Provider, "bad"), share);
            file.body_with(vec![keyslot(1, bad.encode()), ours(file)])
        }),
        of_body("wrong_dek_then_a_good_keyslot", |file| {
            let bad = file.pair("bad").with(8, Item::Bytes(vec![0; 60]));
            file.body_with(vec![keyslot(1, bad.encode()), ours(file)])
        }),
        of_body("fourth_matching_keyslot", |file| {
            file.body_with([bad_keyslots(file, 3), vec![ours(file)]].concat())
        }),
        of_body("sixteen_keyslots", |file| {
            let mut all = vec![keyslot(2, vec![]); 15];
            all.push(ours(file));
            file.body_with(all)
        }),
    ]
}

fn contexts() -> Vec<Vector> {
    let long = "v".repeat(4096 - 6);
    vec![
        of_context("context", &[("env", "prod"), ("object", "invoices/1.pdf")]),
        of_context("context_of_which_one_pair_is_expected", &[("env", "prod"), ("object", "1")])
            .expecting(&[("object", "1")]),
        of_context("context_in_the_order_of_its_encoding", &[("z", "1"), ("aa", "2")]),
        of_context("context_with_an_empty_value", &[("k", "")]),
        // Composed and decomposed e-acute are two keys: nothing is normalised.
        of_context("context_beyond_ascii", &[("\u{e9}", "\u{1f511}"), ("e\u{301}", "\u{202e}")]),
        of_context("largest_context", &[("k", &long)]),
    ]
}

fn detached() -> Vec<Vector> {
    let of_len = |name: &str, len| {
        let file = File::named(name).with_context(Item::pairs(&[("object", "1")]));
        let header = file.header(&file.body().encode());
        let payload = [file.payload_prefix(), file.payload(len).bytes()].concat();
        Vector::success(name, payload, len).with_header(header).expecting(&[("object", "1")])
    };
    vec![of_len("detached", 2 * FULL + 100), of_len("detached_empty", 0)]
}

// === Makers ===

fn of_len(name: &str, len: usize) -> Vector {
    of_segment_len(name, 4096, len)
}

fn of_segment_len(name: &str, segment_len: usize, len: usize) -> Vector {
    let file = File::named(name).with_segment_len(segment_len);
    Vector::success(
        name,
        [file.header(&file.body().encode()), file.payload(len).bytes()].concat(),
        len,
    )
}

fn of_body(name: &str, body: impl Fn(&File) -> Fields) -> Vector {
    let file = File::named(name);
    let header = file.header(&body(&file).encode());
    Vector::success(name, [header, file.payload(5).bytes()].concat(), 5)
}

fn with_padding(name: &str, padding: impl Fn(&[u8]) -> usize) -> Vector {
    let file = File::named(name);
    let mut body = file.body().encode();
    body.resize(body.len() + padding(&body), 0);
    Vector::success(name, [file.header(&body), file.payload(5).bytes()].concat(), 5)
}

fn of_context(name: &str, pairs: &[(&str, &str)]) -> Vector {
    let file = File::named(name).with_context(Item::pairs(pairs));
    let envelope = [file.header(&file.body().encode()), file.payload(5).bytes()].concat();
    Vector::success(name, envelope, 5).expecting(pairs)
}

/// Not what our writer does, and allowed.
fn empty_last_segment() -> Vector {
    let file = File::named("empty_last_segment");
    let plaintext = plaintext(2 * FULL);
    let segments = [
        file.segment(0, false, &plaintext[..FULL]),
        file.segment(1, false, &plaintext[FULL..]),
        file.segment(2, true, &[]),
    ];
    let header = file.header(&file.body().encode());
    let envelope = [header, file.floe_header(), segments.concat()].concat();
    Vector::success("empty_last_segment", envelope, 2 * FULL)
}

/// 65,536 bytes, none of them padding.
fn largest_header() -> Vector {
    let file = File::named("largest_header");
    let body = |fill| file.body_with(vec![keyslot(2, vec![b'f'; fill]), ours(&file)]).encode();
    let overhead = body(60_000).len() - 60_000;
    let header = file.header(&body(65_488 - overhead));
    assert_eq!(header.len(), 65_536);
    Vector::success("largest_header", [header, file.payload(5).bytes()].concat(), 5)
}

fn ours(file: &File) -> Item {
    keyslot(1, file.pair("pair").encode())
}

/// `depth` maps inside each other.
fn deep_map(depth: usize) -> Item {
    (0..depth).fold(Item::Bytes(vec![]), |inner, _| Item::Map(vec![(Item::text(""), inner)]))
}
