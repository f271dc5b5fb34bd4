//! Reading the configuration again while the service runs: when it is told to
//! (SIGHUP), and when a file has changed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use crate::systemd;

/// How often files are looked at.
pub const EVERY: Duration = Duration::from_secs(2);

/// Calls `reload` on SIGHUP, and when one of `files` has changed and then stays
/// as it is from one look to the next, so that no half-written file is read.
/// What `reload` returns is watched from then on; its error is logged and kept
/// in `status`, and the files that were watched stay so.
///
/// A file counts as changed when its name leads to another file (Kubernetes and
/// systemd swap symbolic links), or the file has another size or time.
///
/// Tells systemd that the service is ready, once SIGHUP would be heard: before
/// that it ends the process.
///
/// Runs until it is dropped.
///
/// # Errors
/// When the system lets nobody handle signals.
pub async fn run<F, R>(
    files: Vec<PathBuf>,
    every: Duration,
    status: &ReloadStatus,
    mut reload: F,
) -> io::Result<()>
where
    F: FnMut() -> R,
    R: Future<Output = Result<Vec<PathBuf>, String>>,
{
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut watch = Watch::new(files).await;
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    systemd::ready();
    loop {
        let why = tokio::select! {
            _ = hang_up.recv() => "SIGHUP",
            _ = tick.tick() => match watch.has_settled().await {
                true => "a file has changed",
                false => continue,
            },
        };
        systemd::reloading();
        // Before it reads them: what changes while it does is seen afterwards.
        watch.forget_changes().await;
        let result = reload().await;
        match &result {
            Ok(_) => tracing::info!(why, "the configuration was read again"),
            Err(error) => tracing::error!(why, error, "the configuration stays as it was"),
        }
        status.record(result.as_ref().map(drop).map_err(String::clone));
        if let Ok(files) = result {
            watch.watch(files).await;
        }
        systemd::ready();
    }
}

/// How the last reload went. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ReloadStatus {
    shared: Arc<Mutex<Last>>,
}

/// What is known of reloads.
#[derive(Clone, Debug, Default)]
pub struct Last {
    /// When one last succeeded, if any has.
    pub succeeded: Option<SystemTime>,
    /// Why the last one failed, if it did.
    pub error: Option<String>,
    /// How many succeeded, and how many failed.
    pub counts: (u64, u64),
}

impl ReloadStatus {
    /// How it is now.
    #[must_use]
    pub fn last(&self) -> Last {
        self.shared().clone()
    }

    fn record(&self, result: Result<(), String>) {
        let mut last = self.shared();
        match result {
            Ok(()) => {
                last.counts.0 += 1;
                last.succeeded = Some(SystemTime::now());
                last.error = None;
            }
            Err(error) => {
                last.counts.1 += 1;
                last.error = Some(error);
            }
        }
    }

    fn shared(&self) -> MutexGuard<'_, Last> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files, as they were when they were last read and last looked at.
struct Watch {
    files: Arc<Vec<PathBuf>>,
    read: Vec<Looks>,
    seen: Vec<Looks>,
}

impl Watch {
    async fn new(files: Vec<PathBuf>) -> Self {
        let files = Arc::new(files);
        let looks = look(&files).await;
        Self { files, seen: looks.clone(), read: looks }
    }

    /// Whether they differ from what was read, and not from the last look.
    async fn has_settled(&mut self) -> bool {
        let now = look(&self.files).await;
        let has_settled = now == self.seen && now != self.read;
        self.seen = now;
        has_settled
    }

    async fn forget_changes(&mut self) {
        self.seen = look(&self.files).await;
        self.read.clone_from(&self.seen);
    }

    /// Watches these from now on. Those that were watched keep how they looked
    /// when they were read.
    async fn watch(&mut self, files: Vec<PathBuf>) {
        if *self.files == files {
            return;
        }
        let looks = look(&Arc::new(files.clone())).await;
        let known = |file: &PathBuf| self.files.iter().position(|known| known == file);
        let read = files.iter().zip(&looks).map(|(file, now)| match known(file) {
            Some(at) => self.read[at].clone(),
            None => now.clone(),
        });
        (self.read, self.seen) = (read.collect(), looks.clone());
        self.files = Arc::new(files);
    }
}

/// What tells one state of a file from another; nothing for a missing one.
type Looks = Option<(PathBuf, [i128; 6])>;

/// A network file system may let it wait, so it does not run with requests.
async fn look(files: &Arc<Vec<PathBuf>>) -> Vec<Looks> {
    let files = Arc::clone(files);
    let looks = tokio::task::spawn_blocking(move || files.iter().map(|file| looks(file)).collect());
    looks.await.unwrap_or_default()
}

fn looks(file: &Path) -> Looks {
    let path = fs::canonicalize(file).ok()?;
    let m = fs::metadata(&path).ok()?;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let changed = [nanos(m.mtime(), m.mtime_nsec()), nanos(m.ctime(), m.ctime_nsec())];
    let [modified, changed] = changed;
    let same = [m.dev().into(), m.ino().into(), m.size().into(), m.mode().into()];
    let [device, inode, size, mode] = same;
    Some((path, [device, inode, size, mode, modified, changed]))
}

#[cfg(test)]
mod tests;
