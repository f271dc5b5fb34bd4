//! Copies of a file without encryption: the physical limit of encrypting one.
//!
//! A [`Copying`] names one way to do it. [`Layout::Envelope`] moves the bytes as
//! an envelope has them, with 32 bytes of overhead for each piece and a header in
//! front, so that neither side falls on pages as a plain copy does.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

use crate::yardstick::aws_lc_seal_pieces;

/// A header of about this length stands before the payload. In bytes.
const HEADER_LEN: u64 = 1000;
const BEFORE: usize = 16;
const AFTER: usize = 16;

/// Pages begin here, in bytes.
const PAGE: usize = 4096;

/// One way to copy a file.
#[derive(Clone, Copy, Debug)]
pub struct Copying {
    /// Who does what.
    pub order: Order,
    /// How long a piece is, in bytes: a segment of an envelope.
    pub piece: usize,
    /// How many pieces one system call moves.
    pub pieces_per_call: usize,
    /// How the bytes lie in the output.
    pub layout: Layout,
    /// What is done about room before the first write.
    pub room: Room,
    /// What the kernel is told of the pages.
    pub advice: Advise,
    /// Whether each piece is sealed on its way, by AES-256-GCM alone.
    pub seal: bool,
}

/// Who reads and writes what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// So many workers, each of which takes the next call's pieces, reads and writes.
    Next(usize),
    /// So many workers, each with its own contiguous range.
    Ranges(usize),
    /// One reader (who seals, too) and one writer, with four buffers between them.
    Pipeline,
}

/// How the bytes lie in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As in the input.
    Plain,
    /// With a header, and overhead around each piece.
    Envelope,
}

/// What is done about room before the first write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Nothing: each write makes the file longer.
    Grow,
    /// The length is set.
    SetLen,
    /// The blocks are allocated, and the length set.
    Allocate,
    /// The blocks are allocated; the length grows with the writes.
    AllocateKeepSize,
}

/// What the kernel is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advise {
    /// Nothing.
    Nothing,
    /// That the input is read from front to back.
    Sequential,
    /// That no page is needed once it is copied.
    DontNeed,
}

impl Copying {
    /// What the yardstick of file to file is: two workers, an envelope's layout,
    /// about 1 MiB a call (docs/adr/0009-file-io.md).
    pub const POSITIONAL: Self = Self {
        order: Order::Next(2),
        piece: 256 << 10,
        pieces_per_call: 4,
        layout: Layout::Envelope,
        room: Room::Grow,
        advice: Advise::Nothing,
        seal: false,
    };

    /// Copies `input` to `output`, from the beginning of each.
    ///
    /// # Errors
    /// Of reading and writing.
    pub fn copy(self, input: &File, output: &File) -> io::Result<()> {
        let len = input.metadata()?.len();
        self.make_room(len, output)?;
        if self.advice == Advise::Sequential {
            fadvise(input, 0, None, Advice::Sequential)?;
        }
        let calls = len.div_ceil(self.call_len() as u64);
        match self.order {
            Order::Next(workers) => self.copy_next(workers, calls, input, output),
            Order::Ranges(workers) => self.copy_ranges(workers, calls, input, output),
            Order::Pipeline => self.copy_in_order(calls, input, output),
        }
    }

    fn make_room(self, len: u64, output: &File) -> io::Result<()> {
        let pieces = len.div_ceil(self.step() as u64);
        let len = match self.layout {
            Layout::Plain => len,
            Layout::Envelope => HEADER_LEN + len + pieces * (BEFORE + AFTER) as u64,
        };
        match self.room {
            Room::Grow => {}
            Room::SetLen => output.set_len(len)?,
            Room::Allocate => fallocate(output, FallocateFlags::empty(), 0, len)?,
            Room::AllocateKeepSize => fallocate(output, FallocateFlags::KEEP_SIZE, 0, len)?,
        }
        Ok(())
    }

