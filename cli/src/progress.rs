//! Progress on stderr: only on a terminal, and only of what takes a while.

use std::io::{self, IsTerminal as _, Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner needs no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// A reader whose progress is shown.
pub(crate) struct Tracked<R> {
    inner: R,
    /// `None` when nobody looks.
    progress: Option<Progress>,
}

impl<R> Tracked<R> {
    /// Of `total` bytes, where that is known. Nothing is shown when `quiet`.
    pub(crate) fn new(inner: R, total: Option<u64>, quiet: bool) -> Self {
        let shown = !quiet && io::stderr().is_terminal();
        Self { inner, progress: shown.then(|| Progress::new(total)) }
    }

    pub(crate) fn inner(&self) -> &R {
        &self.inner
    }
}

impl<R: Read> Read for Tracked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        if let Some(progress) = &mut self.progress {
            progress.add(len as u64);
        }
        Ok(len)
    }
}

impl<R: Seek> Seek for Tracked<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
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
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        Self { start: Instant::now(), bar: bar.with_style(style(total)), shown: false }
    }

    fn add(&mut self, len: u64) {
        if !self.shown && self.start.elapsed() > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.shown = true;
        }
        self.bar.inc(len);
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
    ProgressStyle::with_template(template).expect("the template is well formed")
}
