//! The deterministic CBOR of `docs/format.md`: unsigned integers, byte strings,
//! text, arrays and maps, each in the one encoding it may have.

use std::ops::Range;

use crate::HeaderError;

const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Reads items of a part of a header. Offsets are those of the whole header,
/// so an error inside a keyslot still says where in the file it is.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    header: &'a [u8],
    position: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    /// Reads `header[part]`. `part` must lie within `header`.
    pub(crate) fn new(header: &'a [u8], part: Range<usize>) -> Self {
        Self { header, position: part.start, end: part.end }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.position == self.end
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> &'a [u8] {
        &self.header[range]
    }

    /// A reader of an earlier part of the same header.
    pub(crate) fn within(&self, part: Range<usize>) -> Self {
        Self::new(self.header, part)
    }

    pub(crate) fn uint(&mut self, expected: &'static str) -> Result<u64, HeaderError> {
        self.head_of(UINT, expected)
    }

    pub(crate) fn array(&mut self, expected: &'static str) -> Result<u64, HeaderError> {
        self.head_of(ARRAY, expected)
    }

    pub(crate) fn map(&mut self, expected: &'static str) -> Result<u64, HeaderError> {
        self.head_of(MAP, expected)
    }

    /// The place of a byte string's content.
    pub(crate) fn bytes(&mut self, expected: &'static str) -> Result<Range<usize>, HeaderError> {
        let at = self.position;
        let len = self.head_of(BYTES, expected)?;
        self.content(at, len)
    }

    pub(crate) fn text(&mut self, expected: &'static str) -> Result<&'a str, HeaderError> {
        let at = self.position;
        let len = self.head_of(TEXT, expected)?;
        let content = self.content(at, len)?;
        self.utf8(content)
    }

    /// Passes over one item of at most `depth` containers inside each other,
    /// having checked that it is encoded as it must be, and gives its place.
    pub(crate) fn item(&mut self, depth: usize) -> Result<Range<usize>, HeaderError> {
        let at = self.position;
        let (major, argument) = self.head()?;
        match major {
            UINT => {}
            BYTES => {
                self.content(at, argument)?;
            }
            TEXT => {
                let content = self.content(at, argument)?;
                self.utf8(content)?;
            }
            ARRAY => self.elements(at, argument, depth)?,
            MAP => self.entries(at, argument, depth)?,
            _ => return Err(HeaderError::malformed(at, KNOWN_MAJOR)),
        }
        Ok(at..self.position)
    }

    fn elements(&mut self, at: usize, count: u64, depth: usize) -> Result<(), HeaderError> {
        let depth = deeper(at, depth)?;
        for _ in 0..count {
            self.item(depth)?;
        }
        Ok(())
    }

    fn entries(&mut self, at: usize, count: u64, depth: usize) -> Result<(), HeaderError> {
        let depth = deeper(at, depth)?;
        let mut previous: &[u8] = &[];
        for _ in 0..count {
            let key = self.item(depth)?;
            if self.slice(key.clone()) <= previous {
                return Err(HeaderError::malformed(key.start, ASCENDING));
            }
            previous = self.slice(key);
            self.item(depth)?;
        }
        Ok(())
    }

    fn head_of(&mut self, major: u8, expected: &'static str) -> Result<u64, HeaderError> {
        let at = self.position;
        match self.head()? {
            (found, argument) if found == major => Ok(argument),
            _ => Err(HeaderError::malformed(at, expected)),
        }
    }

    /// Major type and argument: RFC 8949 section 3, and of section 4.2.1 the
    /// rule of the shortest argument.
    fn head(&mut self) -> Result<(u8, u64), HeaderError> {
        let at = self.position;
        let first = self.take(at, 1)?[0];
        let (width, least) = match first & 0x1f {
            short @ 0..24 => return Ok((first >> 5, u64::from(short))),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(HeaderError::malformed(at, "a definite length")),
        };
        let argument = big_endian(self.take(at, width)?);
        if argument < least {
            return Err(HeaderError::malformed(at, "the shortest form of a number"));
        }
        Ok((first >> 5, argument))
    }

    fn content(&mut self, at: usize, len: u64) -> Result<Range<usize>, HeaderError> {
        let start = self.position;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.take(at, len)?;
        Ok(start..self.position)
    }

    fn take(&mut self, at: usize, len: usize) -> Result<&'a [u8], HeaderError> {
        if len > self.end - self.position {
            return Err(HeaderError::malformed(at, "an item that ends where it should"));
        }
        let start = self.position;
        self.position += len;
        Ok(&self.header[start..self.position])
    }

    fn utf8(&self, content: Range<usize>) -> Result<&'a str, HeaderError> {
        let start = content.start;
        std::str::from_utf8(self.slice(content))
            .map_err(|e| HeaderError::malformed(start + e.valid_up_to(), "UTF-8"))
    }
}

const ASCENDING: &str = "map keys in ascending order, none twice";
const KNOWN_MAJOR: &str = "an unsigned integer, byte string, text, array or map";

fn deeper(at: usize, depth: usize) -> Result<usize, HeaderError> {
    depth
        .checked_sub(1)
        .ok_or(HeaderError::malformed(at, "at most 4 arrays and maps inside each other"))
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

pub(crate) fn put_uint(out: &mut Vec<u8>, n: u64) {
    put_head(out, UINT, n);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_head(out, BYTES, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn put_array(out: &mut Vec<u8>, count: usize) {
    put_head(out, ARRAY, count as u64);
}

pub(crate) fn put_map(out: &mut Vec<u8>, count: usize) {
    put_head(out, MAP, count as u64);
}

/// Bytes that the head of an item with this argument takes.
pub(crate) const fn head_len(argument: usize) -> usize {
    match argument {
        0..24 => 1,
        24..0x100 => 2,
        0x100..0x1_0000 => 3,
        _ => 5, // nothing here comes near 4 GiB
    }
}

fn put_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match argument {
        0..24 => out.push(major | bytes[7]),
        24..0x100 => out.extend([major | 24, bytes[7]]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend(&bytes[6..]);
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend(bytes);
        }
    }
}
