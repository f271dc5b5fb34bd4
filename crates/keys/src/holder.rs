//! What a key holder does.

use std::pin::Pin;

use crate::{HolderError, KeyUri, Share, Side};

/// A boxed future, as [`KeyHolder`] returns it. It runs on any executor unless
/// the holder says otherwise.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whoever keeps a KEK and wraps and unwraps shares with it.
///
/// An implementation
/// - answers within a bounded time, whatever becomes of the key behind it;
/// - binds [`WrapContext::aad`] if its key has room for additional data (the
///   library checks every share against its context in any case);
/// - says by [`HolderError::kind`](crate::HolderError::kind) whose fault a
///   failure is, and by [`HolderErrorKind::InvalidCiphertext`] nothing more
///   than that the ciphertext was not accepted;
/// - never logs or returns secret bytes other than as a [`Share`].
///
/// [`HolderErrorKind::InvalidCiphertext`]: crate::HolderErrorKind::InvalidCiphertext
pub trait KeyHolder: Send + Sync {
    /// The key's name as headers carry it: aliases resolved, versions and
    /// local details (module paths, PINs) left out.
    fn uri(&self) -> &KeyUri;

    /// Wraps `share` under the key.
    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>>;

    /// True for a holder that can only wrap, because its caller asked for that
    /// by naming one: an exported public key. What it wraps is not read back
    /// before it is used, and the library says so in a warning.
    ///
    /// A holder that passes calls on to another passes this on, too.
    fn only_wraps(&self) -> bool {
        false
    }

    /// Unwraps what [`KeyHolder::wrap_key`] of the same key made.
    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>>;
}

/// What a share is bound to (`docs/format.md`, shares).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrapContext {
    side: Side,
    label: String,
    aad: Vec<u8>,
    pairs: Vec<(String, String)>,
}

impl WrapContext {
    /// A context for the share of `side`. `label` names the share pair
    /// (`v1/provider/<pair id>`), `aad` is the share AAD, and `pairs` is the
    /// encryption context.
    #[must_use]
    pub fn new(side: Side, label: String, aad: Vec<u8>, pairs: Vec<(String, String)>) -> Self {
        Self { side, label, aad, pairs }
    }

    /// Whose share this is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// `v1/<side>/<pair id hex>`: for holders that take key-value pairs rather
    /// than bytes, as the value of [`WrapContext::LABEL_KEY`].
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The bytes to authenticate with the share: the same for every holder
    /// that has AAD.
    #[must_use]
    pub fn aad(&self) -> &[u8] {
        &self.aad
    }

    /// The caller's encryption context.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// The key under which [`WrapContext::label`] stands among the pairs.
    /// Callers' own keys never begin with `twinlock:`.
    pub const LABEL_KEY: &str = "twinlock:share";
}

/// How a share was wrapped (`docs/format.md`, shares: `alg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShareAlgorithm {
    /// An AEAD of the holder's own: the bytes mean something only to it.
    HolderAead,
    /// RSA-OAEP with SHA-256 and MGF1-SHA-256, no label.
    RsaOaepSha256,
    /// AES key wrap, RFC 3394.
    AesKw,
}

/// A share as its holder wrapped it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedShare {
    algorithm: ShareAlgorithm,
    bytes: Vec<u8>,
    key_version: Option<String>,
}

impl WrappedShare {
    /// Wrapped bytes of a key that has no versions.
    #[must_use]
    pub fn new(algorithm: ShareAlgorithm, bytes: Vec<u8>) -> Self {
        Self { algorithm, bytes, key_version: None }
    }

    /// The same with the key's version (1 to 64 of `[A-Za-z0-9-]`, which the
    /// header's encoder checks).
    #[must_use]
    pub fn with_key_version(mut self, version: impl Into<String>) -> Self {
        self.key_version = Some(version.into());
        self
    }

    /// How it was wrapped.
    #[must_use]
    pub fn algorithm(&self) -> ShareAlgorithm {
        self.algorithm
    }

    /// The wrapped bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The version of the key that wrapped it, if its holder has versions.
    #[must_use]
    pub fn key_version(&self) -> Option<&str> {
        self.key_version.as_deref()
    }
}
