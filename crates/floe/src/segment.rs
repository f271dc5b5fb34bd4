//! The bytes of one segment.

use thiserror::Error;

use crate::params::SegmentLen;
use crate::place::{Finality, Place};

/// Where the plaintext lies in a segment's buffer: after the length field (4
/// bytes) and the AEAD IV (12 bytes).
pub const PLAINTEXT_OFFSET: usize = LENGTH_FIELD_LEN + SegmentIv::LEN;

/// Length of the tag at a segment's end, in bytes.
pub const TAG_LEN: usize = 16;

/// What sealing adds to the plaintext of a segment, in bytes.
pub const SEGMENT_OVERHEAD: usize = PLAINTEXT_OFFSET + TAG_LEN;

const LENGTH_FIELD_LEN: usize = 4;

/// The length field of every segment but the last.
const NOT_LAST: u32 = u32::MAX;

/// The AEAD IV of one segment: 12 bytes, freshly random for each. An IV used
/// twice under one AES key breaks AES-GCM for both segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentIv([u8; SegmentIv::LEN]);

impl SegmentIv {
    /// Length in bytes.
    pub const LEN: usize = 12;

    /// Takes 12 random bytes.
    pub const fn new(random: [u8; Self::LEN]) -> Self {
        Self(random)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// What the first four bytes of a segment claim, before it is authenticated.
///
/// A stream's reader learns from it how many bytes to read and whether they
/// are the last; [`Opener::open`](crate::Opener::open) then proves the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    encrypted_len: usize,
    finality: Finality,
}

impl SegmentHead {
    /// Bytes to hand to [`SegmentHead::parse`]; they are part of the segment.
    pub const LEN: usize = LENGTH_FIELD_LEN;

    /// Reads a length field.
    ///
    /// # Errors
    ///
    /// [`HeadError`] when no segment of this payload can have that length.
    pub fn parse(field: &[u8; Self::LEN], segment_len: SegmentLen) -> Result<Self, HeadError> {
        let field = u32::from_be_bytes(*field);
        if field == NOT_LAST {
            return Ok(Self { encrypted_len: segment_len.get(), finality: Finality::NotLast });
        }
        match usize::try_from(field) {
            Ok(len) if fits_last(len, segment_len) => {
                Ok(Self { encrypted_len: len, finality: Finality::Last })
            }
            _ => Err(HeadError::Len(field)),
        }
    }

    /// The whole segment's length in bytes, the length field included.
    pub fn encrypted_len(&self) -> usize {
        self.encrypted_len
    }

    /// Whether it claims to be the last segment.
    pub fn finality(&self) -> Finality {
        self.finality
    }
}

/// Why a length field was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Neither the mark of a segment that is not the last nor a length, in
    /// bytes, between the overhead and the payload's segment length.
    #[error("segment length field {0} is impossible for this payload")]
    Len(u32),
}

/// A segment's buffer, cut into its parts.
pub(crate) struct Parts<'a> {
    pub(crate) length_field: &'a mut [u8; LENGTH_FIELD_LEN],
    pub(crate) iv: &'a mut [u8; SegmentIv::LEN],
    pub(crate) text: &'a mut [u8],
    pub(crate) tag: &'a mut [u8; TAG_LEN],
}

impl<'a> Parts<'a> {
    /// `None` when a segment at that place cannot have the buffer's length.
    pub(crate) fn of(buf: &'a mut [u8], place: &Place, segment_len: SegmentLen) -> Option<Self> {
        if !fits(buf.len(), place.finality(), segment_len) {
            return None;
        }
        let (length_field, rest) = buf.split_first_chunk_mut()?;
        let (iv, rest) = rest.split_first_chunk_mut()?;
        let (text, tag) = rest.split_last_chunk_mut()?;
        Some(Self { length_field, iv, text, tag })
    }
}

/// A received segment, cut into its parts.
pub(crate) struct Received<'a> {
    pub(crate) length_field: &'a [u8; LENGTH_FIELD_LEN],
    pub(crate) iv: &'a [u8; SegmentIv::LEN],
    pub(crate) text: &'a [u8],
    pub(crate) tag: &'a [u8; TAG_LEN],
}

impl<'a> Received<'a> {
    /// As [`Parts::of`].
    pub(crate) fn of(segment: &'a [u8], place: &Place, segment_len: SegmentLen) -> Option<Self> {
        if !fits(segment.len(), place.finality(), segment_len) {
            return None;
        }
        let (length_field, rest) = segment.split_first_chunk()?;
        let (iv, rest) = rest.split_first_chunk()?;
        let (text, tag) = rest.split_last_chunk()?;
        Some(Self { length_field, iv, text, tag })
    }
}

/// The length field of a segment with so many bytes of text.
pub(crate) fn length_field(finality: Finality, text_len: usize) -> [u8; LENGTH_FIELD_LEN] {
    let field = match finality {
        Finality::NotLast => NOT_LAST,
        Finality::Last => {
            u32::try_from(text_len + SEGMENT_OVERHEAD).expect("a segment is at most 16 MiB")
        }
    };
    field.to_be_bytes()
}

fn fits(len: usize, finality: Finality, segment_len: SegmentLen) -> bool {
    match finality {
        Finality::NotLast => len == segment_len.get(),
        Finality::Last => fits_last(len, segment_len),
    }
}

fn fits_last(len: usize, segment_len: SegmentLen) -> bool {
    (SEGMENT_OVERHEAD..=segment_len.get()).contains(&len)
}
