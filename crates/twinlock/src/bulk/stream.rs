//! From a stream to a stream.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::iter;
use std::num::NonZeroUsize;

use twinlock_floe::{
    Finality, OpenKey, Place, Run, SEGMENT_OVERHEAD, SealKey, SegmentHead, SegmentLen, Sequence,
    TooManySegments,
};

use super::block::{Block, BlockOpener, BlockSealer, Broken, segments_of};
use super::in_order::{Taken, in_order};
use super::slices::{read_slices, write_slices};
use crate::payload::{Meter, PayloadError};

/// Bytes of a block, unless one segment has more: nothing of a stream goes on
/// before so many bytes of it have come, or its end.
const BLOCK_LEN: usize = 256 << 10;

fn block(segment_len: SegmentLen) -> Block {
    Block::new(segment_len, segments_of(BLOCK_LEN, segment_len) * segment_len.get())
}

/// Seals all of `input` to `output`, which stands where the first segment
/// belongs. Returns the number of plaintext bytes.
pub(crate) fn seal(
    key: &SealKey,
    meter: &Meter,
    threads: NonZeroUsize,
    mut input: impl Read + Send,
    mut output: impl Write + Send,
) -> io::Result<u64> {
    let mut blocks = BlockPlaces::new(key.segment_len());
    let (mut ahead, mut total) = (Ahead(None), 0);
    in_order(
        threads,
        || block(key.segment_len()),
        |block| {
            let len = block.len();
            let (filled, is_last) = ahead.fill(&mut input, block.texts(len))?;
            total += filled as u64;
            let len = filled + blocks.segments_of_plaintext(filled) * SEGMENT_OVERHEAD;
            let places = blocks.take(len, is_last);
            let places = places.map_err(|e| io::Error::new(io::ErrorKind::FileTooLarge, e))?;
            Ok(Taken { job: Sealed { places, len }, is_last })
        },
        || {
            let mut sealer = BlockSealer::new(key, meter);
            move |block, job: &mut Sealed| {
                sealer.seal(&mut job.places, block.segments(job.len)).map_err(io::Error::other)
            }
        },
        |block, job| meter.watch(output.write_all(block.segments(job.len))),
    )?;
    Ok(total)
}

struct Sealed {
    places: Places,
    len: usize,
}

/// Opens all segments of `input`, the first of which stands at `offset` of the
/// file, to `output`. Nothing is written before it was verified. Returns the
/// number of plaintext bytes.
pub(crate) fn open(
    key: &OpenKey,
    mut offset: u64,
    meter: &Meter,
    threads: NonZeroUsize,
    mut input: impl Read + Send,
    mut output: impl Write + Send,
) -> io::Result<u64> {
    let mut blocks = BlockPlaces::new(key.segment_len());
    let (mut ahead, mut total) = (Ahead(None), 0);
    in_order(
        threads,
        || block(key.segment_len()),
        |block| {
            let len = block.len();
            let (len, is_last) = ahead.fill(&mut input, iter::once(block.segments(len)))?;
            let start = offset;
            offset += len as u64;
            if len == 0 {
                return Err(PayloadError::Truncated { offset: start }.into());
            }
            let is_cut = is_last && blocks.end_in_the_middle(block.segments(len));
            let places = blocks.take(len, is_last && !is_cut);
            let places = places.map_err(|_| PayloadError::Trailing { offset: start })?;
            let failure = is_cut.then_some(PayloadError::Truncated { offset });
            Ok(Taken { job: Opened { places, len, offset: start, failure }, is_last })
        },
        || {
            let mut opener = BlockOpener::new(key, meter);
            move |block, job: &mut Opened| {
                let opened = opener.open(&mut job.places, block.segments(job.len), job.offset);
                if let Err(Broken { verified, error }) = opened {
                    (job.len, job.failure) = (verified, Some(error));
                }
                Ok(())
            }
        },
        |block, job| {
            let mut texts: Vec<_> = block.texts(job.len).map(|text| IoSlice::new(text)).collect();
            total += texts.iter().map(|text| text.len() as u64).sum::<u64>();
            meter.watch(write_slices(&mut output, &mut texts))?;
            Ok(meter.watch(job.failure.map_or(Ok(()), Err))?)
        },
    )?;
    Ok(total)
}

struct Opened {
    places: Places,
    /// What is to be opened; then, what was.
    len: usize,
    offset: u64,
    failure: Option<PayloadError>,
}

type Places = iter::Chain<Run, std::option::IntoIter<Place>>;

/// Hands out the places of a stream, a block at a time.
struct BlockPlaces {
    /// `None` after the last block.
    sequence: Option<Sequence>,
    segment_len: SegmentLen,
}

impl BlockPlaces {
    fn new(segment_len: SegmentLen) -> Self {
        Self { sequence: Some(Sequence::new()), segment_len }
    }

    /// An empty plaintext is a segment too.
    fn segments_of_plaintext(&self, len: usize) -> usize {
        len.div_ceil(self.segment_len.plaintext()).max(1)
    }

    /// True if the last of `segments` is whole and says that others follow. It
    /// is opened as what it says it is.
    fn end_in_the_middle(&self, segments: &[u8]) -> bool {
        let last = segments.chunks_exact(self.segment_len.get()).next_back();
        let is_whole = segments.len().is_multiple_of(self.segment_len.get());
        let head = last
            .filter(|_| is_whole)
            .and_then(|last| SegmentHead::parse(last.first_chunk()?, self.segment_len).ok());
        head.is_some_and(|head| head.finality() == Finality::NotLast)
    }

    /// For the segments that `len` encrypted bytes are.
    fn take(&mut self, len: usize, is_last: bool) -> Result<Places, TooManySegments> {
        let mut sequence = self.sequence.take().expect("nothing is read after the last block");
        let segments = len.div_ceil(self.segment_len.get()) as u64;
        if is_last {
            let run = sequence.run(segments - 1)?;
            return Ok(run.chain(Some(sequence.last())));
        }
        let run = sequence.run(segments)?;
        self.sequence = Some(sequence);
        Ok(run.chain(None))
    }
}

/// The byte behind the last block that was read: with one, that was not the
/// end.
struct Ahead(Option<u8>);

impl Ahead {
    /// Fills `slices`, none of which is empty, as far as there is input. Returns
    /// the number of bytes, and whether they are the last.
    fn fill<'a>(
        &mut self,
        input: &mut impl Read,
        slices: impl Iterator<Item = &'a mut [u8]>,
    ) -> io::Result<(usize, bool)> {
        let mut behind = [0];
        let mut slices: Vec<_> = slices.map(IoSliceMut::new).collect();
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        slices.push(IoSliceMut::new(&mut behind));
        let mut slices = slices.as_mut_slice();
        let mut filled = 0;
        if let Some(byte) = self.0.take() {
            slices[0][0] = byte;
            IoSliceMut::advance_slices(&mut slices, 1);
            filled = 1;
        }
        filled += read_slices(input, slices)?;
        if filled <= len {
            return Ok((filled, true));
        }
        self.0 = Some(behind[0]);
        zeroize::Zeroize::zeroize(&mut behind);
        Ok((len, false))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}
