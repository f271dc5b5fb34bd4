use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::*;

const PATIENCE: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(20);

/// A pool whose states are numbers, counted from 1.
fn pool(workers: usize, queue: usize, hung: usize) -> (Workers<usize>, Arc<AtomicUsize>) {
    let connected = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connected);
    let connect = move || Ok(counter.fetch_add(1, SeqCst) + 1);
    (Workers::new(limits(workers, queue, hung), connect), connected)
}

fn limits(workers: usize, queue: usize, hung: usize) -> Limits {
    Limits { workers, queue, hung, trips: Trips { failures: 9, rest: LONG } }
}

/// A call that hangs until the other end of the channel is dropped.
fn hang() -> (mpsc::Sender<()>, impl FnMut(&mut usize) -> Result<(), Pkcs11Error> + Send) {
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = Mutex::new(receiver);
    let hang = move |_: &mut usize| {
        let _ = receiver.lock().unwrap().recv();
        Ok(())
    };
    (sender, hang)
}

fn gone() -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::Gone, "the session is gone")
}

/// No runtime: the thread sleeps until the future wakes it.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, Pkcs11Error>) -> ErrorKind {
    result.expect_err("it should fail").kind()
}

#[test]
fn a_call_is_answered_by_a_worker_of_its_own() {
    let (pool, _) = pool(1, 1, 0);
    let here = thread::current().id();
    let there = block_on(pool.call(LONG, Retry::Once, |_| Ok(thread::current().id())));
    assert_ne!(there.unwrap(), here);
}

