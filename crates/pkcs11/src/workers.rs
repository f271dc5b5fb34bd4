//! Threads that wait for the module so that callers do not have to.
//!
//! A module's functions block, and nothing can interrupt them. Each worker
//! therefore owns one session and takes calls from a bounded queue; the caller
//! waits for an answer or for its deadline, whichever comes first. A worker
//! that hangs in the module is abandoned and replaced, up to a bound; should it
//! ever come back, it takes its place again or leaves. A breaker keeps calls
//! away from a device that fails, and opens at that bound too.
//!
//! A call costs little beside its work, for tokens that are fast: one lock for
//! the queue, a thread is woken only if one sleeps, and the deadline thread
//! looks at the pool when the earliest deadline has come, not for each call.

mod call;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub(crate) use self::call::{Answer, Times};
use self::call::{Call, Job, Link, PAUSES};
use crate::breaker::{Breaker, Trips};
use crate::deadline::Alarm;
use crate::{ErrorKind, Pkcs11Error};

/// How long a pool with some sessions waits before it asks for more than the
/// token has.
const FULL: Duration = Duration::from_millis(100);

/// How long dropping the workers waits for them to close their sessions. A process
/// that exits while one is still at it may crash in the module (SoftHSM did on a busy
/// machine, after a quarter of a second).
const FAREWELL: Duration = Duration::from_secs(1);

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
            work_came: Condvar::new(),
            one_left: Condvar::new(),
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
        self.timed_call(patience, retry, work).await.0
    }

    /// As [`Workers::call`], and says where the time went.
    pub(crate) async fn timed_call<T: Send + 'static>(
        &self,
        patience: Duration,
        retry: Retry,
        work: impl FnMut(&mut S) -> Result<T, Pkcs11Error> + Send + 'static,
    ) -> Answer<T> {
        let start = Instant::now();
        let pass = match self.shared.breaker.admit(start, patience) {
            Ok(pass) => pass,
            Err(error) => return (Err(error), Times::default()),
        };
        let (call, answer) = Call::new(work, retry, (start, patience), Some(pass));
        let call: Arc<dyn Job<S>> = call;
        if let Err(error) = self.shared.enqueue(Arc::clone(&call)) {
            call.refuse(error);
        }
        drop(call);
        answer.await.unwrap_or_else(|_| (Err(closed()), Times::default()))
    }

    /// Starts every worker that there may be, and waits until each has its
    /// state or could not get it; for `patience` at most.
    pub(crate) async fn warm_up(&self, patience: Duration) {
        let mut answers = Vec::new();
        loop {
            let call = (Instant::now(), patience);
            let (call, answer) = Call::new(|_: &mut S| Ok(()), Retry::Never, call, None);
            let call: Arc<dyn Job<S>> = call;
            match self.shared.start_another_for(call) {
                Ok(true) => answers.push(answer),
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "no thread for another PKCS#11 worker");
                    break;
                }
            }
        }
        for answer in answers {
            if let Ok((Err(error), _)) = answer.await {
                tracing::warn!(%error, "a session could not be opened ahead");
            }
        }
    }

    /// Takes no more calls, lets those in hand finish and the workers close
    /// their sessions; waits for `patience` at most.
    pub(crate) async fn close(&self, patience: Duration) {
        let (farewell, all_have_left) = oneshot::channel::<()>();
        let unanswered = self.shared.stop(Some(farewell));
        drop(unanswered);
        let shared = Arc::downgrade(&self.shared);
        let give_up = move || {
            let farewells =
                shared.upgrade().map(|shared| std::mem::take(&mut shared.lock().farewells));
            drop(farewells); // which ends the wait
        };
        let Ok(alarm) = Alarm::set(Instant::now() + patience, give_up) else { return };
        let _ = all_have_left.await; // nothing is ever sent
        alarm.cancel();
    }

    /// True if the breaker is closed.
    pub(crate) fn is_trusted(&self) -> bool {
        self.shared.breaker.is_closed()
    }

    /// How it is now.
    pub(crate) fn state(&self) -> PoolState {
        let resting = self.shared.breaker.rest_left(Instant::now());
        let crew = self.shared.lock();
        PoolState {
            resting,
            sessions: crew.live.values().filter(|worker| worker.has_session).count(),
            busy: crew.live.values().filter(|worker| worker.in_hand.is_some()).count(),
            waiting: crew.queue.len(),
            hung: crew.hung.len(),
        }
    }
}

