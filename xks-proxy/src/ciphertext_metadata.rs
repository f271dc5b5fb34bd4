//! What the proxy notes beside a ciphertext, for its own later use (section
//! "Encrypt", `ciphertextMetadata`).
//!
//! Ours is 5 bytes: a format version, 1, and the generation of the key that
//! encrypted, as a big-endian `u32`. Decrypt finds the key by it, so a key can
//! be rotated beneath its external key id. It is no secret, and [`crate::aad`]
//! binds it into the tag.

/// The most bytes that ciphertext metadata may have.
pub const MAX_LEN: usize = 20;

const VERSION: u8 = 1;

/// Ciphertext metadata: ours, or whatever another proxy wrote, 20 bytes at the
/// most. None at all is the same as empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CiphertextMetadata {
    bytes: [u8; MAX_LEN],
    len: u8,
}

/// Ciphertext metadata has more than 20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ciphertext metadata has more than {MAX_LEN} bytes")]
pub struct TooLong;

impl CiphertextMetadata {
    /// What this proxy writes when the key of `generation` encrypts.
    #[must_use]
    pub fn of_generation(generation: u32) -> Self {
        let mut bytes = [0; MAX_LEN];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&generation.to_be_bytes());
        Self { bytes, len: 5 }
    }

    /// Takes the bytes as they came.
    ///
    /// # Errors
    /// When they are more than 20.
    pub fn parse(bytes: &[u8]) -> Result<Self, TooLong> {
        let mut taken = Self::default();
        taken.bytes.get_mut(..bytes.len()).ok_or(TooLong)?.copy_from_slice(bytes);
        taken.len = u8::try_from(bytes.len()).map_err(|_| TooLong)?;
        Ok(taken)
    }

    /// The generation, if the bytes have the form that this proxy writes.
    ///
    /// Only the tag says whether they are what it wrote.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        match self.as_bytes() {
            [VERSION, generation @ ..] => generation.try_into().ok().map(u32::from_be_bytes),
            _ => None,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// How many bytes: 0 to 20.
    pub(crate) fn len(&self) -> u8 {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_five_bytes() {
        let metadata = CiphertextMetadata::of_generation(0x0102_a0ff);
        assert_eq!(metadata.as_bytes(), [1, 1, 2, 0xa0, 0xff]);
        for generation in [0, 1, u32::MAX] {
            let written = CiphertextMetadata::of_generation(generation);
            let read = CiphertextMetadata::parse(written.as_bytes()).unwrap();
            assert_eq!(read, written);
            assert_eq!(read.generation(), Some(generation));
        }
    }

    #[test]
    fn what_this_proxy_does_not_write_names_no_generation() {
        let foreign: [&[u8]; 7] = [
            b"",
            b"\x01",
            b"\x01\0\0\0",
            b"\x01\0\0\0\0\0",
            b"\x02\0\0\0\0",
            b"\0\0\0\0\0",
            &[1; 20],
        ];
        for bytes in foreign {
            let metadata = CiphertextMetadata::parse(bytes).unwrap();
            assert_eq!(metadata.generation(), None, "{bytes:?}");
            assert_eq!(metadata.as_bytes(), bytes);
        }
        assert_eq!(CiphertextMetadata::default().as_bytes(), b"");
    }

    #[test]
    fn it_has_20_bytes_at_the_most() {
        assert!(CiphertextMetadata::parse(&[7; 20]).is_ok());
        for len in [21, 255, 256, 261, 70_000] {
            assert_eq!(CiphertextMetadata::parse(&vec![1; len]), Err(TooLong), "{len}");
        }
    }
}
