//! Where lines are written: standard output, or a file that can be reopened.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{LogError, Target};

/// Only the threads of logs take its lock, and no request.
#[derive(Debug)]
pub(super) struct Destination {
    path: Option<PathBuf>,
    output: Mutex<Output>,
}

#[derive(Debug)]
struct Output {
    file: File,
    /// The last line was cut by an error.
    is_torn: bool,
}

impl Destination {
    pub(super) fn open(target: &Target) -> Result<Self, LogError> {
        let (path, file) = match target {
            Target::Stdout => {
                // Not through std's own buffer and lock.
                (None, File::from(io::stdout().as_fd().try_clone_to_owned()?))
            }
            Target::File(path) => {
                let cannot = |source| LogError::CannotOpen { path: path.clone(), source };
                (Some(path.clone()), open(path).map_err(cannot)?)
            }
        };
        Ok(Self { path, output: Mutex::new(Output { file, is_torn: false }) })
    }

    /// Writes whole lines. After an error, tells how many bytes were written.
    pub(super) fn write(&self, lines: &[u8]) -> Result<(), (io::Error, usize)> {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write(lines)
    }

    /// Has a full pipe answer as a full disk does: at once.
    #[cfg(test)]
    pub(super) fn set_nonblocking(&self) {
        let output = self.output.lock().unwrap();
        rustix::io::ioctl_fionbio(&output.file, true).unwrap();
    }

    pub(super) fn reopen(&self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => {
                let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
                *output = Output { file, is_torn: false };
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the log cannot be opened anew");
            }
        }
    }
}

impl Output {
    fn write(&mut self, lines: &[u8]) -> Result<(), (io::Error, usize)> {
        if self.is_torn {
            // Half a line stays alone, and does not spoil the next.
            self.file.write_all(b"\n").map_err(|error| (error, 0))?;
            self.is_torn = false;
        }
        let mut written = 0;
        while written < lines.len() {
            match self.file.write(&lines[written..]) {
                Ok(0) => return Err(self.torn(io::ErrorKind::WriteZero.into(), lines, written)),
                Ok(len) => written += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.torn(error, lines, written)),
            }
        }
        Ok(())
    }

    fn torn(&mut self, error: io::Error, lines: &[u8], written: usize) -> (io::Error, usize) {
        self.is_torn = written > 0 && lines[written - 1] != b'\n';
        (error, written)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
