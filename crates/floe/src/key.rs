//! The two keys of a payload: one only seals, the other only opens.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::backend::{Aead, Backend};
use crate::header::{Header, HeaderError};
use crate::kdf::{Kdf, MessageKey, Prk};
use crate::open::Opener;
use crate::params::{FLOE_IV_LEN, SegmentLen};
use crate::place::{Position, Rotation};
use crate::seal::Sealer;

/// Seals the segments of one payload. `Send + Sync`, and deliberately not
/// `Clone`: one header is for one payload.
pub struct SealKey(Arc<PayloadKey>);

impl SealKey {
    /// Starts a payload. The bytes that come with the key are its header.
    ///
    /// `key` and `iv` are random; `key` serves one payload only. `aad` is any
    /// bytes that the reader must present again; they are not stored.
    pub fn create(
        key: &[u8; 32],
        iv: [u8; FLOE_IV_LEN],
        aad: &[u8],
        segment_len: SegmentLen,
        backend: Backend,
    ) -> (Self, [u8; Header::LEN]) {
        Self::create_rotating(key, iv, aad, segment_len, backend, Rotation::FLOE)
    }

    /// A worker's sealer. Each has its own cached AES key; make one per thread.
    pub fn sealer(&self) -> Sealer {
        Sealer::new(CurrentKey::new(&self.0))
    }

    /// The payload's segment length.
    pub fn segment_len(&self) -> SegmentLen {
        self.0.kdf.segment_len()
    }

    pub(crate) fn create_rotating(
        key: &[u8; 32],
        iv: [u8; FLOE_IV_LEN],
        aad: &[u8],
        segment_len: SegmentLen,
        backend: Backend,
        rotation: Rotation,
    ) -> (Self, [u8; Header::LEN]) {
        let (kdf, key) = (Kdf::new(segment_len, iv, aad), Prk::new(key));
        let header = Header::new(segment_len, iv, kdf.header_tag(&key));
        let message_key = kdf.message_key(&key);
        let payload = PayloadKey { kdf, message_key, backend, rotation };
        (Self(Arc::new(payload)), header.to_bytes())
    }
}

/// Opens the segments of one payload; it cannot seal. `Send + Sync`, and cheap
/// to clone.
///
/// ```compile_fail,E0599
/// fn seal(key: &twinlock_floe::OpenKey) {
///     key.sealer();
/// }
/// ```
///
/// ```compile_fail,E0308
/// fn seal(key: twinlock_floe::OpenKey) -> twinlock_floe::SealKey {
///     key
/// }
/// ```
#[derive(Clone)]
pub struct OpenKey(Arc<PayloadKey>);

impl OpenKey {
    /// Verifies a header, in constant time, before anything in it is used.
    ///
    /// Allocates nothing by the segment length: a reader with a stricter rule
    /// for it applies that to [`OpenKey::segment_len`], which is authentic.
    ///
    /// # Errors
    ///
    /// [`OpenError::Header`] when the header cannot be read, and
    /// [`OpenError::NotAuthentic`] when it, the key or the AAD is another's.
    pub fn open(
        key: &[u8; 32],
        aad: &[u8],
        header: &[u8; Header::LEN],
        backend: Backend,
    ) -> Result<Self, OpenError> {
        Self::open_rotating(key, aad, header, backend, Rotation::FLOE)
    }

    /// A worker's opener. Each has its own cached AES key; make one per thread.
    pub fn opener(&self) -> Opener {
        Opener::new(CurrentKey::new(&self.0))
    }

    /// The payload's segment length, as the verified header has it.
    pub fn segment_len(&self) -> SegmentLen {
        self.0.kdf.segment_len()
    }

    pub(crate) fn open_rotating(
        key: &[u8; 32],
        aad: &[u8],
        header: &[u8; Header::LEN],
        backend: Backend,
        rotation: Rotation,
    ) -> Result<Self, OpenError> {
        let header = Header::parse(header)?;
        let (kdf, key) = (Kdf::new(header.segment_len(), *header.iv(), aad), Prk::new(key));
        if !bool::from(kdf.header_tag(&key).ct_eq(header.tag())) {
            return Err(OpenError::NotAuthentic);
        }
        let message_key = kdf.message_key(&key);
        let payload = PayloadKey { kdf, message_key, backend, rotation };
        Ok(Self(Arc::new(payload)))
    }
}

/// Why a payload could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The header could not be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The header tag does not verify under this key and AAD.
    #[error("the FLOE header is not authentic")]
    NotAuthentic,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").finish_non_exhaustive()
    }
}

impl fmt::Debug for OpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenKey").finish_non_exhaustive()
    }
}

/// What sealers and openers of a payload share.
pub(crate) struct PayloadKey {
    kdf: Kdf,
    message_key: MessageKey,
    backend: Backend,
    rotation: Rotation,
}

/// The AES key of one rotation at a time, as one worker needs it.
pub(crate) struct CurrentKey {
    payload: Arc<PayloadKey>,
    cached: Option<Cached>,
}

struct Cached {
    first_position: u64,
    aead: Box<dyn Aead>,
}

impl CurrentKey {
    pub(crate) fn segment_len(&self) -> SegmentLen {
        self.payload.kdf.segment_len()
    }

    /// The AEAD for a position; derived anew only when the rotation changes.
    pub(crate) fn at(&mut self, position: Position) -> &dyn Aead {
        let first_position = self.payload.rotation.first_position(position);
        let cached = match self.cached.take() {
            Some(cached) if cached.first_position == first_position => cached,
            _ => Cached { first_position, aead: self.payload.aead(position) },
        };
        &*self.cached.insert(cached).aead
    }

    fn new(payload: &Arc<PayloadKey>) -> Self {
        Self { payload: Arc::clone(payload), cached: None }
    }
}

impl PayloadKey {
    fn aead(&self, position: Position) -> Box<dyn Aead> {
        let key = self.kdf.segment_key(&self.message_key, position, self.rotation);
        self.backend.aead(&key)
    }
}
