//! Blocks that need no order: each worker takes the next one.

use std::io;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Has at most `threads` workers do the blocks from 0 up to `blocks`, each once.
/// One of them is the caller's thread. Blocks are taken in order, by an addition
/// and without a lock.
///
/// The error is that of the first block that failed: all before it were taken
/// before, and are done.
pub(super) fn each_block<W>(
    threads: NonZeroUsize,
    blocks: u64,
    worker: impl Fn() -> W + Sync,
) -> io::Result<()>
where
    W: FnMut(u64) -> io::Result<()>,
{
    let next = AtomicU64::new(0);
    let work = || {
        let mut worker = worker();
        loop {
            let block = next.fetch_add(1, Ordering::Relaxed);
            if block >= blocks {
                return None;
            }
            if let Err(error) = worker(block) {
                next.fetch_max(blocks, Ordering::Relaxed); // there is no more to take
                return Some((block, error));
            }
        }
    };
    let failures = on_each(threads, blocks, work);
    match failures.into_iter().flatten().min_by_key(|(block, _)| *block) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Runs `work` on the caller's thread and on others, at most `threads` and one
/// for each of `blocks`.
pub(super) fn on_each<T: Send>(
    threads: NonZeroUsize,
    blocks: u64,
    work: impl Fn() -> T + Sync,
) -> Vec<T> {
    let wanted = usize::try_from(blocks).unwrap_or(usize::MAX).min(threads.get());
    thread::scope(|scope| {
        // Where the system allows no more threads, fewer do it.
        let others: Vec<_> = (1..wanted)
            .map_while(|_| {
                let named = thread::Builder::new().name("twinlock-bulk".to_owned());
                named.spawn_scoped(scope, &work).ok()
            })
            .collect();
        let mut results = vec![work()];
        for other in others {
            results.push(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn threads(number: usize) -> NonZeroUsize {
        NonZeroUsize::new(number).unwrap()
    }

    #[test]
    fn each_block_is_done_once() {
        for (workers, blocks) in [(1, 0), (1, 5), (2, 1), (3, 100), (8, 3)] {
            let done = Mutex::new(Vec::new());
            let worker = || {
                |block| {
                    done.lock().unwrap().push(block);
                    Ok(())
                }
            };
            each_block(threads(workers), blocks, worker).unwrap();
            let mut done = done.into_inner().unwrap();
            done.sort_unstable();
            assert_eq!(done, (0..blocks).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_failure_counts_and_ends_the_work() {
        let done = AtomicU64::new(0);
        let worker = || {
            |block| {
                done.fetch_add(1, Ordering::Relaxed);
                match block {
                    5.. => Err(io::Error::other(block.to_string())),
                    _ => Ok(()),
                }
            }
        };
        let error = each_block(threads(4), 1_000_000, worker).unwrap_err();
        assert_eq!(error.to_string(), "5");
        assert!(done.into_inner() < 100, "the others stop soon");
    }
}
