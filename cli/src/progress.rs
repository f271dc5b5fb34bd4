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
    total: Option<u64>,
    done: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new(total: Option<u64>) -> Self {
        Self { start: Instant::now(), total, done: 0, bar: None }
    }

    fn add(&mut self, len: u64) {
        self.done += len;
        if self.bar.is_none() && self.start.elapsed() > PATIENCE {
            self.bar = Some(bar(self.total, self.start.elapsed()));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: Option<u64>, elapsed: Duration) -> ProgressBar {
    let template = match total {
        Some(_) => {
            "{binary_bytes} of {binary_total_bytes}  {percent}%  {binary_bytes_per_sec}  {eta} left"
        }
        None => "{binary_bytes}  {binary_bytes_per_sec}  {elapsed}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr())
        .with_style(style)
        .with_elapsed(elapsed)
}
