//! What a run takes of memory, with a PKCS#11 module and a cloud's client
//! loaded.
//!
//! A program that was built for release takes [`MOST`] at most. One that was
//! built for tests is many times as large, and the pages of it that run count
//! too; of that, only what a run takes beyond the same run of a single byte is
//! bounded. The step `peak memory` of `.ci/run` has the first.

use std::fs;
use std::io::{self, Read as _, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::tokens::Rig;
use crate::support::cli::{program, run, wait};
use crate::support::memory::{Peak, high_water_mark};

/// Of all that a run takes.
const MOST: u64 = 24 << 20;

/// Of what a run takes beyond what it takes for a single byte. Two threads have a
/// small file each in hand, and its envelope: at most 1 MiB each, so 4 MiB in all.
const MOST_MORE: u64 = 6 << 20;

const LEN: u64 = 256 << 20;

/// Each thread has a piece of the file in hand: this counts what two take.
const THREADS: [&str; 2] = ["--threads", "2"];

#[test]
fn neither_a_large_file_nor_its_ranges_cost_memory() {
    let lab = Lab::new();
    fs::File::create(lab.rig.dir.path("a")).unwrap().set_len(LEN).unwrap();
    lab.check(&["encrypt", "a"]);
    fs::remove_file(lab.rig.dir.path("a")).unwrap();
    lab.check(&["decrypt", "a.twl", "--range", "1000001..200000001", "-o", "b"]);
    assert_eq!(fs::metadata(lab.rig.dir.path("b")).unwrap().len(), 199_000_000);
    lab.check(&["decrypt", "a.twl"]);
    assert_eq!(fs::metadata(lab.rig.dir.path("a")).unwrap().len(), LEN);
}

#[test]
fn two_hundred_files_cost_no_more_memory_than_one() {
    let lab = Lab::new();
    fs::create_dir(lab.rig.dir.path("data")).unwrap();
    for number in 0..200 {
        lab.rig.dir.write(&format!("data/{number}"), vec![7; 10_000 * (number % 100)]);
    }
    lab.check(&["encrypt", "-r", "data", "-o", "enc"]);
    lab.check(&["decrypt", "-r", "enc", "-o", "back"]);
    assert_eq!(fs::read_dir(lab.rig.dir.path("back")).unwrap().count(), 200);
}

#[test]
fn pipes_cost_no_memory() {
    let lab = Lab::new();
    let command_for = |verb: &str| {
        let mut command = lab.rig.dir.command();
        command.args(["-q", verb, "-"]).args(THREADS);
        Peak::of(&command)
    };
    let (mut encrypt, sealing) = command_for("encrypt");
    let mut encrypt = encrypt.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut decrypt, opening) = command_for("decrypt");
    decrypt.stdin(encrypt.stdout.take().unwrap()).stdout(Stdio::piped());
    let mut decrypt = decrypt.spawn().unwrap();
    let (mut input, mut output) = (encrypt.stdin.take().unwrap(), decrypt.stdout.take().unwrap());
    thread::scope(|scope| {
        scope.spawn(move || io::copy(&mut io::repeat(7).take(LEN), &mut input).unwrap());
        scope.spawn(move || assert_eq!(io::copy(&mut output, &mut io::sink()).unwrap(), LEN));
    });
    for (child, peak) in [(encrypt, sealing), (decrypt, opening)] {
        wait(child).ok();
        lab.assert_small("a pipe", peak.bytes());
    }
}

/// Who writes into a full pipe waits; what it had read by then is bounded.
#[test]
fn a_reader_that_reads_nothing_costs_no_memory() {
    let lab = Lab::new();
    let envelope = {
        let mut encrypt = lab.rig.dir.command();
        encrypt.args(["-q", "encrypt", "-"]);
        run(encrypt, &vec![7; 64 << 20]).ok().stdout
    };
    lab.assert_waits("encrypt", &vec![7; 64 << 20]);
    lab.assert_waits("decrypt", &envelope);
}

/// Holders, and what a run with them takes for a single byte.
struct Lab {
    rig: Rig,
    one_byte: u64,
}

impl Lab {
    fn new() -> Self {
        let mut lab = Self { rig: Rig::new(), one_byte: 0 };
        lab.rig.dir.write("one", b"1");
        lab.one_byte = lab.peak_of(&["encrypt", "one"]);
        lab
    }

    #[track_caller]
    fn check(&self, args: &[&str]) {
        let peak = self.peak_of(args);
        self.assert_small(&args.join(" "), peak);
    }

    #[track_caller]
    fn peak_of(&self, args: &[&str]) -> u64 {
        let mut command = self.rig.dir.command();
        command.arg("-q").args(args).args(THREADS);
        let (command, peak) = Peak::of(&command);
        run(command, b"").ok();
        peak.bytes()
    }

    #[track_caller]
    fn assert_small(&self, what: &str, peak: u64) {
        let most = if is_for_release() { MOST } else { u64::MAX };
        let most = most.min(self.one_byte + MOST_MORE);
        let [peak, one_byte, most] = [peak, self.one_byte, most].map(|bytes| bytes >> 10);
        assert!(peak <= most, "{what}: {peak} KiB of {most}, and {one_byte} for a single byte");
    }

    /// Starts `verb` with nobody reading, until it takes nothing more in.
    fn assert_waits(&self, verb: &str, input: &[u8]) {
        let mut command = self.rig.dir.command();
        command.args(["-q", verb, "-"]).args(THREADS).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let taken = AtomicU64::new(0);
        let (taken, peak) = thread::scope(|scope| {
            scope.spawn(|| feed(stdin, input, &taken));
            let waiting = (settled(&taken), high_water_mark(&child));
            io::copy(&mut stdout, &mut io::sink()).unwrap();
            waiting
        });
        wait(child).ok();
        assert!(taken < MOST_MORE, "{verb} took in {taken} bytes with nobody reading");
        self.assert_small(verb, peak.expect("it waited for its reader"));
    }
}

/// True if the program was built for release, as far as its path tells.
fn is_for_release() -> bool {
    program().parent().is_some_and(|folder| folder.ends_with("release"))
}

fn feed(mut stdin: ChildStdin, input: &[u8], taken: &AtomicU64) {
    for piece in input.chunks(64 << 10) {
        stdin.write_all(piece).unwrap();
        taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
}

/// What `count` is when it has grown once and then not for half a second.
fn settled(count: &AtomicU64) -> u64 {
    let mut before = 0;
    loop {
        thread::sleep(Duration::from_millis(500));
        match count.load(Ordering::Relaxed) {
            now if now > 0 && now == before => return now,
            now => before = now,
        }
    }
}
