//! Reading any part of a payload.

use std::io::{self, Read, Seek, SeekFrom};

use twinlock_floe::{Layout, OpenKey, Opener, PLAINTEXT_OFFSET, TAG_LEN};

use super::PayloadError;
use super::meter::Meter;
use crate::bulk::buffer::Buffer;

/// Reads any part of an envelope's plaintext, and touches only the segments
/// that hold it.
///
/// The size that storage reports is a claim. Before this reader reports a
/// length, seeks from the end or reports an end of file, it verifies the last
/// segment; the bytes that it returns are verified in any case.
pub struct SeekReader<R> {
    input: R,
    opener: Opener,
    layout: Layout,
    /// Where in the input the first segment stands.
    start: u64,
    end_verified: bool,
    position: u64,
    buffer: Buffer,
    /// Which segment the buffer holds, opened, and its plaintext's length.
    current: Option<(u64, usize)>,
    meter: Meter,
}

impl<R: Read + Seek> SeekReader<R> {
    /// For the envelope that is all of `input` and whose first segment stands
    /// at `start`.
    pub(crate) fn new(mut input: R, key: &OpenKey, start: u64, meter: Meter) -> io::Result<Self> {
        let end = input.seek(SeekFrom::End(0))?;
        let truncated = PayloadError::Truncated { offset: end };
        let segments_len = end.checked_sub(start).ok_or(truncated)?;
        let layout =
            Layout::of_ciphertext(key.segment_len(), segments_len).map_err(|_| truncated)?;
        Ok(Self {
            input,
            opener: key.opener(),
            layout,
            start,
            end_verified: false,
            position: 0,
            buffer: Buffer::new(key.segment_len().get()),
            current: None,
            meter,
        })
    }

    /// The plaintext's length in bytes, from a verified last segment.
    ///
    /// # Errors
    /// When the last segment cannot be read or is not authentic.
    pub fn verified_len(&mut self) -> io::Result<u64> {
        if !self.end_verified {
            self.open_segment(self.layout.segments() - 1)?;
            self.end_verified = true;
        }
        Ok(self.layout.plaintext_len())
    }

    /// The input, wherever it stands.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Has the buffer hold the segment `index`, opened.
    fn open_segment(&mut self, index: u64) -> io::Result<usize> {
        match self.current {
            Some((current, len)) if current == index => return Ok(len),
            _ => self.current = None,
        }
        let range =
            self.layout.ciphertext_range(index).expect("an index below the number of segments");
        let len = usize::try_from(range.end - range.start).expect("a segment fits in memory");
        let offset = self.start + range.start;
        let segment = &mut self.buffer[..len];
        self.input.seek(SeekFrom::Start(offset))?;
        self.input.read_exact(segment).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => PayloadError::Truncated { offset }.into(),
            _ => error,
        })?;
        let place = self.layout.place(index).expect("an index below the number of segments");
        self.opener.open(place, segment).map_err(|error| PayloadError::segment(error, offset))?;
        let len = len - PLAINTEXT_OFFSET - TAG_LEN;
        self.current = Some((index, len));
        self.meter.add(len);
        Ok(len)
    }

    /// The verified plaintext from the current position to its segment's end;
    /// empty at the end of the payload.
    fn available(&mut self) -> io::Result<&[u8]> {
        let Some(index) = self.layout.segment_at(self.position) else {
            self.verified_len()?;
            return Ok(&[]);
        };
        let len = self.open_segment(index)?;
        let range =
            self.layout.plaintext_range(index).expect("an index below the number of segments");
        let skip = usize::try_from(self.position - range.start).expect("within a segment");
        Ok(&self.buffer[PLAINTEXT_OFFSET..PLAINTEXT_OFFSET + len][skip..])
    }
}

impl<R: Read + Seek> Read for SeekReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.available()?.read(buffer)?;
        self.position += len as u64;
        Ok(len)
    }
}

impl<R: Read + Seek> Seek for SeekReader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
            SeekFrom::End(delta) => self.verified_len()?.checked_add_signed(delta),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a seek to before the beginning")
        })?;
        Ok(self.position)
    }
}
