//! Reading any parts of a payload, by many threads at a time.

use std::io::{self, Write};
use std::ops::{Bound, Range, RangeBounds};
use std::sync::atomic::{AtomicBool, Ordering};

use super::segments::Segments;
use crate::read_at::ReadAt;

#[cfg(test)]
mod tests;
mod worker;

use worker::{IdleWorkers, Worker};

/// One call of the input asks for so many bytes at most, or for one segment
/// where that is longer.
const RUN_LEN: usize = 2 << 20;

/// Reads any parts of an envelope's plaintext, from many threads at a time, and
/// touches only the segments that hold them. Of [`Envelope::range_reader`].
///
/// Neighbouring segments are asked for by one call of the input, up to 2 MiB of
/// them. No lock is held while the input is read or a segment opened: threads
/// wait for the input, never for each other. A thread at work has a buffer of as
/// many bytes as it asked the input for. Buffers that are not in use are kept for
/// the next, up to 16 MiB of them, with the segments that were opened last in
/// them, so that small reads one behind the other open each segment once. They
/// are wiped when they are dropped.
///
/// The size that storage reports is a claim. Before this reader reports a
/// length or an end of file, it verifies the last segment, and remembers that
/// for all threads; the bytes that it returns are verified in any case. Threads
/// that need the end at once, before any has verified it, each do so.
///
/// An error that the payload caused is a [`PayloadError`](crate::PayloadError) inside the
/// [`io::Error`]. It says nothing of other segments: those that are authentic
/// can be read as before.
///
/// ```
/// # futures_util::FutureExt::now_or_never(async {
/// # use twinlock::{CustomerKey, Decryptor, EncryptionContext, Encryptor, FileKek, KeyUri};
/// # use twinlock::ProviderKey;
/// # let folder = tempfile::tempdir()?;
/// # let kek = |name| KeyUri::parse(&format!("file://{}/{name}", folder.path().display()));
/// # let (ours, theirs) = (kek("provider.kek")?, kek("customer.kek")?);
/// # FileKek::create(&ours)?;
/// # FileKek::create(&theirs)?;
/// # let provider = ProviderKey::new(FileKek::open(&ours)?)?;
/// # let customer = CustomerKey::new(FileKek::open(&theirs)?)?;
/// # let encryptor = Encryptor::builder(provider.clone(), customer.clone()).prepare().await?;
/// # let bytes = encryptor.encrypt_slice(b"attack at dawn")?;
/// # let decryptor =
/// #     Decryptor::expecting(EncryptionContext::new()).provider(provider).customer(customer);
/// let envelope = decryptor.open(twinlock::read_header(&mut &bytes[..])?).await?;
/// let plaintext = envelope.range_reader(&bytes)?; // or a file, or your object store
///
/// let (mut what, mut when) = ([0; 6], [0; 4]);
/// std::thread::scope(|scope| {
///     let what = scope.spawn(|| plaintext.read_exact_at(&mut what, 0));
///     let when = scope.spawn(|| plaintext.read_exact_at(&mut when, 10));
///     what.join().expect("no panic").and(when.join().expect("no panic"))
/// })?;
/// assert_eq!((&what, &when), (b"attack", b"dawn"));
///
/// let mut tail = Vec::new();
/// plaintext.write_range_to(7.., &mut tail)?;
/// assert_eq!(tail, b"at dawn");
/// assert_eq!(plaintext.verified_len()?, 14);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap().unwrap();
/// ```
///
/// [`Envelope::range_reader`]: crate::Envelope::range_reader
pub struct RangeReader<R> {
    input: R,
    segments: Segments,
    end_verified: AtomicBool,
    idle: IdleWorkers,
}

impl<R: ReadAt> RangeReader<R> {
    /// For the envelope that is all of `input`.
    pub(crate) fn new(input: R, segments: Segments) -> Self {
        Self { input, segments, end_verified: AtomicBool::new(false), idle: IdleWorkers::default() }
    }

