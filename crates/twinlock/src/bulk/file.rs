//! From one regular file to another: workers on disjoint ranges.

use std::fs::{File, Metadata};
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::num::NonZeroUsize;
use std::ops::Range;

use twinlock_floe::{Layout, OpenKey, Place, SealKey, SegmentLen};

use super::block::{Block, BlockOpener, BlockSealer, segments_of};
use super::each_block::each_block;
use super::slices::{FileAt, read_slices, write_slices};
use crate::payload::{Meter, PayloadError};

/// Bytes of a block, unless one segment has more: so many that a system call
/// costs nothing beside them, and so few that they are in the processor's cache
/// still when they are sealed and written (`docs/adr/0009-file-io.md`).
const BLOCK_LEN: usize = 1 << 20;

/// The same for a file of less than [`LONG`] bytes: whoever does many of them at a
/// time has a block in each hand, and memory is bounded (`docs/adr/0009-file-io.md`).
const SHORT_BLOCK_LEN: usize = 256 << 10;
const LONG: u64 = 4 << 20;

/// Seals all of `input` into `output`, where `start` is written first. Returns
/// the number of plaintext bytes.
pub(crate) fn seal(
    key: &SealKey,
    start: &[u8],
    meter: &Meter,
    threads: NonZeroUsize,
    input: &File,
    output: &File,
) -> io::Result<u64> {
    let before = input.metadata()?;
    let layout = Layout::of_plaintext(key.segment_len(), before.len())
        .map_err(|error| io::Error::new(io::ErrorKind::FileTooLarge, error))?;
    let blocks = Blocks::of(layout, key.segment_len());
    blocks.reserve(output, start.len() as u64 + layout.ciphertext_len())?;
    let work = Sealing { start, blocks: &blocks, input, output };
    each_block(threads, blocks.number(), || {
        let (mut sealer, mut block) = (BlockSealer::new(key, meter), blocks.block());
        let work = &work;
        move |number| work.block(&mut sealer, &mut block, number)
    })?;
    match is_as_before(&before, &input.metadata()?) {
        true => Ok(layout.plaintext_len()),
        false => Err(Changed.into()),
    }
}

struct Sealing<'a> {
    start: &'a [u8],
    blocks: &'a Blocks,
    input: &'a File,
    output: &'a File,
}

impl Sealing<'_> {
    fn block(&self, sealer: &mut BlockSealer, block: &mut Block, number: u64) -> io::Result<()> {
        let Span { plaintext, ciphertext } = self.blocks.span(number);
        let len = length(&ciphertext);
        self.read(block.texts(len), &plaintext)?;
        let segments = block.segments(len);
        sealer.seal(self.blocks.places(number), segments).map_err(io::Error::other)?;
        let offset = self.start.len() as u64 + ciphertext.start;
        match number {
            0 => {
                let mut slices = [IoSlice::new(self.start), IoSlice::new(segments)];
                write_slices(&mut FileAt { file: self.output, offset: 0 }, &mut slices)
            }
            _ => FileAt { file: self.output, offset }.write_all(segments),
        }
    }

    /// Reads the plaintext, and a byte more at its end: there must be none.
    fn read<'a>(
        &self,
        texts: impl Iterator<Item = &'a mut [u8]>,
        range: &Range<u64>,
    ) -> io::Result<()> {
        let mut behind = [0];
        let mut slices: Vec<_> = texts.map(IoSliceMut::new).collect();
        if range.end == self.blocks.layout.plaintext_len() {
            slices.push(IoSliceMut::new(&mut behind));
        }
        let mut input = FileAt { file: self.input, offset: range.start };
        let read = read_slices(&mut input, &mut slices).map_err(InputFailed)?;
        match read == length(range) {
            true => Ok(()),
            false => Err(Changed.into()),
        }
    }
}

/// Opens all segments of `input`, the first of which stands at `start`, into
/// `output`. Returns the number of plaintext bytes.
pub(crate) fn open(
    key: &OpenKey,
    start: u64,
    meter: &Meter,
    threads: NonZeroUsize,
    input: &File,
    output: &File,
) -> io::Result<u64> {
    let end = input.metadata()?.len();
    let truncated = PayloadError::Truncated { offset: end };
    let ciphertext_len = end.checked_sub(start).ok_or(truncated)?;
    let layout = Layout::of_ciphertext(key.segment_len(), ciphertext_len).map_err(|_| truncated)?;
    let blocks = Blocks::of(layout, key.segment_len());
    blocks.reserve(output, layout.plaintext_len())?;
    let work = Opening { start, blocks: &blocks, input, output };
    each_block(threads, blocks.number(), || {
        let (mut opener, mut block) = (BlockOpener::new(key, meter), blocks.block());
        let work = &work;
        move |number| work.block(&mut opener, &mut block, number)
    })?;
    Ok(layout.plaintext_len())
}

