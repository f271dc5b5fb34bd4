//! One asks, the others wait.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::lock::{Mutex, MutexGuard};

/// A value that takes a while to get: whoever finds none asks for it, and who
/// comes meanwhile waits for that answer, also if it is a failure. Without
/// this, a holder that does not answer would be asked by each in turn, and the
/// last would wait for the deadlines of all.
///
/// A failure is the answer to those who waited for it and to nobody later.
pub(crate) struct Flight<T, F> {
    state: Mutex<State<T, F>>,
    /// How many have failed.
    failures: AtomicU64,
}

pub(crate) struct State<T, F> {
    pub(crate) value: Option<T>,
    /// The last failure, and how many there were then.
    failed: Option<(u64, F)>,
}

impl<T, F: Clone> Flight<T, F> {
    pub(crate) fn new() -> Self {
        let state = State { value: None, failed: None };
        Self { state: Mutex::new(state), failures: AtomicU64::new(0) }
    }

    /// Waits for those who are asking. `Err` if one of them failed meanwhile.
    pub(crate) async fn turn(&self) -> Result<MutexGuard<'_, State<T, F>>, F> {
        let failures = self.failures.load(Ordering::SeqCst);
        let state = self.state.lock().await;
        match &state.failed {
            Some((number, failure)) if *number > failures => Err(failure.clone()),
            _ => Ok(state),
        }
    }

    /// Tells those who wait that it failed. `state` is this flight's.
    pub(crate) fn fail(&self, state: &mut State<T, F>, failure: F) {
        let number = self.failures.fetch_add(1, Ordering::SeqCst) + 1;
        state.failed = Some((number, failure));
    }

    /// True if nobody asks and there is no value that `keeps`.
    pub(crate) fn is_idle_without(&self, keeps: impl FnOnce(&T) -> bool) -> bool {
        self.state.try_lock().is_some_and(|state| !state.value.as_ref().is_some_and(keeps))
    }
}
