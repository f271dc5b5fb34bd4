//! Memory that plaintext passes through.

use std::ops::{Deref, DerefMut};

use zeroize::Zeroize as _;

/// So many bytes, from the start of a page, wiped when dropped.
///
/// `Zeroizing<Vec<u8>>` wipes byte by byte, and takes as long for a segment as
/// sealing it. A slice is wiped at the speed of `memset`.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

/// Of most systems; nothing depends on it but speed.
const PAGE: usize = 4096;

impl Buffer {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = vec![0; len + PAGE];
        // Of no consequence when it cannot be told: then it is not aligned.
        let start = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        Self { bytes, start, len }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.bytes.as_mut_slice().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_a_page_s_beginning_and_as_long_as_asked() {
        for len in [0, 1, 4095, 4096, 1 << 18] {
            let buffer = Buffer::new(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().align_offset(PAGE), 0);
        }
    }
}
