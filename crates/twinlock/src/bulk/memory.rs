//! Envelopes in memory: from one buffer into another, and in place.
//!
//! Between two buffers, workers take the next block of segments. In place, what
//! is read and what is written overlap: there, each worker has one share, a run
//! of segments, and what of the share's plaintext lies in the share before it is
//! carried beside it.

use std::iter;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use twinlock_floe::{
    Layout, LayoutError, OpenKey, Opener, PLAINTEXT_OFFSET, Place, SEGMENT_OVERHEAD, SealKey,
    Sealer, SegmentError, SegmentLen,
};
use twinlock_keys::RandomnessError;
use zeroize::Zeroize as _;

use super::block::explain;
use super::buffer::Buffer;
use super::each_block::on_each;
use crate::payload::{Meter, PayloadError};
use crate::random::SegmentIvs;

/// From so many bytes of plaintext on, several threads work on what is in
/// memory: 1 MiB, an estimate of what makes up for starting them.
pub const PARALLEL_FROM: usize = 1 << 20;

/// Why a slice was not encrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptSliceError {
    /// The caller's buffer is too short for the envelope.
    #[error("the envelope has {needed} bytes and its buffer only {len}")]
    BufferTooShort {
        /// The envelope's length in bytes.
        needed: usize,
        /// The buffer's.
        len: usize,
    },
    /// The system has no random bytes to give.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// No envelope has so many bytes of plaintext.
    #[error("{0} bytes are too long for one envelope: use longer segments")]
    TooLong(usize),
}

/// Why a slice was not decrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptSliceError {
    /// The caller's buffer is too short for the plaintext.
    #[error("the plaintext has {needed} bytes and its buffer only {len}")]
    BufferTooShort {
        /// The plaintext's length in bytes.
        needed: usize,
        /// The buffer's.
        len: usize,
    },
    /// The payload is not what was encrypted.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// Bytes of a block, unless one segment has more: so many that taking one costs
/// nothing beside it, so few that the workers end together.
const BLOCK_LEN: usize = 256 << 10;

/// Seals `plaintext` into `segments`, which is as long as its layout says.
pub(crate) fn seal_from(
    key: &SealKey,
    meter: &Meter,
    threads: NonZeroUsize,
    plaintext: &[u8],
    segments: &mut [u8],
) -> Result<(), RandomnessError> {
    let size = Size::of_plaintext(key.segment_len(), plaintext.len());
    let per_block = size.segments_per_block();
    let blocks = segments
        .chunks_mut(per_block * size.segment)
        .zip(plaintext.chunks(per_block * size.text).chain(iter::once(&[][..])))
        .zip((0..).step_by(per_block));
    in_turns(size.workers(threads), blocks, || {
        let mut sealer = Sealing::new(key, size, meter);
        move |((segments, plaintext), first)| sealer.block(first, plaintext, segments)
    })
}

/// Opens `segments`, the first of which stands at `offset` of the envelope, into
/// `plaintext`, which is as long as the layout says. After an error that is
/// zeros.
pub(crate) fn open_into(
    key: &OpenKey,
    size: Size,
    offset: u64,
    meter: &Meter,
    threads: NonZeroUsize,
    segments: &[u8],
    plaintext: &mut [u8],
) -> Result<(), PayloadError> {
    let per_block = size.segments_per_block();
    let blocks = segments
        .chunks(per_block * size.segment)
        .zip(plaintext.chunks_mut(per_block * size.text).chain(iter::once(&mut [][..])))
        .zip((0..).step_by(per_block));
    let opened = in_turns(size.workers(threads), blocks, || {
        let mut opener = Opening::new(key, size, offset, meter);
        move |((segments, plaintext), first)| opener.block(first, segments, plaintext)
    });
    opened.inspect_err(|_| plaintext.zeroize())
}

/// Seals the plaintext at the beginning of `buffer`. The segments end where the
/// buffer does, and have `start` bytes before them, which hold anything then.
pub(crate) fn seal_in_place(
    key: &SealKey,
    meter: &Meter,
    threads: NonZeroUsize,
    start: usize,
    plaintext_len: usize,
    buffer: &mut [u8],
) -> Result<(), RandomnessError> {
    let size = Size::of_plaintext(key.segment_len(), plaintext_len);
    let workers = size.workers(threads);
    let mut carries = size.carries(workers, start);
    for Carry { from, bytes, .. } in &mut carries {
        let len = bytes.len();
        bytes.copy_from_slice(&buffer[*from..][..len]);
    }
    let shares = size.shares(&mut carries, &mut buffer[start..]);
    in_turns(workers, shares.into_iter(), || {
        let mut sealer = Sealing::new(key, size, meter);
        move |share| sealer.share(share)
    })
}

