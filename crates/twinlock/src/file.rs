//! Files: written beside their place, and put there only when they are whole.

use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use crate::{DecryptError, Decryptor, Encryptor};

/// A new file that appears at its place whole or not at all.
///
/// It grows under a temporary name in the same folder. [`commit`] flushes it to
/// the disk and renames it; a dropped one is removed. For a process that ends
/// without dropping (a signal) there is [`remove_unfinished`].
///
/// [`commit`]: OutputFile::commit
pub struct OutputFile {
    temporary: NamedTempFile,
    path: PathBuf,
    overwrite: bool,
}

impl OutputFile {
    /// Begins the file `path`. An existing one is left alone until `commit`,
    /// and without `overwrite` for good.
    ///
    /// # Errors
    /// When `path` exists and `overwrite` is not set, or its folder cannot be
    /// written to.
    pub fn create(path: &Path, overwrite: bool) -> io::Result<Self> {
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(already_exists(path));
        }
        let temporary = new_temporary(folder_of(path))?;
        unfinished().push(temporary.path().to_owned());
        Ok(Self { temporary, path: path.to_owned(), overwrite })
    }

    /// The file itself.
    #[must_use]
    pub fn file(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// Takes over the permissions and the time of modification of `source`.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn copy_attributes(&mut self, source: &Metadata) -> io::Result<()> {
        let file = self.temporary.as_file();
        file.set_permissions(source.permissions())?;
        file.set_modified(source.modified()?)
    }

    /// Puts the file at its place, after its bytes are on the disk.
    ///
    /// # Errors
    /// When that fails, or a file has appeared there meanwhile and must not be
    /// overwritten. Nothing is left behind then.
    pub fn commit(mut self) -> io::Result<()> {
        self.temporary.flush()?;
        self.temporary.as_file().sync_all()?;
        let temporary_path = self.temporary.path().to_owned();
        let result = match self.overwrite {
            true => self.temporary.persist(&self.path),
            false => self.temporary.persist_noclobber(&self.path),
        };
        forget(&temporary_path);
        match result {
            Ok(_) => sync_folder(folder_of(&self.path)),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(already_exists(&self.path))
            }
            Err(error) => Err(error.error),
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.flush()
    }
}

/// Removes the temporary files of all [`OutputFile`]s of this process that are
/// not committed: for a signal handler's thread, right before it exits.
pub fn remove_unfinished() {
    for path in unfinished().drain(..) {
        // It may have been committed a moment ago, and be gone.
        let _ = fs::remove_file(path);
    }
}

/// Encrypts the file `from` to the new file `to`, which gets its permissions
/// and time of modification. Returns the number of plaintext bytes.
///
/// # Errors
/// When reading or writing fails, there is no room for the envelope, or `to`
/// exists and `overwrite` is not set. `to` is then as it was.
pub fn encrypt_file(
    encryptor: Encryptor,
    from: &Path,
    to: &Path,
    overwrite: bool,
) -> io::Result<u64> {
    let input = File::open(from)?;
    let metadata = input.metadata()?;
    if let Some(len) = encryptor.envelope_len(metadata.len()) {
        check_free_space(folder_of(to), len)?;
    }
    let mut output = OutputFile::create(to, overwrite)?;
    let len = encryptor.encrypt(input, &mut output)?;
    output.copy_attributes(&metadata)?;
    output.commit()?;
    Ok(len)
}

/// Decrypts the file `from` to the new file `to`, which gets its permissions
/// and time of modification. Returns the number of plaintext bytes.
///
/// # Errors
/// When `from` does not open or is not authentic to its last byte, reading or
/// writing fails, there is no room, or `to` exists and `overwrite` is not set.
/// `to` is then as it was.
pub async fn decrypt_file(
    decryptor: &Decryptor,
    from: &Path,
    to: &Path,
    overwrite: bool,
) -> Result<u64, DecryptError> {
    let input = File::open(from)?;
    let metadata = input.metadata()?;
    let mut reader = decryptor.reader(BufReader::with_capacity(READ_AHEAD, input)).await?;
    check_free_space(folder_of(to), metadata.len())?;
    let mut output = OutputFile::create(to, overwrite)?;
    let len = io::copy(&mut reader, &mut output)?;
    output.copy_attributes(&metadata)?;
    output.commit()?;
    Ok(len)
}

/// For the header and its prefix; the payload's reads are larger and pass by.
const READ_AHEAD: usize = 4096;

/// Fails early when `needed` bytes do not fit on the file system of `folder`.
///
/// # Errors
/// `StorageFull`, with both numbers. A system that does not tell is believed
/// to have room.
pub fn check_free_space(folder: &Path, needed: u64) -> io::Result<()> {
    let Ok(facts) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = facts.f_bavail.saturating_mul(facts.f_frsize);
    if needed <= free {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::StorageFull,
        format!("{needed} bytes are needed in {}, {free} are free", folder.display()),
    ))
}

/// The folder that a file is in.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn new_temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".twinlock-").suffix(".tmp").rand_bytes(16);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // The system takes off what the umask forbids.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

fn already_exists(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists already", path.display()))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // Not every file system lets a folder be synced; the rename stands anyway.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forget(path: &Path) {
    unfinished().retain(|unfinished| unfinished != path);
}
