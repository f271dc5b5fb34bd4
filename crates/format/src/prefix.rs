//! A header's first bytes (format.md, "Header").

use crate::HeaderError;
use crate::detached;
use crate::limits::{HEADER_TAG_LEN, MAX_BODY_LEN, PREFIX_LEN};

pub(crate) const VERSION: u8 = 1;
const MAGIC: &[u8; 8] = b"TWINLOCK";

/// A header's first 16 bytes, from which its length is known.
///
/// A reader of a stream takes these first, and allocates for the rest only
/// when they are in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    body_len: usize,
}

impl Prefix {
    /// Reads the first 16 bytes of `bytes`; what follows is not looked at.
    ///
    /// # Errors
    /// [`HeaderError::NotTwinlock`] as soon as a byte differs from the magic,
    /// even when there are fewer than 16.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let magic_len = bytes.len().min(MAGIC.len());
        if bytes.starts_with(detached::MAGIC) {
            return Err(HeaderError::DetachedPayload);
        }
        if bytes[..magic_len] != MAGIC[..magic_len] {
            return Err(HeaderError::NotTwinlock);
        }
        let Some(prefix) = bytes.first_chunk::<PREFIX_LEN>() else {
            return Err(HeaderError::Truncated { have: bytes.len(), need: PREFIX_LEN });
        };
        let [.., version, r1, r2, r3, l1, l2, l3, l4] = *prefix;
        if version != VERSION {
            return Err(HeaderError::UnsupportedVersion(version));
        }
        if [r1, r2, r3] != [0; 3] {
            return Err(HeaderError::malformed(9, "three zero bytes"));
        }
        let body_len = u32::from_be_bytes([l1, l2, l3, l4]) as usize;
        if body_len > MAX_BODY_LEN {
            return Err(HeaderError::malformed(12, "a body of at most 65,488 bytes"));
        }
        Ok(Self { body_len })
    }

    /// Bytes of the body, padding included.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.body_len
    }

    /// Bytes of the whole header: this prefix, the body and the tag.
    #[must_use]
    pub fn header_len(&self) -> usize {
        PREFIX_LEN + self.body_len + HEADER_TAG_LEN
    }

    /// Of a body of a length that [`Padding`](crate::Padding) has checked.
    pub(crate) fn of_body(body_len: usize) -> Self {
        Self { body_len }
    }

    pub(crate) fn encode(self) -> [u8; PREFIX_LEN] {
        let body_len = u32::try_from(self.body_len).expect("a body has at most 65,488 bytes");
        let mut bytes = [0; PREFIX_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        bytes[12..].copy_from_slice(&body_len.to_be_bytes());
        bytes
    }
}
