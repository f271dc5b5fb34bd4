//! What a range costs, out of a payload that is larger than any memory.

use std::io;
use std::ops::Range;
use std::sync::Mutex;

use proptest::prelude::*;
use twinlock_floe::{
    Backend, Layout, OpenKey, PLAINTEXT_OFFSET, SEGMENT_OVERHEAD, SealKey, SegmentIv, SegmentLen,
    TAG_LEN,
};

use super::RangeReader;
use crate::payload::{Meter, Segments};
use crate::read_at::ReadAt;

const GIB: u64 = 1 << 30;
const MIB: usize = 1 << 20;

#[test]
fn a_mebibyte_of_four_gibibytes_is_one_read_of_the_segments_that_hold_it() {
    let payload = Payload::new(256 << 10, 4 * GIB);
    let reader = payload.reader();
    let most = MIB.div_ceil((256 << 10) - SEGMENT_OVERHEAD) as u64 + 1;
    let mut buffer = vec![0; MIB];
    for offset in somewhere_below(4 * GIB - MIB as u64).take(40) {
        reader.read_exact_at(&mut buffer, offset).unwrap();
        assert!(buffer == plaintext(offset, MIB), "at {offset}");
        let [read] = payload.reads()[..] else { panic!("more than one read at {offset}") };
        assert!(read.segments() <= most, "{read:?} at {offset}");
    }
}

#[test]
fn four_kibibytes_of_four_gibibytes_are_one_read_of_one_or_two_segments() {
    let payload = Payload::new(256 << 10, 4 * GIB);
    let reader = payload.reader();
    for offset in somewhere_below(4 * GIB - 4096).take(40) {
        reader.read_exact_at(&mut [0; 4096], offset).unwrap();
        let [read] = payload.reads()[..] else { panic!("more than one read at {offset}") };
        assert!(read.segments() <= 2, "{read:?} at {offset}");
    }
}

#[test]
fn the_last_segment_is_read_once_for_the_end_whoever_asks() {
    let len = 4 * GIB + 5;
    let payload = Payload::new(256 << 10, len);
    let reader = payload.reader();
    assert_eq!(reader.read_at(&mut [0; 9], 0).unwrap(), 9);
    assert_eq!(payload.reads().len(), 1);
    for _ in 0..2 {
        assert_eq!(reader.verified_len().unwrap(), len);
        assert_eq!(reader.read_at(&mut [0; 9], len).unwrap(), 0);
        assert_eq!(reader.read_at(&mut [0; 9], u64::MAX).unwrap(), 0);
        assert_eq!(reader.write_range_to(len.., &mut io::sink()).unwrap(), 0);
        reader.read_exact_at(&mut [0; 9], len - 4).unwrap_err();
    }
    let [read] = payload.reads()[..] else { panic!("the end was read more than once") };
    assert_eq!(read.last, payload.layout.segments() - 1);
    assert_eq!(read.segments(), 1);
}

#[test]
fn who_reads_the_last_segment_has_verified_the_end() {
    let payload = Payload::new(4096, 9 * 4064);
    let reader = payload.reader();
    assert_eq!(reader.read_at(&mut [0; 9], 8 * 4064).unwrap(), 9);
    assert_eq!(payload.reads().len(), 1);
    assert_eq!(reader.verified_len().unwrap(), 9 * 4064);
    assert_eq!(reader.read_at(&mut [0; 9], 9 * 4064).unwrap(), 0);
    assert!(payload.reads().is_empty());
}

#[test]
fn small_reads_one_behind_the_other_open_each_segment_once() {
    let payload = Payload::new(4096, 3 * 4064);
    let reader = payload.reader();
    for offset in (0..3 * 4064 - 100).step_by(100) {
        reader.read_exact_at(&mut [0; 100], offset).unwrap();
    }
    assert_eq!(payload.reads().iter().map(Read::segments).sum::<u64>(), 3);
}

#[test]
fn a_long_range_is_read_in_bounded_steps() {
    for segment_len in [4 << 10, 256 << 10, 4 << 20] {
        let payload = Payload::new(segment_len, 4 * GIB);
        let mut output = Expecting { position: GIB };
        let written = payload.reader().write_range_to(GIB..GIB + (9 << 20), &mut output).unwrap();
        assert_eq!((written, output.position), (9 << 20, GIB + (9 << 20)));
        let reads = payload.reads();
        let most = super::RUN_LEN.max(segment_len as usize) as u64;
        assert!(reads.iter().all(|read| read.bytes <= most), "{reads:?}");
        // No segment twice, and no more of them than it takes.
        let segments: u64 = reads.iter().map(Read::segments).sum();
        assert!(segments <= (9 << 20) / u64::from(segment_len - 32) + 2, "{segments}");
        assert!(reads.windows(2).all(|pair| pair[0].last < pair[1].first), "{reads:?}");
    }
}

