//! Positions, layouts and lengths at their limits.

use proptest::prelude::*;

use crate::place::Position;
use crate::{
    Finality, HeadError, Header, HeaderError, Layout, LayoutError, PLAINTEXT_OFFSET, ParamsError,
    SEGMENT_OVERHEAD, SegmentHead, SegmentLen, Sequence, TAG_LEN, TooManySegments,
};

const MAX: u64 = i64::MAX as u64;

fn len(segment_len: u32) -> SegmentLen {
    SegmentLen::new(segment_len).unwrap()
}

/// The sizes are the specification's.
#[test]
fn sizes_are_fixed() {
    assert_eq!((Header::LEN, PLAINTEXT_OFFSET, TAG_LEN, SEGMENT_OVERHEAD), (74, 16, 16, 32));
}

#[test]
fn segment_lengths_have_bounds() {
    for refused in [0, 32, (1 << 24) + 1, u32::MAX] {
        assert_eq!(SegmentLen::new(refused), Err(ParamsError::SegmentLen(refused)));
    }
    assert_eq!((SegmentLen::MIN, SegmentLen::MAX), (len(33), len(1 << 24)));
    assert_eq!(len(4096).plaintext(), 4064);
}

#[test]
fn headers_with_other_parameters_are_refused() {
    let mut header = [0; Header::LEN];
    header[..10].copy_from_slice(&len(4096).encode());
    assert_eq!(Header::parse(&header).unwrap().segment_len(), len(4096));
    for byte in [0, 1, 6, 7, 8, 9] {
        let mut other = header;
        other[byte] ^= 1;
        assert_eq!(Header::parse(&other), Err(HeaderError::Params(ParamsError::Suite)));
    }
    header[2] = 0xFF;
    let refused = ParamsError::SegmentLen(0xFF00_1000);
    assert_eq!(Header::parse(&header), Err(HeaderError::Params(refused)));
}

#[test]
fn a_sequence_counts_and_ends() {
    let mut sequence = Sequence::new();
    let first = sequence.next().unwrap();
    assert_eq!((first.position().get(), first.finality()), (0, Finality::NotLast));
    let last = sequence.last();
    assert_eq!((last.position().get(), last.finality()), (1, Finality::Last));
}

/// At most 2^40 segments: the position 2^40 - 1 can only be the last.
#[test]
fn a_sequence_stops_at_2_to_the_40() {
    let mut sequence = Sequence::starting_at(Position::new((1 << 40) - 2).unwrap());
    assert_eq!(sequence.next().unwrap().position().get(), (1 << 40) - 2);
    assert_eq!(sequence.next(), Err(TooManySegments));
    assert_eq!(sequence.next(), Err(TooManySegments));
    assert_eq!(sequence.last().position().get(), (1 << 40) - 1);
    assert_eq!(Position::new(1 << 40), None);
}

#[test]
fn heads_tell_length_and_finality() {
    let parse = |field: u32| SegmentHead::parse(&field.to_be_bytes(), len(64));
    let head = parse(u32::MAX).unwrap();
    assert_eq!((head.encrypted_len(), head.finality()), (64, Finality::NotLast));
    for last in [32, 33, 64] {
        let head = parse(last).unwrap();
        assert_eq!((head.encrypted_len(), head.finality()), (last as usize, Finality::Last));
    }
    for refused in [0, 31, 65, u32::MAX - 1] {
        assert_eq!(parse(refused), Err(HeadError::Len(refused)));
    }
}

#[test]
fn layouts_of_short_payloads() {
    let of = |plaintext| Layout::of_plaintext(len(64), plaintext).unwrap();
    let sizes = |layout: Layout| (layout.segments(), layout.ciphertext_len());
    assert_eq!(sizes(of(0)), (1, 32));
    assert_eq!(sizes(of(1)), (1, 33));
    assert_eq!(sizes(of(32)), (1, 64));
    assert_eq!(sizes(of(33)), (2, 64 + 33));
    assert_eq!(sizes(of(64)), (2, 128));

    let empty_after_full = Layout::of_ciphertext(len(64), 128 + 32).unwrap();
    assert_eq!((empty_after_full.segments(), empty_after_full.plaintext_len()), (3, 64));
    assert_eq!(empty_after_full.plaintext_range(2), Some(64..64));
    assert_eq!(empty_after_full.segment_at(63), Some(1));
    assert_eq!(empty_after_full.segment_at(64), None);
    assert_eq!(empty_after_full.place(2).unwrap().finality(), Finality::Last);
    assert_eq!(empty_after_full.place(3), None);
    assert_eq!(empty_after_full.ciphertext_range(3), None);
}

