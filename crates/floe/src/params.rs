//! The parameters that a FLOE header carries (C2SP FLOE, "Parameters").

use thiserror::Error;

use crate::segment::SEGMENT_OVERHEAD;

/// Length of `PARAM_ENCODE`: AEAD_ID(1) || KDF_ID(1) || ENC_SEG_LEN(4) || FLOE_IV_LEN(4).
pub(crate) const PARAMS_LEN: usize = 10;

/// Length of the FLOE IV in bytes.
pub(crate) const FLOE_IV_LEN: usize = 32;

/// AEAD_ID 0 is AES-256-GCM, and KDF_ID 0 is HKDF-Expand-SHA-384.
const SUITE: [u8; 2] = [0, 0];

/// FLOE_IV_LEN as `PARAM_ENCODE` writes it.
const FLOE_IV_LEN_FIELD: [u8; 4] = 32u32.to_be_bytes();

/// `ENC_SEG_LEN`: the length of an encrypted segment that is not the last, in
/// bytes, including its 32 bytes of overhead. From 33 bytes to 16 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentLen(u32);

impl SegmentLen {
    /// The smallest: one byte of plaintext in each segment.
    pub const MIN: SegmentLen = SegmentLen(33);

    /// The largest, 16 MiB. A segment is the least that a reader must hold
    /// before it may release a byte, so this bounds what a header can make a
    /// reader allocate; it also lies far below the 2^36 bytes that AES-GCM can
    /// take, and fits `usize` on every 32-bit target.
    pub const MAX: SegmentLen = SegmentLen(1 << 24);

    /// Checks a length in bytes.
    ///
    /// # Errors
    ///
    /// [`ParamsError::SegmentLen`] outside [`Self::MIN`]..=[`Self::MAX`].
    pub const fn new(len: u32) -> Result<Self, ParamsError> {
        if len < Self::MIN.0 || len > Self::MAX.0 {
            return Err(ParamsError::SegmentLen(len));
        }
        Ok(Self(len))
    }

    /// The whole encrypted length, in bytes.
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// The plaintext that a segment other than the last holds, in bytes.
    pub const fn plaintext(self) -> usize {
        self.get() - SEGMENT_OVERHEAD
    }

    /// `PARAM_ENCODE(params)`.
    pub(crate) fn encode(self) -> [u8; PARAMS_LEN] {
        let mut params = [0; PARAMS_LEN];
        params[..2].copy_from_slice(&SUITE);
        params[2..6].copy_from_slice(&self.0.to_be_bytes());
        params[6..].copy_from_slice(&FLOE_IV_LEN_FIELD);
        params
    }

    /// Reads `PARAM_ENCODE(params)`; only our one suite is understood.
    pub(crate) fn decode(params: [u8; PARAMS_LEN]) -> Result<Self, ParamsError> {
        let [aead, kdf, a, b, c, d, iv_len @ ..] = params;
        if [aead, kdf] != SUITE || iv_len != FLOE_IV_LEN_FIELD {
            return Err(ParamsError::Suite);
        }
        Self::new(u32::from_be_bytes([a, b, c, d]))
    }
}

/// Why parameters were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// The segment length, in bytes, is out of bounds.
    #[error("FLOE segment length {0} is not between 33 bytes and 16 MiB")]
    SegmentLen(u32),
    /// AEAD, KDF or IV length other than AES-256-GCM, HKDF-SHA-384, 32 bytes.
    #[error(
        "FLOE parameters name algorithms other than AES-256-GCM, HKDF-SHA-384 and a 32-byte IV"
    )]
    Suite,
}
