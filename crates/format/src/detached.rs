//! The first bytes of a payload that is kept apart from its header.

use crate::limits::DETACHED_PREFIX_LEN;
use crate::prefix::VERSION;
use crate::{DetachedPrefixError, EnvelopeId};

pub(crate) const MAGIC: &[u8; 8] = b"TWINPAYL";

/// Says which envelope a detached payload belongs to (format.md, "Detached headers").
///
/// It is not authenticated, and needs not be: the payload opens under the right
/// header only. It turns a mix-up into a clear error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetachedPrefix {
    /// The envelope id of the header that opens this payload.
    pub envelope_id: EnvelopeId,
}

impl DetachedPrefix {
    /// Reads the first 44 bytes of `bytes`; what follows is not looked at.
    ///
    /// # Errors
    /// When they are not a detached payload's, or there are fewer (format.md#R27).
    pub fn parse(bytes: &[u8]) -> Result<Self, DetachedPrefixError> {
        let magic_len = bytes.len().min(MAGIC.len());
        if bytes[..magic_len] != MAGIC[..magic_len] {
            return Err(DetachedPrefixError::NotDetachedPayload);
        }
        let Some(prefix) = bytes.first_chunk::<DETACHED_PREFIX_LEN>() else {
            return Err(DetachedPrefixError::Truncated {
                have: bytes.len(),
                need: DETACHED_PREFIX_LEN,
            });
        };
        if prefix[8] != VERSION {
            return Err(DetachedPrefixError::UnsupportedVersion(prefix[8]));
        }
        if prefix[9..12] != [0; 3] {
            return Err(DetachedPrefixError::Malformed { offset: 9, expected: "three zero bytes" });
        }
        let id = prefix.last_chunk().expect("44 bytes have 32 last ones");
        Ok(Self { envelope_id: EnvelopeId(*id) })
    }

    /// The 44 bytes that come before the payload.
    #[must_use]
    pub fn encode(&self) -> [u8; DETACHED_PREFIX_LEN] {
        let mut bytes = [0; DETACHED_PREFIX_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        bytes[12..].copy_from_slice(self.envelope_id.as_bytes());
        bytes
    }
}
