//! Bounds that say no at once: requests in a second, and requests at a time.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// So many requests in a second, and as many at once after a pause as the burst
/// says: a token bucket, kept as the time at which it would be full again
/// (the generic cell rate algorithm).
#[derive(Debug)]
pub struct Rate {
    start: Instant,
    nanos_per_request: u64,
    /// How far ahead of now `full_at` may be.
    nanos_of_burst: u64,
    /// When all that was taken will have flowed back, since `start`.
    full_at: AtomicU64,
}

impl Rate {
    /// A rate whose bucket is full, with room for `burst` requests.
    #[must_use]
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let nanos_per_request = NANOS_PER_SECOND / u64::from(per_second.get());
        Self {
            start: Instant::now(),
            nanos_per_request,
            nanos_of_burst: nanos_per_request * u64::from(burst.get()),
            full_at: AtomicU64::new(0),
        }
    }

    /// Takes a request's share, if there is one.
    #[must_use]
    pub fn try_take(&self) -> bool {
        self.try_take_at(self.start.elapsed())
    }

    fn try_take_at(&self, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
        let take = |full_at: u64| {
            let next = full_at.max(now) + self.nanos_per_request;
            (next - now <= self.nanos_of_burst).then_some(next)
        };
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// So many at a time. Clones share the bound.
#[derive(Clone, Debug)]
pub struct InFlight {
    shared: Arc<Counted>,
}

#[derive(Debug)]
struct Counted {
    now: AtomicUsize,
    most: NonZeroUsize,
}

impl InFlight {
    /// At most `most` at a time.
    #[must_use]
    pub fn new(most: NonZeroUsize) -> Self {
        Self { shared: Arc::new(Counted { now: AtomicUsize::new(0), most }) }
    }

    /// A place until it is dropped, if one is free.
    #[must_use]
    pub fn try_enter(&self) -> Option<Place> {
        let place = Place { of: Arc::clone(&self.shared) };
        // One too many is taken back by the drop of `place`.
        let before = place.of.now.fetch_add(1, Ordering::Relaxed);
        (before < place.of.most.get()).then_some(place)
    }

    /// How many there are now, at most.
    #[must_use]
    pub fn now(&self) -> usize {
        self.shared.now.load(Ordering::Relaxed).min(self.shared.most.get())
    }
}

/// A place among those that are in flight.
#[derive(Debug)]
pub struct Place {
    of: Arc<Counted>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate::new(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(burst).unwrap())
    }

    fn taken(rate: &Rate, at: Duration, tries: usize) -> usize {
        (0..tries).filter(|_| rate.try_take_at(at)).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = rate(100, 5);
        let second = Duration::from_secs(1);
        assert_eq!(taken(&rate, second, 10), 5);
        assert_eq!(taken(&rate, second + Duration::from_millis(9), 10), 0);
        assert_eq!(taken(&rate, second + Duration::from_millis(10), 10), 1);
        assert_eq!(taken(&rate, second + Duration::from_millis(40), 10), 3);
        assert_eq!(taken(&rate, 60 * second, 10), 5, "a pause fills it to the burst and no more");
    }

    #[test]
    fn what_is_refused_costs_nothing_later() {
        let rate = rate(10, 1);
        assert_eq!(taken(&rate, Duration::ZERO, 1_000_000), 1);
        assert_eq!(taken(&rate, Duration::from_millis(100), 2), 1);
    }

    #[test]
    fn extremes_do_not_overflow() {
        assert!(rate(u32::MAX, u32::MAX).try_take());
        assert!(rate(1, u32::MAX).try_take_at(Duration::MAX));
    }

    #[test]
    fn threads_together_get_no_more_than_there_is() {
        let rate = rate(1, 1000);
        let got: usize = std::thread::scope(|scope| {
            let threads = [0; 4].map(|_| scope.spawn(|| taken(&rate, Duration::ZERO, 1000)));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(got, 1000);
    }

    #[test]
    fn places_are_given_back() {
        let bound = InFlight::new(NonZeroUsize::new(2).unwrap());
        let places = [bound.try_enter().unwrap(), bound.try_enter().unwrap()];
        assert!(bound.try_enter().is_none());
        assert_eq!(bound.now(), 2);
        drop(places);
        assert_eq!(bound.now(), 0);
        assert!(bound.try_enter().is_some());
    }
}
