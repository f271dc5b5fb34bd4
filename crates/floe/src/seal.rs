//! Sealing segments.

use std::fmt;

use thiserror::Error;

use crate::key::CurrentKey;
use crate::place::{Place, Position};
use crate::segment::{Parts, SegmentIv, length_field};

/// One worker's sealer, from [`SealKey::sealer`](crate::SealKey::sealer).
pub struct Sealer {
    key: CurrentKey,
}

impl Sealer {
    /// Seals a segment in place (C2SP FLOE, `encryptSegment`).
    ///
    /// `buf` is the whole segment: its plaintext lies from
    /// [`PLAINTEXT_OFFSET`](crate::PLAINTEXT_OFFSET) to
    /// [`TAG_LEN`](crate::TAG_LEN) bytes before the end, and the rest is
    /// written. A segment that is not the last is exactly the payload's segment
    /// length; the last one has 32 bytes to that many. Allocates nothing, but
    /// for a new AES key every 2^20 positions.
    ///
    /// # Errors
    ///
    /// [`SealError::Len`] when `buf` has another length; it is left as it was.
    pub fn seal(&mut self, place: Place, iv: SegmentIv, buf: &mut [u8]) -> Result<(), SealError> {
        let len = buf.len();
        let position = place.position();
        let parts = Parts::of(buf, &place, self.key.segment_len())
            .ok_or(SealError::Len { position, len })?;
        *parts.length_field = length_field(place.finality(), parts.text.len());
        *parts.iv = *iv.as_bytes();
        let aead = self.key.at(position);
        *parts.tag = aead.seal_in_place(iv.as_bytes(), &place.aad(), parts.text);
        Ok(())
    }

    /// As [`Sealer::seal`], from one buffer into another: nothing is copied on
    /// the way.
    ///
    /// `segment` is the whole segment, all of which is written, and 32 bytes
    /// longer than `plaintext`.
    ///
    /// # Errors
    ///
    /// [`SealError::Len`] when `segment` has another length than a segment of
    /// that place, and [`SealError::PlaintextLen`] when `plaintext` does not
    /// fill it; `segment` is left as it was.
    pub fn seal_from(
        &mut self,
        place: Place,
        iv: SegmentIv,
        plaintext: &[u8],
        segment: &mut [u8],
    ) -> Result<(), SealError> {
        let len = segment.len();
        let position = place.position();
        let parts = Parts::of(segment, &place, self.key.segment_len())
            .ok_or(SealError::Len { position, len })?;
        let (len, expected) = (plaintext.len(), parts.text.len());
        if len != expected {
            return Err(SealError::PlaintextLen { position, len, expected });
        }
        *parts.length_field = length_field(place.finality(), len);
        *parts.iv = *iv.as_bytes();
        let aead = self.key.at(position);
        *parts.tag = aead.seal_from(iv.as_bytes(), &place.aad(), plaintext, parts.text);
        Ok(())
    }

    pub(crate) fn new(key: CurrentKey) -> Self {
        Self { key }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// Why a segment was not sealed: a misuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The buffer cannot hold a segment of that place.
    #[error("segment {position} cannot have {len} bytes")]
    Len {
        /// The segment's position.
        position: Position,
        /// The buffer's length in bytes.
        len: usize,
    },
    /// The plaintext does not fill the segment that it was to be sealed into.
    #[error("segment {position} takes {expected} bytes of plaintext, not {len}")]
    PlaintextLen {
        /// The segment's position.
        position: Position,
        /// The plaintext's length in bytes.
        len: usize,
        /// The segment's length in bytes, less its overhead.
        expected: usize,
    },
}
