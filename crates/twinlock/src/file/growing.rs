//! A file that is not at its place yet: without any name where the system knows
//! such files, and else under a temporary one in the same folder.
//!
//! One without a name is gone with the process, however that ends, and costs a
//! folder one change instead of two. It can only get a name that is free, so
//! what is to replace a file has a temporary name.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use tempfile::NamedTempFile;

use super::folder_of;

pub(super) enum Growing {
    Nameless(File),
    Named(Named),
}

impl Growing {
    /// Begins a file for the place `path`, which nobody can read who could not
    /// read `like`. With `replaces`, it may take the place of another.
    pub(super) fn begin(path: &Path, replaces: bool, like: Option<&Metadata>) -> io::Result<Self> {
        let folder = folder_of(path);
        if !replaces && let Some(file) = nameless::begin(folder, like) {
            return Ok(Self::Nameless(file));
        }
        Named::begin(folder, like).map(Self::Named)
    }

    pub(super) fn file(&self) -> &File {
        match self {
            Self::Nameless(file) => file,
            Self::Named(named) => named.file.as_file(),
        }
    }

    pub(super) fn file_mut(&mut self) -> &mut File {
        match self {
            Self::Nameless(file) => file,
            Self::Named(named) => named.file.as_file_mut(),
        }
    }

    /// Gives it its name; with `replaces`, whoever has that loses it.
    pub(super) fn place(self, path: &Path, replaces: bool) -> io::Result<()> {
        match self {
            Self::Named(named) => named.place(path, replaces),
            Self::Nameless(file) => match nameless::link(&file, path) {
                // Not every file system and not every process may have links.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    Named::copy_of(&file, folder_of(path))?.place(path, replaces)
                }
                result => result,
            },
        }
    }
}

/// A file with a temporary name.
pub(super) struct Named {
    file: NamedTempFile,
    _listed: Unfinished,
}

impl Named {
    fn begin(folder: &Path, like: Option<&Metadata>) -> io::Result<Self> {
        // A file is on the list as soon as it is there.
        let _beginning = BEGINNING.read().unwrap_or_else(PoisonError::into_inner);
        let mut builder = tempfile::Builder::new();
        builder.prefix(".twinlock-").suffix(".tmp").rand_bytes(16);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            builder.permissions(Permissions::from_mode(mode_like(like)));
        }
        let file = builder.tempfile_in(folder)?;
        let listed = Unfinished::list(file.path());
        Ok(Self { file, _listed: listed })
    }

    /// All of `file`, on the disk.
    fn copy_of(file: &File, folder: &Path) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mut copy = Self::begin(folder, Some(&metadata))?;
        let mut file = file;
        file.seek(SeekFrom::Start(0))?;
        io::copy(&mut file, copy.file.as_file_mut())?;
        copy.file.as_file().set_permissions(metadata.permissions())?;
        copy.file.as_file().set_modified(metadata.modified()?)?;
        copy.file.as_file().sync_all()?;
        Ok(copy)
    }

    fn place(self, path: &Path, replaces: bool) -> io::Result<()> {
        let placed = match replaces {
            true => self.file.persist(path),
            false => self.file.persist_noclobber(path),
        };
        placed.map(drop).map_err(|error| error.error)
    }
}

/// Files without a name (`O_TMPFILE`).
#[cfg(target_os = "linux")]
mod nameless {
    use std::os::fd::AsRawFd as _;
    use std::sync::LazyLock;

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
    use rustix::io::Errno;

    use super::{File, Metadata, Path, io, mode_like};

    const OPEN_FILES: &str = "/proc/self/fd";

    /// Without them, one may not get a name.
    static HAS_OPEN_FILES: LazyLock<bool> = LazyLock::new(|| Path::new(OPEN_FILES).is_dir());

