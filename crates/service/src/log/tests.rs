//! Logs on disks that are full, and files that are renamed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;

#[derive(Debug, Serialize)]
struct Record {
    number: usize,
    text: String,
}

fn record(number: usize) -> Record {
    Record { number, text: "\n\"x".to_owned() }
}

fn open(requests: &Path, events: &Path) -> Logs<Record> {
    let target = |path: &Path| Target::File(path.to_owned());
    let (requests, events) = (target(requests), target(events));
    Logs::open(&LogSettings { requests, events, level: String::new() }).unwrap()
}

fn until(mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(30), "it does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn numbers(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
    text.lines().map(|line| value(line)["number"].as_u64().unwrap()).collect()
}

#[test]
fn a_record_is_a_line_and_all_are_written_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("requests.log");
    let logs = open(&path, &path);
    let log = logs.requests();
    let dropped = log.dropped();
    (0..5000).for_each(|number| log.log(record(number)));
    drop(logs);
    assert_eq!(dropped.get(), 0);
    assert_eq!(numbers(&path), (0..5000).collect::<Vec<_>>());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o640, 0);
    log.log(record(0));
    assert_eq!(dropped.get(), 1, "what comes after the end is counted");
}

#[test]
fn a_full_disk_drops_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(Path::new("/dev/full"), &folder.path().join("events"));
    let log = logs.requests();
    (0..100).for_each(|number| log.log(record(number)));
    until(|| log.dropped().get() == 100);
    log.log(record(100));
    until(|| log.dropped().get() == 101); // it goes on trying
}

/// No test may fill a disk; a full pipe that does not let wait is as good.
#[test]
fn when_there_is_room_again_it_goes_on_with_a_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let mode = rustix::fs::Mode::from(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let nonblocking = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK;
    let held = rustix::fs::open(&fifo, nonblocking, mode).unwrap();
    let destination = Destination::open(&Target::File(fifo.clone())).unwrap();
    destination.set_nonblocking();
    let line = [b"x".repeat(999), b"\n".to_vec()].concat();
    let lines = line.repeat(100); // more than a pipe takes
    let (_, written) = destination.write(&lines).unwrap_err();
    assert!(written > 0 && written < lines.len());
    let mut read = vec![0; lines.len()];
    let mut len = rustix::io::read(&held, &mut read).unwrap();
    assert_eq!(len, written);
    destination.write(b"next\n").unwrap();
    len += rustix::io::read(&held, &mut read[len..]).unwrap();
    let text = String::from_utf8(read[..len].to_vec()).unwrap();
    assert_eq!(text.lines().next_back(), Some("next"));
    assert!(text.lines().all(|line| line == "next" || line.bytes().all(|byte| byte == b'x')));
}

#[test]
fn a_reader_that_does_not_read_makes_nobody_wait() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let mode = rustix::fs::Mode::from(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let held = rustix::fs::open(&fifo, rustix::fs::OFlags::RDWR, mode).unwrap();
    let logs = open(&fifo, &folder.path().join("events"));
    let log = logs.requests();
    until(|| {
        (0..5000).for_each(|number| log.log(record(number))); // never waits, or the test does
        log.dropped().get() > 0
    });
    drop(logs); // nor does the end wait for ever
    drop(held);
}

#[test]
fn a_renamed_file_is_left_and_a_new_one_begun() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
    let logs = open(&path, &path);
    let log = logs.requests();
    log.log(record(1));
    until(|| numbers(&path).len() == 1);
    fs::rename(&path, &old).unwrap();
    logs.reopen();
    log.log(record(2));
    drop(logs);
    assert_eq!((numbers(&old), numbers(&path)), (vec![1], vec![2]));
}

#[test]
fn events_are_json_and_what_is_no_log_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.log");
    let bad = LogSettings { level: "lots=of=".to_owned(), ..LogSettings::default() };
    let told = Logs::<Record>::start(&bad).unwrap_err().to_string();
    assert!(told.starts_with("log.level = \"lots=of=\""), "{told}");
    let nowhere = LogSettings { events: Target::File("/nonexistent/x".into()), ..bad };
    assert!(matches!(Logs::<Record>::open(&nowhere), Err(LogError::CannotOpen { .. })));

    let logs = open(&folder.path().join("requests.log"), &path);
    let subscriber = subscriber("info,twinlock_service=debug", logs.events.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::debug!(key_store = "/a", "found\nit");
        tracing::trace!("too fine");
    });
    drop(logs);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let event: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(event["level"], "DEBUG");
    assert_eq!(event["message"], "found\nit");
    assert_eq!(event["key_store"], "/a");
    assert!(event["timestamp"].as_str().unwrap().ends_with('Z'));
}

/// A flood of one kind leaves room for the other.
#[test]
fn what_matters_has_a_reserve() {
    static WRITING: Mutex<()> = Mutex::new(());
    let folder = tempfile::tempdir().unwrap();
    let to = Destination::open(&Target::File(folder.path().join("log"))).unwrap();
    let held = WRITING.lock().unwrap();
    let append = |_: &(), _: &mut Vec<u8>| drop(WRITING.lock());
    let queue = Queue::start("test", Arc::new(to), append).unwrap();
    let most = queue::MOST_QUEUED;
    // The writer may have taken as many before it began to wait.
    (0..3 * most).for_each(|_| queue.push_if_room(()));
    let dropped = queue.dropped();
    let before = dropped.get();
    assert!(before > 0, "there is an end");
    (0..most / 4).for_each(|_| queue.push(()));
    assert_eq!(dropped.get(), before, "others have room");
    drop(held);
    queue.close();
}
