//! Sealing a stream, without any I/O: plaintext goes in at one end of a
//! buffer, whole segments come out.

use twinlock_floe::{
    PLAINTEXT_OFFSET, SEGMENT_OVERHEAD, SealKey, Sealer, SegmentLen, Sequence, TooManySegments,
};
use twinlock_keys::RandomnessError;

use super::meter::Meter;
use crate::bulk::buffer::Buffer;
use crate::random::SegmentIvs;

pub(super) struct SegmentSealer {
    sealer: Sealer,
    sequence: Sequence,
    ivs: SegmentIvs,
    segment_len: SegmentLen,
    buffer: Buffer,
    filled: usize,
    meter: Meter,
}

impl SegmentSealer {
    pub(super) fn new(key: &SealKey, meter: Meter) -> Self {
        Self {
            sealer: key.sealer(),
            sequence: Sequence::new(),
            ivs: SegmentIvs::new(),
            segment_len: key.segment_len(),
            buffer: Buffer::new(key.segment_len().get()),
            filled: 0,
            meter,
        }
    }

    /// Where more plaintext of this segment goes; empty when it is full.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let end = PLAINTEXT_OFFSET + self.segment_len.plaintext();
        &mut self.buffer[PLAINTEXT_OFFSET + self.filled..end]
    }

    /// Takes the first `len` bytes of the room as filled.
    pub(super) fn fill(&mut self, len: usize) {
        self.filled += len;
        assert!(self.filled <= self.segment_len.plaintext(), "filled from its own room");
        self.meter.add(len);
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled == self.segment_len.plaintext()
    }

    /// Seals the full segment, which others will follow.
    pub(super) fn seal_next(&mut self) -> Result<&[u8], SealError> {
        assert!(self.is_full(), "only the last segment may be short");
        let place = self.sequence.next()?;
        self.filled = 0;
        self.sealer
            .seal(place, self.ivs.next()?, &mut self.buffer)
            .expect("the buffer is as long as a segment");
        Ok(&self.buffer)
    }

    /// Seals what there is as the last segment.
    pub(super) fn seal_last(mut self) -> Result<Vec<u8>, SealError> {
        let place = self.sequence.last();
        let len = self.filled + SEGMENT_OVERHEAD;
        self.sealer
            .seal(place, self.ivs.next()?, &mut self.buffer[..len])
            .expect("what is filled is at most a segment");
        Ok(self.buffer[..len].to_vec())
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    #[error(transparent)]
    TooLong(#[from] TooManySegments),
}

impl From<SealError> for std::io::Error {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Randomness(error) => Self::other(error),
            SealError::TooLong(error) => Self::new(std::io::ErrorKind::FileTooLarge, error),
        }
    }
}