    /// `None` where there is no such file. Whatever the reason is, it shows again
    /// with a name, or does not matter.
    pub(super) fn begin(folder: &Path, like: Option<&Metadata>) -> Option<File> {
        #[cfg(test)]
        if super::tests::has_no_nameless() {
            return None;
        }
        if !*HAS_OPEN_FILES {
            return None;
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        open(folder, flags, Mode::from_raw_mode(mode_like(like))).ok().map(File::from)
    }

    /// Gives `file` a name, which has to be free.
    pub(super) fn link(file: &File, path: &Path) -> io::Result<()> {
        // Whoever made the file may do this since Linux 6.10, and before that only
        // root.
        match linkat(file, "", CWD, path, AtFlags::EMPTY_PATH) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(Errno::EXIST.into()),
            Err(_) => {
                let file = format!("{OPEN_FILES}/{}", file.as_raw_fd());
                Ok(linkat(CWD, file, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod nameless {
    use super::{File, Metadata, Path, io};

    pub(super) fn begin(_: &Path, _: Option<&Metadata>) -> Option<File> {
        None
    }

    pub(super) fn link(_: &File, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The mode that a file is made with. The system takes off what the umask
/// forbids.
#[cfg(unix)]
fn mode_like(like: Option<&Metadata>) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    like.map_or(0o666, |like| like.permissions().mode() & 0o777) | 0o600
}

/// Removes what grows under a temporary name, for a signal handler's thread,
/// right before it exits: [`OutputFile`](super::OutputFile)s of this process that
/// are not committed. Those without a name are gone with the process.
///
/// No other can be begun with a name from then on: a thread that tries waits for
/// the exit.
pub fn remove_unfinished() {
    std::mem::forget(BEGINNING.write().unwrap_or_else(PoisonError::into_inner));
    for path in unfinished().drain(..) {
        // It may have been committed a moment ago, and be gone.
        let _ = fs::remove_file(path);
    }
}

/// Held while a file is begun, and for good once those were removed.
static BEGINNING: RwLock<()> = RwLock::new(());

static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary file's place on the list. It leaves when this is dropped, which
/// is after the file got its name or was removed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn list(path: &Path) -> Self {
        unfinished().push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Compared as bytes, for paths compare slowly, and these are the same.
        unfinished().retain(|path| path.as_os_str() != self.0.as_os_str());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::io::Write as _;

    use super::*;

    thread_local! {
        static HAS_NO_NAMELESS: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn has_no_nameless() -> bool {
        HAS_NO_NAMELESS.get()
    }

    /// Does `test` as it comes, and as on a file system that has no files without
    /// a name.
    pub(in crate::file) fn with_and_without_nameless(test: impl Fn()) {
        test();
        HAS_NO_NAMELESS.set(true);
        test();
        HAS_NO_NAMELESS.set(false);
    }

    pub(in crate::file) fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn is_listed(folder: &Path) -> bool {
        unfinished().iter().any(|path| path.starts_with(folder))
    }

    #[test]
    fn what_is_to_replace_a_file_is_listed_as_long_as_it_grows() {
        let folder = tempfile::tempdir().unwrap();
        let growing = Growing::begin(&folder.path().join("out"), true, None).unwrap();
        assert_eq!(names(folder.path()).len(), 1);
        assert!(is_listed(folder.path()));
        drop(growing);
        assert_eq!(names(folder.path()).len(), 0);
        assert!(!is_listed(folder.path()), "what is gone is not kept in mind");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_new_file_has_no_name_before_its_own_where_the_system_knows_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut growing = Growing::begin(&path, false, None).unwrap();
        if let Growing::Named(_) = growing {
            return; // the file system of this test's folder does not
        }
        growing.file_mut().write_all(b"ours").unwrap();
        assert_eq!(names(folder.path()).len(), 0);
        assert!(!is_listed(folder.path()));
        growing.place(&path, false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");
        assert_eq!(names(folder.path()), ["out"]);
    }

    /// As in a process that may not make links, or on a file system that has none:
    /// a file in memory cannot have a name anywhere.
    #[cfg(target_os = "linux")]
    #[test]
    fn where_no_name_can_be_given_a_copy_gets_it() {
        use std::os::unix::fs::PermissionsExt as _;
        use std::time::{Duration, SystemTime};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let nameless = || {
            use rustix::fs::{MemfdFlags, memfd_create};
            let mut file = File::from(memfd_create("nameless", MemfdFlags::CLOEXEC).unwrap());
            file.write_all(b"ours").unwrap();
            file.set_permissions(Permissions::from_mode(0o640)).unwrap();
            file
        };
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = nameless();
        file.set_modified(long_ago).unwrap();
        assert!(nameless::link(&file, &path).is_err());
        Growing::Nameless(file).place(&path, false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");
        let made = path.metadata().unwrap();
        assert_eq!(made.permissions().mode() & 0o7777, 0o640);
        assert_eq!(made.modified().unwrap(), long_ago);

        let error = Growing::Nameless(nameless()).place(&path, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(folder.path()), ["out"], "no copy is left");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_gets_a_name_through_the_open_files_too() {
        use rustix::fs::{AtFlags, CWD, linkat};
        use std::os::fd::AsRawFd as _;

        let folder = tempfile::tempdir().unwrap();
        let Some(file) = nameless::begin(folder.path(), None) else { return };
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, name, CWD, folder.path().join("out"), AtFlags::SYMLINK_FOLLOW).unwrap();
        assert_eq!(names(folder.path()), ["out"]);
    }
}
