//! Spares a token that fails, and its callers: after some failures in a row
//! the next calls are answered at once, and from time to time one is let
//! through to see whether the token works again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{ErrorKind, Pkcs11Error};

/// The rest doubles with each probe that fails, up to this many times.
const DOUBLINGS: u32 = 5;

/// When to open, and for how long at first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trips {
    /// Failures of the device in a row.
    pub(crate) failures: u32,
    /// The time until the first probe.
    pub(crate) rest: Duration,
}

pub(crate) struct Breaker {
    trips: Trips,
    state: Mutex<State>,
}

enum State {
    Closed {
        failures: u32,
    },
    Open {
        /// What answers callers until then.
        reason: Pkcs11Error,
        until: Instant,
        /// Probes that failed.
        probes: u32,
    },
    /// One call is in the module to see how it is.
    HalfOpen {
        reason: Pkcs11Error,
        /// Its caller may never fetch the answer: then there is another probe.
        until: Instant,
        probes: u32,
    },
}

impl Breaker {
    pub(crate) fn new(trips: Trips) -> Arc<Self> {
        Arc::new(Self { trips, state: Mutex::new(State::Closed { failures: 0 }) })
    }

    /// Lets a call through that takes `patience` at most, or says why not.
    pub(crate) fn admit(
        self: &Arc<Self>,
        now: Instant,
        patience: Duration,
    ) -> Result<Pass, Pkcs11Error> {
        let mut state = self.lock();
        let is_probe = match &*state {
            State::Closed { .. } => false,
            State::Open { reason, until, .. } | State::HalfOpen { reason, until, .. }
                if now < *until =>
            {
                return Err(resting(reason, *until - now));
            }
            State::Open { reason, probes, .. } | State::HalfOpen { reason, probes, .. } => {
                tracing::info!("asking the token whether it works again");
                let (reason, probes) = (reason.clone(), *probes);
                *state = State::HalfOpen { reason, until: now + patience, probes };
                true
            }
        };
        Ok(Pass { breaker: Arc::clone(self), is_probe, admitted: now, settled: false })
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.lock(), State::Closed { .. })
    }

    /// Why calls are answered at once, and for how much longer; nothing while
    /// they are let through.
    pub(crate) fn rest_left(&self, now: Instant) -> Option<Pkcs11Error> {
        match &*self.lock() {
            State::Closed { .. } => None,
            State::Open { reason, until, .. } | State::HalfOpen { reason, until, .. } => {
                Some(resting(reason, until.saturating_duration_since(now)))
            }
        }
    }

    /// The device failed in a way that no caller's answer shows: a call hangs.
    pub(crate) fn failed(&self, error: &Pkcs11Error, now: Instant) {
        let mut state = self.lock();
        if let State::Closed { failures } = &mut *state {
            *failures = failures.saturating_add(1);
            if *failures >= self.trips.failures {
                self.open(&mut state, error, 0, now);
            }
        }
    }

    /// There is nobody left to do a call.
    pub(crate) fn trip(&self, error: &Pkcs11Error, now: Instant) {
        let mut state = self.lock();
        if let State::Closed { .. } = &*state {
            self.open(&mut state, error, 0, now);
        }
    }

    /// There are signs of life: the next call is a probe.
    pub(crate) fn probe_soon(&self, now: Instant) {
        if let State::Open { until, .. } = &mut *self.lock() {
            *until = now;
        }
    }

    fn settle(&self, is_probe: bool, verdict: Verdict<'_>, now: Instant) {
        let mut state = self.lock();
        match (&mut *state, is_probe, verdict) {
            (State::Closed { failures }, _, Verdict::Works) => *failures = 0,
            (State::Closed { .. }, _, Verdict::Failed(error)) => {
                drop(state);
                self.failed(error, now);
            }
            (State::HalfOpen { .. }, true, Verdict::Works) => {
                tracing::info!("the token works again");
                *state = State::Closed { failures: 0 };
            }
            (State::HalfOpen { probes, .. }, true, Verdict::Failed(error)) => {
                let probes = *probes + 1;
                self.open(&mut state, error, probes, now);
            }
            (State::HalfOpen { reason, probes, .. }, true, Verdict::Unknown) => {
                *state = State::Open { reason: reason.clone(), until: now, probes: *probes };
            }
            // Calls from before it opened say nothing about now.
            _ => {}
        }
    }

    fn open(&self, state: &mut State, reason: &Pkcs11Error, probes: u32, now: Instant) {
        let rest = self.rest(probes);
        tracing::warn!(%reason, rest_ms = rest.as_millis(), "the token fails; it gets a rest");
        *state = State::Open { reason: reason.clone(), until: now + rest, probes };
    }

    fn rest(&self, probes: u32) -> Duration {
        self.trips.rest.saturating_mul(1 << probes.min(DOUBLINGS))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is under this lock leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's leave to go to the token. Dropped without a word, the call is as
/// if it never was.
pub(crate) struct Pass {
    breaker: Arc<Breaker>,
    is_probe: bool,
    admitted: Instant,
    settled: bool,
}

impl Pass {
    /// True if the call is to find out whether the token works again.
    pub(crate) fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// What became of the call.
    pub(crate) fn settle<T>(mut self, result: &Result<T, Pkcs11Error>) {
        self.settled = true;
        let verdict = self.verdict(result);
        let now = match verdict {
            Verdict::Works => self.admitted, // whenever that was: the clock costs more
            Verdict::Failed(_) | Verdict::Unknown => Instant::now(),
        };
        self.breaker.settle(self.is_probe, verdict, now);
    }

    fn verdict<'e, T>(&self, result: &'e Result<T, Pkcs11Error>) -> Verdict<'e> {
        match result {
            Err(error) if error.blames_device() => Verdict::Failed(error),
            // A caller may have waited in vain for others' calls: hung ones are
            // counted where they are given up. A probe has nobody before it.
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::TimedOut) => {
                match self.is_probe {
                    true => Verdict::Failed(error),
                    false => Verdict::Unknown,
                }
            }
            // A refusal is an answer, and bad ciphertext the caller's affair.
            Ok(_) | Err(_) => Verdict::Works,
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.settled {
            self.breaker.settle(self.is_probe, Verdict::Unknown, Instant::now());
        }
    }
}