#[test]
fn the_caller_of_a_hung_call_is_answered_at_its_deadline() {
    let (pool, _) = pool(1, 1, 1);
    let (_release, hang) = hang();
    let start = Instant::now();
    assert_eq!(kind(block_on(pool.call(PATIENCE, Retry::Once, hang))), ErrorKind::TimedOut);
    assert!((PATIENCE..LONG / 4).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[test]
fn the_call_after_a_hung_one_works_on_another_worker() {
    let (pool, _) = pool(1, 1, 1);
    let (_release, hang) = hang();
    let _ = block_on(pool.call(PATIENCE, Retry::Once, hang));
    let state = block_on(pool.call(LONG, Retry::Once, |state| Ok(*state)));
    assert_eq!(state.unwrap(), 2, "a second state");
}

#[test]
fn a_call_that_waits_behind_a_hung_one_is_done_by_its_replacement() {
    let (pool, _) = pool(1, 4, 1);
    let (_release, hang) = hang();
    let both = futures_util::future::join(
        pool.call(PATIENCE, Retry::Once, hang),
        pool.call(LONG, Retry::Once, |state| Ok(*state)),
    );
    let (hung, waiting) = block_on(both);
    assert_eq!(kind(hung), ErrorKind::TimedOut);
    assert_eq!(waiting.unwrap(), 2);
}

#[test]
fn when_the_bound_of_hung_workers_is_reached_calls_are_refused_at_once() {
    let (pool, _) = pool(1, 4, 1);
    let (_releases, hangs): (Vec<_>, Vec<_>) = (0..2).map(|_| hang()).unzip();
    for hang in hangs {
        assert_eq!(kind(block_on(pool.call(PATIENCE, Retry::Once, hang))), ErrorKind::TimedOut);
    }
    let start = Instant::now();
    assert_eq!(kind(block_on(pool.call(LONG, Retry::Once, |_| Ok(())))), ErrorKind::Busy);
    assert!(start.elapsed() < LONG / 4);
}

#[test]
fn calls_that_wait_when_the_last_worker_hangs_are_refused() {
    let (pool, _) = pool(1, 4, 0);
    let (_release, hang) = hang();
    let both = futures_util::future::join(
        pool.call(PATIENCE, Retry::Once, hang),
        pool.call(LONG, Retry::Once, |_| Ok(())),
    );
    let (hung, waiting) = block_on(both);
    assert_eq!((kind(hung), kind(waiting)), (ErrorKind::TimedOut, ErrorKind::Busy));
}

#[test]
fn a_worker_that_comes_back_from_the_module_takes_its_place_again() {
    let (pool, _) = pool(1, 4, 0);
    let (release, hang) = hang();
    let _ = block_on(pool.call(PATIENCE, Retry::Once, hang));
    assert_eq!(kind(block_on(pool.call(LONG, Retry::Once, |_| Ok(())))), ErrorKind::Busy);
    drop(release);
    let start = Instant::now();
    let state = loop {
        match block_on(pool.call(LONG, Retry::Once, |state| Ok(*state))) {
            Ok(state) => break state,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Busy),
        }
        assert!(start.elapsed() < LONG);
        thread::yield_now();
    };
    assert_eq!(state, 1, "with its session");
}

#[test]
fn a_worker_is_not_given_up_before_it_had_the_whole_patience() {
    let (pool, connected) = pool(1, 4, 4);
    let patience = PATIENCE * 5; // room for a busy machine
    let nap = move |_: &mut usize| {
        thread::sleep(patience * 3 / 4);
        Ok(())
    };
    let calls = (0..2).map(|_| pool.call(patience, Retry::Once, nap));
    let results = block_on(join_all(calls));
    assert!(results[0].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::TimedOut);
    block_on(pool.call(LONG, Retry::Once, |_| Ok(()))).unwrap();
    assert_eq!(connected.load(SeqCst), 1);
}

#[test]
fn a_full_queue_is_busy_at_once() {
    let (pool, _) = pool(1, 1, 0);
    let (_release, hang) = hang();
    let mut calls = [
        pool.call(LONG, Retry::Once, hang).boxed(),
        pool.call(LONG, Retry::Once, |_| Ok(())).boxed(),
    ];
    let mut context = Context::from_waker(Waker::noop());
    assert!(calls[0].poll_unpin(&mut context).is_pending());
    while !pool.shared.lock().queue.is_empty() {
        thread::yield_now(); // until the worker has the first call in hand
    }
    assert!(calls[1].poll_unpin(&mut context).is_pending());
    assert_eq!(kind(block_on(pool.call(LONG, Retry::Once, |_| Ok(())))), ErrorKind::Busy);
}

#[test]
fn a_call_that_could_not_be_done_in_time_is_refused_at_once() {
    let (pool, _) = pool(1, 64, 0);
    let nap = |_: &mut usize| {
        thread::sleep(PATIENCE / 4);
        Ok(())
    };
    for _ in 0..30 {
        block_on(pool.call(LONG, Retry::Once, nap)).unwrap();
    }
    let calls = (0..20).map(|_| pool.timed_call(PATIENCE, Retry::Once, nap));
    let results = block_on(join_all(calls));
    let refused =
        results.iter().filter(|(result, times)| result.is_err() && times.in_token.is_zero());
    assert!(refused.count() >= 12, "{results:?}");
    block_on(pool.call(LONG, Retry::Once, nap)).expect("there is time for this one");
}

#[test]
fn one_slow_call_does_not_have_others_refused() {
    let mut crew = Crew::<usize>::default();
    let usual = Duration::from_micros(20);
    (0..10).for_each(|_| crew.took(usual));
    crew.took(LONG);
    assert!(crew.service.unwrap() < usual * 2, "{:?}", crew.service);
    (0..20).for_each(|_| crew.took(LONG));
    assert!(crew.service.unwrap() > LONG / 4, "but many do: {:?}", crew.service);
    (0..20).for_each(|_| crew.took(usual));
    assert!(crew.service.unwrap() < usual * 2, "until it is quick again: {:?}", crew.service);
}

#[test]
fn where_the_time_went_adds_up() {
    let (pool, _) = pool(1, 4, 0);
    let nap = |_: &mut usize| {
        thread::sleep(PATIENCE);
        Ok(())
    };
    let start = Instant::now();
    let calls = (0..2).map(|_| pool.timed_call(LONG, Retry::Once, nap));
    let times: Vec<_> = block_on(join_all(calls)).into_iter().map(|(_, times)| times).collect();
    assert!(times.iter().all(|times| times.in_token >= PATIENCE), "{times:?}");
    assert!(times[1].queued >= PATIENCE, "{times:?}");
    let sum = times[1].queued + times[1].in_token;
    assert!(sum <= start.elapsed(), "{times:?}");
}

#[test]
fn all_workers_are_warm_before_there_is_a_call() {
    let (pool, connected) = pool(3, 4, 0);
    block_on(pool.warm_up(LONG));
    assert_eq!((connected.load(SeqCst), pool.state().sessions), (3, 3));
    block_on(pool.warm_up(LONG));
    assert_eq!(connected.load(SeqCst), 3, "there is no room for more");
}

#[test]
fn a_worker_that_hangs_while_it_is_warmed_up_is_replaced() {
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = Mutex::new(receiver);
    let tries = AtomicUsize::new(0);
    let connect = move || {
        if tries.fetch_add(1, SeqCst) == 0 {
            let _ = receiver.lock().unwrap().recv();
        }
        Ok(0)
    };
    let pool = Workers::new(limits(1, 4, 1), connect);
    block_on(pool.warm_up(PATIENCE));
    assert_eq!(pool.state().hung, 1);
    block_on(pool.call(LONG, Retry::Once, |_| Ok(()))).expect("by another one");
    drop(sender);
}

#[test]
fn a_closed_pool_takes_no_calls_and_has_ended_its_own() {
    let (pool, _) = pool(2, 4, 0);
    block_on(pool.warm_up(LONG));
    block_on(pool.close(LONG));
    assert_eq!(pool.state().sessions, 0);
    assert_eq!(kind(block_on(pool.call(LONG, Retry::Once, |_| Ok(())))), ErrorKind::Gone);
    block_on(pool.warm_up(LONG));
    assert_eq!(pool.state().sessions, 0);
}

#[test]
fn a_probe_counts_though_its_caller_has_left() {
    let limits = Limits { trips: Trips { failures: 1, rest: Duration::ZERO }, ..limits(1, 4, 0) };
    let pool = Workers::new(limits, || Ok(0));
    let fails = |_: &mut usize| Err::<(), _>(gone());
    assert_eq!(kind(block_on(pool.call(LONG, Retry::Never, fails))), ErrorKind::Gone);
    assert!(!pool.is_trusted());
    let mut probe = pool.call(LONG, Retry::Once, |_| Ok(())).boxed();
    let _ = probe.poll_unpin(&mut Context::from_waker(Waker::noop()));
    drop(probe);
    let start = Instant::now();
    while !pool.is_trusted() {
        assert!(start.elapsed() < LONG);
        thread::yield_now();
    }
}

#[test]
fn calls_whose_caller_has_left_make_room_and_are_not_run() {
    let (pool, _) = pool(1, 1, 0);
    let (release, hang) = hang();
    let mut context = Context::from_waker(Waker::noop());
    let mut first = pool.call(LONG, Retry::Once, hang).boxed();
    assert!(first.poll_unpin(&mut context).is_pending());
    while !pool.shared.lock().queue.is_empty() {
        thread::yield_now();
    }
    let ran = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&ran);
    let abandoned = move |_: &mut usize| Ok(counter.fetch_add(1, SeqCst));
    let mut abandoned = pool.call(LONG, Retry::Once, abandoned).boxed();
    assert!(abandoned.poll_unpin(&mut context).is_pending());
    drop(abandoned);
    let last = pool.call(LONG, Retry::Once, |_| Ok(()));
    let mut last = pin!(last);
    assert!(last.as_mut().poll(&mut context).is_pending(), "there is room for it");
    drop(release);
    block_on(poll_fn(|context| last.as_mut().poll(context))).unwrap();
    assert_eq!(ran.load(SeqCst), 0);
}

