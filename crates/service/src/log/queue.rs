//! A bounded queue with a thread behind it.
//!
//! To push is to take a lock for some nanoseconds. The thread is woken for the
//! first item of a batch only; it then lets others gather for a moment, takes
//! all of them with one exchange of vectors, and does the rest without the lock.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::destination::Destination;

/// More wait for nobody: some tenths of a second of all that a service can do.
pub(super) const MOST_QUEUED: usize = 8192;

/// What of it is for [`Queue::push`] alone.
const RESERVE: usize = MOST_QUEUED / 2;

/// How long a batch gathers. What is logged is in the file soon after.
const GATHER: Duration = Duration::from_millis(20);

/// How long the end waits for what is queued: a pipe may have no reader.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Queue<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    dropped: Counter,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    is_closing: bool,
    /// The thread has written everything and is gone.
    is_done: bool,
}

impl<T: Send + 'static> Queue<T> {
    /// Starts the thread, which makes lines of items by `append`.
    pub(super) fn start(
        name: &str,
        to: Arc<Destination>,
        append: fn(&T, &mut Vec<u8>),
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                items: Vec::with_capacity(MOST_QUEUED),
                is_closing: false,
                is_done: false,
            }),
            changed: Condvar::new(),
            dropped: Counter::default(),
        });
        let writer = Writer { shared: Arc::clone(&shared), to, append, error: None, warned: None };
        thread::Builder::new().name(name.to_owned()).spawn(move || writer.run())?;
        Ok(Self { shared })
    }

    /// Queues an item, or drops and counts it.
    pub(super) fn push(&self, item: T) {
        self.push_below(MOST_QUEUED, item);
    }

    /// The same, but drops it while as many wait as leave no more than the reserve.
    pub(super) fn push_if_room(&self, item: T) {
        self.push_below(MOST_QUEUED - RESERVE, item);
    }

    fn push_below(&self, most: usize, item: T) {
        let mut state = self.shared.state();
        if state.items.len() >= most || state.is_closing {
            drop(state);
            self.shared.dropped.inc();
            return;
        }
        state.items.push(item);
        let is_first = state.items.len() == 1;
        drop(state);
        if is_first {
            self.shared.changed.notify_all();
        }
    }

    pub(super) fn dropped(&self) -> Counter {
        self.shared.dropped.clone()
    }

    /// Takes no more, and waits a little until all is written.
    pub(super) fn close(&self) {
        let mut state = self.shared.state();
        state.is_closing = true;
        self.shared.changed.notify_all();
        let waited =
            self.shared.changed.wait_timeout_while(state, CLOSE_WITHIN, |state| !state.is_done);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread.
struct Writer<T> {
    shared: Arc<Shared<T>>,
    to: Arc<Destination>,
    append: fn(&T, &mut Vec<u8>),
    /// Why the last write failed, if any did.
    error: Option<io::Error>,
    /// When it was last told that lines were dropped, and how many there were.
    warned: Option<(Instant, u64)>,
}

/// What is written at once, about.
const PIECE: usize = 64 * 1024;

impl<T> Writer<T> {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(MOST_QUEUED);
        let mut lines = Vec::with_capacity(PIECE + 4096);
        while self.take(&mut batch) {
            let mut items = batch.drain(..).peekable();
            while items.peek().is_some() {
                lines.clear();
                for item in items.by_ref() {
                    (self.append)(&item, &mut lines);
                    if lines.len() >= PIECE {
                        break;
                    }
                }
                self.write(&lines);
            }
            drop(items);
            self.warn_of_dropped();
        }
        self.shared.state().is_done = true;
        self.shared.changed.notify_all();
    }

    /// The next batch. `false` at the end.
    fn take(&self, batch: &mut Vec<T>) -> bool {
        let shared = &self.shared;
        let empty = |state: &mut State<T>| state.items.is_empty() && !state.is_closing;
        let state = shared.changed.wait_while(shared.state(), empty);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let gathering = |state: &mut State<T>| !state.is_closing;
        let gathered = shared.changed.wait_timeout_while(state, GATHER, gathering);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.items, batch);
        !batch.is_empty() || !state.is_closing
    }

    fn write(&mut self, lines: &[u8]) {
        let Err((error, written)) = self.to.write(lines) else { return };
        let lost = lines[written..].iter().filter(|byte| **byte == b'\n').count();
        self.shared.dropped.inc_by(lost as u64);
        self.error = Some(error);
    }

    /// Once in a while, how many were dropped since the last time.
    fn warn_of_dropped(&mut self) {
        let dropped = self.shared.dropped.get();
        let told = self.warned.map_or(0, |(_, dropped)| dropped);
        let is_due = self.warned.is_none_or(|(last, _)| last.elapsed() >= WARN_EVERY);
        if dropped == told || !is_due {
            return;
        }
        self.warned = Some((Instant::now(), dropped));
        let error = self.error.take().map(|error| error.to_string());
        tracing::warn!(
            log = thread::current().name(),
            dropped = dropped - told,
            error,
            "lines of a log were dropped: its disk or its reader is too slow, or full"
        );
    }
}

const WARN_EVERY: Duration = Duration::from_secs(60);
