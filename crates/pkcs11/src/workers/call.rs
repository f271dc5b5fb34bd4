//! A call: how a worker does it, and how its caller learns the result.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Retry;
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
}

impl<'a, S> Link<'a, S> {
    pub(super) fn new(connect: &'a dyn Fn() -> Result<S, Pkcs11Error>) -> Self {
        Self { connect, state: None, ahead: None, stale: None }
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

/// A call in the queue, its types hidden.
pub(super) trait Job<S>: Send {
    fn is_wanted(&self) -> bool;
    fn patience(&self) -> Duration;
    /// True if the caller waits that much longer, and then for an answer.
    fn waits(&self, more: Duration) -> bool;
    /// Does it; [`Job::answer`] tells the caller.
    fn run(&mut self, link: &mut Link<'_, S>);
    fn answer(self: Box<Self>);
    fn refuse(self: Box<Self>, error: Pkcs11Error);
}

pub(super) struct Call<T, W> {
    pub(super) work: W,
    pub(super) retry: Retry,
    pub(super) patience: Duration,
    /// The caller's deadline.
    pub(super) until: Instant,
    pub(super) reply: Arc<Reply<T>>,
    /// Once it was done.
    pub(super) result: Option<Result<T, Pkcs11Error>>,
}

impl<S, T, W> Job<S> for Call<T, W>
where
    T: Send,
    W: FnMut(&mut S) -> Result<T, Pkcs11Error> + Send,
{
    fn is_wanted(&self) -> bool {
        self.reply.is_wanted()
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn waits(&self, more: Duration) -> bool {
        waits(&self.reply, self.until, more)
    }

    fn run(&mut self, link: &mut Link<'_, S>) {
        let (reply, until) = (Arc::clone(&self.reply), self.until);
        let patience = |more| waits(&reply, until, more);
        let run = AssertUnwindSafe(|| link.run(self.retry, &patience, &mut self.work));
        self.result = Some(catch_unwind(run).unwrap_or_else(|_| Err(panicked())));
    }

    fn answer(self: Box<Self>) {
        if let Some(result) = self.result {
            self.reply.send(result);
        }
    }

    fn refuse(self: Box<Self>, error: Pkcs11Error) {
        self.reply.send(Err(error));
    }
}

fn waits<T>(reply: &Reply<T>, until: Instant, more: Duration) -> bool {
    // As much again for the answer itself, which comes before the deadline.
    reply.is_wanted() && Instant::now() + more * 2 < until
}

/// The caller's end of a call: the worker and the deadline race to answer, and
/// the first wins.
pub(super) struct Reply<T>(Mutex<Option<oneshot::Sender<Result<T, Pkcs11Error>>>>);

impl<T> Reply<T> {
    pub(super) fn new() -> (Arc<Self>, oneshot::Receiver<Result<T, Pkcs11Error>>) {
        let (sender, receiver) = oneshot::channel();
        (Arc::new(Self(Mutex::new(Some(sender)))), receiver)
    }

    pub(super) fn send(&self, result: Result<T, Pkcs11Error>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            let _ = sender.send(result); // the caller may have left
        }
    }

    /// False if it was answered.
    pub(super) fn is_open(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// False if it was answered or the caller has left.
    fn is_wanted(&self) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_some_and(|sender| !sender.is_closed())
    }
}

fn panicked() -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::Fatal, "a bug: a worker panicked while it used the token")
}