struct Opening<'a> {
    start: u64,
    blocks: &'a Blocks,
    input: &'a File,
    output: &'a File,
}

impl Opening<'_> {
    fn block(&self, opener: &mut BlockOpener, block: &mut Block, number: u64) -> io::Result<()> {
        let Span { plaintext, ciphertext } = self.blocks.span(number);
        let (len, offset) = (length(&ciphertext), self.start + ciphertext.start);
        let segments = block.segments(len);
        let mut input = FileAt { file: self.input, offset };
        let read = read_slices(&mut input, &mut [IoSliceMut::new(segments)]);
        let read = read.map_err(InputFailed)?;
        if read != len {
            return Err(PayloadError::Truncated { offset: offset + read as u64 }.into());
        }
        let opened = opener.open(self.blocks.places(number), segments, offset);
        opened.map_err(|broken| broken.error)?;
        let mut texts: Vec<_> = block.texts(len).map(|text| IoSlice::new(text)).collect();
        write_slices(&mut FileAt { file: self.output, offset: plaintext.start }, &mut texts)
    }
}

/// The file was written to while it was read, or may have been: what was made of
/// it is neither what it was nor what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file changed while it was read")]
pub struct Changed;

impl From<Changed> for io::Error {
    fn from(changed: Changed) -> Self {
        Self::other(changed)
    }
}

/// Reading failed. Any other failure between two files is one of writing, or of
/// what was read.
///
/// It is inside an [`io::Error`] of the same kind.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InputFailed(pub io::Error);

impl From<InputFailed> for io::Error {
    fn from(failed: InputFailed) -> Self {
        Self::new(failed.0.kind(), failed)
    }
}

/// True if a file is what it was, as far as can be told without reading it
/// again. Nobody can set the time of the last change (`ctime`) back, as one can
/// that of the last modification.
#[must_use]
pub fn is_as_before(before: &Metadata, now: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let facts = |metadata: &Metadata| {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        (metadata.dev(), metadata.ino(), metadata.len(), modified, changed)
    };
    facts(before) == facts(now)
}

/// How a layout is cut into blocks.
struct Blocks {
    layout: Layout,
    segment_len: SegmentLen,
    /// Segments of a block.
    segments: u64,
}

/// Which bytes a block is of.
struct Span {
    plaintext: Range<u64>,
    ciphertext: Range<u64>,
}

impl Blocks {
    fn of(layout: Layout, segment_len: SegmentLen) -> Self {
        let len = if layout.plaintext_len() < LONG { SHORT_BLOCK_LEN } else { BLOCK_LEN };
        Self { layout, segment_len, segments: segments_of(len, segment_len) as u64 }
    }

    fn number(&self) -> u64 {
        self.layout.segments().div_ceil(self.segments)
    }

    /// A worker's memory: no more than the first block needs.
    fn block(&self) -> Block {
        Block::new(self.segment_len, length(&self.span(0).ciphertext))
    }

    fn indexes(&self, block: u64) -> Range<u64> {
        let first = block * self.segments;
        first..(first + self.segments).min(self.layout.segments())
    }

    fn places(&self, block: u64) -> impl Iterator<Item = Place> {
        self.indexes(block).map(|index| self.layout.place(index).expect(IN_LAYOUT))
    }

    fn span(&self, block: u64) -> Span {
        let indexes = self.indexes(block);
        let whole = |range: fn(&Layout, u64) -> Option<Range<u64>>| {
            let of = |index| range(&self.layout, index).expect(IN_LAYOUT);
            of(indexes.start).start..of(indexes.end - 1).end
        };
        Span {
            plaintext: whole(Layout::plaintext_range),
            ciphertext: whole(Layout::ciphertext_range),
        }
    }

    /// Gives a file the length that it is going to have, and as much of the
    /// disk: whether there is room shows now, and blocks that are written out of
    /// order are next to each other all the same. One block is written at once.
    fn reserve(&self, output: &File, len: u64) -> io::Result<()> {
        match self.number() {
            1 => Ok(()),
            _ => allocate(output, len),
        }
    }
}

#[cfg(target_os = "linux")]
fn allocate(output: &File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate, fstatfs};
    use rustix::io::Errno;
    let is_tmpfs = fstatfs(output)?.f_type == 0x0102_1994;
    if is_tmpfs {
        // It would clear the memory now, which several workers do sooner.
        return output.set_len(len);
    }
    match fallocate(output, FallocateFlags::empty(), 0, len) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => output.set_len(len),
        result => Ok(result?),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(output: &File, len: u64) -> io::Result<()> {
    output.set_len(len)
}

const IN_LAYOUT: &str = "an index below the number of segments";

fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).expect("a block fits in memory")
}