/// Opens the segments in `buffer`, which have `start` bytes before them. The
/// plaintext begins where the buffer does, and zeros follow it; after an error
/// there are only zeros.
pub(crate) fn open_in_place(
    key: &OpenKey,
    size: Size,
    start: usize,
    meter: &Meter,
    threads: NonZeroUsize,
    buffer: &mut [u8],
) -> Result<(), PayloadError> {
    let workers = size.workers(threads);
    let mut carries = size.carries(workers, start);
    let shares = size.shares(&mut carries, &mut buffer[start..]);
    let opened = in_turns(workers, shares.into_iter(), || {
        let mut opener = Opening::new(key, size, start as u64, meter);
        move |share| opener.share(share)
    });
    opened.inspect_err(|_| buffer.zeroize())?;
    for Carry { from, bytes, .. } in &carries {
        buffer[*from..][..bytes.len()].copy_from_slice(bytes);
    }
    buffer[size.plaintext_len()..].zeroize();
    Ok(())
}

/// How a payload lies in memory. Its lengths are those of slices.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    layout: Layout,
    segment_len: SegmentLen,
    /// Bytes of a segment that is not the last: all of it, and its plaintext.
    segment: usize,
    text: usize,
}

impl Size {
    /// For segments of `len` bytes in all, if there are such.
    pub(crate) fn of_ciphertext(segment_len: SegmentLen, len: usize) -> Result<Self, LayoutError> {
        Layout::of_ciphertext(segment_len, len as u64).map(|layout| Self::new(layout, segment_len))
    }

    pub(crate) fn plaintext_len(&self) -> usize {
        in_memory(self.layout.plaintext_len())
    }

    fn of_plaintext(segment_len: SegmentLen, len: usize) -> Self {
        let layout = Layout::of_plaintext(segment_len, len as u64);
        Self::new(layout.expect("the caller has the envelope's length"), segment_len)
    }

    fn new(layout: Layout, segment_len: SegmentLen) -> Self {
        Self { layout, segment_len, segment: segment_len.get(), text: segment_len.plaintext() }
    }

    fn place(&self, index: usize) -> Place {
        self.layout.place(index as u64).expect("an index below the number of segments")
    }

    fn workers(&self, threads: NonZeroUsize) -> NonZeroUsize {
        let segments = NonZeroUsize::new(in_memory(self.layout.segments()));
        match self.plaintext_len() < PARALLEL_FROM {
            true => NonZeroUsize::MIN,
            false => threads.min(segments.expect("at least one")),
        }
    }

    fn segments_per_block(&self) -> usize {
        (BLOCK_LEN / self.segment).max(1)
    }

    /// What of the workers' shares lies before them, when the plaintext begins
    /// `start` bytes before the first segment.
    fn carries(&self, workers: NonZeroUsize, start: usize) -> Vec<Carry> {
        let segments = in_memory(self.layout.segments());
        let carry = |first: usize| {
            let from = self.plaintext_len().min(first * self.text);
            let to = self.plaintext_len().min(start + first * self.segment);
            Carry { first, from, bytes: Buffer::new(to - from) }
        };
        (0..segments).step_by(segments.div_ceil(workers.get())).map(carry).collect()
    }

    /// Cuts all segments into the shares of those carries.
    fn shares<'a>(&self, carries: &'a mut [Carry], segments: &'a mut [u8]) -> Vec<Share<'a>> {
        let share = in_memory(self.layout.segments()).div_ceil(carries.len());
        let segments = segments.chunks_mut(share * self.segment);
        let shares = carries.iter_mut().zip(segments);
        shares
            .map(|(Carry { first, bytes, .. }, segments)| Share {
                first: *first,
                carry: bytes,
                segments,
            })
            .collect()
    }
}

/// The length of something that is in memory.
fn in_memory(len: u64) -> usize {
    usize::try_from(len).expect("what is in memory has a length of memory")
}

/// What of a share's plaintext lies before the share.
struct Carry {
    /// The number of the share's first segment.
    first: usize,
    /// Where in the plaintext it begins.
    from: usize,
    bytes: Buffer,
}

/// Some segments in a row. Their plaintext, with nothing between, is `carry` and
/// what follows it at the beginning of `segments`.
struct Share<'a> {
    first: usize,
    carry: &'a mut [u8],
    segments: &'a mut [u8],
}

impl Share<'_> {
    /// Moves `len` bytes of the plaintext, from `from` on, to `to`, which is the
    /// place in their segment. What is before them stays as it is.
    fn spread(&mut self, from: usize, len: usize, to: usize) {
        let carried = self.carried(from, len);
        let (split, rest) = (to + carried.len(), (from + carried.len()) - carried.end);
        self.segments.copy_within(rest..rest + len - carried.len(), split);
        self.segments[to..split].copy_from_slice(&self.carry[carried]);
    }

    /// The other way round: from the place in their segment to where they are
    /// the plaintext from `to` on.
    fn gather(&mut self, from: usize, len: usize, to: usize) {
        let carried = self.carried(to, len);
        let (split, rest) = (from + carried.len(), (to + carried.len()) - carried.end);
        self.carry[carried].copy_from_slice(&self.segments[from..split]);
        self.segments.copy_within(split..from + len, rest);
    }

    /// What of `len` bytes of the plaintext, from `at` on, is carried.
    fn carried(&self, at: usize, len: usize) -> Range<usize> {
        let end = self.carry.len();
        at.min(end)..(at + len).min(end)
    }
}

