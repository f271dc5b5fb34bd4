//! Some segments in a row: what a worker reads, seals or opens, and writes at a
//! time.

use twinlock_floe::{
    Finality, OpenKey, Opener, PLAINTEXT_OFFSET, Place, SEGMENT_OVERHEAD, SealKey, Sealer,
    SegmentError, SegmentHead, SegmentLen, TAG_LEN,
};
use twinlock_keys::RandomnessError;

use super::buffer::Buffer;
use crate::payload::{Meter, PayloadError};
use crate::random::SegmentIvs;

/// A worker's memory.
pub(super) struct Block {
    buffer: Buffer,
    segment_len: usize,
}

impl Block {
    /// For blocks of at most `len` bytes.
    pub(super) fn new(segment_len: SegmentLen, len: usize) -> Self {
        Self { buffer: Buffer::new(len), segment_len: segment_len.get() }
    }

    /// The first `len` bytes, which are whole segments but for the last.
    pub(super) fn segments(&mut self, len: usize) -> &mut [u8] {
        &mut self.buffer[..len]
    }

    /// Where the plaintexts of the segments in the first `len` bytes are.
    pub(super) fn texts(&mut self, len: usize) -> impl Iterator<Item = &mut [u8]> {
        self.buffer[..len].chunks_mut(self.segment_len).map(|segment| {
            let end = segment.len() - TAG_LEN;
            &mut segment[PLAINTEXT_OFFSET..end]
        })
    }

    /// How many bytes it holds.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }
}

/// How many segments a block has that has about `len` bytes: at least one.
pub(super) fn segments_of(len: usize, segment_len: SegmentLen) -> usize {
    (len / segment_len.get()).max(1)
}

/// One worker's cipher, to seal with.
pub(super) struct BlockSealer {
    sealer: Sealer,
    ivs: SegmentIvs,
    segment_len: usize,
    meter: Meter,
}

impl BlockSealer {
    pub(super) fn new(key: &SealKey, meter: &Meter) -> Self {
        Self {
            sealer: key.sealer(),
            ivs: SegmentIvs::new(),
            segment_len: key.segment_len().get(),
            meter: meter.clone(),
        }
    }

    /// Seals all segments of a block, whose plaintexts are in their places.
    pub(super) fn seal(
        &mut self,
        mut places: impl Iterator<Item = Place>,
        segments: &mut [u8],
    ) -> Result<(), RandomnessError> {
        for segment in segments.chunks_mut(self.segment_len) {
            let place = places.next().expect("a place for each segment");
            let iv = self.ivs.next()?;
            self.sealer.seal(place, iv, segment).expect("the layout gives the place its length");
            self.meter.add(segment.len() - SEGMENT_OVERHEAD);
        }
        Ok(())
    }
}

/// A block with a segment in it that is not authentic.
pub(super) struct Broken {
    /// How many bytes before that are segments which were opened.
    pub(super) verified: usize,
    pub(super) error: PayloadError,
}

/// One worker's cipher, to open with.
pub(super) struct BlockOpener {
    opener: Opener,
    segment_len: SegmentLen,
    meter: Meter,
}

impl BlockOpener {
    pub(super) fn new(key: &OpenKey, meter: &Meter) -> Self {
        Self { opener: key.opener(), segment_len: key.segment_len(), meter: meter.clone() }
    }

    /// Opens all segments of a block, the first of which stands at `offset` of
    /// the file.
    pub(super) fn open(
        &mut self,
        mut places: impl Iterator<Item = Place>,
        segments: &mut [u8],
        offset: u64,
    ) -> Result<(), Broken> {
        let mut verified = 0;
        for segment in segments.chunks_mut(self.segment_len.get()) {
            let place = places.next().expect("a place for each segment");
            let opened = self.open_segment(place, segment, offset + verified as u64);
            opened.map_err(|error| Broken { verified, error })?;
            self.meter.add(segment.len() - SEGMENT_OVERHEAD);
            verified += segment.len();
        }
        Ok(())
    }

    fn open_segment(
        &mut self,
        place: Place,
        segment: &mut [u8],
        offset: u64,
    ) -> Result<(), PayloadError> {
        let finality = place.finality();
        match self.opener.open(place, segment) {
            Ok(_) => Ok(()),
            Err(error) => Err(explain(error, finality, segment, self.segment_len, offset)),
        }
    }
}

/// What is wrong with a segment that its place, derived from where the bytes
/// end, says is the last or not. It says the same as a reader that learns from
/// the segments themselves which one is the last.
pub(crate) fn explain(
    error: SegmentError,
    finality: Finality,
    segment: &[u8],
    segment_len: SegmentLen,
    offset: u64,
) -> PayloadError {
    let truncated = PayloadError::Truncated { offset: offset + segment.len() as u64 };
    let not_authentic = PayloadError::segment(error, offset);
    let head = match error {
        SegmentError::Len { .. } => return truncated,
        SegmentError::LengthField { .. } => {
            segment.first_chunk().and_then(|field| SegmentHead::parse(field, segment_len).ok())
        }
        _ => None,
    };
    match head {
        None => not_authentic,
        Some(head) if head.encrypted_len() > segment.len() => truncated,
        Some(head) => match (head.finality(), finality) {
            (Finality::Last, _) => {
                PayloadError::Trailing { offset: offset + head.encrypted_len() as u64 }
            }
            (Finality::NotLast, Finality::Last) => truncated,
            (Finality::NotLast, Finality::NotLast) => not_authentic,
        },
    }
}
