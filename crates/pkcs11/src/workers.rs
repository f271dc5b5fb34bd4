//! Threads that wait for the module so that callers do not have to.
//!
//! A module's functions block, and nothing can interrupt them. Each worker
//! therefore owns one session and takes calls from a bounded queue; the caller
//! waits for an answer or for its deadline, whichever comes first. A worker
//! that hangs in the module is abandoned and replaced, up to a bound; should it
//! ever come back, it takes its place again or leaves. A breaker keeps calls
//! away from a device that fails, and opens at that bound too.

mod call;

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use self::call::{Call, Job, Link, PAUSES, Reply};
use crate::breaker::{Breaker, Trips};
use crate::deadline::Alarm;
use crate::{ErrorKind, Pkcs11Error};

/// How long a pool with some sessions waits before it asks for more than the
/// token has.
const FULL: Duration = Duration::from_millis(100);

/// How long dropping the workers waits for them to close their sessions.
const FAREWELL: Duration = Duration::from_millis(250);

/// A pool of workers, each with a state `S` of its own: a session, or the
/// module's context.
pub(crate) struct Workers<S: 'static> {
    shared: Arc<Shared<S>>,
}

/// The pool's bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Workers side by side, at least 1.
    pub(crate) workers: usize,
    /// Calls that wait for a worker.
    pub(crate) queue: usize,
    /// Hung workers that are replaced.
    pub(crate) hung: usize,
    /// When calls are kept away from the device.
    pub(crate) trips: Trips,
}

impl Limits {
    /// The most there can be, hung or not.
    fn threads(self) -> usize {
        self.workers.saturating_add(self.hung)
    }

    fn all_hung(self) -> Pkcs11Error {
        let count = self.threads();
        let message = format!("{count} calls hang in the PKCS#11 module; no more are sent into it");
        Pkcs11Error::new(ErrorKind::Busy, message).with_retry_after(self.trips.rest)
    }
}

/// What to do with a call whose session turns out to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Do it again with a new session, once.
    Once,
    /// Report it: the call might have happened already.
    Never,
}

impl<S: 'static> Workers<S> {
    /// Workers that make their state with `connect`, each when it gets its
    /// first call and again whenever its state was lost.
    pub(crate) fn new(
        limits: Limits,
        connect: impl Fn() -> Result<S, Pkcs11Error> + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared {
            limits,
            breaker: Breaker::new(limits.trips),
            connect: Box::new(connect),
            crew: Mutex::new(Crew::default()),
            changed: Condvar::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs `work` on a worker; fails when there is no answer after
    /// `patience`, and at once while the breaker is open.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        patience: Duration,
        retry: Retry,
        work: impl FnMut(&mut S) -> Result<T, Pkcs11Error> + Send + 'static,
    ) -> Result<T, Pkcs11Error> {
        let pass = self.shared.breaker.admit(Instant::now(), patience)?;
        let (reply, answer) = Reply::new();
        let alarm = self.alarm(&reply, patience)?;
        let until = Instant::now() + patience;
        let call = Call { work, retry, patience, until, reply, result: None };
        let result = match self.shared.enqueue(Box::new(call)) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(closed())),
            Err(error) => Err(error),
        };
        alarm.cancel();
        pass.settle(&result);
        result
    }

    /// Replaces the worker that hangs, if one does, and completes the caller's
    /// future at its deadline: in this order, so that the caller's next call
    /// meets the new worker.
    fn alarm<T: Send + 'static>(
        &self,
        reply: &Arc<Reply<T>>,
        patience: Duration,
    ) -> Result<Alarm, Pkcs11Error> {
        let reply = Arc::clone(reply);
        let shared = Arc::downgrade(&self.shared);
        let on_time = move || {
            if reply.is_open() {
                // It logs, by code that is not ours; the caller is answered in any case.
                let _ = catch_unwind(AssertUnwindSafe(|| Shared::replace_hung(&shared)));
                reply.send(Err(timed_out(patience)));
            }
        };
        Alarm::set(Instant::now() + patience, on_time).map_err(no_thread)
    }
}

impl<S: 'static> Drop for Workers<S> {
    /// Lets the workers close their sessions, but waits only a moment: the
    /// module might hang. (Without the wait, a process that exits right after
    /// would pull the module from under them.)
    fn drop(&mut self) {
        let mut crew = self.shared.lock();
        crew.closed = true;
        let unanswered = std::mem::take(&mut crew.queue);
        self.shared.changed.notify_all();
        let (crew, _) = self
            .shared
            .changed
            .wait_timeout_while(crew, FAREWELL, |crew| !crew.live.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        drop(crew);
        drop(unanswered);
    }
}

