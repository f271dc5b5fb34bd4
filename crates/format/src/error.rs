//! What can go wrong, split by whose fault it is.

use thiserror::Error;

use crate::limits::MAX_HEADER_LEN;
use crate::text::escape_untrusted;

/// The header's bytes are at fault: hostile, damaged, or newer than this reader.
///
/// Offsets count bytes from the first byte of the header.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The first bytes are those of a payload whose header is kept apart
    /// (format.md#R1).
    #[error("this is a payload whose header is kept apart: it opens only with that header")]
    DetachedPayload,

    /// The first bytes are not the magic (format.md#R1).
    #[error("not a Twinlock file")]
    NotTwinlock,

    /// A version this reader does not know (format.md#R2).
    #[error("envelope version {0} is not supported, only version 1 is")]
    UnsupportedVersion(u8),

    /// The header ends before it is complete (format.md#R5).
    #[error("the header is cut short: {have} bytes of {need}")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes that were needed, as far as the bytes present tell.
        need: usize,
    },

    /// A field that a reader must understand, and this one does not (format.md#R14).
    #[error("byte {offset} of the header: field {key} is of a newer writer and cannot be ignored")]
    UnknownField {
        /// Where the key stands.
        offset: usize,
        /// The even map key.
        key: u64,
    },

    /// A payload suite this reader does not know (format.md#R15).
    #[error("payload suite {0} is not supported, only suite 1 (FLOE) is")]
    UnsupportedPayloadSuite(u64),

    /// Bytes that no writer of this format produces.
    #[error("byte {offset} of the header: expected {expected}")]
    Malformed {
        /// Where the offending item begins.
        offset: usize,
        /// What should have stood there.
        expected: &'static str,
    },
}

impl HeaderError {
    pub(crate) fn malformed(offset: usize, expected: &'static str) -> Self {
        Self::Malformed { offset, expected }
    }
}

/// The first bytes of a detached payload are at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DetachedPrefixError {
    /// The first bytes are not the magic.
    #[error("not a payload whose header is kept apart")]
    NotDetachedPayload,

    /// A version this reader does not know.
    #[error("payload version {0} is not supported, only version 1 is")]
    UnsupportedVersion(u8),

    /// Fewer bytes than a prefix has.
    #[error("the payload is cut short: its first {need} bytes are {have}")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes that were needed.
        need: usize,
    },

    /// A reserved byte is not zero.
    #[error("byte {offset} of the payload: expected {expected}")]
    Malformed {
        /// Where the offending byte stands.
        offset: usize,
        /// What should have stood there.
        expected: &'static str,
    },
}

/// An encryption context that this format does not carry (format.md#R16).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ContextError {
    /// A key or a value holds a control character; names the key.
    #[error("the encryption context key or value at \"{}\" holds a control character", escape_untrusted(.0))]
    ControlCharacter(String),

    /// The same key twice.
    #[error("the encryption context key \"{}\" is given twice", escape_untrusted(.0))]
    DuplicateKey(String),

    /// A key without characters.
    #[error("an encryption context key is empty")]
    EmptyKey,

    /// A key that begins with `twinlock:` or `aws:`, in any case.
    #[error("the encryption context key \"{}\" begins with a reserved prefix (twinlock:, aws:)", escape_untrusted(.0))]
    ReservedKey(String),

    /// Encoded, the context is longer than 4096 bytes.
    #[error("the encryption context takes {0} bytes when encoded, at most 4096 are allowed")]
    TooLong(usize),
}

impl ContextError {
    /// The same rule, as a reader of hostile bytes states it.
    pub(crate) fn expected(&self) -> &'static str {
        match self {
            Self::ControlCharacter(_) => "encryption context text without control characters",
            Self::DuplicateKey(_) => "each encryption context key once",
            Self::EmptyKey => "an encryption context key that is not empty",
            Self::ReservedKey(_) => "an encryption context key without a reserved prefix",
            Self::TooLong(_) => "an encryption context of at most 4096 bytes",
        }
    }
}

/// What the caller wants to write is not a share slot of this format.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidShareSlot {
    /// The key version is not 1 to 64 letters, digits and hyphens (format.md#R20).
    #[error("a key version is 1 to 64 ASCII letters, digits and hyphens")]
    KeyVersion,

    /// An algorithm without a meaning here can be kept, never written anew.
    #[error("share algorithm {0} is not supported")]
    UnsupportedAlgorithm(u64),

    /// The URI is not 1 to 1024 printable ASCII characters (format.md#R18).
    #[error("a key URI in a header is 1 to 1024 printable ASCII characters without spaces")]
    Uri,

    /// The wrapped share is not 1 to 6144 bytes (format.md#R19).
    #[error("a wrapped share is 1 to 6144 bytes, not {0}")]
    WrappedLength(usize),
}

/// Both shares of a pair name one and the same key (format.md#R21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("both shares of the pair name the same key")]
pub struct SameKey;

/// What the caller wants to write is not a header of this format.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// Not 1 to 16 keyslots (format.md#R17).
    #[error("a header has 1 to 16 keyslots, not {0}")]
    KeyslotCount(usize),

    /// The generation cannot be counted up any further.
    #[error("the header is of the last generation that can be counted")]
    LastGeneration,

    /// Two keyslots hold the same share pair (format.md#R22).
    #[error("two keyslots hold the share pair {0}")]
    RepeatedPair(crate::PairId),
}

/// The header does not fit where it should go. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the header takes {needed} bytes, there is room for {room} (a header has at most {MAX_HEADER_LEN})"
)]
pub struct HeaderTooLarge {
    /// Bytes of the header with the padding that was asked for.
    pub needed: usize,
    /// Bytes there is room for.
    pub room: usize,
}

/// The header tag does not belong to the header (format.md#R25).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the header has been tampered with")]
pub struct TamperedHeader;

/// An unwrapped share fails its check (format.md#R23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the share is not the one this keyslot was made with")]
pub struct WrongShare;

/// The wrapped DEK does not open under this KEK (format.md#R24).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the wrapped DEK does not open")]
pub struct WrongKek;
