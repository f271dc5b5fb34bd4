//! One thread that acts when deadlines pass, whatever the modules' threads and
//! the callers' executors do.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::oneshot;

type Action = Box<dyn FnOnce() + Send>;

/// A deadline with an action, to be cancelled when it is met.
#[derive(Debug)]
#[must_use = "an alarm that is not cancelled goes off"]
pub(crate) struct Alarm {
    key: (Instant, u64),
}

impl Alarm {
    /// Runs `action` at `when`, on the deadline thread: it must be short.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn set(
        when: Instant,
        action: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let mut alarms = lock();
        if !alarms.has_thread {
            std::thread::Builder::new().name("pkcs11-deadlines".to_owned()).spawn(watch)?;
            alarms.has_thread = true;
        }
        let key = (when, alarms.next);
        alarms.next += 1;
        alarms.pending.insert(key, Box::new(action));
        // It looks again in time for all but what is earlier than what it waits
        // for; an alarm that was cancelled meanwhile costs nothing more.
        if alarms.wakes_at.is_none_or(|wakes_at| when < wakes_at) {
            alarms.wakes_at = Some(when);
            EARLIER.notify_one();
        }
        Ok(Self { key })
    }

    /// When it goes off.
    pub(crate) fn when(&self) -> Instant {
        self.key.0
    }

    /// The deadline was met.
    pub(crate) fn cancel(self) {
        let action = lock().pending.remove(&self.key);
        drop(action); // not under the lock: it may own things that set alarms
    }
}

/// A future that is ready at a certain time.
#[derive(Debug)]
pub(crate) struct Timer {
    alarm: Option<Alarm>,
    rings: oneshot::Receiver<()>,
}

impl Timer {
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn at(when: Instant) -> std::io::Result<Self> {
        let (sender, rings) = oneshot::channel();
        let ring = move || {
            let _ = sender.send(()); // perhaps nobody waits any more
        };
        Ok(Self { alarm: Some(Alarm::set(when, ring)?), rings })
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.rings).poll(context).map(drop)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            alarm.cancel();
        }
    }
}

struct Alarms {
    pending: BTreeMap<(Instant, u64), Action>,
    next: u64,
    has_thread: bool,
    /// When the thread looks at the alarms next, if it waits for any.
    wakes_at: Option<Instant>,
}

static ALARMS: Mutex<Alarms> =
    Mutex::new(Alarms { pending: BTreeMap::new(), next: 0, has_thread: false, wakes_at: None });
static EARLIER: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, Alarms> {
    // Nothing panics under this lock; a poisoned one is still whole.
    ALARMS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch() {
    loop {
        let action = next_due();
        // It wakes tasks and logs, by code that is not ours. There is only this
        // thread: if that code panicked, no later deadline would ever be met.
        let _ = catch_unwind(AssertUnwindSafe(action));
    }
}

/// Waits for the earliest alarm.
fn next_due() -> Action {
    let mut alarms = lock();
    loop {
        let Some(first) = alarms.pending.first_entry() else {
            alarms.wakes_at = None;
            alarms = EARLIER.wait(alarms).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let when = first.key().0;
        let left = when.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return first.remove();
        }
        alarms.wakes_at = Some(when);
        alarms = EARLIER.wait_timeout(alarms, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn alarms_go_off_in_the_order_of_their_deadlines() {
        let (sender, receiver) = mpsc::channel();
        let start = Instant::now();
        for delay in [60, 20, 40] {
            let sender = sender.clone();
            let when = start + Duration::from_millis(delay);
            let _alarm = Alarm::set(when, move || sender.send(delay).unwrap()).unwrap();
        }
        assert_eq!([20, 40, 60].map(|_| receiver.recv().unwrap()), [20, 40, 60]);
        assert!(start.elapsed() >= Duration::from_millis(60));
    }

    #[test]
    fn an_earlier_alarm_is_on_time_although_the_one_before_it_was_cancelled() {
        let (sender, receiver) = mpsc::channel();
        let start = Instant::now();
        let far = start + Duration::from_secs(3600);
        let sooner = Alarm::set(start + Duration::from_millis(20), || ()).unwrap();
        let _far = Alarm::set(far, || ()).unwrap();
        sooner.cancel();
        std::thread::sleep(Duration::from_millis(60)); // it has looked again meanwhile
        let _alarm = Alarm::set(Instant::now(), move || sender.send(()).unwrap()).unwrap();
        receiver.recv_timeout(Duration::from_secs(10)).expect("long before the far one");
    }

    #[test]
    fn an_alarm_that_panics_silences_no_other() {
        let (sender, receiver) = mpsc::channel();
        let _panics = Alarm::set(Instant::now(), || panic!("as the test wants it")).unwrap();
        let when = Instant::now() + Duration::from_millis(20);
        let _alarm = Alarm::set(when, move || sender.send(()).unwrap()).unwrap();
        receiver.recv_timeout(Duration::from_secs(10)).expect("the thread is still there");
    }

    #[test]
    fn a_cancelled_alarm_stays_silent() {
        let (sender, receiver) = mpsc::channel::<()>();
        let when = Instant::now() + Duration::from_millis(20);
        Alarm::set(when, move || sender.send(()).unwrap()).unwrap().cancel();
        assert!(receiver.recv().is_err(), "the action was dropped, not run");
    }
}
