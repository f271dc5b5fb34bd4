//! Who reads and opens segments for a thread: a buffer and an AES key, kept for
//! the next.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use twinlock_floe::{Opener, PLAINTEXT_OFFSET};

use crate::bulk::buffer::Buffer;
use crate::payload::PayloadError;
use crate::payload::segments::Segments;
use crate::read_at::{ReadAt, read_up_to_at};

/// Buffers that no thread uses at the moment are kept up to so many bytes in
/// all, or one if that is longer.
const IDLE_LEN: usize = 16 << 20;

/// What a thread needs to open segments.
pub(super) struct Worker {
    opener: Opener,
    buffer: Buffer,
    /// The segments whose ciphertext was fetched into the buffer, and the bytes
    /// that there were of them.
    fetched: Range<u64>,
    filled: usize,
    /// The segment that was opened last, and where its plaintext is.
    kept: Option<(u64, Range<usize>)>,
}

impl Worker {
    pub(super) fn new(segments: &Segments) -> Self {
        Self {
            opener: segments.opener(),
            buffer: Buffer::new(0),
            fetched: 0..0,
            filled: 0,
            kept: None,
        }
    }

    pub(super) fn keeps(&self, index: u64) -> bool {
        self.kept.as_ref().is_some_and(|(kept, _)| *kept == index)
    }

    /// The plaintext of a segment, if it is the one that was opened last.
    pub(super) fn kept(&self, index: u64) -> Option<&[u8]> {
        let (_, plaintext) = self.kept.as_ref().filter(|(kept, _)| *kept == index)?;
        Some(&self.buffer[plaintext.clone()])
    }

    /// Has the buffer hold the segments `run`, as far as the input has them.
    pub(super) fn fetch(
        &mut self,
        input: &impl ReadAt,
        segments: &Segments,
        run: Range<u64>,
    ) -> io::Result<()> {
        let range = segments.input_range(run.clone());
        let len = usize::try_from(range.end - range.start).expect("a run is bounded");
        self.kept = None;
        if self.buffer.len() < len {
            self.buffer = Buffer::new(len);
        }
        self.filled = read_up_to_at(input, &mut self.buffer[..len], range.start)?;
        self.fetched = run;
        Ok(())
    }

    /// Opens a segment that was fetched, and keeps it.
    pub(super) fn open(&mut self, segments: &Segments, index: u64) -> io::Result<&[u8]> {
        let Range { start, end } = self.whereabouts(segments, index)?;
        let len = segments.open(&mut self.opener, index, &mut self.buffer[start..end])?.len();
        let plaintext = start + PLAINTEXT_OFFSET..start + PLAINTEXT_OFFSET + len;
        self.kept = Some((index, plaintext.clone()));
        Ok(&self.buffer[plaintext])
    }

    /// Opens a segment that was fetched into `plaintext`, which is as long as
    /// that.
    pub(super) fn open_into(
        &mut self,
        segments: &Segments,
        index: u64,
        plaintext: &mut [u8],
    ) -> io::Result<()> {
        let range = self.whereabouts(segments, index)?;
        Ok(segments.open_into(&mut self.opener, index, &self.buffer[range], plaintext)?)
    }

    /// Where in the buffer a segment is, if all of it was there to be fetched.
    fn whereabouts(&self, segments: &Segments, index: u64) -> io::Result<Range<usize>> {
        let start = segments.input_range(self.fetched.clone()).start;
        let range = segments.input_range(index..index + 1);
        let within = |offset: u64| usize::try_from(offset - start).expect("a run is bounded");
        match within(range.start)..within(range.end) {
            range if range.end <= self.filled => Ok(range),
            _ => Err(PayloadError::Truncated { offset: start + self.filled as u64 }.into()),
        }
    }
}

/// The workers that no thread uses at the moment.
#[derive(Default)]
pub(super) struct IdleWorkers(Mutex<Vec<Worker>>);

impl IdleWorkers {
    /// One of them; if one has segment `index` opened, then that.
    pub(super) fn take(&self, index: u64) -> Option<Worker> {
        let mut workers = self.lock();
        match workers.iter().rposition(|worker| worker.keeps(index)) {
            Some(at) => Some(workers.remove(at)),
            None => workers.pop(),
        }
    }

    /// Takes a worker back, or drops it where there is no room.
    pub(super) fn put(&self, worker: Worker) {
        let mut workers = self.lock();
        let idle: usize = workers.iter().map(|worker| worker.buffer.len()).sum();
        if workers.is_empty() || idle + worker.buffer.len() <= IDLE_LEN {
            workers.push(worker);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Worker>> {
        // Nothing that can panic is done while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
