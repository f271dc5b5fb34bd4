//! Whole payloads, sealed and opened in the ways that callers have.

use std::error::Error;
use std::ops::Range;

use crate::place::Rotation;
use crate::{
    Backend, Finality, Header, Layout, OpenKey, Opener, PLAINTEXT_OFFSET, Place, SEGMENT_OVERHEAD,
    SealKey, Sealer, SegmentError, SegmentHead, SegmentIv, SegmentLen, Sequence, TAG_LEN,
};

pub(super) type TestResult<T> = Result<T, Box<dyn Error>>;

/// A function that opens a whole payload.
pub(super) type Reader = fn(&Case, Backend, &[u8]) -> TestResult<Vec<u8>>;

/// Every way to read a payload: each must give the same answer.
pub(super) const READERS: [Reader; 3] =
    [Case::open_stream, Case::open_backwards, Case::open_into_backwards];

/// The two ways to seal a segment: each must give the same bytes.
pub(super) const SEALS: [Seal; 2] = [seal_in_place, seal_from];

/// A function that seals one segment.
pub(super) type Seal = fn(&mut Sealer, Place, SegmentIv, &[u8]) -> Vec<u8>;

/// The two ways to open a segment.
pub(super) const OPENS: [Open; 2] = [open_in_place, open_into];

/// A function that opens one segment. Without an error it gives the plaintext,
/// with one what it left where that would be.
pub(super) type Open = fn(&mut Opener, Place, &[u8]) -> Result<Vec<u8>, (SegmentError, Vec<u8>)>;

/// What the two ends of a payload agree on.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) key: [u8; 32],
    pub(super) iv: [u8; 32],
    pub(super) aad: Vec<u8>,
    pub(super) segment_len: SegmentLen,
    pub(super) rotation: Rotation,
}

impl Case {
    pub(super) fn new(segment_len: u32) -> Self {
        Self {
            key: counting_from(0),
            iv: counting_from(0x40),
            aad: b"twinlock-floe test".to_vec(),
            segment_len: SegmentLen::new(segment_len).unwrap(),
            rotation: Rotation::FLOE,
        }
    }

    pub(super) fn seal_key(&self, backend: Backend) -> (SealKey, [u8; Header::LEN]) {
        let Self { key, iv, aad, segment_len, rotation } = self;
        SealKey::create_rotating(key, *iv, aad, *segment_len, backend, *rotation)
    }

    pub(super) fn open_key(&self, backend: Backend, payload: &[u8]) -> TestResult<OpenKey> {
        let header = payload.first_chunk().ok_or("no header")?;
        let key = OpenKey::open_rotating(&self.key, &self.aad, header, backend, self.rotation)?;
        Ok(key)
    }

    /// Seals as our writers do: the last segment is full when it can be.
    pub(super) fn seal(&self, backend: Backend, plaintext: &[u8]) -> Vec<u8> {
        self.seal_with(backend, plaintext, |_, index| segment_iv(index))
    }

    /// Seals again with the IVs that `payload`'s segments have.
    pub(super) fn seal_like(&self, backend: Backend, plaintext: &[u8], payload: &[u8]) -> Vec<u8> {
        self.seal_with(backend, plaintext, |layout, index| {
            let range = bounds(layout.ciphertext_range(index));
            let segment = &payload[Header::LEN..][range];
            SegmentIv::new(*segment[SegmentHead::LEN..].first_chunk().unwrap())
        })
    }

    fn seal_with(
        &self,
        backend: Backend,
        plaintext: &[u8],
        iv: impl Fn(&Layout, u64) -> SegmentIv,
    ) -> Vec<u8> {
        let (key, header) = self.seal_key(backend);
        let mut sealer = key.sealer();
        let layout = Layout::of_plaintext(self.segment_len, plaintext.len() as u64).unwrap();
        let mut payload = header.to_vec();
        for index in 0..layout.segments() {
            let plaintext = &plaintext[bounds(layout.plaintext_range(index))];
            let iv = iv(&layout, index);
            let seal = |way: Seal, sealer: &mut Sealer| {
                way(sealer, layout.place(index).unwrap(), iv, plaintext)
            };
            let [segment, other] = SEALS.map(|way| seal(way, &mut sealer));
            assert_eq!(segment, other, "sealed from another buffer, {backend}");
            payload.extend(segment);
        }
        payload
    }

    /// Seals segments whose plaintexts are given, however a writer cut them.
    pub(super) fn seal_pieces(&self, backend: Backend, pieces: &[&[u8]]) -> Vec<u8> {
        let (key, header) = self.seal_key(backend);
        let mut sealer = key.sealer();
        let mut sequence = Sequence::new();
        let mut payload = header.to_vec();
        let (last, others) = pieces.split_last().unwrap();
        let mut seal = |place: Place, piece: &[u8]| {
            let mut segment = unsealed(piece);
            let iv = segment_iv(place.position().get());
            sealer.seal(place, iv, &mut segment).unwrap();
            payload.extend(segment);
        };
        for piece in others {
            seal(sequence.next().unwrap(), piece);
        }
        seal(sequence.last(), last);
        payload
    }