#[test]
fn a_call_whose_session_is_gone_is_done_again_with_a_new_one() {
    let (pool, _) = pool(1, 1, 0);
    let stale_first = |state: &mut usize| if *state == 1 { Err(gone()) } else { Ok(*state) };
    assert_eq!(block_on(pool.call(LONG, Retry::Once, stale_first)).unwrap(), 2);
}

#[test]
fn it_is_done_again_only_once() {
    let (pool, connected) = pool(1, 1, 0);
    let always = |_: &mut usize| Err::<(), _>(gone());
    assert_eq!(kind(block_on(pool.call(LONG, Retry::Once, always))), ErrorKind::Gone);
    assert_eq!(connected.load(SeqCst), 2);
}

#[test]
fn a_call_that_must_not_happen_twice_is_not_done_again() {
    let (pool, connected) = pool(1, 1, 0);
    let stale = |_: &mut usize| Err::<(), _>(gone());
    assert_eq!(kind(block_on(pool.call(LONG, Retry::Never, stale))), ErrorKind::Gone);
    assert_eq!(connected.load(SeqCst), 1);
    block_on(pool.call(LONG, Retry::Never, |_| Ok(()))).unwrap();
    assert_eq!(connected.load(SeqCst), 2, "but the next one has a new session");
}

#[test]
fn a_session_outlives_errors_that_are_not_its_own() {
    for harmless in [ErrorKind::BadCiphertext, ErrorKind::NotFound, ErrorKind::Denied] {
        let (pool, connected) = pool(1, 1, 0);
        let fail = move |_: &mut usize| Err::<(), _>(Pkcs11Error::new(harmless, "no"));
        assert_eq!(kind(block_on(pool.call(LONG, Retry::Once, fail))), harmless);
        block_on(pool.call(LONG, Retry::Once, |_| Ok(()))).unwrap();
        assert_eq!(connected.load(SeqCst), 1);
    }
}

