//! Opening segments.

use std::fmt;

use thiserror::Error;

use crate::key::CurrentKey;
use crate::place::{Place, Position};
use crate::segment::Parts;

/// One worker's opener, from [`OpenKey::opener`](crate::OpenKey::opener).
pub struct Opener {
    key: CurrentKey,
}

impl Opener {
    /// Opens a segment in place (C2SP FLOE, `decryptSegment`) and returns its
    /// plaintext, which is a part of `buf`.
    ///
    /// `buf` is the whole segment as [`Sealer::seal`](crate::Sealer::seal)
    /// left it. Allocates nothing, but for a new AES key every 2^20 positions.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Len`] and [`SegmentError::LengthField`] when a segment
    /// of that place cannot look so, and [`SegmentError::NotAuthentic`] when
    /// its tag fails. Then `buf` holds nothing that was decrypted: its
    /// plaintext region is ciphertext still, or zeros.
    pub fn open<'a>(
        &mut self,
        place: Place,
        buf: &'a mut [u8],
    ) -> Result<&'a mut [u8], SegmentError> {
        let len = buf.len();
        let position = place.position();
        let parts = Parts::of(buf, &place, self.key.segment_len())
            .ok_or(SegmentError::Len { position, len })?;
        if *parts.length_field != parts.expected_length_field(place.finality()) {
            return Err(SegmentError::LengthField { position });
        }
        let aead = self.key.at(position);
        match aead.open_in_place(parts.iv, &place.aad(), parts.text, parts.tag) {
            Ok(()) => Ok(parts.text),
            Err(_) => {
                // AWS-LC decrypts before it compares the tag, RustCrypto after.
                // Neither promises what it leaves behind, so we clear it.
                parts.text.fill(0);
                Err(SegmentError::NotAuthentic { position })
            }
        }
    }

    pub(crate) fn new(key: CurrentKey) -> Self {
        Self { key }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

/// Why a segment was not opened. All of these are what hostile or damaged
/// storage can cause; [`SegmentError::Len`] also a caller who cuts wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// No segment of that place has so many bytes.
    #[error("segment {position} cannot have {len} bytes")]
    Len {
        /// The segment's position.
        position: Position,
        /// The buffer's length in bytes.
        len: usize,
    },
    /// The length field contradicts the segment's place or length.
    #[error("segment {position} has a length field that contradicts its place")]
    LengthField {
        /// The segment's position.
        position: Position,
    },
    /// The tag failed.
    #[error("segment {position} is not authentic")]
    NotAuthentic {
        /// The segment's position.
        position: Position,
    },
}
