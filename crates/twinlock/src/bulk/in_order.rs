//! Blocks of streams: workers take turns at reading and at writing, and do
//! what is between at the same time.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::block::Block;
use super::each_block::on_each;

/// What is to be done with a block that was read, and whether it ends the input.
pub(super) struct Taken<J> {
    pub(super) job: J,
    pub(super) is_last: bool,
}

/// Runs all blocks through `read`, a worker and `write`. Each of at most
/// `threads` workers has one block, so the ends may be as slow as they like:
/// memory is bounded.
///
/// `read` and `write` are called by one at a time. Blocks are written in the
/// order in which they were read, and none after one that failed.
pub(super) fn in_order<J: Send, W>(
    threads: NonZeroUsize,
    block: impl Fn() -> Block + Sync,
    read: impl FnMut(&mut Block) -> io::Result<Taken<J>> + Send,
    worker: impl Fn() -> W + Sync,
    write: impl FnMut(&mut Block, J) -> io::Result<()> + Send,
) -> io::Result<()>
where
    W: FnMut(&mut Block, &mut J) -> io::Result<()>,
{
    let line = Line::default();
    let mut source = Source { line: &line, read, next: 0, is_at_end: false };
    // What is no longer than a block needs no other threads.
    let mut first = block();
    let taken = source.take(&mut first);
    let threads = if source.is_at_end { NonZeroUsize::MIN } else { threads };
    let first = Mutex::new(Some((first, taken)));
    let (source, write) = (Mutex::new(source), Mutex::new(write));
    let take = |block: &mut Block| source.lock().ok()?.take(block);

    on_each(threads, threads.get() as u64, || {
        let mut worker = worker();
        let begun = unpoisoned(&first).take();
        let (mut block, mut taken) = begun.unwrap_or_else(|| {
            let mut block = block();
            let taken = take(&mut block);
            (block, taken)
        });
        while let Some((ticket, job)) = taken {
            let done = job.and_then(|mut job| worker(&mut block, &mut job).map(|()| job));
            let goes_on = ticket.serve(|| unpoisoned(&write)(&mut block, done?));
            taken = goes_on.then(|| take(&mut block)).flatten();
        }
    });
    let failure = line.turn().failure.take();
    failure.map_or(Ok(()), Err)
}

/// The end that is read from.
struct Source<'a, R> {
    line: &'a Line,
    read: R,
    next: u64,
    is_at_end: bool,
}

impl<'a, R> Source<'a, R> {
    /// Reads the next block, and gives it its place in the line. A failure has
    /// one too: what was read before comes first.
    fn take<J>(&mut self, block: &mut Block) -> Option<(Ticket<'a>, io::Result<J>)>
    where
        R: FnMut(&mut Block) -> io::Result<Taken<J>>,
    {
        if self.is_at_end || self.line.turn().is_stopped {
            return None;
        }
        let taken = (self.read)(block);
        self.is_at_end = taken.as_ref().map_or(true, |taken| taken.is_last);
        let ticket = Ticket { line: self.line, number: self.next, is_served: false };
        self.next += 1;
        Some((ticket, taken.map(|taken| taken.job)))
    }
}

/// Whose turn it is to write.
#[derive(Default)]
struct Line {
    turn: Mutex<Turn>,
    moved: Condvar,
}

#[derive(Default)]
struct Turn {
    number: u64,
    /// True if nobody gets a turn any more.
    is_stopped: bool,
    failure: Option<io::Error>,
}

impl Line {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        unpoisoned(&self.turn)
    }
}

/// A place in the line. One that is dropped, by a worker that panics, stops it:
/// the others would wait for ever.
struct Ticket<'a> {
    line: &'a Line,
    number: u64,
    is_served: bool,
}

impl Ticket<'_> {
    /// Waits for its turn and does `act`. False if the line was stopped, or
    /// `act` failed and stopped it.
    fn serve(mut self, act: impl FnOnce() -> io::Result<()>) -> bool {
        let waits = |turn: &mut Turn| turn.number != self.number && !turn.is_stopped;
        let moved = self.line.moved.wait_while(self.line.turn(), waits);
        if moved.unwrap_or_else(PoisonError::into_inner).is_stopped {
            self.is_served = true;
            return false;
        }
        let result = act(); // nobody else has a turn meanwhile
        self.is_served = true;
        let mut turn = self.line.turn();
        turn.number += 1;
        turn.is_stopped = result.is_err();
        turn.failure = result.err();
        self.line.moved.notify_all();
        !turn.is_stopped
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.is_served {
            self.line.turn().is_stopped = true;
            self.line.moved.notify_all();
        }
    }
}

