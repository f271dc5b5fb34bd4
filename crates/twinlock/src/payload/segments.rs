//! Any segment of a payload, without any I/O: where it stands, by what the
//! payload's size says, and how it is opened.

use std::ops::Range;

use twinlock_floe::{Layout, OpenKey, Opener, Place, SegmentError};

use super::PayloadError;
use super::meter::Meter;

/// The segments of a payload whose size is known, or claimed.
///
/// The claim holds as soon as the last segment was opened, and for any other
/// segment as soon as that one was.
pub(crate) struct Segments {
    key: OpenKey,
    layout: Layout,
    /// Where in the input the first segment stands.
    start: u64,
    meter: Meter,
}

impl Segments {
    /// Of the payload whose first segment stands at `start` of an input of
    /// `size` bytes.
    pub(crate) fn new(
        key: OpenKey,
        start: u64,
        size: u64,
        meter: Meter,
    ) -> Result<Self, PayloadError> {
        let truncated = PayloadError::Truncated { offset: size };
        let segments_len = size.checked_sub(start).ok_or(truncated)?;
        let layout =
            Layout::of_ciphertext(key.segment_len(), segments_len).map_err(|_| truncated)?;
        Ok(Self { key, layout, start, meter })
    }

    /// One worker's, for [`Segments::open`].
    pub(super) fn opener(&self) -> Opener {
        self.key.opener()
    }

    /// The most bytes that a segment has, encrypted.
    pub(super) fn segment_len(&self) -> usize {
        self.key.segment_len().get()
    }

    /// The plaintext's length in bytes, if the last segment opens.
    pub(super) fn plaintext_len(&self) -> u64 {
        self.layout.plaintext_len()
    }

    /// The index of the last segment.
    pub(super) fn last(&self) -> u64 {
        self.layout.segments() - 1
    }

    /// Which segment holds a byte of the plaintext; `None` at its end and beyond.
    pub(super) fn holding(&self, position: u64) -> Option<u64> {
        self.layout.segment_at(position)
    }

    /// Which bytes of the plaintext a segment holds.
    pub(super) fn plaintext_range(&self, index: u64) -> Range<u64> {
        self.layout.plaintext_range(index).expect("an index of a segment")
    }

    /// The first of the segments `wanted`: at least one, and no more than there
    /// is room for in `len` bytes.
    pub(super) fn run(&self, wanted: Range<u64>, len: usize) -> Range<u64> {
        let at_most = (len / self.segment_len()).max(1) as u64;
        wanted.start..wanted.end.min(wanted.start + at_most)
    }

    /// Which bytes of the input so many segments are, one behind the other.
    pub(super) fn input_range(&self, run: Range<u64>) -> Range<u64> {
        let of = |index| self.layout.ciphertext_range(index).expect("an index of a segment");
        self.start + of(run.start).start..self.start + of(run.end - 1).end
    }

    /// Opens a segment in place; returns its plaintext, a part of `segment`.
    pub(super) fn open<'a>(
        &self,
        opener: &mut Opener,
        index: u64,
        segment: &'a mut [u8],
    ) -> Result<&'a [u8], PayloadError> {
        let opened = opener.open(self.place(index), segment);
        let plaintext = opened.map_err(|error| self.blamed(index, error))?;
        self.meter.add(plaintext.len());
        Ok(plaintext)
    }

    /// Opens a segment into `plaintext`, which is as long as its
    /// [`Segments::plaintext_range`]. If it is not authentic, `plaintext` is as
    /// it was, or zeros.
    pub(super) fn open_into(
        &self,
        opener: &mut Opener,
        index: u64,
        segment: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), PayloadError> {
        let opened = opener.open_into(self.place(index), segment, plaintext);
        opened.map_err(|error| self.blamed(index, error))?;
        self.meter.add(plaintext.len());
        Ok(())
    }

    fn place(&self, index: u64) -> Place {
        self.layout.place(index).expect("an index of a segment")
    }

    fn blamed(&self, index: u64, error: SegmentError) -> PayloadError {
        PayloadError::segment(error, self.input_range(index..index + 1).start)
    }
}
