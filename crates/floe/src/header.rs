//! The FLOE header: 74 bytes before the first segment.

use thiserror::Error;

use crate::params::{FLOE_IV_LEN, PARAMS_LEN, ParamsError, SegmentLen};

/// Length of the header tag in bytes.
pub(crate) const HEADER_TAG_LEN: usize = 32;

/// A header as it was received: parsed, **not verified**.
///
/// Good for showing what a file claims. Only [`OpenKey::open`] verifies it.
///
/// [`OpenKey::open`]: crate::OpenKey::open
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    segment_len: SegmentLen,
    iv: [u8; FLOE_IV_LEN],
    tag: [u8; HEADER_TAG_LEN],
}

impl Header {
    /// Length of a header in bytes: parameters (10), IV (32), tag (32).
    pub const LEN: usize = PARAMS_LEN + FLOE_IV_LEN + HEADER_TAG_LEN;

    /// Reads a header without verifying its tag.
    ///
    /// # Errors
    ///
    /// [`HeaderError::Params`] when the parameters are not ones of ours.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, HeaderError> {
        let (params, rest) = split(bytes);
        let (iv, tag) = split(rest);
        Ok(Self { segment_len: SegmentLen::decode(*params)?, iv: *iv, tag: *split(tag).0 })
    }

    /// The segment length that the header claims.
    pub fn segment_len(&self) -> SegmentLen {
        self.segment_len
    }

    /// The FLOE IV that the header claims.
    pub fn iv(&self) -> &[u8; FLOE_IV_LEN] {
        &self.iv
    }

    pub(crate) fn new(
        segment_len: SegmentLen,
        iv: [u8; FLOE_IV_LEN],
        tag: [u8; HEADER_TAG_LEN],
    ) -> Self {
        Self { segment_len, iv, tag }
    }

    pub(crate) fn tag(&self) -> &[u8; HEADER_TAG_LEN] {
        &self.tag
    }

    pub(crate) fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (params, rest) = bytes.split_at_mut(PARAMS_LEN);
        let (iv, tag) = rest.split_at_mut(FLOE_IV_LEN);
        params.copy_from_slice(&self.segment_len.encode());
        iv.copy_from_slice(&self.iv);
        tag.copy_from_slice(&self.tag);
        bytes
    }
}

/// Takes the first N bytes off a slice whose length the header's type fixes.
fn split<const N: usize>(bytes: &[u8]) -> (&[u8; N], &[u8]) {
    bytes.split_first_chunk().expect("10 + 32 + 32 bytes make a header")
}

/// Why a header could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Its parameters are not ones that this crate opens.
    #[error(transparent)]
    Params(#[from] ParamsError),
}
