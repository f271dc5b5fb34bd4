//! A file that is to be changed in place or replaced, kept from others that
//! want to do so as well.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid, Uid};
use rustix::io::Errno;

/// The file whose header, or the whole of which, is to be replaced.
pub(super) struct Target {
    pub(super) file: File,
    /// Links resolved: the journal is beside the file itself.
    pub(super) path: PathBuf,
}

impl Target {
    pub(super) fn read(path: &Path) -> Result<Self, TargetError> {
        let path = fs::canonicalize(path)?;
        Self::regular(File::open(&path)?, path)
    }

    /// Opens the file for writing, and keeps others out who do the same.
    pub(super) fn lock(path: &Path) -> Result<Self, TargetError> {
        let path = fs::canonicalize(path)?;
        let target = Self::regular(File::options().read(true).write(true).open(&path)?, path)?;
        match rustix::fs::flock(&target.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(TargetError::Busy),
            Err(error) => return Err(io::Error::from(error).into()),
        }
        // Another one may have put a new file here before the lock was ours.
        target.check_is_there()?;
        Ok(target)
    }

    fn regular(file: File, path: PathBuf) -> Result<Self, TargetError> {
        match file.metadata()?.is_file() {
            true => Ok(Self { file, path }),
            false => Err(io::Error::other("not a regular file").into()),
        }
    }

    /// That the file's name is still that of this file.
    pub(super) fn check_is_there(&self) -> Result<(), TargetError> {
        let (ours, named) = (self.file.metadata()?, fs::symlink_metadata(&self.path)?);
        match (ours.dev(), ours.ino()) == (named.dev(), named.ino()) {
            true => Ok(()),
            false => Err(TargetError::Busy),
        }
    }

    /// That a new file in its place leaves no other name with the old one.
    pub(super) fn only_name(&self) -> Result<Metadata, TargetError> {
        let metadata = self.file.metadata()?;
        match metadata.nlink() {
            0 | 1 => Ok(metadata),
            names => Err(TargetError::OtherNames { names }),
        }
    }

    /// A journal of somebody else is not believed, and a file of somebody else
    /// may be out of its owner's reach.
    pub(super) fn give_to_owner(&self, made: &File) -> io::Result<()> {
        let (theirs, ours) = (self.file.metadata()?, made.metadata()?);
        if theirs.uid() != ours.uid() {
            rustix::fs::fchown(made, Some(Uid::from_raw(theirs.uid())), None)?;
        }
        if theirs.gid() != ours.gid() {
            // Whoever is not in that group cannot; the file's mode still holds.
            let _ = rustix::fs::fchown(made, None, Some(Gid::from_raw(theirs.gid())));
        }
        Ok(())
    }
}

impl Drop for Target {
    /// To close the file is not enough: a process that another thread is just
    /// starting has it open too, until it runs its program.
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Why a file is not to be changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    #[error("another rewrap or reencrypt is at work on the file")]
    Busy,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(
        "the file would have to be written anew, and it has {names} names (hard links): the others \
         would keep the old one"
    )]
    OtherNames { names: u64 },
}

/// Where a change can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    JournalGrows,
    JournalIsThere,
    HeaderIsWritten,
    HeaderIsDurable,
    JournalIsGone,
    CopyGrows,
    CopyIsThere,
}

#[cfg(not(test))]
pub(super) fn reached(_: Step) {}

#[cfg(test)]
pub(super) use super::rewrap::tests::reached;
