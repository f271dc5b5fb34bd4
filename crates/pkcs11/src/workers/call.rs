//! A call: how a worker does it, and how its caller learns the result.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Retry;
use crate::breaker::Pass;
use crate::{ErrorKind, Pkcs11Error};

/// How long to wait before asking a full token for a session again: at first,
/// and at most.
pub(super) const PAUSES: (Duration, Duration) =
    (Duration::from_millis(5), Duration::from_millis(100));

/// A worker's hold on its state.
pub(super) struct Link<'a, S> {
    connect: &'a dyn Fn() -> Result<S, Pkcs11Error>,
    state: Option<S>,
    /// A state that was asked for before the call that needs it.
    ahead: Option<Result<S, Pkcs11Error>>,
    /// A state that failed, kept until there is another: a token's login ends
    /// with its last session.
    stale: Option<S>,
    connections: u64,
}

impl<'a, S> Link<'a, S> {
    pub(super) fn new(connect: &'a dyn Fn() -> Result<S, Pkcs11Error>) -> Self {
        Self { connect, state: None, ahead: None, stale: None, connections: 0 }
    }

    /// Asks for a state if there is none. True if the token has no room for
    /// another.
    pub(super) fn is_shut_out(&mut self) -> bool {
        if self.state.is_none() && !matches!(self.ahead, Some(Ok(_))) {
            let ahead = catch_unwind(AssertUnwindSafe(|| self.try_connect()));
            self.ahead = Some(ahead.unwrap_or_else(|_| Err(panicked())));
        }
        matches!(&self.ahead, Some(Err(error)) if error.is_full())
    }

    /// How often a state was used for the first time.
    pub(super) fn connections(&self) -> u64 {
        self.connections
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state.is_some()
    }

    fn run<T>(
        &mut self,
        retry: Retry,
        patience: &dyn Fn(Duration) -> bool,
        work: &mut impl FnMut(&mut S) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        match self.attempt(patience, work) {
            Err(error) if error.wants_new_session() && retry == Retry::Once => {
                tracing::info!(%error, "reconnecting to the token");
                self.attempt(patience, work)
            }
            result => result,
        }
    }

    fn attempt<T>(
        &mut self,
        patience: &dyn Fn(Duration) -> bool,
        work: &mut impl FnMut(&mut S) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        let mut state = match self.state.take() {
            Some(state) => state,
            None => self.connected(patience)?,
        };
        let result = work(&mut state);
        match &result {
            // What a session is worth after these is unknown.
            Err(error) if matches!(error.kind(), ErrorKind::Gone | ErrorKind::Fatal) => {
                self.stale = Some(state);
            }
            _ => self.state = Some(state),
        }
        result
    }

    /// A state, as soon as the token has room for one: `patience` says whether
    /// the caller waits that much longer.
    fn connected(&mut self, patience: &dyn Fn(Duration) -> bool) -> Result<S, Pkcs11Error> {
        let (mut pause, longest) = PAUSES;
        self.connections += 1;
        let mut state = self.ahead.take().unwrap_or_else(|| self.try_connect());
        while let Err(error) = &state
            && error.is_full()
            && patience(pause)
        {
            thread::sleep(pause);
            pause = (pause * 2).min(longest);
            state = self.try_connect();
        }
        state
    }

    fn try_connect(&mut self) -> Result<S, Pkcs11Error> {
        let state = match (self.connect)() {
            // The token may have room for one session only.
            Err(error) if error.is_full() && self.stale.take().is_some() => (self.connect)(),
            result => result,
        };
        self.stale = None;
        state
    }
}

/// A call that waits or is in hand, its types hidden.
pub(super) trait Job<S>: Send + Sync {
    /// False if it was answered or its caller has left.
    fn is_wanted(&self) -> bool;
    fn patience(&self) -> Duration;
    /// When its caller is answered at the latest.
    fn until(&self) -> Instant;
    /// True if the caller waits that much longer, and then for an answer.
    fn waits(&self, more: Duration) -> bool;
    /// A worker has it in hand since `now`.
    fn taken(&self, now: Instant);
    /// Does it; [`Job::answer`] tells the caller. Returns what it took.
    fn run(&self, link: &mut Link<'_, S>) -> Duration;
    fn answer(&self);
    fn refuse(&self, error: Pkcs11Error);
    /// Its time is up.
    fn expire(&self, now: Instant);
}

/// Where a call's time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// Until a worker took it.
    pub(crate) queued: Duration,
    /// With the worker.
    pub(crate) in_token: Duration,
}