struct Shared<S> {
    limits: Limits,
    breaker: Breaker,
    connect: Box<dyn Fn() -> Result<S, Pkcs11Error> + Send + Sync>,
    crew: Mutex<Crew<S>>,
    changed: Condvar,
}

/// Who is at work, and at what.
struct Crew<S> {
    queue: VecDeque<Box<dyn Job<S>>>,
    /// The workers that count.
    live: HashMap<u64, Worker>,
    /// Workers given up as hanging in the module.
    hung: HashSet<u64>,
    /// The token has no session for another worker; not asked before then.
    full_until: Option<Instant>,
    next_worker: u64,
    closed: bool,
}

#[derive(Clone, Copy, Default)]
struct Worker {
    has_session: bool,
    in_hand: Option<InHand>,
}

#[derive(Clone, Copy)]
struct InHand {
    /// When it counts as hung.
    end: Instant,
}

impl InHand {
    /// From now on, with nine tenths of the caller's patience: a worker that
    /// needed a moment to start is given up together with its caller, and the
    /// next caller does not find it at work.
    fn new(patience: Duration) -> Self {
        Self { end: Instant::now() + patience * 9 / 10 }
    }
}

impl<S> Default for Crew<S> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            live: HashMap::new(),
            hung: HashSet::new(),
            full_until: None,
            next_worker: 0,
            closed: false,
        }
    }
}