    /// Reads plaintext from `offset` on, and returns how many bytes: fewer than
    /// the buffer holds if one call of the input gave no more, or what follows
    /// cannot be had. None mean that the plaintext ends at `offset` or before,
    /// which was verified, or that the buffer is empty.
    ///
    /// # Errors
    /// When the input cannot be read, or the segment at `offset`, or the last
    /// one where the end matters, is not authentic.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let range = offset..offset.saturating_add(buffer.len() as u64);
        let mut output = Filling { buffer, filled: 0 };
        match self.open_run(range, &mut output) {
            Err(error) if output.filled == 0 => Err(error),
            // What comes behind is as wrong when it is asked for.
            _ => Ok(output.filled),
        }
    }

    /// Fills the buffer with plaintext from `offset` on.
    ///
    /// # Errors
    /// As [`RangeReader::read_at`], and with [`io::ErrorKind::UnexpectedEof`]
    /// when the plaintext ends before the buffer is full. What is in the buffer
    /// then was verified, or is zeros, or was there before.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut read = 0;
        while read < buffer.len() {
            let at = offset.saturating_add(read as u64);
            match self.read_at(&mut buffer[read..], at)? {
                0 => return Err(self.beyond_the_end(offset, buffer.len())),
                len => read += len,
            }
        }
        Ok(())
    }

    /// Writes the plaintext of `range` to `output`, and returns how many bytes:
    /// fewer than the range has if the plaintext ends before, which was
    /// verified. Memory is bounded, whatever the range.
    ///
    /// # Errors
    /// When the input cannot be read, the output not be written, or a segment of
    /// the range, or the last one where the end matters, is not authentic. What
    /// was written by then was verified.
    pub fn write_range_to(
        &self,
        range: impl RangeBounds<u64>,
        output: &mut impl Write,
    ) -> io::Result<u64> {
        let (range, mut output) = (half_open(&range), Writing(output));
        let mut position = range.start;
        while position < range.end {
            match self.open_run(position..range.end, &mut output)? {
                0 => break,
                len => position += len,
            }
        }
        Ok(position - range.start)
    }

    /// The plaintext's length in bytes, from a verified last segment.
    ///
    /// # Errors
    /// When the last segment cannot be read or is not authentic.
    pub fn verified_len(&self) -> io::Result<u64> {
        if !self.end_verified.load(Ordering::Acquire) {
            let last = self.segments.last();
            self.open_segments(last..last + 1, &(0..0), &mut Nowhere)?;
        }
        Ok(self.segments.plaintext_len())
    }

    /// The input.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn beyond_the_end(&self, offset: u64, len: usize) -> io::Error {
        let end = self.segments.plaintext_len();
        io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!(
                "{len} bytes from byte {offset} on were asked for, and the plaintext has {end}"
            ),
        )
    }

    /// Gives `output` the plaintext at the beginning of `range`, of as many
    /// segments as one call of the input fetches. Returns its length: 0 for an
    /// empty range, and at the end of the payload, which was verified.
    fn open_run(&self, range: Range<u64>, output: &mut impl Output) -> io::Result<u64> {
        if range.is_empty() {
            return Ok(0);
        }
        let Some(first) = self.segments.holding(range.start) else {
            return self.verified_len().map(|_| 0);
        };
        let last = self.segments.holding(range.end - 1).unwrap_or(self.segments.last());
        self.open_segments(first..last + 1, &range, output)
    }

    /// Opens the first of the segments `wanted`, one that is at hand or else as
    /// many as one call of the input fetches, and gives `output` what they have
    /// of `range`. Returns how many bytes.
    fn open_segments(
        &self,
        wanted: Range<u64>,
        range: &Range<u64>,
        output: &mut impl Output,
    ) -> io::Result<u64> {
        let worker = self.idle.take(wanted.start);
        let mut worker = worker.unwrap_or_else(|| Worker::new(&self.segments));
        let opened = self.open_with(&mut worker, wanted, range, output);
        self.idle.put(worker);
        opened
    }

    fn open_with(
        &self,
        worker: &mut Worker,
        wanted: Range<u64>,
        range: &Range<u64>,
        output: &mut impl Output,
    ) -> io::Result<u64> {
        if let Some(plaintext) = worker.kept(wanted.start) {
            let piece = &plaintext[self.part(wanted.start, range)];
            return output.take(piece).map(|()| piece.len() as u64);
        }
        let run = self.segments.run(wanted, RUN_LEN);
        worker.fetch(&self.input, &self.segments, run.clone())?;
        let mut total = 0;
        for index in run {
            let part = self.part(index, range);
            total += part.len() as u64;
            self.open(worker, index, part, output)?;
        }
        Ok(total)
    }

    /// Opens a segment that was fetched, right into the output if that takes all
    /// of it.
    fn open(
        &self,
        worker: &mut Worker,
        index: u64,
        part: Range<usize>,
        output: &mut impl Output,
    ) -> io::Result<()> {
        let whole = part.len() as u64 == length(&self.segments.plaintext_range(index));
        match output.room(part.len()).filter(|_| whole) {
            Some(room) => {
                worker.open_into(&self.segments, index, room)?;
                output.filled(part.len());
            }
            None => output.take(&worker.open(&self.segments, index)?[part])?,
        }
        if index == self.segments.last() {
            self.end_verified.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Which bytes of a segment's plaintext are of `range`.
    fn part(&self, index: u64, range: &Range<u64>) -> Range<usize> {
        let held = self.segments.plaintext_range(index);
        let within = |position: u64| {
            let position = position.clamp(held.start, held.end) - held.start;
            usize::try_from(position).expect("within a segment")
        };
        within(range.start)..within(range.end)
    }
}

/// The plaintext as an object of its own, whose size is the verified length.
impl<R: ReadAt> ReadAt for RangeReader<R> {
    fn size(&self) -> io::Result<u64> {
        self.verified_len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Self::read_at(self, buffer, offset)
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

/// Where plaintext goes, piece by piece.
trait Output {
    /// Takes a piece that was verified.
    fn take(&mut self, piece: &[u8]) -> io::Result<()>;

    /// Where a piece of `len` bytes may be opened to, if it need not be verified
    /// before; [`Output::filled`] says that it was.
    fn room(&mut self, _len: usize) -> Option<&mut [u8]> {
        None
    }

    /// Takes the first `len` bytes of the room as filled.
    fn filled(&mut self, _len: usize) {}
}

/// A caller's buffer. What of it is not filled, the caller is not told of.
struct Filling<'a> {
    buffer: &'a mut [u8],
    filled: usize,
}

impl Output for Filling<'_> {
    fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        self.buffer[self.filled..][..piece.len()].copy_from_slice(piece);
        self.filled += piece.len();
        Ok(())
    }

    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        self.buffer[self.filled..].get_mut(..len)
    }

    fn filled(&mut self, len: usize) {
        self.filled += len;
    }
}

struct Writing<'a, W>(&'a mut W);

impl<W: Write> Output for Writing<'_, W> {
    fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        self.0.write_all(piece)
    }
}

struct Nowhere;

impl Output for Nowhere {
    fn take(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
