//! A call: how a worker does it, and how its caller learns the result.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Retry;
use crate::{ErrorKind, Pkcs11Error};

/// A worker's hold on its state.
pub(super) struct Link<'a, S> {
    connect: &'a dyn Fn() -> Result<S, Pkcs11Error>,
    state: Option<S>,
    /// A state that failed, kept until there is another: a token's login ends
    /// with its last session.
    stale: Option<S>,
}

impl<'a, S> Link<'a, S> {
    pub(super) fn new(connect: &'a dyn Fn() -> Result<S, Pkcs11Error>) -> Self {
        Self { connect, state: None, stale: None }
    }

    fn run<T>(
        &mut self,
        retry: Retry,
        work: &mut impl FnMut(&mut S) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        match self.attempt(work) {
            Err(error) if error.kind() == ErrorKind::Gone && retry == Retry::Once => {
                tracing::info!(%error, "reconnecting to the token");
                self.attempt(work)
            }
            result => result,
        }
    }

    fn attempt<T>(
        &mut self,
        work: &mut impl FnMut(&mut S) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        let mut state = match self.state.take() {
            Some(state) => state,
            None => self.connected()?,
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

    fn connected(&mut self) -> Result<S, Pkcs11Error> {
        let state = match (self.connect)() {
            // The token may have room for one session only.
            Err(error) if error.kind() == ErrorKind::Busy && self.stale.take().is_some() => {
                (self.connect)()
            }
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
    fn run(self: Box<Self>, link: &mut Link<'_, S>);
    fn refuse(self: Box<Self>, error: Pkcs11Error);
}

pub(super) struct Call<T, W> {
    pub(super) work: W,
    pub(super) retry: Retry,
    pub(super) patience: Duration,
    pub(super) reply: Arc<Reply<T>>,
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

    fn run(mut self: Box<Self>, link: &mut Link<'_, S>) {
        let run = AssertUnwindSafe(|| link.run(self.retry, &mut self.work));
        let result = catch_unwind(run).unwrap_or_else(|_| Err(panicked()));
        self.reply.send(result);
    }

    fn refuse(self: Box<Self>, error: Pkcs11Error) {
        self.reply.send(Err(error));
    }
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
