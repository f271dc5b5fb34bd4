//! What a file says about itself, without any key.

use std::io::Read;

use twinlock_floe::{Header as FloeHeader, HeaderError as FloeHeaderError, Layout};
use twinlock_format::{Header, UnverifiedHeader};

use crate::decrypt::{ReadHeaderError, read_header};

/// What an envelope says about itself. Nothing of it was verified: whoever
/// stored the file could have changed all of it.
pub struct Inspection {
    header: UnverifiedHeader,
    payload: Option<PayloadFacts>,
}

/// The payload's sizes, which add up: `floe_header_len` and `segments_len`,
/// with the header's length, make the length of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PayloadFacts {
    /// Length of an encrypted segment in bytes; the last may be shorter.
    pub segment_len: usize,
    /// Length of the payload's own header in bytes.
    pub floe_header_len: u64,
    /// What the file's length says, where it is known and possible.
    pub sizes: Option<PayloadSizes>,
}

/// What the length of a file says about its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PayloadSizes {
    /// How many segments there are.
    pub segments: u64,
    /// All segments' length in bytes.
    pub segments_len: u64,
    /// The plaintext's length in bytes.
    pub plaintext_len: u64,
}

impl Inspection {
    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.header.header()
    }

    /// The header's length in bytes, with its padding and tag.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.header.as_bytes().len()
    }

    /// How many of these bytes are padding.
    #[must_use]
    pub fn padding_len(&self) -> usize {
        self.header.padding_len()
    }

    /// What the payload's own header says; `None` when there is no readable
    /// one, because the file is cut short or altered.
    #[must_use]
    pub fn payload(&self) -> Option<PayloadFacts> {
        self.payload
    }
}

/// Reads what `input` says about itself. `file_len` is the length of the whole
/// file in bytes, where it is known.
///
/// # Errors
/// When reading fails or the bytes are no header of ours.
pub fn inspect(
    input: &mut impl Read,
    file_len: Option<u64>,
) -> Result<Inspection, ReadHeaderError> {
    let header = read_header(input)?;
    let mut floe_header = Vec::with_capacity(FloeHeader::LEN);
    input.take(FloeHeader::LEN as u64).read_to_end(&mut floe_header)?;
    let payload = match <&[u8; FloeHeader::LEN]>::try_from(floe_header.as_slice()) {
        Ok(bytes) => payload_facts(bytes, file_len, header.as_bytes().len()).ok(),
        Err(_) => None,
    };
    Ok(Inspection { header, payload })
}

fn payload_facts(
    floe_header: &[u8; FloeHeader::LEN],
    file_len: Option<u64>,
    header_len: usize,
) -> Result<PayloadFacts, FloeHeaderError> {
    let segment_len = FloeHeader::parse(floe_header)?.segment_len();
    let before = (header_len + FloeHeader::LEN) as u64;
    let sizes = file_len
        .and_then(|len| len.checked_sub(before))
        .and_then(|len| Layout::of_ciphertext(segment_len, len).ok())
        .map(|layout| PayloadSizes {
            segments: layout.segments(),
            segments_len: layout.ciphertext_len(),
            plaintext_len: layout.plaintext_len(),
        });
    Ok(PayloadFacts {
        segment_len: segment_len.get(),
        floe_header_len: FloeHeader::LEN as u64,
        sizes,
    })
}