#[test]
fn layouts_refuse_what_ends_within_a_segment() {
    for ciphertext in [0, 1, 31, 64 + 1, 64 + 31] {
        let layout = Layout::of_ciphertext(len(64), ciphertext);
        assert_eq!(layout, Err(LayoutError::Truncated), "{ciphertext}");
    }
}

#[test]
fn layouts_refuse_what_is_too_long() {
    let too_long = Err(LayoutError::TooLong);
    let segments = 1u64 << 40;
    assert_eq!(Layout::of_plaintext(len(64), 32 * segments).unwrap().segments(), segments);
    assert_eq!(Layout::of_plaintext(len(64), 32 * segments + 1), too_long);
    assert_eq!(Layout::of_ciphertext(len(64), 64 * segments).unwrap().segments(), segments);
    assert_eq!(Layout::of_ciphertext(len(64), 64 * segments + 32), too_long);

    let longest = Layout::of_ciphertext(SegmentLen::MAX, MAX).unwrap();
    assert_eq!(longest.ciphertext_len(), MAX);
    let plaintext = longest.plaintext_len();
    assert_eq!(Layout::of_plaintext(SegmentLen::MAX, plaintext), Ok(longest));
    assert_eq!(longest.ciphertext_range(longest.segments() - 1).unwrap().end, MAX);
    assert_eq!(Layout::of_ciphertext(SegmentLen::MAX, MAX + 1), too_long);
    assert_eq!(Layout::of_plaintext(SegmentLen::MAX, plaintext + 1), too_long);
    assert_eq!(Layout::of_plaintext(SegmentLen::MAX, u64::MAX), too_long);
}

proptest! {
    #[test]
    fn layouts_agree_with_themselves(segment_len in 33u32..=1 << 24, plaintext in 0..=MAX) {
        // Shift lengths down so that short and long ones both come up.
        for shift in [0, 20, 40, 55] {
            let Ok(layout) = Layout::of_plaintext(len(segment_len), plaintext >> shift) else {
                continue;
            };
            prop_assert_eq!(layout.plaintext_len(), plaintext >> shift);
            let read = Layout::of_ciphertext(len(segment_len), layout.ciphertext_len());
            prop_assert_eq!(read, Ok(layout));
            check_neighbours(&layout, layout.segments() / 2)?;
            check_neighbours(&layout, layout.segments() - 1)?;
        }
    }
}

/// Ranges of two neighbours touch, and offsets lead back to their segment.
fn check_neighbours(layout: &Layout, index: u64) -> Result<(), TestCaseError> {
    let plain = layout.plaintext_range(index).unwrap();
    let cipher = layout.ciphertext_range(index).unwrap();
    prop_assert_eq!(cipher.end - cipher.start, plain.end - plain.start + 32);
    prop_assert_eq!(layout.place(index).unwrap().position().get(), index);
    let last = index + 1 == layout.segments();
    prop_assert_eq!(layout.place(index).unwrap().finality() == Finality::Last, last);
    if !plain.is_empty() {
        prop_assert_eq!(layout.segment_at(plain.start), Some(index));
        prop_assert_eq!(layout.segment_at(plain.end - 1), Some(index));
    }
    match index.checked_sub(1) {
        Some(before) => {
            prop_assert_eq!(layout.plaintext_range(before).unwrap().end, plain.start);
            prop_assert_eq!(layout.ciphertext_range(before).unwrap().end, cipher.start);
        }
        None => prop_assert_eq!((plain.start, cipher.start), (0, 0)),
    }
    Ok(())
}