    /// Opens front to back and learns finality from the length fields.
    pub(super) fn open_stream(&self, backend: Backend, payload: &[u8]) -> TestResult<Vec<u8>> {
        let key = self.open_key(backend, payload)?;
        let mut opener = key.opener();
        let mut rest = payload[Header::LEN..].to_vec();
        let mut rest = &mut rest[..];
        let mut plaintext = Vec::new();
        let mut sequence = Sequence::new();
        loop {
            let field = rest.first_chunk().ok_or("truncated")?;
            let head = SegmentHead::parse(field, key.segment_len())?;
            let (segment, after) =
                rest.split_at_mut_checked(head.encrypted_len()).ok_or("truncated")?;
            rest = after;
            match head.finality() {
                Finality::NotLast => plaintext.extend(&*opener.open(sequence.next()?, segment)?),
                Finality::Last => {
                    plaintext.extend(&*opener.open(sequence.last(), segment)?);
                    break;
                }
            }
        }
        if rest.is_empty() { Ok(plaintext) } else { Err("bytes after the end".into()) }
    }

    /// Opens back to front by the payload's length.
    pub(super) fn open_backwards(&self, backend: Backend, payload: &[u8]) -> TestResult<Vec<u8>> {
        let key = self.open_key(backend, payload)?;
        let mut opener = key.opener();
        let mut segments = payload[Header::LEN..].to_vec();
        let layout = Layout::of_ciphertext(key.segment_len(), segments.len() as u64)?;
        let mut plaintext = vec![0; usize::try_from(layout.plaintext_len())?];
        for index in (0..layout.segments()).rev() {
            let segment = &mut segments[bounds(layout.ciphertext_range(index))];
            let opened = opener.open(layout.place(index).unwrap(), segment)?;
            plaintext[bounds(layout.plaintext_range(index))].copy_from_slice(opened);
        }
        Ok(plaintext)
    }

    /// As [`Case::open_backwards`], into another buffer.
    pub(super) fn open_into_backwards(
        &self,
        backend: Backend,
        payload: &[u8],
    ) -> TestResult<Vec<u8>> {
        let key = self.open_key(backend, payload)?;
        let mut opener = key.opener();
        let segments = &payload[Header::LEN..];
        let layout = Layout::of_ciphertext(key.segment_len(), segments.len() as u64)?;
        let mut plaintext = vec![0xEE; usize::try_from(layout.plaintext_len())?];
        for index in (0..layout.segments()).rev() {
            let segment = &segments[bounds(layout.ciphertext_range(index))];
            let plaintext = &mut plaintext[bounds(layout.plaintext_range(index))];
            opener.open_into(layout.place(index).unwrap(), segment, plaintext)?;
        }
        Ok(plaintext)
    }
}

fn seal_in_place(sealer: &mut Sealer, place: Place, iv: SegmentIv, plaintext: &[u8]) -> Vec<u8> {
    let mut segment = unsealed(plaintext);
    sealer.seal(place, iv, &mut segment).unwrap();
    segment
}

fn seal_from(sealer: &mut Sealer, place: Place, iv: SegmentIv, plaintext: &[u8]) -> Vec<u8> {
    let mut segment = vec![0xEE; plaintext.len() + SEGMENT_OVERHEAD];
    sealer.seal_from(place, iv, plaintext, &mut segment).unwrap();
    segment
}

fn open_in_place(
    opener: &mut Opener,
    place: Place,
    segment: &[u8],
) -> Result<Vec<u8>, (SegmentError, Vec<u8>)> {
    let mut segment = segment.to_vec();
    let error = match opener.open(place, &mut segment) {
        Ok(plaintext) => return Ok(plaintext.to_vec()),
        Err(error) => error,
    };
    Err((error, segment[PLAINTEXT_OFFSET..segment.len() - TAG_LEN].to_vec()))
}

fn open_into(
    opener: &mut Opener,
    place: Place,
    segment: &[u8],
) -> Result<Vec<u8>, (SegmentError, Vec<u8>)> {
    let mut plaintext = vec![0xEE; segment.len() - SEGMENT_OVERHEAD];
    match opener.open_into(place, segment, &mut plaintext) {
        Ok(()) => Ok(plaintext),
        Err(error) => Err((error, plaintext)),
    }
}

/// A segment's buffer before sealing. What seal must write is not zero, so a
/// byte that it forgets shows.
pub(super) fn unsealed(plaintext: &[u8]) -> Vec<u8> {
    let mut segment = vec![0xEE; plaintext.len() + SEGMENT_OVERHEAD];
    segment[PLAINTEXT_OFFSET..][..plaintext.len()].copy_from_slice(plaintext);
    segment
}

/// `"segment "` and the position: never to be imitated, IVs are random.
pub(super) fn segment_iv(index: u64) -> SegmentIv {
    let mut iv = *b"segment ....";
    iv[8..].copy_from_slice(&u32::try_from(index & 0xFFFF_FFFF).unwrap().to_be_bytes());
    SegmentIv::new(iv)
}

/// A layout's range as one of a slice.
pub(super) fn bounds(range: Option<Range<u64>>) -> Range<usize> {
    let range = range.expect("the tests ask for segments that exist");
    range.start.try_into().unwrap()..range.end.try_into().unwrap()
}

/// Bytes that no segment length divides: the period is 251.
pub(super) fn message(len: usize) -> Vec<u8> {
    (0..251u8).map(|i| i.wrapping_mul(31)).cycle().take(len).collect()
}

fn counting_from(first: u8) -> [u8; 32] {
    let mut next = first..;
    std::array::from_fn(|_| next.next().unwrap())
}