/// What came of a call.
pub(crate) type Answer<T> = (Result<T, Pkcs11Error>, Times);

pub(super) struct Call<T, W> {
    start: Instant,
    patience: Duration,
    retry: Retry,
    taken: OnceLock<Instant>,
    /// The worker's affair.
    work: Mutex<Work<T, W>>,
    /// The worker and the deadline race to answer, and the first wins.
    reply: Mutex<Option<Reply<T>>>,
}

enum Work<T, W> {
    ToDo(W),
    InHand,
    Done(Result<T, Pkcs11Error>, Instant),
}

/// The caller's end of a call, and what the breaker is to hear of it, whether
/// the caller is still there or not.
struct Reply<T> {
    sender: oneshot::Sender<Answer<T>>,
    pass: Option<Pass>,
}

impl<T, W> Call<T, W> {
    /// A call that began at `start`, and where its answer will be.
    pub(super) fn new(
        work: W,
        retry: Retry,
        (start, patience): (Instant, Duration),
        pass: Option<Pass>,
    ) -> (Arc<Self>, oneshot::Receiver<Answer<T>>) {
        let (sender, receiver) = oneshot::channel();
        let call = Self {
            start,
            patience,
            retry,
            taken: OnceLock::new(),
            work: Mutex::new(Work::ToDo(work)),
            reply: Mutex::new(Some(Reply { sender, pass })),
        };
        (Arc::new(call), receiver)
    }

    /// Answers it, unless somebody has.
    fn send(&self, result: Result<T, Pkcs11Error>, end: Instant) {
        let Some(Reply { sender, pass }) = lock(&self.reply).take() else { return };
        if let Some(pass) = pass {
            pass.settle(&result);
        }
        let _ = sender.send((result, self.times(end))); // the caller may have left
    }

    fn times(&self, end: Instant) -> Times {
        let taken = self.taken.get().copied().unwrap_or(end);
        Times {
            queued: taken.saturating_duration_since(self.start),
            in_token: end.saturating_duration_since(taken),
        }
    }
}

impl<S, T, W> Job<S> for Call<T, W>
where
    T: Send,
    W: FnMut(&mut S) -> Result<T, Pkcs11Error> + Send,
{
    fn is_wanted(&self) -> bool {
        let is_probe = |reply: &Reply<T>| reply.pass.as_ref().is_some_and(Pass::is_probe);
        lock(&self.reply).as_ref().is_some_and(|reply| {
            // What is asked to see whether the token works is asked all the same,
            // if that does no harm.
            !reply.sender.is_closed() || self.retry == Retry::Once && is_probe(reply)
        })
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn until(&self) -> Instant {
        self.start + self.patience
    }

    fn waits(&self, more: Duration) -> bool {
        // As much again for the answer itself, which comes before the deadline.
        Job::<S>::is_wanted(self) && Instant::now() + more * 2 < Job::<S>::until(self)
    }

    fn taken(&self, now: Instant) {
        let _ = self.taken.set(now); // not again by a worker that it was handed on to
    }

    fn run(&self, link: &mut Link<'_, S>) -> Duration {
        let work = std::mem::replace(&mut *lock(&self.work), Work::InHand);
        let Work::ToDo(mut work) = work else { return Duration::ZERO };
        let patience = |more| Job::<S>::waits(self, more);
        let run = AssertUnwindSafe(|| link.run(self.retry, &patience, &mut work));
        let result = catch_unwind(run).unwrap_or_else(|_| Err(panicked()));
        let end = Instant::now();
        *lock(&self.work) = Work::Done(result, end);
        self.times(end).in_token
    }

    fn answer(&self) {
        let work = std::mem::replace(&mut *lock(&self.work), Work::InHand);
        if let Work::Done(result, end) = work {
            self.send(result, end);
        }
    }

    fn refuse(&self, error: Pkcs11Error) {
        self.send(Err(error), Instant::now());
    }

    fn expire(&self, now: Instant) {
        self.send(Err(timed_out(self.patience)), now);
    }
}

/// Nothing that may panic runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn timed_out(patience: Duration) -> Pkcs11Error {
    Pkcs11Error::new(
        ErrorKind::TimedOut,
        format!("no answer from the token within {} ms", patience.as_millis()),
    )
}

fn panicked() -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::Fatal, "a bug: a worker panicked while it used the token")
}
