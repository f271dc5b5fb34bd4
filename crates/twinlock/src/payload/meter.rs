//! Counting plaintext, for bounds that are in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many bytes of plaintext went through a key. Clones are the same number.
#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// How far bulk work has come: read it from another thread while that is done.
#[derive(Clone)]
pub struct Progress {
    counter: Counter,
    failed: Arc<AtomicBool>,
}

impl Progress {
    /// How many bytes of plaintext were sealed or opened.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.counter.bytes()
    }

    /// True once work on a stream has failed. A [`Read`](std::io::Read) that waits
    /// for more input, in another worker, has no need to: the call returns when it
    /// does.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// The counters that the plaintext of one payload goes to.
#[derive(Clone, Default)]
pub(crate) struct Meter {
    counters: Vec<Counter>,
    failed: Arc<AtomicBool>,
}

impl Meter {
    /// Counts what comes from now on.
    pub(crate) fn progress(&mut self) -> Progress {
        let counter = Counter::default();
        self.counters.push(counter.clone());
        Progress { counter, failed: Arc::clone(&self.failed) }
    }

    /// Tells that the work has failed, if it has.
    pub(crate) fn watch<T, E>(&self, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.counters.iter().for_each(|counter| counter.add(bytes));
    }
}

impl FromIterator<Counter> for Meter {
    fn from_iter<T: IntoIterator<Item = Counter>>(counters: T) -> Self {
        Self { counters: counters.into_iter().collect(), ..Self::default() }
    }
}