#[test]
fn the_old_session_is_kept_until_there_is_a_new_one() {
    struct Open(Arc<AtomicUsize>);
    impl Drop for Open {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    let open = Arc::new(AtomicUsize::new(0));
    let fewest = Arc::new(AtomicUsize::new(usize::MAX));
    let pool = Workers::new(limits(1, 1, 0), {
        let (open, fewest) = (Arc::clone(&open), Arc::clone(&fewest));
        move || {
            fewest.fetch_min(open.fetch_add(1, SeqCst), SeqCst);
            Ok(Open(Arc::clone(&open)))
        }
    });
    block_on(pool.call(LONG, Retry::Once, |_| Ok(()))).unwrap();
    fewest.store(usize::MAX, SeqCst);
    let _ = block_on(pool.call(LONG, Retry::Once, |_| Err::<(), _>(gone())));
    assert_eq!(fewest.load(SeqCst), 1, "a token's login ends with its last session");
    drop(pool);
    assert_eq!(open.load(SeqCst), 0, "all are closed when the pool is dropped");
}

#[test]
fn a_failed_connection_is_the_answer_and_tried_again_by_the_next_call() {
    let tries = AtomicUsize::new(0);
    let connect = move || match tries.fetch_add(1, SeqCst) {
        0 => Err(Pkcs11Error::not_found("no such token")),
        _ => Ok(()),
    };
    let pool = Workers::new(limits(1, 1, 0), connect);
    assert_eq!(kind(block_on(pool.call(LONG, Retry::Once, |()| Ok(())))), ErrorKind::NotFound);
    block_on(pool.call(LONG, Retry::Once, |()| Ok(()))).unwrap();
}

#[test]
fn a_panic_is_answered_and_costs_only_the_session() {
    let (pool, _) = pool(1, 1, 0);
    let panic = |_: &mut usize| -> Result<(), Pkcs11Error> { panic!("for the test") };
    assert_eq!(kind(block_on(pool.call(LONG, Retry::Once, panic))), ErrorKind::Fatal);
    assert_eq!(block_on(pool.call(LONG, Retry::Once, |state| Ok(*state))).unwrap(), 2);
}

#[test]
fn as_many_calls_run_side_by_side_as_there_are_workers() {
    let (pool, connected) = pool(3, 64, 0);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let work = || {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        move |_: &mut usize| {
            most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            thread::sleep(Duration::from_millis(10));
            running.fetch_sub(1, SeqCst);
            Ok(())
        }
    };
    let calls = (0..24).map(|_| pool.call(LONG, Retry::Once, work()));
    assert!(block_on(join_all(calls)).into_iter().all(|result| result.is_ok()));
    assert_eq!((most.load(SeqCst), connected.load(SeqCst)), (3, 3));
}

/// A thread more, and a session, would be had for nothing.
#[test]
fn a_caller_who_calls_again_at_once_meets_the_same_worker() {
    let (pool, _) = pool(4, 64, 0);
    for _ in 0..1000 {
        assert_eq!(block_on(pool.call(LONG, Retry::Once, |state| Ok(*state))).unwrap(), 1);
    }
    assert_eq!(pool.shared.lock().next_worker, 1, "one was ever started");
}

#[test]
fn calls_in_the_queue_of_a_closed_pool_are_answered() {
    let (pool, _) = pool(1, 4, 0);
    let (_release, hang) = hang();
    let mut context = Context::from_waker(Waker::noop());
    let work = |_: &mut usize| Ok(());
    let (call, answer) = Call::new(work, Retry::Once, (Instant::now(), LONG), None);
    let mut first = pool.call(LONG, Retry::Once, hang).boxed();
    assert!(first.poll_unpin(&mut context).is_pending());
    pool.shared.enqueue(call).unwrap();
    drop(first);
    drop(pool);
    assert!(block_on(answer).is_err(), "which the caller reports as gone");
}

#[test]
fn the_breaker_opens_at_the_bound_of_hung_workers_and_says_when_to_come_back() {
    let (pool, _) = pool(1, 4, 1);
    let (_releases, hangs): (Vec<_>, Vec<_>) = (0..2).map(|_| hang()).unzip();
    for hang in hangs {
        let error = block_on(pool.call(PATIENCE, Retry::Once, hang)).unwrap_err();
        assert_eq!(error.retry_after(), None, "this one was tried");
    }
    let error = block_on(pool.call(LONG, Retry::Once, |_| Ok(()))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.retry_after().is_some_and(|time| time <= LONG), "{error}");
}

#[test]
fn calls_that_hang_in_a_row_open_the_breaker_before_the_bound() {
    let limits = Limits { trips: Trips { failures: 2, rest: LONG }, ..limits(1, 4, 9) };
    let pool = Workers::new(limits, || Ok(0));
    let (_releases, hangs): (Vec<_>, Vec<_>) = (0..2).map(|_| hang()).unzip();
    for hang in hangs {
        assert_eq!(kind(block_on(pool.call(PATIENCE, Retry::Once, hang))), ErrorKind::TimedOut);
    }
    assert!(
        block_on(pool.call(LONG, Retry::Once, |_| Ok(()))).unwrap_err().retry_after().is_some()
    );
}

#[test]
fn calls_that_only_waited_in_vain_do_not_open_the_breaker() {
    let limits = Limits { trips: Trips { failures: 1, rest: LONG }, ..limits(1, 64, 0) };
    let pool = Workers::new(limits, || Ok(0));
    let patience = PATIENCE * 5;
    let nap = move |_: &mut usize| {
        thread::sleep(patience * 3 / 4);
        Ok(())
    };
    let calls = (0..9).map(|_| pool.call(patience, Retry::Once, nap));
    assert!(block_on(join_all(calls)).iter().filter(|result| result.is_err()).count() >= 7);
    block_on(pool.call(LONG, Retry::Once, |_| Ok(()))).unwrap();
}

/// A token with room for some sessions, and how many are open.
struct Table {
    room: usize,
    open: Mutex<usize>,
    most: Mutex<usize>,
}

struct Seat(Arc<Table>);

impl Table {
    fn new(room: usize) -> Arc<Self> {
        Arc::new(Self { room, open: Mutex::default(), most: Mutex::default() })
    }

    fn sit(self: &Arc<Self>) -> Result<Seat, Pkcs11Error> {
        let mut open = self.open.lock().unwrap();
        if *open == self.room {
            return Err(Pkcs11Error::new(ErrorKind::Busy, "no session left"));
        }
        *open += 1;
        Ok(Seat(Arc::clone(self)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap() -= 1;
    }
}

#[test]
fn a_call_waits_until_another_program_leaves_a_session() {
    let table = Table::new(1);
    let pool = Workers::new(limits(1, 4, 0), {
        let table = Arc::clone(&table);
        move || table.sit()
    });
    let other = table.sit().unwrap();
    let leave = thread::spawn(move || {
        thread::sleep(PATIENCE / 2);
        drop(other);
    });
    block_on(pool.call(LONG, Retry::Once, |_| Ok(()))).unwrap();
    leave.join().unwrap();
}

#[test]
fn a_call_that_waits_for_a_session_in_vain_says_so_before_its_deadline() {
    let pool = Workers::new(limits(1, 4, 0), {
        let table = Table::new(0);
        move || table.sit()
    });
    let start = Instant::now();
    let patience = PATIENCE * 5;
    assert_eq!(kind(block_on(pool.call(patience, Retry::Once, |_| Ok(())))), ErrorKind::Busy);
    assert!((patience / 2..patience).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[test]
fn workers_without_a_session_leave_their_calls_to_those_with_one() {
    let table = Table::new(2);
    let pool = Workers::new(limits(8, 64, 0), {
        let table = Arc::clone(&table);
        move || table.sit()
    });
    let work = |seat: &mut Seat| {
        thread::sleep(Duration::from_millis(10));
        let open = *seat.0.open.lock().unwrap();
        let mut most = seat.0.most.lock().unwrap();
        *most = open.max(*most);
        Ok(())
    };
    let start = Instant::now();
    let calls = (0..32).map(|_| pool.call(LONG, Retry::Once, work));
    assert!(block_on(join_all(calls)).into_iter().all(|result| result.is_ok()));
    assert_eq!(*table.most.lock().unwrap(), 2);
    assert!(start.elapsed() < LONG / 4, "{:?}", start.elapsed());
}

#[test]
fn a_worker_that_waits_for_a_session_gives_way_when_another_gets_one() {
    let table = Table::new(1);
    let pool = Workers::new(limits(2, 4, 0), {
        let table = Arc::clone(&table);
        move || table.sit()
    });
    let other = table.sit().unwrap();
    let start = Instant::now();
    let calls = (0..2).map(|_| pool.call(LONG, Retry::Once, |_| Ok(())));
    let leave = thread::spawn(move || {
        thread::sleep(PATIENCE); // both workers wait by then
        drop(other);
    });
    assert!(block_on(join_all(calls)).into_iter().all(|result| result.is_ok()));
    assert!(start.elapsed() < LONG / 4, "{:?}", start.elapsed());
    leave.join().unwrap();
}
