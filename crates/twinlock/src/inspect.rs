//! What a file says about itself, without any key.

use std::io::{self, Read};

use twinlock_floe::{Header as FloeHeader, Layout};
use twinlock_format::{Header, UnverifiedHeader, limits};

use crate::decrypt::{ReadHeaderError, read_header, read_payload_prefix};

/// What an envelope says about itself. Nothing of it was verified: whoever
/// stored the file could have changed all of it.
pub struct Inspection {
    header: UnverifiedHeader,
    payload: Option<PayloadFacts>,
}

/// The payload's sizes, which add up: `prefix_len`, `floe_header_len` and
/// `segments_len`, with the length of a header in front, make the length of the
/// file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PayloadFacts {
    /// Length of an encrypted segment in bytes; the last may be shorter.
    pub segment_len: usize,
    /// Length in bytes of what comes first when the header is kept apart; else 0.
    pub prefix_len: u64,
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
    /// Of a header, however it was found, and of what follows it in `input`.
    /// `file_len` is the length of the whole file in bytes, where it is known.
    ///
    /// # Errors
    /// When reading fails.
    pub fn attached(
        header: UnverifiedHeader,
        input: &mut impl Read,
        file_len: Option<u64>,
    ) -> io::Result<Self> {
        let header_len = header.as_bytes().len() as u64;
        let segments_len = file_len.and_then(|len| len.checked_sub(header_len));
        Ok(Self { payload: payload_facts(input, 0, segments_len)?, header })
    }

    /// Of a header that is kept apart, and of its payload `input`, which has
    /// `payload_len` bytes, where that is known.
    ///
    /// # Errors
    /// When reading fails, or it is not the payload of this header: then with a
    /// [`PayloadError`](crate::PayloadError).
    pub fn detached(
        header: UnverifiedHeader,
        input: &mut impl Read,
        payload_len: Option<u64>,
    ) -> io::Result<Self> {
        read_payload_prefix(input, header.header().envelope_id())?;
        let prefix_len = limits::DETACHED_PREFIX_LEN as u64;
        let rest = payload_len.and_then(|len| len.checked_sub(prefix_len));
        Ok(Self { payload: payload_facts(input, prefix_len, rest)?, header })
    }

    /// Of a header that is kept apart, and nothing else.
    #[must_use]
    pub fn of_header(header: UnverifiedHeader) -> Self {
        Self { header, payload: None }
    }

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
    Ok(Inspection::attached(header, input, file_len)?)
}

/// `len` is that of FLOE's header and the segments.
fn payload_facts(
    input: &mut impl Read,
    prefix_len: u64,
    len: Option<u64>,
) -> io::Result<Option<PayloadFacts>> {
    let mut bytes = Vec::with_capacity(FloeHeader::LEN);
    input.take(FloeHeader::LEN as u64).read_to_end(&mut bytes)?;
    let segment_len = bytes
        .first_chunk::<{ FloeHeader::LEN }>()
        .and_then(|bytes| FloeHeader::parse(bytes).ok())
        .map(|header| header.segment_len());
    Ok(segment_len.map(|segment_len| PayloadFacts {
        segment_len: segment_len.get(),
        prefix_len,
        floe_header_len: FloeHeader::LEN as u64,
        sizes: len
            .and_then(|len| len.checked_sub(FloeHeader::LEN as u64))
            .and_then(|len| Layout::of_ciphertext(segment_len, len).ok())
            .map(|layout| PayloadSizes {
                segments: layout.segments(),
                segments_len: layout.ciphertext_len(),
                plaintext_len: layout.plaintext_len(),
            }),
    }))
}
