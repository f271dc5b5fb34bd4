//! AES-256-GCM, twice: which implementation, chosen at run time.

#[cfg(feature = "backend-aws-lc")]
mod aws_lc;
#[cfg(feature = "backend-rustcrypto")]
mod rustcrypto;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::kdf::SegmentKey;
use crate::segment::{SegmentIv, TAG_LEN};

/// An implementation of AES-256-GCM. All give the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// AWS-LC, in C and assembly: the fast one.
    #[cfg(feature = "backend-aws-lc")]
    AwsLc,
    /// RustCrypto's `aes-gcm`.
    #[cfg(feature = "backend-rustcrypto")]
    RustCrypto,
}

impl Backend {
    /// What this build has, the default first.
    pub const fn available() -> &'static [Backend] {
        &[
            #[cfg(feature = "backend-aws-lc")]
            Backend::AwsLc,
            #[cfg(feature = "backend-rustcrypto")]
            Backend::RustCrypto,
        ]
    }

    /// The name that [`FromStr`] reads: `aws-lc` or `rustcrypto`.
    pub const fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "backend-aws-lc")]
            Backend::AwsLc => AWS_LC,
            #[cfg(feature = "backend-rustcrypto")]
            Backend::RustCrypto => RUSTCRYPTO,
        }
    }

    pub(crate) fn aead(self, key: &SegmentKey) -> Box<dyn Aead> {
        match self {
            #[cfg(feature = "backend-aws-lc")]
            Backend::AwsLc => Box::new(aws_lc::AwsLc::new(key)),
            #[cfg(feature = "backend-rustcrypto")]
            Backend::RustCrypto => Box::new(rustcrypto::RustCrypto::new(key)),
        }
    }
}

/// AWS-LC where it was compiled in, else RustCrypto.
impl Default for Backend {
    fn default() -> Self {
        Self::available()[0]
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = BackendError;

    fn from_str(name: &str) -> Result<Self, BackendError> {
        let known = Self::available().iter().find(|backend| backend.name() == name);
        match known {
            Some(backend) => Ok(*backend),
            None if [AWS_LC, RUSTCRYPTO].contains(&name) => Err(BackendError::NotBuilt),
            None => Err(BackendError::Unknown),
        }
    }
}

const AWS_LC: &str = "aws-lc";
const RUSTCRYPTO: &str = "rustcrypto";

/// Why a name gives no [`Backend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The name is right, but this build left that implementation out.
    #[error("this build has no such AES-GCM backend")]
    NotBuilt,
    /// No such name.
    #[error("unknown AES-GCM backend: expected `aws-lc` or `rustcrypto`")]
    Unknown,
}

/// AES-256-GCM under one key: 12-byte nonce, 16-byte tag.
pub(crate) trait Aead: Send + Sync {
    /// Turns the plaintext in `text` into ciphertext.
    fn seal_in_place(
        &self,
        nonce: &[u8; SegmentIv::LEN],
        aad: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG_LEN];

    /// Writes `plaintext`'s ciphertext, which is as long.
    fn seal_from(
        &self,
        nonce: &[u8; SegmentIv::LEN],
        aad: &[u8],
        plaintext: &[u8],
        ciphertext: &mut [u8],
    ) -> [u8; TAG_LEN];

    /// Turns the ciphertext in `text` into plaintext. When it was forged,
    /// `text` may hold anything afterwards, plaintext included.
    fn open_in_place(
        &self,
        nonce: &[u8; SegmentIv::LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged>;

    /// Writes `ciphertext`'s plaintext, which is as long. When it was forged,
    /// `plaintext` may hold anything afterwards.
    fn open_into(
        &self,
        nonce: &[u8; SegmentIv::LEN],
        aad: &[u8],
        ciphertext: &[u8],
        plaintext: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged>;
}

/// The tag is wrong. Nothing more is known, nor told.
#[derive(Debug)]
pub(crate) struct Forged;
