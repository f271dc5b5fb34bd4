//! Opening segments.

use std::fmt;

use thiserror::Error;

use crate::key::CurrentKey;
use crate::place::{Place, Position};
use crate::segment::{Parts, Received, length_field};

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
        if *parts.length_field != length_field(place.finality(), parts.text.len()) {
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

    /// As [`Opener::open`], from one buffer into another: nothing is copied on
    /// the way.
    ///
    /// `segment` is the whole segment, and `plaintext` 32 bytes shorter.
    ///
    /// # Errors
    ///
    /// As [`Opener::open`], and [`SegmentError::PlaintextLen`] when `plaintext`
    /// has another length than what is in the segment. Then `plaintext` holds
    /// nothing that was decrypted: it is as it was, or zeros.
    pub fn open_into(
        &mut self,
        place: Place,
        segment: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), SegmentError> {
        let position = place.position();
        let parts = Received::of(segment, &place, self.key.segment_len())
            .ok_or(SegmentError::Len { position, len: segment.len() })?;
        if *parts.length_field != length_field(place.finality(), parts.text.len()) {
            return Err(SegmentError::LengthField { position });
        }
        let (len, expected) = (plaintext.len(), parts.text.len());
        if len != expected {
            return Err(SegmentError::PlaintextLen { position, len, expected });
        }
        let aead = self.key.at(position);
        aead.open_into(parts.iv, &place.aad(), parts.text, plaintext, parts.tag).map_err(|_| {
            plaintext.fill(0); // as in `open`
            SegmentError::NotAuthentic { position }
        })
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

/// Why a segment was not opened. All of these but [`SegmentError::PlaintextLen`]
/// are what hostile or damaged storage can cause; [`SegmentError::Len`] also a
/// caller who cuts wrongly.
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
    /// The buffer for the plaintext is not as long as that is: a misuse.
    #[error("segment {position} has {expected} bytes of plaintext, not {len}")]
    PlaintextLen {
        /// The segment's position.
        position: Position,
        /// The buffer's length in bytes.
        len: usize,
        /// The segment's length in bytes, less its overhead.
        expected: usize,
    },
    /// The tag failed.
    #[error("segment {position} is not authentic")]
    NotAuthentic {
        /// The segment's position.
        position: Position,
    },
}
