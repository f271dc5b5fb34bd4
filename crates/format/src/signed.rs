//! A header's bytes and how far they are to be trusted: not yet signed, not yet
//! verified, verified.

use crate::cbor::Reader;
use crate::limits::{HEADER_TAG_LEN, PREFIX_LEN};
use crate::{Header, HeaderError, HeaderKey, Prefix, TamperedHeader};

/// A header's bytes, all but the tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsignedHeader {
    bytes: Vec<u8>,
}

impl UnsignedHeader {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Bytes of the whole header, with the tag that it still lacks.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.bytes.len() + HEADER_TAG_LEN
    }

    /// The bytes that the tag is computed over.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole header, ready to be written.
    #[must_use]
    pub fn sign(self, key: &HeaderKey) -> Vec<u8> {
        let mut bytes = self.bytes;
        let tag = key.tag(&bytes);
        bytes.extend(tag);
        bytes
    }
}

/// A header that is well formed and may still be a forgery.
///
/// Everything in it is the word of whoever stored the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedHeader {
    bytes: Vec<u8>,
    header: Header,
    padding_len: usize,
}

impl UnverifiedHeader {
    /// Reads a whole header and nothing behind it; see [`Prefix::header_len`].
    ///
    /// Whatever parses is canonical: [`Header::encode`] with the same padding
    /// gives the same bytes again.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, HeaderError> {
        let bytes = bytes.into();
        let header_len = Prefix::parse(&bytes)?.header_len();
        if bytes.len() < header_len {
            return Err(HeaderError::Truncated { have: bytes.len(), need: header_len });
        }
        if bytes.len() > header_len {
            return Err(HeaderError::malformed(header_len, "the end of the header"));
        }
        let body_end = header_len - HEADER_TAG_LEN;
        let mut reader = Reader::new(&bytes, PREFIX_LEN..body_end);
        let header = Header::parse(&mut reader)?;
        let padding = reader.position()..body_end;
        check_padding(&bytes[padding.clone()], padding.start)?;
        Ok(Self { header, padding_len: padding.len(), bytes })
    }

    /// What the header claims.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of padding.
    #[must_use]
    pub fn padding_len(&self) -> usize {
        self.padding_len
    }

    /// The bytes that were parsed, with the tag.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks the header tag over the bytes that were parsed, in constant time.
    ///
    /// # Errors
    /// When the tag is of another header or another key (format.md#R25).
    pub fn verify(self, key: &HeaderKey) -> Result<VerifiedHeader, TamperedHeader> {
        let (signed, tag) = self.bytes.split_at(self.bytes.len() - HEADER_TAG_LEN);
        key.verify(signed, tag)?;
        Ok(VerifiedHeader(self))
    }
}

fn check_padding(padding: &[u8], start: usize) -> Result<(), HeaderError> {
    // All at once, which is quicker than one after the other until one differs.
    if padding.iter().fold(0, |all, byte| all | byte) == 0 {
        return Ok(());
    }
    let first = padding.iter().position(|byte| *byte != 0).expect("one of them is not zero");
    Err(HeaderError::malformed(start + first, "a zero byte of padding"))
}

/// A header whose tag was made with its DEK.
///
/// It was written by someone who could open the envelope. That may be anyone
/// who ever could, and the header may be an old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedHeader(UnverifiedHeader);

impl VerifiedHeader {
    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    /// What the header says, without its bytes.
    #[must_use]
    pub fn into_header(self) -> Header {
        self.0.header
    }

    /// Bytes of padding.
    #[must_use]
    pub fn padding_len(&self) -> usize {
        self.0.padding_len
    }

    /// The header's bytes, with the tag.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.bytes
    }
}
