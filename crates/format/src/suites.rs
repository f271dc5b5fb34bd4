//! The algorithms that a header names by number.

use std::fmt;

/// How the payload is encrypted. A header with another number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadSuite {
    /// 1: FLOE with AES-256-GCM, HKDF-Expand-SHA-384 and a 32-byte IV.
    Floe,
}

/// How a keyslot's KEK is derived and how it wraps the DEK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KekSuite {
    /// 1: HKDF-SHA-384, then AES-256-GCM.
    HkdfSha384Aes256Gcm,
    /// Another number: the keyslot is kept and cannot be used.
    Unsupported(u64),
}

/// How a holder wrapped a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShareAlgorithm {
    /// 1: the holder's own AEAD, bound to the share AAD where the holder has one.
    HolderAead,
    /// 2: RSA-OAEP with SHA-256 as hash and in MGF1, and an empty label.
    RsaOaepSha256,
    /// 3: AES key wrap (RFC 3394).
    AesKw,
    /// Another number: the keyslot is kept and cannot be used.
    Unsupported(u64),
}

impl PayloadSuite {
    /// The number in the header.
    #[must_use]
    pub const fn id(self) -> u64 {
        match self {
            Self::Floe => 1,
        }
    }

    pub(crate) const fn from_id(id: u64) -> Option<Self> {
        match id {
            1 => Some(Self::Floe),
            _ => None,
        }
    }
}

impl KekSuite {
    /// The number in the header.
    #[must_use]
    pub const fn id(self) -> u64 {
        match self {
            Self::HkdfSha384Aes256Gcm => 1,
            Self::Unsupported(id) => id,
        }
    }

    pub(crate) const fn from_id(id: u64) -> Self {
        match id {
            1 => Self::HkdfSha384Aes256Gcm,
            id => Self::Unsupported(id),
        }
    }
}

impl ShareAlgorithm {
    /// The number in the header.
    #[must_use]
    pub const fn id(self) -> u64 {
        match self {
            Self::HolderAead => 1,
            Self::RsaOaepSha256 => 2,
            Self::AesKw => 3,
            Self::Unsupported(id) => id,
        }
    }

    pub(crate) const fn from_id(id: u64) -> Self {
        match id {
            1 => Self::HolderAead,
            2 => Self::RsaOaepSha256,
            3 => Self::AesKw,
            id => Self::Unsupported(id),
        }
    }
}

impl fmt::Display for PayloadSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Floe => f.write_str("FLOE (AES-256-GCM, HKDF-SHA-384)"),
        }
    }
}

impl fmt::Display for KekSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HkdfSha384Aes256Gcm => f.write_str("HKDF-SHA-384 and AES-256-GCM"),
            Self::Unsupported(id) => write!(f, "unsupported KEK suite {id}"),
        }
    }
}

impl fmt::Display for ShareAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HolderAead => f.write_str("holder's AEAD"),
            Self::RsaOaepSha256 => f.write_str("RSA-OAEP with SHA-256"),
            Self::AesKw => f.write_str("AES key wrap"),
            Self::Unsupported(id) => write!(f, "unsupported share algorithm {id}"),
        }
    }
}
