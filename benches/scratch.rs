//! Where the benchmarks of files and pipes work: a folder that is removed in the
//! end, and `cat` at both ends of a pipe.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A folder with a file to read, removed when it is dropped.
pub struct Scratch {
    folder: PathBuf,
    /// Of the file to read, in bytes.
    pub len: u64,
    /// Whether the folder is in memory-backed storage.
    pub in_memory: bool,
}

impl Scratch {
    /// A folder in `folder` with a file of so many mebibytes.
    ///
    /// # Errors
    /// When it cannot be made or written to.
    pub fn new(folder: &Path, mebibytes: u64) -> io::Result<Self> {
        const TMPFS_MAGIC: u64 = 0x0102_1994;
        let in_memory = rustix::fs::statfs(folder)?.f_type.cast_unsigned() == TMPFS_MAGIC;
        let folder = folder.join(format!("twinlock-bench-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let scratch = Self { folder, len: mebibytes << 20, in_memory };
        let mut input = File::create(scratch.input())?;
        let piece: Vec<u8> = (0..251u8).cycle().take(1 << 20).collect();
        (0..mebibytes).try_for_each(|_| input.write_all(&piece))?;
        input.sync_all()?; // its writeback is nobody else's time
        Ok(scratch)
    }

    /// The file to read.
    #[must_use]
    pub fn input(&self) -> PathBuf {
        self.path("input")
    }

    /// The file of that name in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder); // it is nobody's but ours
    }
}

/// `cat INPUT | work | cat >/dev/null`.
///
/// # Errors
/// When a process cannot be started or fails, or `work` does.
pub fn between_cats(
    input: &Path,
    work: impl FnOnce(ChildStdout, ChildStdin) -> io::Result<()>,
) -> io::Result<()> {
    let mut producer = Command::new("cat").arg(input).stdout(Stdio::piped()).spawn()?;
    let mut consumer = consumer(Stdio::piped())?;
    let from = producer.stdout.take().expect("it is piped");
    let to = consumer.stdin.take().expect("it is piped");
    work(from, to)?;
    wait(producer).and_then(|()| wait(consumer))
}

/// `cat INPUT | cat | cat >/dev/null`.
///
/// # Errors
/// When a process cannot be started or fails.
pub fn three_cats(input: &Path) -> io::Result<()> {
    let mut producer = Command::new("cat").arg(input).stdout(Stdio::piped()).spawn()?;
    let from = producer.stdout.take().expect("it is piped");
    let mut middle = Command::new("cat").stdin(from).stdout(Stdio::piped()).spawn()?;
    let consumer = consumer(middle.stdout.take().expect("it is piped").into())?;
    [producer, middle, consumer].into_iter().try_for_each(wait)
}

/// Runs `cp`.
///
/// # Errors
/// When it cannot be started or fails.
pub fn cp(from: &Path, to: &Path) -> io::Result<()> {
    wait(Command::new("cp").args([from, to]).spawn()?)
}

fn consumer(from: Stdio) -> io::Result<Child> {
    Command::new("cat").stdin(from).stdout(Stdio::null()).spawn()
}

fn wait(mut child: Child) -> io::Result<()> {
    match child.wait()?.success() {
        true => Ok(()),
        false => Err(io::Error::other("a command failed")),
    }
}
