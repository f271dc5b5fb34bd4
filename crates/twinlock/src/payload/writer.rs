//! Writing a payload.

use std::io::{self, Read, Write};

use twinlock_floe::SealKey;
use zeroize::Zeroizing;

use super::meter::Meter;
use super::seal::SegmentSealer;

/// Encrypts what is written to it.
///
/// It must be [finished](EncryptWriter::finish): the last segment says that it
/// is the last, and without it readers report a truncated file, which is what
/// happens when a writer is dropped halfway.
///
/// [`Write::flush`] passes on whole segments only, for a short segment would
/// be the last. After an error nothing more can be written: what reached the
/// output is unknown, and no segment is ever sealed twice.
pub struct EncryptWriter<W> {
    output: W,
    /// `None` after an error.
    sealer: Option<SegmentSealer>,
}

impl<W: Write> EncryptWriter<W> {
    /// `output` stands where the first segment belongs.
    pub(crate) fn new(output: W, key: &SealKey, meter: Meter) -> Self {
        Self { output, sealer: Some(SegmentSealer::new(key, meter)) }
    }

    /// Seals the last segment and returns the output, which is not flushed.
    ///
    /// # Errors
    /// When writing fails, or has failed before.
    pub fn finish(mut self) -> io::Result<W> {
        let sealer = self.sealer.take().ok_or_else(failed_before)?;
        self.output.write_all(&sealer.seal_last()?)?;
        Ok(self.output)
    }

    /// Encrypts all that is left of `input`, without a copy in between;
    /// returns the number of plaintext bytes.
    ///
    /// # Errors
    /// When reading or writing fails.
    pub fn read_from(&mut self, input: &mut impl Read) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let len = match self.is_full()? {
                true => self.read_beyond(input)?,
                false => {
                    let len = read(input, self.room()?)?;
                    self.fill(len);
                    len
                }
            };
            if len == 0 {
                return Ok(total);
            }
            total += len as u64;
        }
    }

    /// Takes the byte behind a full segment: without one, that segment is the
    /// last, and an empty one behind it would be a waste.
    fn read_beyond(&mut self, input: &mut impl Read) -> io::Result<usize> {
        let mut next = Zeroizing::new([0; 1]);
        let len = read(input, next.as_mut_slice())?;
        self.write_all(&next[..len])?;
        Ok(len)
    }

    fn is_full(&self) -> io::Result<bool> {
        Ok(self.sealer.as_ref().ok_or_else(failed_before)?.is_full())
    }

    /// Where more plaintext goes; never empty. A full segment is written only
    /// now, when it is clear that it is not the last.
    fn room(&mut self) -> io::Result<&mut [u8]> {
        let mut sealer = self.sealer.take().ok_or_else(failed_before)?;
        if sealer.is_full() {
            self.output.write_all(sealer.seal_next()?)?;
        }
        Ok(self.sealer.insert(sealer).room())
    }

    fn fill(&mut self, len: usize) {
        self.sealer.as_mut().expect("room was given").fill(len);
    }
}

impl<W: Write> Write for EncryptWriter<W> {
    fn write(&mut self, plaintext: &[u8]) -> io::Result<usize> {
        if plaintext.is_empty() {
            return Ok(0);
        }
        let room = self.room()?;
        let len = room.len().min(plaintext.len());
        room[..len].copy_from_slice(&plaintext[..len]);
        self.fill(len);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Reads once, however often that is interrupted.
fn read(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

pub(super) fn failed_before() -> io::Error {
    io::Error::other("writing this envelope failed before; start a new one")
}
