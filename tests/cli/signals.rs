//! A run that is ended from outside.

use std::fs;
use std::io::Write as _;
use std::process::{Child, ChildStdin, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::cli::{Dir, Ended, wait};

#[test]
fn a_signal_leaves_no_file() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        for force in [None, Some("--force")] {
            let dir = Dir::with_keys();
            for begun in both_begun(&dir, force) {
                kill(&begun.child, signal);
                begun.ends().with(code);
                assert_eq!(dir.names(), [""; 0]);
            }
        }
    }
}

/// Of SIGKILL a program does not get to know.
#[test]
fn a_kill_leaves_no_file_either_where_files_need_no_name() {
    let dir = Dir::with_keys();
    for begun in both_begun(&dir, None) {
        let needs_no_name = begun.output.ends_with(" (deleted)");
        kill(&begun.child, Signal::KILL);
        assert_eq!(begun.ends().code, None);
        assert_eq!(dir.names().is_empty(), needs_no_name);
    }
}

/// A run that has begun its output and waits for the end of its input.
struct Begun {
    child: Child,
    stdin: ChildStdin,
    /// As the system calls it.
    output: String,
}

/// One that encrypts, and then one that decrypts.
fn both_begun<'a>(dir: &'a Dir, force: Option<&'a str>) -> impl Iterator<Item = Begun> {
    let envelope = dir.run_with(["encrypt", "-"], &vec![7; 2 << 20]).ok().stdout;
    let inputs = [("encrypt", vec![7; 1 << 20]), ("decrypt", envelope)];
    inputs.into_iter().map(move |(verb, input)| {
        let mut command = dir.command();
        command.args([verb, "-", "-o", "out"]).args(force);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&input[..input.len() - 1]).unwrap();
        let mut output = None;
        until(|| {
            output = output_of(&child, dir);
            output.is_some()
        });
        Begun { child, stdin, output: output.expect("it was waited for") }
    })
}

impl Begun {
    fn ends(self) -> Ended {
        let ended = wait(self.child);
        drop(self.stdin);
        ended
    }
}

/// What the run has open in its folder.
fn output_of(child: &Child, dir: &Dir) -> Option<String> {
    let folder = fs::canonicalize(dir.work()).unwrap();
    let open = fs::read_dir(format!("/proc/{}/fd", child.id())).ok()?;
    let mut files = open.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    files.find(|file| file.starts_with(&folder)).map(|file| file.display().to_string())
}

fn kill(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come to this");
        thread::sleep(Duration::from_millis(5));
    }
}
