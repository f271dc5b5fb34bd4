//! What each connection is doing, and since when: for its deadlines, and to find
//! one that is idle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::Version;
use tokio::sync::Notify;

/// What one connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    begun: Instant,
    in_flight: AtomicU32,
    /// Bytes have come since the last request ended, and no request yet.
    is_reading: AtomicBool,
    /// When it began to read a head, or a request was last done: milliseconds
    /// after `begun`.
    since: AtomicU64,
    /// A request was answered.
    was_used: AtomicBool,
    is_http2: AtomicBool,
    is_stopping: AtomicBool,
    is_cut: AtomicBool,
    pub(super) wake: Notify,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The head of a request did not come to an end.
    Head,
    /// No request came.
    Idle,
}

impl Activity {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            in_flight: AtomicU32::new(0),
            is_reading: AtomicBool::new(false),
            since: AtomicU64::new(0),
            was_used: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Bytes have come.
    pub(super) fn read(&self) {
        if self.in_flight.load(Relaxed) == 0 && !self.is_reading.swap(true, Relaxed) {
            self.since.store(self.now(), Relaxed);
        }
    }

    /// A request is in flight until what this returns is dropped.
    pub(super) fn request(self: &Arc<Self>, version: Version) -> InFlight {
        let before = self.in_flight.fetch_add(1, Relaxed);
        self.is_reading.store(false, Relaxed);
        if before == 0 && version == Version::HTTP_2 {
            // What was read since the last request may have been a ping.
            self.since.store(self.now(), Relaxed);
        }
        self.is_http2.store(version == Version::HTTP_2, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Whether it is over the limits.
    ///
    /// A connection that never had a request has the time of a head for it, so
    /// that clients who only connect are gone soon. HTTP/2 has frames between
    /// requests, so there only the time without a request counts.
    pub(super) fn overdue(&self, head: Duration, idle: Duration) -> Option<Overdue> {
        if self.is_busy() {
            return None;
        }
        let since = self.in_this_state_for();
        let is_first = !self.was_used.load(Relaxed);
        let is_head = self.is_reading.load(Relaxed) && !self.is_http2.load(Relaxed);
        match is_first || is_head {
            true if is_first => (self.begun.elapsed() >= head).then_some(Overdue::Head),
            true => (since >= head).then_some(Overdue::Head),
            false => (since >= idle).then_some(Overdue::Idle),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Relaxed) > 0
    }

    /// Whether it is to end at once, whatever is in flight.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Relaxed)
    }

    /// In which order connections make room: new ones without a request, then
    /// those with requests of which none was done for as long as is slow, then
    /// those between requests. What is served makes none.
    fn rank(&self, slow: Duration) -> Option<u8> {
        match (self.is_busy(), self.was_used.load(Relaxed)) {
            _ if self.is_stopping.load(Relaxed) => None,
            (true, _) => (self.in_this_state_for() >= slow).then_some(1),
            (false, false) => Some(0),
            (false, true) => Some(2),
        }
    }

    fn make_room(&self) {
        self.is_cut.store(self.is_busy(), Relaxed);
        self.stop();
    }

    fn stop(&self) {
        self.is_stopping.store(true, Relaxed);
        self.wake.notify_one();
    }

    fn in_this_state_for(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.since.load(Relaxed)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A request in flight.
pub(super) struct InFlight(Arc<Activity>);

impl InFlight {
    /// Whether the connection ends after this.
    pub(super) fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let activity = &self.0;
        activity.was_used.store(true, Relaxed);
        // In HTTP/2, a frame may have come while others were in flight.
        activity.is_reading.store(false, Relaxed);
        activity.since.store(activity.now(), Relaxed);
        activity.in_flight.fetch_sub(1, Relaxed);
    }
}

/// All connections of a listener.
#[derive(Debug, Default)]
pub(super) struct Activities {
    all: Mutex<HashMap<u64, Arc<Activity>>>,
    next: AtomicU64,
    /// Whoever begins is to end. Changes with `all` locked.
    are_stopping: AtomicBool,
}

impl Activities {
    pub(super) fn begin(&self) -> Entry<'_> {
        let (id, activity) = (self.next.fetch_add(1, Relaxed), Arc::new(Activity::new()));
        let mut all = self.all();
        if self.are_stopping.load(Relaxed) {
            activity.stop();
        }
        all.insert(id, Arc::clone(&activity));
        drop(all);
        Entry { of: self, id, activity }
    }

    /// Ends the connection that can best be spared, if any can.
    pub(super) fn shed_one(&self, slow: Duration) -> bool {
        let all = self.all();
        let sparable = all.values().filter_map(|one| Some((one.rank(slow)?, one)));
        let first = sparable.min_by_key(|(rank, one)| {
            (*rank, one.begun + Duration::from_millis(one.since.load(Relaxed)))
        });
        first.inspect(|(_, one)| one.make_room()).is_some()
    }

    pub(super) fn stop_all(&self) {
        let all = self.all();
        self.are_stopping.store(true, Relaxed);
        all.values().for_each(|one| one.stop());
    }

    pub(super) fn busy(&self) -> usize {
        self.all().values().filter(|one| one.is_busy()).count()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Arc<Activity>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection among all, until it is dropped.
pub(super) struct Entry<'a> {
    of: &'a Activities,
    id: u64,
    pub(super) activity: Arc<Activity>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.of.all().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1000);
    const NONE: Duration = Duration::ZERO;

    #[test]
    fn a_connection_is_first_new_then_busy_then_idle() {
        let activity = Arc::new(Activity::new());
        assert_eq!(activity.overdue(NONE, LONG), Some(Overdue::Head), "no request yet");
        assert_eq!(activity.overdue(LONG, NONE), None);
        let request = activity.request(Version::HTTP_11);
        activity.read();
        assert_eq!(activity.overdue(NONE, NONE), None, "a body is no head");
        drop(request);
        assert_eq!(activity.overdue(NONE, LONG), None);
        assert_eq!(activity.overdue(LONG, NONE), Some(Overdue::Idle));
        activity.read();
        assert_eq!(activity.overdue(NONE, LONG), Some(Overdue::Head), "half a head");
        drop(activity.request(Version::HTTP_2));
        activity.read();
        assert_eq!(activity.overdue(NONE, LONG), None, "a ping");
        assert_eq!(activity.overdue(LONG, NONE), Some(Overdue::Idle));
    }

    #[test]
    fn the_unused_go_first_then_the_slow_then_the_idlest() {
        let all = Activities::default();
        assert!(!all.shed_one(NONE));
        let [idle, idler, busy, unused] = [all.begin(), all.begin(), all.begin(), all.begin()];
        drop(idler.activity.request(Version::HTTP_11));
        std::thread::sleep(Duration::from_millis(5));
        drop(idle.activity.request(Version::HTTP_11));
        let request = busy.activity.request(Version::HTTP_11);
        let is_stopping = |one: &Entry<'_>| one.activity.is_stopping.load(Relaxed);
        assert!(all.shed_one(NONE) && is_stopping(&unused));
        assert!(all.shed_one(LONG) && is_stopping(&idler));
        assert!(all.shed_one(NONE) && is_stopping(&busy) && busy.activity.is_cut());
        assert!(all.shed_one(NONE) && is_stopping(&idle) && !idle.activity.is_cut());
        let served = all.begin();
        let _second = served.activity.request(Version::HTTP_2);
        assert!(!all.shed_one(LONG), "what is served stays");
        assert_eq!(all.busy(), 2);
        drop(request);
        drop(busy);
        assert_eq!((all.busy(), all.all().len()), (1, 4));
    }

    #[test]
    fn who_begins_after_the_stop_is_stopped_too() {
        let all = Activities::default();
        let before = all.begin();
        assert!(!before.activity.is_stopping.load(Relaxed));
        all.stop_all();
        for one in [before, all.begin()] {
            assert!(one.activity.is_stopping.load(Relaxed));
        }
    }
}
