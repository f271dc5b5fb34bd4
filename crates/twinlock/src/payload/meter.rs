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

/// The counters that the plaintext of one payload goes to.
#[derive(Clone, Default)]
pub(crate) struct Meter(Vec<Counter>);

impl Meter {
    pub(crate) fn add(&self, bytes: usize) {
        self.0.iter().for_each(|counter| counter.add(bytes));
    }
}

impl FromIterator<Counter> for Meter {
    fn from_iter<T: IntoIterator<Item = Counter>>(counters: T) -> Self {
        Self(counters.into_iter().collect())
    }
}
