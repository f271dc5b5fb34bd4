//! Reading a payload from its beginning to its end.

use std::io::{self, BufRead, Read, Write};

use twinlock_floe::OpenKey;

use super::PayloadError;
use super::meter::Meter;
use super::open::SegmentOpener;

/// Reads the plaintext of an envelope from start to end. No byte leaves before
/// the segment that holds it was verified.
///
/// The end is verified last: whoever stops early, or meets an error, has a
/// verified *prefix*. Only a read that returns 0 bytes says that it is whole.
/// An error that the payload caused is a [`PayloadError`] inside the
/// [`io::Error`], and comes again on every later read.
pub struct DecryptReader<R> {
    input: R,
    opener: SegmentOpener,
    failed: Option<PayloadError>,
}

impl<R: Read> DecryptReader<R> {
    /// `input` stands at the first segment, which is at `offset` of the file.
    pub(crate) fn new(input: R, key: &OpenKey, offset: u64, meter: Meter) -> Self {
        Self { input, opener: SegmentOpener::new(key, offset, meter), failed: None }
    }

    /// Writes all that is left of the plaintext to `output`, a segment at a
    /// time; returns the number of bytes.
    ///
    /// # Errors
    /// When reading or writing fails, or the payload is not authentic. What was
    /// written by then is a verified prefix.
    pub fn write_to(&mut self, output: &mut impl Write) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let plaintext = self.fill_buf()?;
            if plaintext.is_empty() {
                return Ok(total);
            }
            output.write_all(plaintext)?;
            let len = plaintext.len();
            total += len as u64;
            self.consume(len);
        }
    }

    /// The input, wherever it stands.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn open_next(&mut self) -> io::Result<()> {
        self.opener.fill_from(&mut self.input)?;
        self.opener.open().map_err(|error| {
            self.failed = Some(error);
            error.into()
        })
    }
}

impl<R: Read> BufRead for DecryptReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        while self.opener.wants_segment() {
            self.open_next()?;
        }
        Ok(self.opener.plaintext())
    }

    fn consume(&mut self, len: usize) {
        self.opener.consume(len);
    }
}

impl<R: Read> Read for DecryptReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(buffer)?;
        self.consume(len);
        Ok(len)
    }
}

impl SegmentOpener {
    /// Fills the buffer with a segment and a byte more, or up to the end of
    /// the input.
    fn fill_from(&mut self, input: &mut impl Read) -> io::Result<()> {
        while !self.room().is_empty() {
            match input.read(self.room()) {
                Ok(0) => break,
                Ok(len) => self.fill(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
