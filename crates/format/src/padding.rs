//! Room for a later rewrap (format.md, "Writing").

use crate::HeaderTooLarge;
use crate::limits::{MAX_HEADER_LEN, MIN_STANDARD_PADDING, PADDING_STEP};

/// Zero bytes between a header's fields and its tag, so that a later rewrap
/// finds room to replace the header in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// See [`standard_header_len`].
    #[default]
    Standard,
    /// So many bytes of padding.
    Bytes(usize),
    /// As much padding as makes the whole header so many bytes long.
    FillTo(usize),
}

impl Padding {
    /// The whole header's length, given its length without padding.
    pub(crate) fn header_len(self, unpadded: usize) -> Result<usize, HeaderTooLarge> {
        let (needed, room) = match self {
            Self::Standard => (standard_header_len(unpadded), MAX_HEADER_LEN),
            Self::Bytes(padding) => (unpadded.saturating_add(padding), MAX_HEADER_LEN),
            Self::FillTo(len) => (unpadded.max(len), len.min(MAX_HEADER_LEN)),
        };
        if needed > room {
            return Err(HeaderTooLarge { needed, room });
        }
        Ok(needed)
    }
}

/// The length our writer gives a header that takes `unpadded` bytes with its
/// prefix and its tag: at least 512 bytes more, rounded up to a multiple of
/// 2048, but never more than 65,536 because of the padding.
#[must_use]
pub const fn standard_header_len(unpadded: usize) -> usize {
    if unpadded > MAX_HEADER_LEN {
        return unpadded;
    }
    let padded = (unpadded + MIN_STANDARD_PADDING).next_multiple_of(PADDING_STEP);
    if padded > MAX_HEADER_LEN {
        return MAX_HEADER_LEN;
    }
    padded
}