/// Whoever panicked will be heard of when its thread is joined.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use twinlock_floe::SegmentLen;

    use super::*;

    /// Runs blocks that are their own numbers; what is written comes back.
    fn run(
        threads: usize,
        blocks: u64,
        read: impl Fn(u64) -> io::Result<()> + Sync,
        work: impl Fn(u64) -> io::Result<()> + Sync,
        write: impl Fn(u64) -> io::Result<()> + Sync,
    ) -> (Vec<u64>, io::Result<()>) {
        let (mut next, mut written) = (0, Vec::new());
        let result = in_order(
            NonZeroUsize::new(threads).unwrap(),
            || Block::new(SegmentLen::MIN, 64),
            |block| {
                let number = next;
                next += 1;
                read(number)?;
                block.segments(8).copy_from_slice(&number.to_be_bytes());
                Ok(Taken { job: number, is_last: next == blocks })
            },
            || |_: &mut Block, number: &mut u64| work(*number),
            |block, number| {
                write(number)?;
                assert_eq!(*block.segments(8), number.to_be_bytes(), "its own block");
                written.push(number);
                Ok(())
            },
        );
        (written, result)
    }

    fn fail_at(place: u64) -> impl Fn(u64) -> io::Result<()> + Sync {
        move |number| match number == place {
            true => Err(io::Error::other(format!("at {place}"))),
            false => Ok(()),
        }
    }

    fn fine(_: u64) -> io::Result<()> {
        Ok(())
    }

    #[test]
    fn blocks_come_out_in_order_whoever_is_slow() {
        for threads in [1, 2, 5] {
            let pause = |number: u64| thread::sleep(Duration::from_micros(number * 7919 % 300));
            let work = |number| {
                pause(number);
                Ok(())
            };
            let (written, result) = run(threads, 200, fine, work, fine);
            result.unwrap();
            assert_eq!(written, (0..200).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_comes_before_a_failure_is_written_and_nothing_after_it() {
        for threads in [1, 2, 5] {
            for place in [0, 1, 17, 99] {
                let expected: Vec<_> = (0..place).collect();
                let runs = [
                    run(threads, 100, fail_at(place), fine, fine),
                    run(threads, 100, fine, fail_at(place), fine),
                    run(threads, 100, fine, fine, fail_at(place)),
                ];
                for (written, result) in runs {
                    assert_eq!(result.unwrap_err().to_string(), format!("at {place}"));
                    assert_eq!(written, expected);
                }
            }
        }
    }

    #[test]
    fn of_two_failures_the_first_counts() {
        for _ in 0..50 {
            let work = |number| match number {
                3.. => Err(io::Error::other(number.to_string())),
                _ => Ok(()),
            };
            assert_eq!(run(4, 100, fine, work, fine).1.unwrap_err().to_string(), "3");
        }
    }

    #[test]
    fn a_panic_anywhere_ends_all_and_is_passed_on() {
        let panic_at = |place: u64| {
            move |number: u64| {
                assert!(number != place, "planted");
                Ok(())
            }
        };
        for place in [0, 5] {
            for threads in [1, 3] {
                let ends: [&dyn Fn(); 3] = [
                    &|| drop(run(threads, 100, panic_at(place), fine, fine)),
                    &|| drop(run(threads, 100, fine, panic_at(place), fine)),
                    &|| drop(run(threads, 100, fine, fine, panic_at(place))),
                ];
                for end in ends {
                    assert!(catch_unwind(AssertUnwindSafe(end)).is_err());
                }
            }
        }
    }

    #[test]
    fn a_slow_end_is_waited_for_with_a_block_for_each_worker() {
        let ahead = AtomicUsize::new(0);
        let read = |_| {
            assert!(ahead.fetch_add(1, Ordering::SeqCst) < 3, "a block for each of 3 workers");
            Ok(())
        };
        let write = |_| {
            thread::sleep(Duration::from_millis(1));
            ahead.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        run(3, 50, read, fine, write).1.unwrap();
    }
}