enum Verdict<'a> {
    Failed(&'a Pkcs11Error),
    Unknown,
    Works,
}

fn resting(reason: &Pkcs11Error, left: Duration) -> Pkcs11Error {
    let kind = match reason.kind() {
        ErrorKind::Busy | ErrorKind::TimedOut => ErrorKind::Busy,
        _ => ErrorKind::Gone,
    };
    let message =
        format!("the token failed and is not asked for {} ms: {reason}", left.as_millis());
    Pkcs11Error::new(kind, message).with_retry_after(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);
    const REST: Duration = Duration::from_secs(1);

    fn breaker() -> Arc<Breaker> {
        Breaker::new(Trips { failures: 3, rest: REST })
    }

    fn gone() -> Result<(), Pkcs11Error> {
        Err(Pkcs11Error::new(ErrorKind::Gone, "pulled out"))
    }

    fn call(breaker: &Arc<Breaker>, now: Instant, result: Result<(), Pkcs11Error>) {
        let pass = admit(breaker, now).unwrap();
        let (is_probe, verdict) = (pass.is_probe, pass.verdict(&result));
        breaker.settle(is_probe, verdict, now);
        std::mem::forget(pass); // settled, at a time of our own
    }

    fn admit(breaker: &Arc<Breaker>, now: Instant) -> Result<Pass, Pkcs11Error> {
        breaker.admit(now, PATIENCE)
    }

    fn opened(breaker: &Arc<Breaker>, now: Instant) {
        (0..3).for_each(|_| call(breaker, now, gone()));
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_says_when_to_come_back() {
        let (breaker, now) = (breaker(), Instant::now());
        opened(&breaker, now);
        let error = admit(&breaker, now + REST / 4).err().unwrap();
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Gone, Some(REST * 3 / 4)));
        assert!(error.to_string().contains("pulled out"), "{error}");
    }

    #[test]
    fn failures_between_answers_do_not_open_it() {
        let (breaker, now) = (breaker(), Instant::now());
        let answers = [
            Ok(()),
            Err(Pkcs11Error::new(ErrorKind::BadCiphertext, "no")),
            Err(Pkcs11Error::new(ErrorKind::Denied, "no")),
            Err(Pkcs11Error::not_found("no")),
        ];
        for answer in answers {
            call(&breaker, now, gone());
            call(&breaker, now, gone());
            call(&breaker, now, answer);
        }
        assert!(admit(&breaker, now).is_ok());
    }

    #[test]
    fn answers_alone_never_open_it() {
        let (breaker, now) = (breaker(), Instant::now());
        for kind in [
            ErrorKind::BadCiphertext,
            ErrorKind::Busy,
            ErrorKind::Denied,
            ErrorKind::Fatal,
            ErrorKind::Misconfigured,
            ErrorKind::NotFound,
            ErrorKind::TimedOut,
        ] {
            (0..9).for_each(|_| call(&breaker, now, Err(Pkcs11Error::new(kind, "no"))));
            assert!(admit(&breaker, now).is_ok(), "{kind:?}");
        }
    }

    #[test]
    fn one_probe_goes_through_and_closes_it() {
        let (breaker, now) = (breaker(), Instant::now());
        opened(&breaker, now);
        let probe = admit(&breaker, now + REST).unwrap();
        assert!(admit(&breaker, now + REST).is_err(), "one at a time");
        probe.settle(&Ok(()));
        assert!(admit(&breaker, now + REST).is_ok());
    }

    #[test]
    fn a_probe_that_nobody_looks_after_does_not_shut_others_out_for_ever() {
        let (breaker, now) = (breaker(), Instant::now());
        opened(&breaker, now);
        let _forgotten = admit(&breaker, now + REST).unwrap();
        assert!(admit(&breaker, now + REST + PATIENCE - REST / 2).is_err());
        assert!(admit(&breaker, now + REST + PATIENCE).is_ok());
    }

    #[test]
    fn each_failed_probe_doubles_the_rest_up_to_a_bound() {
        let (breaker, mut now) = (breaker(), Instant::now());
        opened(&breaker, now);
        for rest in [1, 2, 4, 8, 16, 32, 32, 32].map(|times| REST * times) {
            assert_eq!(admit(&breaker, now).err().unwrap().retry_after(), Some(rest));
            now += rest;
            call(&breaker, now, gone());
        }
    }

    #[test]
    fn a_probe_whose_caller_leaves_makes_room_for_another() {
        let (breaker, now) = (breaker(), Instant::now());
        opened(&breaker, now);
        drop(admit(&breaker, now + REST).unwrap());
        assert!(admit(&breaker, now + REST + Duration::from_millis(500)).is_ok());
    }

    #[test]
    fn a_probe_without_an_answer_has_failed() {
        let (breaker, now) = (breaker(), Instant::now());
        opened(&breaker, now);
        call(&breaker, now + REST, Err(Pkcs11Error::new(ErrorKind::TimedOut, "no answer")));
        assert_eq!(admit(&breaker, now + REST).err().unwrap().kind(), ErrorKind::Busy);
    }

    #[test]
    fn calls_that_hang_count_and_signs_of_life_bring_a_probe() {
        let (breaker, now) = (breaker(), Instant::now());
        let hang = Pkcs11Error::new(ErrorKind::TimedOut, "it hangs");
        (0..3).for_each(|_| breaker.failed(&hang, now));
        assert!(admit(&breaker, now).is_err());
        breaker.probe_soon(now);
        assert!(admit(&breaker, now).is_ok());
    }
}
