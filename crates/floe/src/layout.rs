//! The arithmetic of random access: which bytes are which segment's.

use std::ops::Range;

use thiserror::Error;

use crate::params::SegmentLen;
use crate::place::{Finality, MAX_SEGMENTS, Place, Position};
use crate::segment::SEGMENT_OVERHEAD;

/// Sizes must fit a file offset: at most 2^63 - 1 bytes.
const MAX_LEN: u64 = i64::MAX as u64;

const OVERHEAD: u64 = SEGMENT_OVERHEAD as u64;

/// How a payload of a known length is cut into segments.
///
/// Lengths and ranges of ciphertext count from the first segment: the header's
/// [`Header::LEN`](crate::Header::LEN) bytes before it are not part of them.
///
/// A length that storage reports is a claim. A position and finality derived
/// from it hold once the segment opens, so a reader opens the last segment
/// before it reports a length or an end of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    segment_len: SegmentLen,
    segments: u64,
    /// Encrypted length of the last segment, in bytes.
    last_len: u64,
}

impl Layout {
    /// Cuts a plaintext of `len` bytes as our writers do: the last segment is
    /// full when it can be, and empty only when the whole plaintext is.
    ///
    /// # Errors
    ///
    /// [`LayoutError::TooLong`] above 2^40 segments or 2^63 - 1 bytes.
    pub fn of_plaintext(segment_len: SegmentLen, len: u64) -> Result<Self, LayoutError> {
        let whole = segment_len.plaintext() as u64;
        let segments = len.div_ceil(whole).max(1);
        let last_len = len - (segments - 1) * whole + OVERHEAD;
        Self { segment_len, segments, last_len }.checked()
    }

    /// Cuts a ciphertext of `len` bytes, without the header.
    ///
    /// Takes an empty last segment after full ones too: other writers make it.
    ///
    /// # Errors
    ///
    /// [`LayoutError::Truncated`] when the end is too short for a segment, and
    /// [`LayoutError::TooLong`] above 2^40 segments or 2^63 - 1 bytes.
    pub fn of_ciphertext(segment_len: SegmentLen, len: u64) -> Result<Self, LayoutError> {
        let whole = segment_len.get() as u64;
        let segments = len.div_ceil(whole).max(1);
        let last_len = len - (segments - 1) * whole;
        if last_len < OVERHEAD {
            return Err(LayoutError::Truncated);
        }
        Self { segment_len, segments, last_len }.checked()
    }

    /// How many segments there are: 1 to 2^40.
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// The place of a segment; `None` past the end.
    pub fn place(&self, index: u64) -> Option<Place> {
        if index >= self.segments {
            return None;
        }
        let finality = if index == self.segments - 1 { Finality::Last } else { Finality::NotLast };
        Some(Place::new(Position::new(index)?, finality))
    }

    /// The whole plaintext's length in bytes.
    pub fn plaintext_len(&self) -> u64 {
        (self.segments - 1) * self.plaintext_step() + self.last_len - OVERHEAD
    }

    /// All segments' length in bytes.
    pub fn ciphertext_len(&self) -> u64 {
        (self.segments - 1) * self.ciphertext_step() + self.last_len
    }

    /// Which bytes of the plaintext a segment holds; `None` past the end.
    pub fn plaintext_range(&self, index: u64) -> Option<Range<u64>> {
        self.range(index, self.plaintext_step(), self.plaintext_len())
    }

    /// Which bytes of the ciphertext a segment is; `None` past the end.
    pub fn ciphertext_range(&self, index: u64) -> Option<Range<u64>> {
        self.range(index, self.ciphertext_step(), self.ciphertext_len())
    }

    /// The index of the segment that holds a byte of the plaintext; `None` at
    /// the plaintext's end and beyond.
    pub fn segment_at(&self, plaintext_offset: u64) -> Option<u64> {
        (plaintext_offset < self.plaintext_len()).then(|| plaintext_offset / self.plaintext_step())
    }

    fn range(&self, index: u64, step: u64, len: u64) -> Option<Range<u64>> {
        if index >= self.segments {
            return None;
        }
        let start = index * step;
        Some(start..len.min(start + step))
    }

    fn plaintext_step(&self) -> u64 {
        self.segment_len.plaintext() as u64
    }

    fn ciphertext_step(&self) -> u64 {
        self.segment_len.get() as u64
    }

    /// 2^40 segments of 16 MiB pass 2^63, so both bounds are needed.
    fn checked(self) -> Result<Self, LayoutError> {
        let total = (self.segments - 1)
            .checked_mul(self.ciphertext_step())
            .and_then(|full| full.checked_add(self.last_len));
        match total {
            Some(total) if total <= MAX_LEN && self.segments <= MAX_SEGMENTS => Ok(self),
            _ => Err(LayoutError::TooLong),
        }
    }
}

/// Why a length gives no layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// More than 2^40 segments, or more than 2^63 - 1 bytes.
    #[error("the payload is longer than 2^40 segments or 2^63 - 1 bytes")]
    TooLong,
    /// What stands at the end is shorter than any segment.
    #[error("the payload ends within a segment")]
    Truncated,
}
