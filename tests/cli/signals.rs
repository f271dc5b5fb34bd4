//! A run that is ended from outside.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::cli::{Dir, wait};

#[test]
fn a_signal_leaves_no_file() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let dir = Dir::with_keys();
        let envelope = dir.run_with(["encrypt", "-"], &vec![7; 2 << 20]).ok().stdout;
        for (verb, input) in [("encrypt", &vec![7; 1 << 20]), ("decrypt", &envelope)] {
            let mut command = dir.command();
            command.args([verb, "-", "-o", "out"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            // All but the end, which it now waits for.
            let mut pipe = child.stdin.take().unwrap();
            pipe.write_all(&input[..input.len() - 1]).unwrap();
            until(|| dir.names().iter().any(|name| name.starts_with(".twinlock-")));
            kill(&child, signal);
            wait(child).with(code);
            drop(pipe);
            assert_eq!(dir.names(), [""; 0], "{verb}");
        }
    }
}

fn kill(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come to this");
        thread::sleep(Duration::from_millis(5));
    }
}
