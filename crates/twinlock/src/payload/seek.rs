//! Reading any part of a payload, one after the other.

use std::io::{self, Read, Seek, SeekFrom};

use twinlock_floe::{Opener, PLAINTEXT_OFFSET};

use super::PayloadError;
use super::segments::Segments;
use crate::bulk::buffer::Buffer;

/// Reads any part of an envelope's plaintext, and touches only the segments
/// that hold it. For several threads at a time, and for inputs whose reads are
/// requests, there is [`RangeReader`](crate::RangeReader).
///
/// The size that storage reports is a claim. Before this reader reports a
/// length, seeks from the end or reports an end of file, it verifies the last
/// segment; the bytes that it returns are verified in any case.
pub struct SeekReader<R> {
    input: R,
    segments: Segments,
    opener: Opener,
    end_verified: bool,
    position: u64,
    buffer: Buffer,
    /// Which segment the buffer holds, opened, and its plaintext's length.
    current: Option<(u64, usize)>,
}

impl<R: Read + Seek> SeekReader<R> {
    /// For the envelope that is all of `input`.
    pub(crate) fn new(input: R, segments: Segments) -> Self {
        Self {
            input,
            opener: segments.opener(),
            end_verified: false,
            position: 0,
            buffer: Buffer::new(segments.segment_len()),
            current: None,
            segments,
        }
    }

    /// The plaintext's length in bytes, from a verified last segment.
    ///
    /// # Errors
    /// When the last segment cannot be read or is not authentic.
    pub fn verified_len(&mut self) -> io::Result<u64> {
        if !self.end_verified {
            self.open_segment(self.segments.last())?;
            self.end_verified = true;
        }
        Ok(self.segments.plaintext_len())
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
        let range = self.segments.input_range(index..index + 1);
        let len = usize::try_from(range.end - range.start).expect("a segment fits in memory");
        let segment = &mut self.buffer[..len];
        self.input.seek(SeekFrom::Start(range.start))?;
        self.input.read_exact(segment).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => PayloadError::Truncated { offset: range.start }.into(),
            _ => error,
        })?;
        let len = self.segments.open(&mut self.opener, index, segment)?.len();
        self.current = Some((index, len));
        Ok(len)
    }

    /// The verified plaintext from the current position to its segment's end;
    /// empty at the end of the payload.
    fn available(&mut self) -> io::Result<&[u8]> {
        let Some(index) = self.segments.holding(self.position) else {
            self.verified_len()?;
            return Ok(&[]);
        };
        let len = self.open_segment(index)?;
        let range = self.segments.plaintext_range(index);
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
