//! Counting plaintext, for bounds that are in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
pub struct Progress(Counter);

impl Progress {
    /// How many bytes of plaintext were sealed or opened.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

/// The counters that the plaintext of one payload goes to.
#[derive(Clone, Default)]
pub(crate) struct Meter(Vec<Counter>);

impl Meter {
    /// Counts what comes from now on.
    pub(crate) fn progress(&mut self) -> Progress {
        let counter = Counter::default();
        self.0.push(counter.clone());
        Progress(counter)
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.0.iter().for_each(|counter| counter.add(bytes));
    }
}

impl FromIterator<Counter> for Meter {
    fn from_iter<T: IntoIterator<Item = Counter>>(counters: T) -> Self {
        Self(counters.into_iter().collect())
    }
}
