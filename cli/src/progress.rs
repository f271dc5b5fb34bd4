//! Progress on stderr: only on a terminal, and only of what takes a while.

use std::io::{self, IsTerminal as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner needs no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often what is shown is brought up to date.
const STEP: Duration = Duration::from_millis(100);

/// Does `work`, and shows meanwhile how far it is of `total` bytes, where that
/// is known. Nothing is shown when `quiet`.
pub(crate) fn watch<T>(
    progress: twinlock::Progress,
    total: Option<u64>,
    quiet: bool,
    work: impl FnOnce() -> T,
) -> T {
    if quiet || !io::stderr().is_terminal() {
        return work();
    }
    thread::scope(|scope| {
        let (working, done) = mpsc::channel::<()>();
        scope.spawn(move || {
            let mut shown = Progress::new(total);
            while done.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
                shown.set(progress.bytes());
            }
        });
        let result = work();
        drop(working);
        result
    })
}

/// The progress of many files; workers share it.
pub(crate) struct FilesProgress {
    /// `None` when nobody looks.
    shown: Option<Mutex<Progress>>,
    files: AtomicU64,
    bytes: AtomicU64,
    total: Option<u64>,
}

impl FilesProgress {
    /// Of `total` files, where that is known. Nothing is shown when `quiet`.
    pub(crate) fn new(total: Option<u64>, quiet: bool) -> Self {
        let shown = !quiet && io::stderr().is_terminal();
        let progress = || {
            let template = "{msg}  {binary_bytes}  {binary_bytes_per_sec}  {elapsed}";
            Mutex::new(Progress::styled(None, style_of(template)))
        };
        let shown = shown.then(progress);
        Self { shown, files: AtomicU64::new(0), bytes: AtomicU64::new(0), total }
    }

    /// One file more is done with, of so many bytes.
    pub(crate) fn add(&self, len: u64) {
        let Some(progress) = &self.shown else { return };
        let files = self.files.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.bytes.fetch_add(len, Ordering::Relaxed) + len;
        let Ok(mut progress) = progress.lock() else { return };
        progress.bar.set_message(match self.total {
            Some(total) => format!("{files} of {total} files"),
            None => format!("{files} files"),
        });
        progress.set(bytes);
    }
}

struct Progress {
    start: Instant,
    /// Counts from the start, for the rate; shown later.
    bar: ProgressBar,
    shown: bool,
}

impl Progress {
    fn new(total: Option<u64>) -> Self {
        Self::styled(total, style(total))
    }

    fn styled(total: Option<u64>, style: ProgressStyle) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        Self { start: Instant::now(), bar: bar.with_style(style), shown: false }
    }

    fn set(&mut self, len: u64) {
        if !self.shown && self.start.elapsed() > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.shown = true;
        }
        self.bar.set_position(len);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(total: Option<u64>) -> ProgressStyle {
    let template = match total {
        Some(_) => {
            "{binary_bytes} of {binary_total_bytes}  {percent}%  {binary_bytes_per_sec}  {eta} left"
        }
        None => "{binary_bytes}  {binary_bytes_per_sec}  {elapsed}",
    };
    style_of(template)
}

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well formed")
}