/// What a pool is at.
#[derive(Clone, Debug)]
pub(crate) struct PoolState {
    pub(crate) resting: Option<Pkcs11Error>,
    pub(crate) sessions: usize,
    pub(crate) busy: usize,
    pub(crate) waiting: usize,
    pub(crate) hung: usize,
}

impl<S: 'static> Drop for Workers<S> {
    /// Lets the workers close their sessions, but waits only a moment: the
    /// module might hang. (Without the wait, a process that exits right after
    /// would pull the module from under them.)
    fn drop(&mut self) {
        let unanswered = self.shared.stop(None);
        let crew = self.shared.lock();
        let (crew, _) = self
            .shared
            .one_left
            .wait_timeout_while(crew, FAREWELL, |crew| !crew.live.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        drop(crew);
        drop(unanswered);
    }
}

struct Shared<S> {
    limits: Limits,
    breaker: Arc<Breaker>,
    connect: Box<dyn Fn() -> Result<S, Pkcs11Error> + Send + Sync>,
    crew: Mutex<Crew<S>>,
    work_came: Condvar,
    one_left: Condvar,
}

/// Who is at work, and at what.
struct Crew<S> {
    queue: VecDeque<Arc<dyn Job<S>>>,
    /// The workers that count.
    live: BTreeMap<u64, Worker<S>>,
    /// Workers given up as hanging in the module.
    hung: HashSet<u64>,
    /// Workers that wait for a call and have not been woken for one.
    asleep: usize,
    /// Goes off no later than the first of: a deadline of a call that waits or
    /// is in hand, the time at which a worker counts as hung.
    watch: Option<Alarm>,
    /// What a call takes of late, rather too little than too much.
    service: Option<Duration>,
    /// The token has no session for another worker; not asked before then.
    full_until: Option<Instant>,
    next_worker: u64,
    closed: bool,
    /// Dropped when the last worker has left.
    farewells: Vec<oneshot::Sender<()>>,
}

struct Worker<S> {
    has_session: bool,
    in_hand: Option<InHand<S>>,
}

struct InHand<S> {
    job: Arc<dyn Job<S>>,
    /// When its worker counts as hung.
    end: Instant,
}

impl<S> InHand<S> {
    /// From now on, with nine tenths of the caller's patience, and until its
    /// deadline at least: a worker that needed a moment to start is given up
    /// together with its caller, and the next caller does not find it at work.
    fn new(job: &Arc<dyn Job<S>>, now: Instant) -> Self {
        job.taken(now);
        let end = (now + job.patience() * 9 / 10).max(job.until());
        Self { job: Arc::clone(job), end }
    }
}

impl<S> Default for Crew<S> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            live: BTreeMap::new(),
            hung: HashSet::new(),
            asleep: 0,
            watch: None,
            service: None,
            full_until: None,
            next_worker: 0,
            closed: false,
            farewells: Vec::new(),
        }
    }
}

