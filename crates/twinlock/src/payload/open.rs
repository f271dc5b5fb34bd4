//! Opening a stream, without any I/O: ciphertext goes in at one end of a
//! buffer, verified plaintext comes out.

use std::ops::Range;

use twinlock_floe::{
    Backend, Finality, Header as FloeHeader, OpenKey, Opener, PLAINTEXT_OFFSET, SegmentHead,
    SegmentLen, Sequence, TAG_LEN,
};

use super::PayloadError;
use super::meter::Meter;
use crate::bulk::buffer::Buffer;
use crate::encrypt::accepted_segment_len;

/// Verifies the payload's own header, which stands at `offset` of the file.
pub(crate) fn open_floe(
    key: &[u8; 32],
    aad: &[u8],
    header: &[u8; FloeHeader::LEN],
    backend: Backend,
    offset: u64,
) -> Result<OpenKey, PayloadError> {
    let key =
        OpenKey::open(key, aad, header, backend).map_err(|_| PayloadError::Header { offset })?;
    match key.segment_len().get() {
        len if accepted_segment_len(len) => Ok(key),
        len => Err(PayloadError::SegmentLen(len)),
    }
}

/// A buffer of one segment and one byte more: the byte tells whether anything
/// follows, and so whether a last segment really is the last.
pub(super) struct SegmentOpener {
    opener: Opener,
    segment_len: SegmentLen,
    sequence: Option<Sequence>,
    buffer: Buffer,
    filled: usize,
    /// Verified plaintext in the buffer that nobody has taken yet.
    plaintext: Range<usize>,
    /// True if the segment in the buffer was opened.
    opened: bool,
    /// Where in the file the buffer begins, and the number of its segment.
    offset: u64,
    segment: u64,
    meter: Meter,
}

impl SegmentOpener {
    /// For the payload whose first segment stands at `offset` of the file.
    pub(super) fn new(key: &OpenKey, offset: u64, meter: Meter) -> Self {
        Self {
            opener: key.opener(),
            segment_len: key.segment_len(),
            sequence: Some(Sequence::new()),
            buffer: Buffer::new(key.segment_len().get() + 1),
            filled: 0,
            plaintext: 0..0,
            opened: false,
            offset,
            segment: 0,
            meter,
        }
    }

    /// Verified plaintext that was not consumed yet.
    pub(super) fn plaintext(&self) -> &[u8] {
        &self.buffer[self.plaintext.clone()]
    }

    /// Takes the first `len` bytes of the plaintext as consumed.
    pub(super) fn consume(&mut self, len: usize) {
        assert!(len <= self.plaintext.len(), "consumed more than there is");
        self.plaintext.start += len;
    }

    /// True if all plaintext so far was consumed and more is to come. The room
    /// is then ready for the next segment.
    pub(super) fn wants_segment(&mut self) -> bool {
        if !self.plaintext.is_empty() || self.sequence.is_none() {
            return false;
        }
        if self.opened {
            self.advance();
        }
        true
    }

    /// Where more ciphertext goes; empty when a segment can be opened.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Takes the first `len` bytes of the room as filled.
    pub(super) fn fill(&mut self, len: usize) {
        self.filled += len;
        assert!(self.filled <= self.buffer.len(), "filled from its own room");
    }

    /// Opens the segment in the buffer. The buffer is full, or the input has
    /// ended.
    pub(super) fn open(&mut self) -> Result<(), PayloadError> {
        let (len, finality) = self.next_segment()?;
        let mut sequence = self.sequence.take().expect("not asked for more after the last");
        let place = match finality {
            Finality::Last => sequence.last(),
            Finality::NotLast => {
                // FLOE's bound: 2^40 segments. More can only be a forgery.
                let offset = self.offset;
                let place = sequence.next().map_err(|_| PayloadError::Trailing { offset })?;
                self.sequence = Some(sequence);
                place
            }
        };
        self.opener
            .open(place, &mut self.buffer[..len])
            .map_err(|error| PayloadError::segment(error, self.offset))?;
        self.plaintext = PLAINTEXT_OFFSET..len - TAG_LEN;
        self.meter.add(self.plaintext.len());
        self.opened = true;
        Ok(())
    }

    /// Makes room for the next segment, keeping the byte beyond this one.
    fn advance(&mut self) {
        self.opened = false;
        let len = self.segment_len.get();
        self.buffer.copy_within(len..self.filled, 0);
        self.filled -= len;
        self.plaintext = 0..0;
        self.offset += len as u64;
        self.segment += 1;
    }

    /// How long the segment in the buffer claims to be, checked against what
    /// is there.
    fn next_segment(&self) -> Result<(usize, Finality), PayloadError> {
        let truncated = PayloadError::Truncated { offset: self.offset + self.filled as u64 };
        let filled = &self.buffer[..self.filled];
        let field = filled.first_chunk().ok_or(truncated)?;
        let head = SegmentHead::parse(field, self.segment_len).map_err(|_| self.not_authentic())?;
        match head.encrypted_len() {
            len if len > self.filled => Err(truncated),
            len if head.finality() == Finality::Last && len < self.filled => {
                Err(PayloadError::Trailing { offset: self.offset + len as u64 })
            }
            len => Ok((len, head.finality())),
        }
    }

    fn not_authentic(&self) -> PayloadError {
        PayloadError::Segment { segment: self.segment, offset: self.offset }
    }
}
