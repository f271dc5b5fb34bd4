//! What is wrong with a payload.

use std::io;

use twinlock_floe::SegmentError;
use twinlock_format::{DetachedPrefixError, EnvelopeId};

/// The payload is not what was encrypted. Offsets count bytes from the start
/// of the file.
///
/// Readers return it inside an [`io::Error`] of kind `InvalidData`;
/// [`PayloadError::of`] finds it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The payload's own header is not authentic: it was altered, or is of
    /// another file.
    #[error("the payload's header, at byte {offset}, is not authentic: the file was tampered with")]
    Header {
        /// Where it stands.
        offset: u64,
    },
    /// A payload that is kept apart belongs to another header.
    #[error("the payload is that of another header: it is of envelope {actual}, not {expected}")]
    OtherEnvelope {
        /// The envelope id in the payload's prefix, unverified.
        actual: EnvelopeId,
        /// The header's.
        expected: EnvelopeId,
    },
    /// The header was kept apart, and what should be its payload does not begin
    /// as one.
    #[error(transparent)]
    Prefix(DetachedPrefixError),
    /// A segment is not authentic: altered, moved, repeated, or of another
    /// file.
    #[error("segment {segment}, at byte {offset}, is not authentic: the file was tampered with")]
    Segment {
        /// Its number, counted from 0.
        segment: u64,
        /// Where it stands.
        offset: u64,
    },
    /// An authentic payload header with a segment length that readers of
    /// envelopes do not take.
    #[error("segments of {0} bytes are not supported, only powers of two from 4096 to 16777216")]
    SegmentLen(usize),
    /// Bytes follow after the last segment.
    #[error("the payload ends at byte {offset}, but more bytes follow: the file was tampered with")]
    Trailing {
        /// The first byte that should not be there.
        offset: u64,
    },
    /// The file ends before its last segment.
    #[error("the file is cut short at byte {offset}: its end is missing")]
    Truncated {
        /// Where it ends.
        offset: u64,
    },
}

impl PayloadError {
    /// The payload error inside what a reader returned, if it is one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    pub(crate) fn segment(error: SegmentError, offset: u64) -> Self {
        let position = match error {
            SegmentError::Len { position, .. }
            | SegmentError::LengthField { position }
            | SegmentError::NotAuthentic { position } => position,
            _ => unreachable!("floe has no other segment errors"),
        };
        Self::Segment { segment: position.get(), offset }
    }
}

impl From<PayloadError> for io::Error {
    fn from(error: PayloadError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