impl<S: 'static> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Crew<S>> {
        // Calls run outside this lock; what is under it does not panic.
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(self: &Arc<Self>, job: Arc<dyn Job<S>>) -> Result<(), Pkcs11Error> {
        let mut crew = self.lock();
        if crew.closed {
            return Err(closed());
        }
        crew.make_room(self.limits, job.patience())?;
        self.watch(&mut crew, job.until()).map_err(no_thread)?;
        crew.queue.push_back(job);
        self.staff(&mut crew).map_err(no_thread)?;
        if crew.live.is_empty() {
            crew.queue.pop_back();
            return Err(self.limits.all_hung());
        }
        let wakes = crew.asleep > 0;
        crew.asleep -= usize::from(wakes);
        drop(crew); // which the woken worker needs
        if wakes {
            self.work_came.notify_one();
        }
        Ok(())
    }

    /// Has the deadline thread look at the calls at `when`, or sooner.
    fn watch(self: &Arc<Self>, crew: &mut Crew<S>, when: Instant) -> std::io::Result<()> {
        if crew.watch.as_ref().is_some_and(|watch| watch.when() <= when) {
            return Ok(());
        }
        let shared = Arc::downgrade(self);
        let watch = Alarm::set(when, move || Self::on_time(&shared))?;
        if let Some(later) = crew.watch.replace(watch) {
            later.cancel();
        }
        Ok(())
    }

    /// Starts workers while there are calls for them and room within the
    /// bounds.
    fn staff(self: &Arc<Self>, crew: &mut Crew<S>) -> std::io::Result<()> {
        loop {
            let idle = crew.live.values().filter(|worker| worker.in_hand.is_none()).count();
            if idle >= crew.queue.len() || !self.has_room(crew) {
                return Ok(());
            }
            self.start(crew, None)?;
        }
    }

    fn has_room(&self, crew: &Crew<S>) -> bool {
        crew.live.len() < self.limits.workers
            && crew.live.len() + crew.hung.len() < self.limits.threads()
            && !crew.is_full(Instant::now())
    }

    /// One more worker, with `job` as its first call. False if there is no room
    /// for it.
    fn start_another_for(self: &Arc<Self>, job: Arc<dyn Job<S>>) -> std::io::Result<bool> {
        let mut crew = self.lock();
        if crew.closed || !self.has_room(&crew) {
            return Ok(false);
        }
        self.watch(&mut crew, job.until())?;
        self.start(&mut crew, Some(job))?;
        Ok(true)
    }

    fn start(
        self: &Arc<Self>,
        crew: &mut Crew<S>,
        first: Option<Arc<dyn Job<S>>>,
    ) -> std::io::Result<()> {
        let worker = crew.next_worker;
        let in_hand = first.as_ref().map(|job| InHand::new(job, Instant::now()));
        let shared = Arc::clone(self);
        let name = format!("pkcs11-{worker}");
        std::thread::Builder::new().name(name).spawn(move || shared.work(worker, first))?;
        crew.next_worker += 1;
        crew.live.insert(worker, Worker { has_session: false, in_hand });
        Ok(())
    }

    /// A worker's life.
    fn work(self: Arc<Self>, worker: u64, mut next: Option<Arc<dyn Job<S>>>) {
        let mut link = Link::new(&self.connect);
        while let Some(job) = next.take().or_else(|| self.next_job(worker)) {
            let Some(job) = self.with_session(worker, job, &mut link) else { break };
            let service = Self::serve(&*job, &mut link);
            // Back before it answers: the caller's next call finds it idle, and
            // starts no other thread.
            let back = self.come_back(worker, link.is_connected(), service);
            // It wakes a task, by code that is not ours; this thread is to survive it.
            let _ = catch_unwind(AssertUnwindSafe(|| job.answer()));
            let Some(waiting) = back else { break };
            next = waiting;
        }
        drop(link); // closes the session
        self.leave(worker);
    }

    /// Does the call. Returns what that took, unless a session was opened for it.
    fn serve(job: &dyn Job<S>, link: &mut Link<'_, S>) -> Option<Duration> {
        let connections = link.connections();
        let time = job.run(link);
        (link.connections() == connections).then_some(time)
    }

    fn leave(&self, worker: u64) {
        let mut crew = self.lock();
        crew.live.remove(&worker);
        if crew.closed && crew.live.is_empty() {
            crew.farewells.clear();
        }
        drop(crew);
        self.one_left.notify_all();
    }

    fn next_job(&self, worker: u64) -> Option<Arc<dyn Job<S>>> {
        let mut crew = self.lock();
        loop {
            if crew.closed {
                return None;
            }
            if let Some(job) = crew.hand_out(worker) {
                return Some(job);
            }
            crew.asleep += 1;
            crew = self.work_came.wait(crew).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The call, once there is a session for it; nothing if others are to do it.
    fn with_session(
        &self,
        worker: u64,
        job: Arc<dyn Job<S>>,
        link: &mut Link<'_, S>,
    ) -> Option<Arc<dyn Job<S>>> {
        if link.is_connected() {
            return Some(job);
        }
        let is_shut_out = self.waits_in_vain(worker, &*job, link);
        self.settled(worker, job, is_shut_out)
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
        job: Arc<dyn Job<S>>,
        is_shut_out: bool,
    ) -> Option<Arc<dyn Job<S>>> {
        let mut crew = self.lock();
        if is_shut_out && crew.has_session_beside(worker) {
            crew.live.remove(&worker);
            crew.hung.remove(&worker);
            crew.full_until = Some(Instant::now() + FULL);
            crew.queue.push_front(job);
            crew.asleep = 0;
            self.work_came.notify_all();
            return None;
        }
        if let Some(worker) = crew.live.get_mut(&worker) {
            worker.has_session = !is_shut_out;
        }
        Some(job)
    }

    /// The worker's call is done. Returns the next one if there is one already;
    /// nothing at all if the worker was given up meanwhile and its place was
    /// taken.
    fn come_back(
        &self,
        worker: u64,
        has_session: bool,
        service: Option<Duration>,
    ) -> Option<Option<Arc<dyn Job<S>>>> {
        let mut crew = self.lock();
        let was_hung = crew.hung.remove(&worker);
        if was_hung {
            self.breaker.probe_soon(Instant::now());
        } else if let Some(service) = service {
            crew.took(service);
        }
        if was_hung && crew.live.len() >= self.limits.workers {
            return None;
        }
        crew.live.insert(worker, Worker { has_session, in_hand: None });
        Some(crew.hand_out(worker))
    }

    /// Gives up the workers that hang, and starts others for the calls that
    /// wait; then answers whose time is up: in this order, so that the caller's
    /// next call meets the new worker. If there can be no others, the calls
    /// that wait are refused.
    fn on_time(shared: &Weak<Self>) {
        let Some(shared) = shared.upgrade() else { return };
        let mut crew = shared.lock();
        crew.watch = None; // it has gone off
        let now = Instant::now();
        let expired = crew.take_expired(now);
        let given_up = crew.give_up_hung(now);
        (0..given_up).for_each(|_| shared.breaker.failed(&hangs(), now));
        let staffed = shared.staff(&mut crew);
        if crew.hung.len() >= shared.limits.threads() {
            shared.breaker.trip(&shared.limits.all_hung(), now);
        }
        let hopeless = match crew.live.is_empty() {
            true => std::mem::take(&mut crew.queue),
            false => VecDeque::new(),
        };
        if let Some(when) = crew.next_end(now) {
            // The thread for alarms is running: it is the caller.
            let _ = shared.watch(&mut crew, when);
        }
        let hung = crew.hung.len();
        drop(crew);
        for job in expired {
            // It logs and wakes, by code that is not ours; all are answered in any case.
            let _ = catch_unwind(AssertUnwindSafe(|| job.expire(now)));
        }
        for job in hopeless {
            let refuse = || job.refuse(shared.limits.all_hung());
            let _ = catch_unwind(AssertUnwindSafe(refuse));
        }
        if given_up > 0 {
            tracing::warn!(hung, "calls hang in the PKCS#11 module; their threads are left behind");
        }
        if let Err(error) = staffed {
            tracing::warn!(%error, "no thread for another PKCS#11 worker");
        }
    }

    /// Takes no more calls. Returns those that nobody will do; to be dropped
    /// without the lock.
    fn stop(&self, farewell: Option<oneshot::Sender<()>>) -> VecDeque<Arc<dyn Job<S>>> {
        let mut crew = self.lock();
        crew.closed = true;
        crew.asleep = 0;
        if !crew.live.is_empty() {
            crew.farewells.extend(farewell);
        }
        self.work_came.notify_all();
        std::mem::take(&mut crew.queue)
    }
}

impl<S> Crew<S> {
    fn is_full(&self, now: Instant) -> bool {
        let has_session = self.live.values().any(|worker| worker.has_session);
        has_session && self.full_until.is_some_and(|until| now < until)
    }

    /// The first call that still has somebody waiting for it, in that worker's
    /// hand.
    fn hand_out(&mut self, worker: u64) -> Option<Arc<dyn Job<S>>> {
        let job = std::iter::from_fn(|| self.queue.pop_front()).find(|job| job.is_wanted())?;
        let in_hand = InHand::new(&job, Instant::now());
        if let Some(worker) = self.live.get_mut(&worker) {
            worker.in_hand = Some(in_hand);
        }
        Some(job)
    }

    fn has_session_beside(&self, worker: u64) -> bool {
        self.live.iter().any(|(other, state)| *other != worker && state.has_session)
    }

    /// Room in the queue for a call that waits for `patience`, or why there is
    /// none.
    fn make_room(&mut self, limits: Limits, patience: Duration) -> Result<(), Pkcs11Error> {
        if self.refusal(limits, patience).is_some() {
            self.queue.retain(|job| job.is_wanted());
        }
        self.refusal(limits, patience).map_or(Ok(()), Err)
    }

    /// Why a call should not wait: there are too many before it, or they will
    /// take longer than its caller waits, going by what calls took of late.
    fn refusal(&self, limits: Limits, patience: Duration) -> Option<Pkcs11Error> {
        if self.queue.len() >= limits.queue {
            return Some(queue_full(limits.queue));
        }
        let turns = self.queue.len() / self.live.len().max(1);
        let wait = self.service?.saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX));
        (wait > patience).then(|| too_late(self.queue.len(), patience))
    }

    /// A call took that long. A single one that was slow changes little, so that
    /// nobody is refused for it; what is quick again is known at once.
    fn took(&mut self, time: Duration) {
        let time = time.max(Duration::from_micros(1));
        let of_late = self.service.unwrap_or(time);
        self.service = Some(match time < of_late {
            true => (of_late + time) / 2,
            false => (of_late * 7 + time.min(of_late * 8)) / 8,
        });
    }

    /// Moves the workers that have been with one call for too long to the hung
    /// ones. Returns how many.
    fn give_up_hung(&mut self, now: Instant) -> usize {
        let hangs =
            |worker: &Worker<S>| worker.in_hand.as_ref().is_some_and(|call| call.end <= now);
        let hung: Vec<u64> =
            self.live.iter().filter(|(_, worker)| hangs(worker)).map(|(id, _)| *id).collect();
        for worker in &hung {
            self.live.remove(worker);
            self.hung.insert(*worker);
        }
        hung.len()
    }

    /// The calls whose deadline has come: out of the queue, and out of the hands
    /// of workers that go on with them.
    fn take_expired(&mut self, now: Instant) -> Vec<Arc<dyn Job<S>>> {
        let mut expired = Vec::new();
        self.queue.retain(|job| {
            let waits = now < job.until();
            if !waits {
                expired.push(Arc::clone(job));
            }
            waits
        });
        let in_hand = self.live.values().filter_map(|worker| worker.in_hand.as_ref());
        expired.extend(in_hand.map(|call| &call.job).filter(|job| job.until() <= now).cloned());
        expired
    }

    /// When to look at the calls again.
    fn next_end(&self, now: Instant) -> Option<Instant> {
        let waiting = self.queue.iter().map(|job| job.until());
        let in_hand = self.live.values().filter_map(|worker| worker.in_hand.as_ref());
        let in_hand = in_hand.flat_map(|call| [call.job.until(), call.end]);
        waiting.chain(in_hand).filter(|end| *end > now).min()
    }
}

fn hangs() -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::TimedOut, "calls hang in the PKCS#11 module")
}

fn queue_full(length: usize) -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::Busy, format!("{length} calls wait for the token already"))
}

fn too_late(waiting: usize, patience: Duration) -> Pkcs11Error {
    let message = format!(
        "{waiting} calls wait for the token already, which will take longer than {} ms",
        patience.as_millis()
    );
    Pkcs11Error::new(ErrorKind::Busy, message)
}

fn closed() -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::Gone, "the token was closed before it answered")
}

fn no_thread(error: std::io::Error) -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::Busy, format!("the system gives no thread for the token: {error}"))
}

#[cfg(test)]
mod tests;
