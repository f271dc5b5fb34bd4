use std::ops::Range;

use arbitrary::{Arbitrary, Unstructured};
use twinlock_floe::{
    Backend, Finality, Header, Layout, OpenKey, PLAINTEXT_OFFSET, SEGMENT_OVERHEAD, SealKey,
    SegmentHead, SegmentIv, SegmentLen, Sequence,
};

use crate::edit::{Edit, edited};
use crate::{counting_from, message};

/// Only what was sealed opens, in every way of reading: the bytes as they are,
/// and what a program of edits makes of a sealed payload.
pub fn segment(bytes: &[u8]) {
    check(bytes);
    if let Ok(case) = Case::arbitrary(&mut Unstructured::new(bytes)) {
        case.check();
    }
}

// The key, AAD and IVs of the vectors in `crates/floe/vectors`: they open.
const AAD: &[u8] = b"twinlock-floe test";
const FIRST_OF_KEY: u8 = 0;
const FIRST_OF_IV: u8 = 0x40;

/// What opens is what sealing its plaintext gives, and what does not open gave
/// away no other plaintext than what was sealed.
fn check(payload: &[u8]) {
    for &backend in Backend::available() {
        let Some(key) = open_key(backend, payload) else { continue };
        let (prefix, whole) = open_stream(&key, &payload[Header::LEN..]);
        assert_eq!(prefix, message(prefix.len()), "a forged byte was released");
        let by_layout = open_backwards(&key, &payload[Header::LEN..]);
        assert_eq!(whole.then_some(&prefix), by_layout.as_ref(), "two readers disagree");
        if whole {
            let sealed = Shape {
                backend,
                segment_len: key.segment_len(),
                iv: counting_from(FIRST_OF_IV),
                plaintext_len: prefix.len(),
            }
            .seal();
            assert_eq!(payload, sealed.concat(), "a payload that nobody sealed opens");
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Case {
    segment_len: u8,
    plaintext_len: u16,
    edits: Vec<Edit>,
}

impl Case {
    fn check(&self) {
        let segment_len = [33, 48, 64, 100, 1024][usize::from(self.segment_len) % 5];
        let segment_len = SegmentLen::new(segment_len).expect("a length that FLOE takes");
        let len = usize::from(self.plaintext_len) % (4 * segment_len.plaintext() + 1);
        let sealed = |iv| {
            let backend = Backend::default();
            Shape { backend, segment_len, iv: counting_from(iv), plaintext_len: len }.seal()
        };
        let (pieces, sibling) = (sealed(FIRST_OF_IV), sealed(FIRST_OF_IV + 1));
        let payload = edited(&pieces, &sibling, &self.edits);
        check_against(&payload, [pieces.concat(), sibling.concat()]);
    }
}

/// An edited payload opens exactly when it is one of the originals again.
fn check_against(payload: &[u8], originals: [Vec<u8>; 2]) {
    for &backend in Backend::available() {
        let Some(key) = open_key(backend, payload) else { continue };
        let (prefix, whole) = open_stream(&key, &payload[Header::LEN..]);
        assert_eq!(prefix, message(prefix.len()), "a forged byte was released");
        assert_eq!(whole, originals.iter().any(|original| original == payload));
        assert_eq!(whole, open_backwards(&key, &payload[Header::LEN..]).is_some());
    }
}

fn open_key(backend: Backend, payload: &[u8]) -> Option<OpenKey> {
    OpenKey::open(&counting_from(FIRST_OF_KEY), AAD, payload.first_chunk()?, backend).ok()
}

/// What a sealed payload is like.
pub(crate) struct Shape {
    pub(crate) backend: Backend,
    pub(crate) segment_len: SegmentLen,
    pub(crate) iv: [u8; 32],
    pub(crate) plaintext_len: usize,
}

impl Shape {
    fn seal(&self) -> Vec<Vec<u8>> {
        seal(&counting_from(FIRST_OF_KEY), AAD, self)
    }
}

/// The payload's header, then each segment of [`message`].
pub(crate) fn seal(key: &[u8; 32], aad: &[u8], shape: &Shape) -> Vec<Vec<u8>> {
    let &Shape { backend, segment_len, iv, plaintext_len } = shape;
    let (key, header) = SealKey::create(key, iv, aad, segment_len, backend);
    let layout = Layout::of_plaintext(segment_len, plaintext_len as u64).expect("it is short");
    let plaintext = message(plaintext_len);
    let mut sealer = key.sealer();
    let mut pieces = vec![header.to_vec()];
    for index in 0..layout.segments() {
        let text = &plaintext[bounds(layout.plaintext_range(index))];
        let mut segment = vec![0; text.len() + SEGMENT_OVERHEAD];
        segment[PLAINTEXT_OFFSET..][..text.len()].copy_from_slice(text);
        let place = layout.place(index).expect("it exists");
        sealer.seal(place, segment_iv(index), &mut segment).expect("it has the right length");
        pieces.push(segment);
    }
    pieces
}

/// The vectors' IVs. Never to be imitated: elsewhere they are random.
fn segment_iv(index: u64) -> SegmentIv {
    let mut iv = *b"segment ....";
    iv[8..].copy_from_slice(&u32::try_from(index).expect("few segments").to_be_bytes());
    SegmentIv::new(iv)
}

/// Front to back, as a pipe is read: what was released, and whether it was all.
fn open_stream(key: &OpenKey, segments: &[u8]) -> (Vec<u8>, bool) {
    let mut plaintext = Vec::new();
    let whole = open_into(key, segments, &mut plaintext).is_some();
    (plaintext, whole)
}

fn open_into(key: &OpenKey, segments: &[u8], plaintext: &mut Vec<u8>) -> Option<()> {
    let mut segments = segments.to_vec();
    let mut rest = &mut segments[..];
    let (mut opener, mut sequence) = (key.opener(), Sequence::new());
    loop {
        let head = SegmentHead::parse(rest.first_chunk()?, key.segment_len()).ok()?;
        let (segment, after) = rest.split_at_mut_checked(head.encrypted_len())?;
        match head.finality() {
            Finality::NotLast => {
                plaintext.extend(&*opener.open(sequence.next().ok()?, segment).ok()?);
            }
            // Whether anything follows is known before the last is opened.
            Finality::Last if !after.is_empty() => return None,
            Finality::Last => {
                plaintext.extend(&*opener.open(sequence.last(), segment).ok()?);
                return Some(());
            }
        }
        rest = after;
    }
}

/// Back to front, as a seeking reader may: all or nothing.
fn open_backwards(key: &OpenKey, segments: &[u8]) -> Option<Vec<u8>> {
    let layout = Layout::of_ciphertext(key.segment_len(), segments.len() as u64).ok()?;
    let mut opener = key.opener();
    let mut segments = segments.to_vec();
    let mut plaintext = vec![0; usize::try_from(layout.plaintext_len()).ok()?];
    for index in (0..layout.segments()).rev() {
        let segment = &mut segments[bounds(layout.ciphertext_range(index))];
        let opened = opener.open(layout.place(index)?, segment).ok()?;
        plaintext[bounds(layout.plaintext_range(index))].copy_from_slice(opened);
    }
    Some(plaintext)
}

fn bounds(range: Option<Range<u64>>) -> Range<usize> {
    let range = range.expect("it is asked for segments that exist");
    let bound = |bound| usize::try_from(bound).expect("it lies in memory");
    bound(range.start)..bound(range.end)
}
