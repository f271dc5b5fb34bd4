//! format.md, "Writing": the padding.

use twinlock_format::limits::MAX_HEADER_LEN;
use twinlock_format::schedule::header_key;
use twinlock_format::{
    EncryptionContext, EnvelopeId, Header, HeaderTooLarge, Padding, PairId, PairKeyslot,
    ShareAlgorithm, ShareSlot, UnverifiedHeader, WrappedPair, standard_header_len,
};

use crate::support::{body, body_with, header, keyslot, parse_body};

fn small() -> Header {
    parse_body(&body()).unwrap().header().clone()
}

/// A header that takes `len` bytes without padding.
fn of_len(len: usize) -> Header {
    let body = |n| body_with(vec![keyslot(2, vec![0; n])]);
    let overhead = header(&body(1000).encode()).len() - 1000;
    let bytes = header(&body(len - overhead).encode());
    assert_eq!(bytes.len(), len);
    UnverifiedHeader::parse(bytes).unwrap().header().clone()
}

#[test]
fn the_standard_rounds_up_and_keeps_room() {
    assert_eq!(standard_header_len(0), 2048);
    assert_eq!(standard_header_len(1536), 2048);
    assert_eq!(standard_header_len(1537), 4096);
    assert_eq!(standard_header_len(65_024), 65_536);
    assert_eq!(standard_header_len(65_025), 65_536);
    assert_eq!(standard_header_len(65_536), 65_536);
    assert_eq!(standard_header_len(65_537), 65_537);
    assert_eq!(standard_header_len(usize::MAX), usize::MAX);
}

#[test]
fn a_header_fills_what_it_is_told_to() {
    let unpadded = small().encode(Padding::Bytes(0)).unwrap().header_len();
    let len = |padding| small().encode(padding).unwrap().header_len();
    assert_eq!(len(Padding::Standard), 2048);
    assert_eq!(len(Padding::Bytes(1)), unpadded + 1);
    for more in [0, 1, 22, 23, 24, 25, 255, 256, 257] {
        assert_eq!(len(Padding::FillTo(unpadded + more)), unpadded + more);
    }
    let room = unpadded - 1;
    let refused = HeaderTooLarge { needed: unpadded, room };
    assert_eq!(small().encode(Padding::FillTo(room)), Err(refused));
}

#[test]
fn no_header_exceeds_the_limit() {
    let full = of_len(MAX_HEADER_LEN - 1);
    assert_eq!(full.encode(Padding::Standard).unwrap().header_len(), MAX_HEADER_LEN);
    assert_eq!(full.encode(Padding::Bytes(1)).unwrap().header_len(), MAX_HEADER_LEN);
    for padding in [Padding::Bytes(2), Padding::FillTo(MAX_HEADER_LEN + 1)] {
        let refused = HeaderTooLarge { needed: MAX_HEADER_LEN + 1, room: MAX_HEADER_LEN };
        assert_eq!(full.encode(padding), Err(refused));
    }
    assert!(full.encode(Padding::Bytes(usize::MAX)).is_err());
}

#[test]
fn keyslots_that_are_allowed_one_by_one_may_be_too_many_together() {
    let slot = |uri| {
        ShareSlot::new(uri, ShareAlgorithm::HolderAead, vec![0; 6144], [0; 32], None).unwrap()
    };
    let keyslot = |id| {
        let pair = WrappedPair::new(PairId([id; 32]), slot("p:1"), slot("c:1")).unwrap();
        PairKeyslot::new(pair, [0; 60]).into()
    };
    let header =
        Header::new(EnvelopeId([0; 32]), EncryptionContext::new(), (0..6).map(keyslot).collect());
    let refused = header.unwrap().encode(Padding::Standard).unwrap_err();
    assert_eq!(refused.room, MAX_HEADER_LEN);
    assert!(refused.needed > MAX_HEADER_LEN);
}

#[test]
fn padding_is_authenticated() {
    let key = header_key(&[1; 32], &EnvelopeId([1; 32]));
    let bytes = small().encode(Padding::Bytes(9)).unwrap().sign(&key);
    // One byte of padding less, with the length corrected and the same tag.
    let (map, tag) = (&body().encode(), &bytes[bytes.len() - 32..]);
    let mut shorter = header(&[&**map, &[0; 8]].concat());
    let end = shorter.len() - 32;
    shorter[end..].copy_from_slice(tag);
    assert!(UnverifiedHeader::parse(shorter).unwrap().verify(&key).is_err());
    assert!(UnverifiedHeader::parse(bytes).unwrap().verify(&key).is_ok());
}