/// One worker's cipher, to seal with.
struct Sealing<'a> {
    sealer: Sealer,
    ivs: SegmentIvs,
    size: Size,
    meter: &'a Meter,
}

impl<'a> Sealing<'a> {
    fn new(key: &SealKey, size: Size, meter: &'a Meter) -> Self {
        Self {
            sealer: key.sealer(),
            ivs: SegmentIvs::of_segments(in_memory(size.layout.segments())),
            size,
            meter,
        }
    }

    fn block(
        &mut self,
        first: usize,
        plaintext: &[u8],
        segments: &mut [u8],
    ) -> Result<(), RandomnessError> {
        let texts = plaintext.chunks(self.size.text).chain(iter::once(&[][..]));
        for ((segment, text), index) in
            segments.chunks_mut(self.size.segment).zip(texts).zip(first..)
        {
            let iv = self.ivs.next()?;
            self.sealer
                .seal_from(self.size.place(index), iv, text, segment)
                .expect("the layout gives the place its length");
            self.meter.add(text.len());
        }
        Ok(())
    }

    /// From the end to the beginning: a segment takes more room than its
    /// plaintext, and so reaches over plaintext that was moved already.
    fn share(&mut self, mut share: Share<'_>) -> Result<(), RandomnessError> {
        for index in (0..share.segments.len().div_ceil(self.size.segment)).rev() {
            let start = index * self.size.segment;
            let len = (share.segments.len() - start).min(self.size.segment);
            let text_len = len - SEGMENT_OVERHEAD;
            share.spread(index * self.size.text, text_len, start + PLAINTEXT_OFFSET);
            let iv = self.ivs.next()?;
            self.sealer
                .seal(self.size.place(share.first + index), iv, &mut share.segments[start..][..len])
                .expect("the layout gives the place its length");
            self.meter.add(text_len);
        }
        Ok(())
    }
}

/// One worker's cipher, to open with.
struct Opening<'a> {
    opener: Opener,
    size: Size,
    /// Where in the envelope the first segment stands.
    offset: u64,
    meter: &'a Meter,
}

impl<'a> Opening<'a> {
    fn new(key: &OpenKey, size: Size, offset: u64, meter: &'a Meter) -> Self {
        Self { opener: key.opener(), size, offset, meter }
    }

    fn block(
        &mut self,
        first: usize,
        segments: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), PayloadError> {
        let texts = plaintext.chunks_mut(self.size.text).chain(iter::once(&mut [][..]));
        for ((segment, text), index) in segments.chunks(self.size.segment).zip(texts).zip(first..) {
            self.opener
                .open_into(self.size.place(index), segment, text)
                .map_err(|error| self.explain(error, index, segment))?;
            self.meter.add(text.len());
        }
        Ok(())
    }

    /// From the beginning to the end, as plaintext takes less room.
    fn share(&mut self, mut share: Share<'_>) -> Result<(), PayloadError> {
        for index in 0..share.segments.len().div_ceil(self.size.segment) {
            let start = index * self.size.segment;
            let len = (share.segments.len() - start).min(self.size.segment);
            let (segment, number) = (&mut share.segments[start..][..len], share.first + index);
            if let Err(error) = self.opener.open(self.size.place(number), segment) {
                return Err(self.explain(error, number, segment));
            }
            let text_len = len - SEGMENT_OVERHEAD;
            share.gather(start + PLAINTEXT_OFFSET, text_len, index * self.size.text);
            self.meter.add(text_len);
        }
        Ok(())
    }

    fn explain(&self, error: SegmentError, index: usize, segment: &[u8]) -> PayloadError {
        let offset = self.offset + index as u64 * self.size.segment as u64;
        let finality = self.size.place(index).finality();
        explain(error, finality, segment, self.size.segment_len, offset)
    }
}

/// Has at most `workers` take the jobs, in order, each once. One of them is the
/// caller's thread.
///
/// The error is that of the first job that failed: all before it were taken
/// before, and are done.
fn in_turns<J: Send, W, E: Send>(
    workers: NonZeroUsize,
    jobs: impl Iterator<Item = J> + Send,
    worker: impl Fn() -> W + Sync,
) -> Result<(), E>
where
    W: FnMut(J) -> Result<(), E>,
{
    let queue = Mutex::new(Some(jobs.enumerate()));
    let take = || unpoisoned(&queue).as_mut().and_then(Iterator::next);
    let failures = on_each(workers, workers.get() as u64, || {
        let mut worker = worker();
        while let Some((number, job)) = take() {
            if let Err(error) = worker(job) {
                *unpoisoned(&queue) = None; // there is no more to take
                return Some((number, error));
            }
        }
        None
    });
    match failures.into_iter().flatten().min_by_key(|(number, _)| *number) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Whoever panicked will be heard of when its thread is joined.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