impl<S: 'static> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Crew<S>> {
        // Calls run outside this lock; what is under it does not panic.
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(self: &Arc<Self>, job: Box<dyn Job<S>>) -> Result<(), Pkcs11Error> {
        let mut crew = self.lock();
        if crew.queue.len() >= self.limits.queue {
            crew.queue.retain(|job| job.is_wanted());
        }
        if crew.queue.len() >= self.limits.queue {
            return Err(queue_full(self.limits.queue));
        }
        crew.queue.push_back(job);
        self.staff(&mut crew).map_err(no_thread)?;
        if crew.live.is_empty() {
            crew.queue.pop_back();
            return Err(self.limits.all_hung());
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Starts workers while there are calls for them and room within the
    /// bounds.
    fn staff(self: &Arc<Self>, crew: &mut Crew<S>) -> std::io::Result<()> {
        loop {
            let idle = crew.live.values().filter(|worker| worker.in_hand.is_none()).count();
            let room = crew.live.len() < self.limits.workers
                && crew.live.len() + crew.hung.len() < self.limits.threads();
            if idle >= crew.queue.len() || !room || crew.is_full(Instant::now()) {
                return Ok(());
            }
            let worker = crew.next_worker;
            let shared = Arc::clone(self);
            let name = format!("pkcs11-{worker}");
            std::thread::Builder::new().name(name).spawn(move || shared.work(worker))?;
            crew.next_worker += 1;
            crew.live.insert(worker, Worker::default());
        }
    }

    /// A worker's life.
    fn work(self: Arc<Self>, worker: u64) {
        let mut link = Link::new(&self.connect);
        while let Some(job) = self.next_job(worker) {
            let is_shut_out = self.waits_in_vain(worker, &*job, &mut link);
            let Some(mut job) = self.settled(worker, job, is_shut_out) else { break };
            job.run(&mut link);
            // Back before it answers: the caller's next call finds it idle, and
            // starts no other thread.
            let is_back = self.is_back(worker, link.is_connected());
            // It wakes a task, by code that is not ours; this thread is to survive it.
            let _ = catch_unwind(AssertUnwindSafe(|| job.answer()));
            if !is_back {
                break;
            }
        }
        drop(link); // closes the session
        self.lock().live.remove(&worker);
        self.changed.notify_all();
    }

    fn next_job(&self, worker: u64) -> Option<Box<dyn Job<S>>> {
        let mut crew = self.lock();
        loop {
            if crew.closed {
                return None;
            }
            if let Some(job) = crew.queue.pop_front() {
                if !job.is_wanted() {
                    continue;
                }
                let in_hand = InHand::new(job.patience());
                crew.live.entry(worker).or_default().in_hand = Some(in_hand);
                return Some(job);
            }
            crew = self.changed.wait(crew).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for a session of its own, or until others have one. True if it has
    /// none.
    fn waits_in_vain(&self, worker: u64, job: &dyn Job<S>, link: &mut Link<'_, S>) -> bool {
        let (mut pause, longest) = PAUSES;
        while link.is_shut_out() {
            if self.lock().has_session_beside(worker) || !job.waits(pause) {
                return true;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(longest);
        }
        false
    }

    /// The call, for a worker that can do it. One without a session hands it
    /// back and leaves if others have one: they will do it sooner.
    fn settled(
        &self,
        worker: u64,
        job: Box<dyn Job<S>>,
        is_shut_out: bool,
    ) -> Option<Box<dyn Job<S>>> {
        let mut crew = self.lock();
        if is_shut_out && crew.has_session_beside(worker) {
            crew.live.remove(&worker);
            crew.hung.remove(&worker);
            crew.full_until = Some(Instant::now() + FULL);
            crew.queue.push_front(job);
            self.changed.notify_all();
            return None;
        }
        if let Some(worker) = crew.live.get_mut(&worker) {
            worker.has_session = !is_shut_out;
        }
        Some(job)
    }

    /// The worker's call is done. False if it was given up meanwhile and its
    /// place was taken.
    fn is_back(&self, worker: u64, has_session: bool) -> bool {
        let mut crew = self.lock();
        let was_hung = crew.hung.remove(&worker);
        if was_hung {
            self.breaker.probe_soon(Instant::now());
        }
        if was_hung && crew.live.len() >= self.limits.workers {
            return false;
        }
        crew.live.insert(worker, Worker { has_session, in_hand: None });
        true
    }

    /// Gives up the workers that hang, and starts others for the calls that
    /// wait. If there can be no others, those calls are refused.
    fn replace_hung(shared: &Weak<Self>) {
        let Some(shared) = shared.upgrade() else { return };
        let mut crew = shared.lock();
        let now = Instant::now();
        let (given_up, next_end) = crew.give_up_hung(now);
        (0..given_up).for_each(|_| shared.breaker.failed(&hangs(), now));
        if let Err(error) = shared.staff(&mut crew) {
            tracing::warn!(%error, "no thread for another PKCS#11 worker");
        }
        if crew.hung.len() >= shared.limits.threads() {
            shared.breaker.trip(&shared.limits.all_hung(), now);
        }
        let hopeless = match crew.live.is_empty() {
            true => std::mem::take(&mut crew.queue),
            false => VecDeque::new(),
        };
        drop(crew);
        hopeless.into_iter().for_each(|job| job.refuse(shared.limits.all_hung()));
        if let Some(when) = next_end {
            let shared = Arc::downgrade(&shared);
            // The thread for alarms is running: it is the caller.
            let _ = Alarm::set(when, move || Self::replace_hung(&shared));
        }
    }
}

impl<S> Crew<S> {
    fn is_full(&self, now: Instant) -> bool {
        let has_session = self.live.values().any(|worker| worker.has_session);
        has_session && self.full_until.is_some_and(|until| now < until)
    }

    fn has_session_beside(&self, worker: u64) -> bool {
        self.live.iter().any(|(other, state)| *other != worker && state.has_session)
    }

    /// Moves the workers that have been with one call for too long to the hung
    /// ones. Returns how many, and when the next may have to follow.
    fn give_up_hung(&mut self, now: Instant) -> (usize, Option<Instant>) {
        let hung_before = self.hung.len();
        let ends = self.live.iter().filter_map(|(id, worker)| Some((*id, worker.in_hand?)));
        let ends: Vec<_> = ends.map(|(worker, call)| (worker, call.end)).collect();
        for (worker, _) in ends.iter().filter(|(_, end)| *end <= now) {
            self.live.remove(worker);
            self.hung.insert(*worker);
            let hung = self.hung.len();
            tracing::warn!(hung, "a call hangs in the PKCS#11 module; its thread is left behind");
        }
        let next_end = ends.into_iter().map(|(_, end)| end).filter(|end| *end > now).min();
        (self.hung.len() - hung_before, next_end)
    }
}

fn timed_out(patience: Duration) -> Pkcs11Error {
    Pkcs11Error::new(
        ErrorKind::TimedOut,
        format!("no answer from the token within {} ms", patience.as_millis()),
    )
}

fn hangs() -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::TimedOut, "calls hang in the PKCS#11 module")
}

fn queue_full(length: usize) -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::Busy, format!("{length} calls wait for the token already"))
}

fn closed() -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::Gone, "the token was closed before it answered")
}

fn no_thread(error: std::io::Error) -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::Busy, format!("the system gives no thread for the token: {error}"))
}

#[cfg(test)]
mod tests;