#[test]
fn nothing_is_asked_for_where_nothing_is_wanted() {
    let payload = Payload::new(4096, GIB);
    let reader = payload.reader();
    assert_eq!(reader.read_at(&mut [], 7).unwrap(), 0);
    assert_eq!(reader.read_at(&mut [], u64::MAX).unwrap(), 0);
    reader.read_exact_at(&mut [], u64::MAX).unwrap();
    assert_eq!(reader.write_range_to(7..7, &mut io::sink()).unwrap(), 0);
    #[expect(clippy::reversed_empty_ranges, reason = "callers have them by mistake")]
    let written = reader.write_range_to(9..7, &mut io::sink()).unwrap();
    assert_eq!(written, 0);
    assert!(payload.reads().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_range_of_any_payload_costs_its_segments(
        size in 0..5 * GIB,
        offset in 0..5 * GIB,
        len in prop_oneof![0..10usize, 0..3 * MIB],
        segment_len in prop::sample::select(vec![4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20]),
    ) {
        let payload = Payload::new(segment_len, size);
        let reader = payload.reader();
        let there = usize::try_from(size.saturating_sub(offset)).unwrap().min(len);
        let mut out = Vec::new();
        let written = reader.write_range_to(offset..offset + len as u64, &mut out).unwrap();
        prop_assert_eq!(written, there as u64);
        prop_assert!(out == plaintext(offset, there));

        let reads = payload.reads();
        let wanted = there.div_ceil(segment_len as usize - SEGMENT_OVERHEAD) as u64 + 1;
        let for_the_end = u64::from(there < len);
        let segments: u64 = reads.iter().map(Read::segments).sum();
        prop_assert!(segments <= wanted + for_the_end, "{:?}", reads);
        let calls = segments * u64::from(segment_len) / super::RUN_LEN as u64 + 1 + for_the_end;
        prop_assert!(reads.len() as u64 <= calls.max(segments), "{:?}", reads);
    }
}

/// A payload of any size, that is sealed where it is read.
struct Payload {
    seal: SealKey,
    open: OpenKey,
    layout: Layout,
    reads: Mutex<Vec<Read>>,
}

/// What was asked for by one call.
#[derive(Clone, Copy, Debug)]
struct Read {
    first: u64,
    last: u64,
    bytes: u64,
}

impl Read {
    fn segments(&self) -> u64 {
        self.last - self.first + 1
    }
}

impl Payload {
    fn new(segment_len: u32, plaintext_len: u64) -> Self {
        let segment_len = SegmentLen::new(segment_len).unwrap();
        let backend = Backend::default();
        let (seal, header) = SealKey::create(&[7; 32], [8; 32], b"aad", segment_len, backend);
        Self {
            seal,
            open: OpenKey::open(&[7; 32], b"aad", &header, backend).unwrap(),
            layout: Layout::of_plaintext(segment_len, plaintext_len).unwrap(),
            reads: Mutex::default(),
        }
    }

    fn reader(&self) -> RangeReader<&Self> {
        let size = self.layout.ciphertext_len();
        let segments = Segments::new(self.open.clone(), 0, size, Meter::default());
        RangeReader::new(self, segments.unwrap())
    }

    /// The reads since the last call.
    fn reads(&self) -> Vec<Read> {
        std::mem::take(&mut *self.reads.lock().unwrap())
    }

    /// Deterministic, so that it is the same whenever it is read.
    fn segment(&self, index: u64) -> Vec<u8> {
        let Range { start, end } = self.layout.plaintext_range(index).unwrap();
        let len = usize::try_from(end - start).unwrap();
        let mut segment = vec![0; PLAINTEXT_OFFSET];
        segment.extend(plaintext(start, len));
        segment.extend([0; TAG_LEN]);
        let mut iv = [0; SegmentIv::LEN];
        iv[..8].copy_from_slice(&index.to_le_bytes());
        let place = self.layout.place(index).unwrap();
        self.seal.sealer().seal(place, SegmentIv::new(iv), &mut segment).unwrap();
        segment
    }
}

impl ReadAt for Payload {
    fn size(&self) -> io::Result<u64> {
        Ok(self.layout.ciphertext_len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let step = self.seal.segment_len().get() as u64;
        let end = self.layout.ciphertext_len().min(offset + buffer.len() as u64);
        let (first, last) = (offset / step, (end - 1) / step);
        self.reads.lock().unwrap().push(Read { first, last, bytes: end - offset });
        let segments: Vec<u8> = (first..=last).flat_map(|index| self.segment(index)).collect();
        let skip = usize::try_from(offset - first * step).unwrap();
        segments[skip..].as_ref().read_at(buffer, 0)
    }
}

/// An output that knows what is to come.
struct Expecting {
    position: u64,
}

impl io::Write for Expecting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(bytes == plaintext(self.position, bytes.len()), "at {}", self.position);
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// No two segments are alike.
fn plaintext(offset: u64, len: usize) -> Vec<u8> {
    (offset..).take(len).map(|position| (position % 251).to_le_bytes()[0]).collect()
}

/// Offsets that jump about, the same in every run.
fn somewhere_below(end: u64) -> impl Iterator<Item = u64> {
    let next = |state: &u64| {
        Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    std::iter::successors(Some(1), next).map(move |state| (state >> 16) % end)
}