    fn copy_next(self, workers: usize, calls: u64, input: &File, output: &File) -> io::Result<()> {
        let next = AtomicU64::new(0);
        in_parallel(workers, |_| {
            let mut buffer = Buffer::new(self.buffer_len());
            loop {
                let call = next.fetch_add(1, Ordering::Relaxed);
                if call >= calls {
                    return Ok(());
                }
                let len = self.read(call, input, buffer.bytes())?;
                self.write(call, output, &buffer.bytes()[..len])?;
            }
        })
    }

    fn copy_ranges(
        self,
        workers: usize,
        calls: u64,
        input: &File,
        output: &File,
    ) -> io::Result<()> {
        let bound = |worker: usize| calls * worker as u64 / workers as u64;
        in_parallel(workers, |worker| {
            let mut buffer = Buffer::new(self.buffer_len());
            for call in bound(worker)..bound(worker + 1) {
                let len = self.read(call, input, buffer.bytes())?;
                self.write(call, output, &buffer.bytes()[..len])?;
            }
            Ok(())
        })
    }

    fn copy_in_order(self, calls: u64, input: &File, output: &File) -> io::Result<()> {
        let (send, full): (SyncSender<(Buffer, usize)>, Receiver<_>) = sync_channel(4);
        let (give_back, empty) = channel();
        for _ in 0..4 {
            give_back.send(Buffer::new(self.buffer_len())).expect("its receiver is here");
        }
        thread::scope(|scope| {
            let reader = scope.spawn(move || -> io::Result<()> {
                for call in 0..calls {
                    let Ok(mut buffer) = empty.recv() else { break };
                    let len = self.read(call, input, buffer.bytes())?;
                    if send.send((buffer, len)).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            for (call, (mut buffer, len)) in (0..).zip(full) {
                self.write(call, output, &buffer.bytes()[..len])?;
                let _ = give_back.send(buffer); // the reader may be done
            }
            reader.join().expect("the reader does not panic")
        })
    }

    /// Reads the pieces of one call to their places. Returns how many bytes the
    /// output gets.
    fn read(self, call: u64, input: &File, buffer: &mut [u8]) -> io::Result<usize> {
        let start = call * self.call_len() as u64;
        let mut slots: Vec<IoSliceMut<'_>> = buffer
            .chunks_mut(self.piece)
            .map(|slot| IoSliceMut::new(&mut slot[self.before()..][..self.step()]))
            .collect();
        let len = match &mut slots[..] {
            [slot] => input.read_at(slot, start)?,
            slots => rustix::io::preadv(input, slots, start)?,
        };
        let pieces = len.div_ceil(self.step());
        if self.seal {
            aws_lc_seal_pieces(buffer.chunks_mut(self.piece).take(pieces), BEFORE, AFTER);
        }
        if self.advice == Advise::DontNeed {
            fadvise(input, start, NonZeroU64::new(len as u64), Advice::DontNeed)?;
        }
        Ok(len + pieces * (self.piece - self.step()))
    }

    fn write(self, call: u64, output: &File, bytes: &[u8]) -> io::Result<()> {
        let header = if self.layout == Layout::Envelope { HEADER_LEN } else { 0 };
        let start = header + call * self.buffer_len() as u64;
        output.write_all_at(bytes, start)
    }

    fn buffer_len(self) -> usize {
        self.piece * self.pieces_per_call
    }

    /// How many bytes of the input one call moves.
    fn call_len(self) -> usize {
        self.step() * self.pieces_per_call
    }

    /// How many bytes of the input are one piece.
    fn step(self) -> usize {
        match self.layout {
            Layout::Plain => self.piece,
            Layout::Envelope => self.piece - BEFORE - AFTER,
        }
    }

    fn before(self) -> usize {
        if self.layout == Layout::Envelope { BEFORE } else { 0 }
    }
}

/// The first error of any worker.
fn in_parallel(workers: usize, work: impl Fn(usize) -> io::Result<()> + Sync) -> io::Result<()> {
    let work = &work;
    thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        let first = work(0);
        others
            .into_iter()
            .fold(first, |result, other| result.and(other.join().expect("a worker does not panic")))
    })
}

/// Bytes that begin at a page.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn new(len: usize) -> Self {
        let bytes = vec![0; len + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        Self { bytes, start, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}
