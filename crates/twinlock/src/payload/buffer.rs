//! Memory that plaintext passes through.

use std::ops::{Deref, DerefMut};

use zeroize::Zeroize as _;

/// So many bytes, wiped when dropped.
///
/// `Zeroizing<Vec<u8>>` does the same byte by byte, and takes as long for a
/// segment as sealing it. A slice is wiped at the speed of `memset`.
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    pub(super) fn new(len: usize) -> Self {
        Self(vec![0; len])
    }

    /// The first `len` bytes, which are no secret. The rest is wiped.
    pub(super) fn into_public(mut self, len: usize) -> Vec<u8> {
        self.0[len..].zeroize();
        self.0.truncate(len);
        std::mem::take(&mut self.0)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}
