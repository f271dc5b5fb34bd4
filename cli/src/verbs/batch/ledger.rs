//! What became of each file of a run, told as it becomes known, and of all of them.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::console::Console;
use crate::exit::{Failure, Kind};
use crate::progress::FilesProgress;
use crate::report::{self, Outcome};

/// Shared by all workers. Each line is written whole.
pub(super) struct Ledger {
    console: Console,
    /// The verb, and the same as something that was done.
    verb: [&'static str; 2],
    counts: Mutex<Counts>,
    progress: FilesProgress,
}

#[derive(Default)]
struct Counts {
    files: Files,
    plaintext_len: u64,
    /// Why files were not done: the first one of each kind.
    reasons: Vec<Failure>,
}

#[derive(Default, Serialize)]
struct Files {
    done: u64,
    kept: u64,
    passed_over: u64,
    failed: u64,
    not_done: u64,
}

/// What `--json` says of one file.
#[derive(Serialize)]
struct Line<'a> {
    input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_hex: Option<String>,
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_hex: Option<String>,
    status: &'a str,
    plaintext_len: Option<u64>,
    /// What was passed over, in a word.
    what: Option<&'a str>,
    error: Option<report::Error<'a>>,
}

/// What it says at the end.
#[derive(Serialize)]
struct Summary<'a> {
    input: &'a str,
    output: Option<String>,
    files: &'a Files,
    /// Of what was done now.
    plaintext_len: u64,
    error: Option<report::Error<'a>>,
}

impl Ledger {
    /// `total` is the number of files, where it is known.
    pub(super) fn new(console: Console, verb: [&'static str; 2], total: Option<u64>) -> Self {
        let progress = FilesProgress::new(total, console.quiet);
        Self { console, verb, counts: Mutex::default(), progress }
    }

    pub(super) fn done(&self, from: &Path, to: &Path, len: u64) {
        let mut counts = self.counts();
        counts.files.done += 1;
        counts.plaintext_len += len;
        drop(counts);
        self.progress.add(len);
        self.report(|| Line { plaintext_len: Some(len), ..Line::of(from, Some(to), "done") });
    }

    pub(super) fn kept(&self, from: &Path, to: &Path, len: u64) {
        self.counts().files.kept += 1;
        self.progress.add(len);
        self.report(|| Line { plaintext_len: Some(len), ..Line::of(from, Some(to), "kept") });
    }

    pub(super) fn passed_over(&self, path: &Path, what: &str) {
        self.counts().files.passed_over += 1;
        tracing::info!("{} is a {what}, and passed over", path.display());
        self.report(|| Line { what: Some(what), ..Line::of(path, None, "passed-over") });
    }

    pub(super) fn failed(&self, from: &Path, to: Option<&Path>, failure: &Failure) {
        self.counts().files.failed += 1;
        self.progress.add(0);
        self.console.complain(failure);
        self.report(|| Line {
            error: Some(report::Error::of(failure)),
            ..Line::of(from, to, "failed")
        });
    }

    /// A holder is the reason, or the one that an earlier file met.
    pub(super) fn not_done(&self, from: &Path, to: &Path, failure: Option<Failure>) {
        self.report(|| Line {
            error: failure.as_ref().map(report::Error::of),
            ..Line::of(from, Some(to), "not-done")
        });
        self.progress.add(0);
        let mut counts = self.counts();
        counts.files.not_done += 1;
        let Some(failure) = failure else { return };
        // The others would say the same.
        if counts.reasons.iter().any(|reason| reason.kind == failure.kind) {
            return tracing::info!("{}", failure.message);
        }
        self.console.complain(&failure);
        counts.reasons.push(failure);
    }

    /// `from` is what was to be done, in words.
    pub(super) fn end(self, from: &str, to: Option<&Path>) -> Outcome {
        drop(self.progress);
        let counts = self.counts.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failure = counts.failure();
        if let Some(failure) = &failure {
            self.console.complain(failure);
        }
        let text = match self.console.quiet {
            true => String::new(),
            false => counts.files.text(from, to, self.verb[1]),
        };
        let summary = Summary {
            input: from,
            output: to.map(|to| to.display().to_string()),
            files: &counts.files,
            plaintext_len: counts.plaintext_len,
            error: failure.as_ref().map(report::Error::of),
        };
        let kind = failure.as_ref().map(|failure| failure.kind);
        Outcome::judged(self.verb[0], text, &summary, kind)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Whoever panicked left it whole: each change is a sum.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report<'a>(&self, line: impl FnOnce() -> Line<'a>) {
        if !self.console.json {
            return;
        }
        let line = line();
        let ok = !matches!(line.status, "failed" | "not-done");
        self.console.report(&report::document(self.verb[0], ok, &line));
    }
}

/// A holder is down, busy or slow; that says nothing about the file.
pub(in crate::verbs) fn is_worth_a_retry(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::Unavailable | Kind::TimedOut)
}

/// A holder is the reason, for now or for good; another one, or another day,
/// may do. That says nothing about the file.
pub(in crate::verbs) fn is_of_a_holder(failure: &Failure) -> bool {
    let says_no = matches!(
        failure.kind,
        Kind::Denied | Kind::KeyDisabled | Kind::KeyNotFound | Kind::Misconfigured
    );
    says_no || is_worth_a_retry(failure)
}

impl<'a> Line<'a> {
    fn of(from: &Path, to: Option<&Path>, status: &'a str) -> Self {
        Self {
            input: from.display().to_string(),
            input_hex: hex_of(from),
            output: to.map(|to| to.display().to_string()),
            output_hex: to.and_then(hex_of),
            status,
            plaintext_len: None,
            what: None,
            error: None,
        }
    }
}

/// The bytes of a name that JSON cannot show.
fn hex_of(path: &Path) -> Option<String> {
    path.to_str().is_none().then(|| report::hex(path.as_os_str().as_bytes()))
}

impl Counts {
    /// What the run comes down to, unless all went well.
    fn failure(&self) -> Option<Failure> {
        let Files { done, kept, failed, not_done, .. } = self.files;
        if failed + not_done == 0 {
            return None;
        }
        let all = done + kept + failed + not_done;
        let kind = match self.reasons.as_slice() {
            // Nothing could even be begun, and a script can treat it as one reason.
            [first, others @ ..]
                if done + kept + failed == 0
                    && others.iter().all(|other| other.kind.code() == first.kind.code()) =>
            {
                first.kind
            }
            _ => Kind::Partial,
        };
        let failure =
            Failure::new(kind, format!("{} of {all} files are not done", failed + not_done));
        Some(failure.hint(match failed {
            0 => "run the same command again with --resume, which leaves alone what is done",
            _ => "mend what is said above, and run the same command again with --resume, which leaves \
                  alone what is done",
        }))
    }
}

impl Files {
    fn text(&self, from: &str, to: Option<&Path>, verb_done: &str) -> String {
        let mut text = format!("{from}: {} {verb_done}", counted(self.done, "file"));
        if let Some(to) = to {
            write!(text, " to {}", to.display()).expect("a String takes all");
        }
        let more = [
            (self.kept, "done before"),
            (self.passed_over, "passed over (links, devices and the like)"),
            (self.failed, "failed"),
            (self.not_done, "not done"),
        ];
        for (number, what) in more.into_iter().filter(|(number, _)| *number > 0) {
            write!(text, ", {number} {what}").expect("a String takes all");
        }
        text + "\n"
    }
}

pub(in crate::verbs) fn counted(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}
