//! FLOE in memory: the segments of one payload, one after the other.

use std::hint::black_box;

use twinlock_floe::{
    Backend, Header, Layout, OpenKey, PLAINTEXT_OFFSET, SEGMENT_OVERHEAD, SealKey, Sealer,
    SegmentIv, SegmentLen, Sequence,
};

use crate::{Case, plaintext};

const KEY: [u8; 32] = [7; 32];
const IV: [u8; 32] = [8; 32];
const AAD: &[u8] = b"benchmark";

/// Copies each segment's plaintext into a buffer and seals it there.
#[must_use]
pub fn seal(backend: Backend, segment_len: u32, total: usize) -> Case {
    let input = plaintext(total);
    let (key, _) = create(backend, segment_len);
    let mut buffer = vec![0; segment_len as usize];
    Case::new(format!("floe seal/{backend}/{segment_len}"), total, move || {
        let mut sealer = key.sealer();
        seal_all(&mut sealer, &input, &mut buffer, |segment| {
            black_box(segment);
        });
    })
}

/// Copies each segment into a buffer and opens it there.
#[must_use]
pub fn open(backend: Backend, segment_len: u32, total: usize) -> Case {
    let (segments, header) = sealed(backend, segment_len, total);
    let key = OpenKey::open(&KEY, AAD, &header, backend).expect("it was sealed above");
    let layout = Layout::of_ciphertext(key.segment_len(), segments.len() as u64)
        .expect("it was sealed above");
    let mut buffer = vec![0; segment_len as usize];
    Case::new(format!("floe open/{backend}/{segment_len}"), total, move || {
        let mut opener = key.opener();
        for (segment, index) in segments.chunks(segment_len as usize).zip(0..) {
            let buffer = &mut buffer[..segment.len()];
            buffer.copy_from_slice(segment);
            let place = layout.place(index).expect("one for each segment");
            black_box(opener.open(place, buffer).expect("it was sealed above"));
        }
    })
}

/// Seals from one buffer into another.
#[must_use]
pub fn seal_from(backend: Backend, segment_len: u32, total: usize) -> Case {
    let input = plaintext(total);
    let (key, _) = create(backend, segment_len);
    let layout = Layout::of_plaintext(key.segment_len(), total as u64).expect("a short payload");
    let mut segment = vec![0; segment_len as usize];
    let step = key.segment_len().plaintext();
    Case::new(format!("floe seal_from/{backend}/{segment_len}"), total, move || {
        let mut sealer = key.sealer();
        for (piece, index) in input.chunks(step).zip(0..) {
            let segment = &mut segment[..piece.len() + SEGMENT_OVERHEAD];
            let place = layout.place(index).expect("one for each segment");
            sealer.seal_from(place, SegmentIv::new([1; 12]), piece, segment).expect("it fits");
            black_box(segment);
        }
    })
}

/// Opens from one buffer into another.
#[must_use]
pub fn open_into(backend: Backend, segment_len: u32, total: usize) -> Case {
    let (segments, header) = sealed(backend, segment_len, total);
    let key = OpenKey::open(&KEY, AAD, &header, backend).expect("it was sealed above");
    let layout = Layout::of_ciphertext(key.segment_len(), segments.len() as u64)
        .expect("it was sealed above");
    let mut plaintext = vec![0; key.segment_len().plaintext()];
    Case::new(format!("floe open_into/{backend}/{segment_len}"), total, move || {
        let mut opener = key.opener();
        for (segment, index) in segments.chunks(segment_len as usize).zip(0..) {
            let plaintext = &mut plaintext[..segment.len() - SEGMENT_OVERHEAD];
            let place = layout.place(index).expect("one for each segment");
            opener.open_into(place, segment, plaintext).expect("it was sealed above");
            black_box(plaintext);
        }
    })
}

fn create(backend: Backend, segment_len: u32) -> (SealKey, [u8; Header::LEN]) {
    let segment_len = SegmentLen::new(segment_len).expect("a length that FLOE takes");
    SealKey::create(&KEY, IV, AAD, segment_len, backend)
}

fn sealed(backend: Backend, segment_len: u32, total: usize) -> (Vec<u8>, [u8; Header::LEN]) {
    let (key, header) = create(backend, segment_len);
    let mut segments = Vec::new();
    let mut buffer = vec![0; segment_len as usize];
    let keep = |segment: &[u8]| segments.extend_from_slice(segment);
    seal_all(&mut key.sealer(), &plaintext(total), &mut buffer, keep);
    (segments, header)
}

fn seal_all(sealer: &mut Sealer, input: &[u8], buffer: &mut [u8], mut sink: impl FnMut(&[u8])) {
    let mut sequence = Sequence::new();
    let mut pieces = input.chunks(buffer.len() - SEGMENT_OVERHEAD).peekable();
    while let Some(piece) = pieces.next() {
        let segment = &mut buffer[..piece.len() + SEGMENT_OVERHEAD];
        segment[PLAINTEXT_OFFSET..][..piece.len()].copy_from_slice(piece);
        if pieces.peek().is_none() {
            sealer.seal(sequence.last(), SegmentIv::new([1; 12]), segment).expect("it fits");
            return sink(segment);
        }
        let place = sequence.next().expect("few segments");
        // One IV for all: a benchmark has nothing to keep secret.
        sealer.seal(place, SegmentIv::new([1; 12]), segment).expect("it fits");
        sink(segment);
    }
}
