//! Files: written beside their place, and put there only when they are whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{DecryptError, Decryptor, Encryptor, Envelope, read_header};

mod detached;
mod growing;
mod headers;
mod reencrypt;
mod rewrap;
mod target;

pub use crate::bulk::file::{Changed, InputFailed, is_as_before};
pub use detached::{commit_detached, decrypt_file_detached, encrypt_file_detached};
use growing::Growing;
pub use growing::remove_unfinished;
pub use headers::Headers;
pub use reencrypt::{FileReencrypt, ReencryptFileError, reencrypt_file};
pub use rewrap::{
    FileRewrap, RewrapFileError, preview_rewrap_file, preview_rewrap_header_file, rewrap_file,
    rewrap_header_file,
};

/// A new file that appears at its place whole or not at all.
///
/// It grows without a name, or, where the system knows no such files and to
/// replace another, under a temporary name in the same folder. [`commit`] flushes
/// it to the disk and gives it its name; a dropped one is gone. For a process
/// that ends without dropping (a signal) there is [`remove_unfinished`].
///
/// [`commit`]: OutputFile::commit
pub struct OutputFile {
    growing: Growing,
    path: PathBuf,
    overwrite: bool,
    like: Option<Metadata>,
}

impl OutputFile {
    /// Begins the file `path`. An existing one is left alone until `commit`,
    /// and without `overwrite` for good; who could not read it cannot read the
    /// one that replaces it.
    ///
    /// # Errors
    /// When `path` exists and `overwrite` is not set, or its folder cannot be
    /// written to.
    pub fn create(path: &Path, overwrite: bool) -> io::Result<Self> {
        Self::begin(path, overwrite, None)
    }

    /// As [`OutputFile::create`], for a file that takes over the permissions
    /// and the time of modification of another. Nobody can read it, growing or
    /// whole, who could not read that one.
    ///
    /// Whoever stores the other file chooses its mode, so of that only the
    /// permissions that the umask allows are taken, and never set-user-id and
    /// the like: the new file belongs to somebody else.
    ///
    /// # Errors
    /// As [`OutputFile::create`].
    pub fn create_like(path: &Path, overwrite: bool, source: Metadata) -> io::Result<Self> {
        Self::begin(path, overwrite, Some(source))
    }

    /// As [`OutputFile::create_like`] for a new file, where none is expected, say
    /// in a folder that was just made: one that is there all the same shows in
    /// `commit`. To look costs as much as half of making a small file.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn create_unseen(path: &Path, source: Metadata) -> io::Result<Self> {
        Self::grow(path, false, Some(source))
    }

    fn begin(path: &Path, overwrite: bool, like: Option<Metadata>) -> io::Result<Self> {
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(already_exists(path));
        }
        Self::grow(path, overwrite, like)
    }

    fn grow(path: &Path, overwrite: bool, like: Option<Metadata>) -> io::Result<Self> {
        let replaced = overwrite.then(|| path.metadata().ok()).flatten();
        let growing = Growing::begin(path, overwrite, like.as_ref().or(replaced.as_ref()))?;
        Ok(Self { growing, path: path.to_owned(), overwrite, like })
    }

    /// The file itself.
    #[must_use]
    pub fn file(&mut self) -> &mut File {
        self.growing.file_mut()
    }

    /// Puts the file at its place, after its bytes are on the disk.
    ///
    /// # Errors
    /// When that fails, or a file has appeared there meanwhile and must not be
    /// overwritten. Nothing is left behind then, unless only the folder could not
    /// be synced: the file is at its place, and a power cut may take it away.
    pub fn commit(mut self) -> io::Result<()> {
        self.sync()?;
        let folder = self.place()?;
        sync_folder(&folder)
    }

    /// Puts several files at their places: each after its bytes are on the
    /// disk. The disk is asked fewer times than by a [`commit`] of each, which
    /// is what small files wait for. Results are in the order of `files`.
    ///
    /// [`commit`]: OutputFile::commit
    pub fn commit_all(mut files: Vec<Self>) -> Vec<io::Result<()>> {
        files.iter_mut().for_each(Self::begin_sync);
        let synced: Vec<io::Result<()>> = files.iter_mut().map(Self::sync).collect();
        let mut folders = BTreeSet::new();
        let placed = synced.into_iter().zip(files).map(|(synced, file)| {
            synced?;
            let folder = file.place()?;
            folders.insert(folder.clone());
            Ok(folder)
        });
        let placed: Vec<io::Result<PathBuf>> = placed.collect();
        let failed: BTreeMap<PathBuf, io::Error> = folders
            .into_iter()
            .filter_map(|folder| sync_folder(&folder).err().map(|error| (folder, error)))
            .collect();
        placed
            .into_iter()
            .map(|folder| match failed.get(&folder?) {
                Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
                None => Ok(()),
            })
            .collect()
    }

    /// Puts the file at its place without waiting for the disk: after a power cut
    /// it may be gone, or empty, or full of zeros. It keeps a time of modification
    /// of its own, so that nobody takes it for complete who goes by that.
    ///
    /// # Errors
    /// As [`OutputFile::commit`].
    pub fn commit_without_sync(self) -> io::Result<()> {
        self.take_over_mode()?;
        self.place().map(drop)
    }

    /// Has the system begin to write, so that the first of several files that is
    /// waited for has the others on the disk with it.
    fn begin_sync(&mut self) {
        use rustix::fs::{Advice, fadvise};
        // Linux writes what is dirty before it could drop it. Elsewhere, and
        // where it fails, each file is waited for by itself.
        _ = fadvise(self.growing.file(), 0, None, Advice::DontNeed);
    }

    /// Has its bytes, mode and time on the disk.
    fn sync(&mut self) -> io::Result<()> {
        self.take_over_mode()?;
        if let Some(source) = &self.like {
            self.growing.file().set_modified(source.modified()?)?;
        }
        self.growing.file().sync_all()
    }

    fn take_over_mode(&self) -> io::Result<()> {
        let Some(source) = &self.like else { return Ok(()) };
        if is_for_its_owner(source) {
            return Ok(()); // it was made so
        }
        let file = self.growing.file();
        let made = file.metadata()?.permissions();
        let permissions = permissions_like(source, &made);
        if permissions != made {
            file.set_permissions(permissions)?;
        }
        Ok(())
    }

    /// Gives it its name. Returns the folder that it is in.
    fn place(self) -> io::Result<PathBuf> {
        match self.growing.place(&self.path, self.overwrite) {
            Ok(()) => Ok(folder_of(&self.path).to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(already_exists(&self.path))
            }
            Err(error) => Err(error),
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.growing.file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.growing.file_mut().flush()
    }
}

/// Encrypts the file `from` to the new file `to`, which gets its permissions (see
/// [`OutputFile::create_like`]) and time of modification. Returns the number of plaintext bytes.
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
    let mut output = OutputFile::create_like(to, overwrite, metadata)?;
    let len = encrypt_to(encryptor, input, &mut output)?;
    output.commit()?;
    Ok(len)
}

/// By the way that is quickest for what `input` is.
fn encrypt_to(encryptor: Encryptor, input: File, output: &mut OutputFile) -> io::Result<u64> {
    match input.metadata()?.is_file() {
        true => encryptor.encrypt_file(&input, output.file()),
        false => encryptor.encrypt(input, output),
    }
}

/// Decrypts the file `from` to the new file `to`, which gets its permissions (see
/// [`OutputFile::create_like`]) and time of modification. Returns the number of plaintext bytes.
///
/// Where a rewrap of `from` was cut short, it is read through the journal.
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
    let mut input = File::open(from)?;
    let metadata = input.metadata()?;
    let envelope = match metadata.is_file() {
        true => {
            let headers = Headers::read(&input, from).map_err(DecryptError::from)?;
            headers.open(decryptor).await?
        }
        false => decryptor.open(read_header(&mut input)?).await?,
    };
    decrypt_to(&envelope, input, metadata, to, overwrite)
}

/// Decrypts what is behind the header, or all of a payload whose header is kept
/// apart.
fn decrypt_to(
    envelope: &Envelope,
    input: File,
    metadata: Metadata,
    to: &Path,
    overwrite: bool,
) -> Result<u64, DecryptError> {
    let is_file = metadata.is_file();
    check_free_space(folder_of(to), metadata.len())?;
    let mut output = OutputFile::create_like(to, overwrite, metadata)?;
    let len = match is_file {
        true => envelope.decrypt_file(&input, output.file())?,
        false => envelope.decrypt(input, &mut output)?,
    };
    output.commit()?;
    Ok(len)
}

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

/// True if a file that is made with this one's mode has no more than that: its
/// owner can read and write it, as a growing file's has to.
#[cfg(unix)]
fn is_for_its_owner(source: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    source.permissions().mode() & 0o600 == 0o600
}

#[cfg(not(unix))]
fn is_for_its_owner(_: &Metadata) -> bool {
    false
}

/// What the source and the umask, under which `file` was made, both allow.
#[cfg(unix)]
fn permissions_like(source: &Metadata, made: &fs::Permissions) -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    // With the type, so that it compares with what was made.
    let (source, made) = (source.permissions().mode(), made.mode());
    fs::Permissions::from_mode(source & made & 0o777 | made & !0o7777)
}

#[cfg(not(unix))]
fn permissions_like(source: &Metadata, _: &fs::Permissions) -> fs::Permissions {
    source.permissions()
}

fn already_exists(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists already", path.display()))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if !cannot_be_synced(&error) => Err(error),
        _ => Ok(()),
    }
}

/// True where the rename has to do: not every file system lets a folder be
/// synced, and who may write to a folder need not be able to open it. A disk
/// that fails is something else.
fn cannot_be_synced(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, SystemTime};

    use super::growing::tests::{names, with_and_without_nameless};
    use super::*;

    #[test]
    fn a_dropped_file_leaves_nothing() {
        with_and_without_nameless(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("out");
            let mut output = OutputFile::create(&path, false).unwrap();
            output.write_all(b"half").unwrap();
            assert!(!path.exists());
            drop(output);
            assert_eq!(names(folder.path()).len(), 0);
        });
    }

    #[test]
    fn a_file_that_replaces_a_private_one_is_private_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, b"old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let output = OutputFile::create(&path, true).unwrap();
        let growing = output.growing.file().metadata().unwrap().permissions().mode();
        assert_eq!(growing & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_overwritten() {
        with_and_without_nameless(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("out");
            let mut output = OutputFile::create(&path, false).unwrap();
            output.write_all(b"ours").unwrap();
            fs::write(&path, b"theirs").unwrap();
            assert_eq!(output.commit().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&path).unwrap(), b"theirs");
            assert_eq!(names(folder.path()), ["out"]);
            assert!(OutputFile::create(&path, false).is_err());
            let source = path.metadata().unwrap();
            let unseen = OutputFile::create_unseen(&path, source).unwrap();
            assert_eq!(unseen.commit().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&path).unwrap(), b"theirs");
            let mut output = OutputFile::create(&path, true).unwrap();
            output.write_all(b"ours").unwrap();
            output.commit().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"ours");
        });
    }

    #[test]
    fn of_several_files_each_is_put_at_its_place_or_fails_by_itself() {
        with_and_without_nameless(|| {
            let folder = tempfile::tempdir().unwrap();
            let [one, two, three] = ["one", "two", "three"].map(|name| folder.path().join(name));
            let files = [&one, &two, &three].map(|path| {
                let mut output = OutputFile::create(path, false).unwrap();
                output.write_all(b"ours").unwrap();
                output
            });
            fs::write(&two, b"theirs").unwrap();
            let results = OutputFile::commit_all(files.into());
            assert!(results[0].is_ok() && results[2].is_ok());
            assert_eq!(results[1].as_ref().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            for (path, bytes) in [(&one, b"ours".as_slice()), (&two, b"theirs"), (&three, b"ours")]
            {
                assert_eq!(fs::read(path).unwrap(), bytes);
            }
            assert_eq!(names(folder.path()).len(), 3, "nothing is left behind");
        });
    }

    #[test]
    fn a_file_like_another_is_never_more_readable_than_that() {
        with_and_without_nameless(|| {
            let folder = tempfile::tempdir().unwrap();
            let (source, path) = (folder.path().join("source"), folder.path().join("out"));
            fs::write(&source, b"x").unwrap();
            fs::set_permissions(&source, fs::Permissions::from_mode(0o640)).unwrap();
            let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            File::options().write(true).open(&source).unwrap().set_modified(long_ago).unwrap();

            let metadata = source.metadata().unwrap();
            let output = OutputFile::create_like(&path, false, metadata).unwrap();
            let growing = output.growing.file().metadata().unwrap().permissions().mode();
            assert_eq!(growing & 0o777 & !0o640, 0, "{growing:o}");
            output.commit().unwrap();
            let made = path.metadata().unwrap();
            assert_eq!(made.permissions().mode() & 0o777, 0o640);
            assert_eq!(made.modified().unwrap(), long_ago);
        });
    }

    #[test]
    fn a_read_only_source_can_be_written_like() {
        with_and_without_nameless(|| {
            let folder = tempfile::tempdir().unwrap();
            let (source, path) = (folder.path().join("source"), folder.path().join("out"));
            fs::write(&source, b"x").unwrap();
            fs::set_permissions(&source, fs::Permissions::from_mode(0o444)).unwrap();
            let mut output =
                OutputFile::create_like(&path, false, source.metadata().unwrap()).unwrap();
            output.write_all(b"y").unwrap();
            output.commit().unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o444);
        });
    }

    #[test]
    fn a_source_that_runs_as_its_owner_does_not_make_a_file_that_runs_as_ours() {
        with_and_without_nameless(|| {
            let folder = tempfile::tempdir().unwrap();
            let (source, path) = (folder.path().join("source"), folder.path().join("out"));
            fs::write(&source, b"x").unwrap();
            // What the umask of this process leaves of 0777, asked without changing it.
            fs::DirBuilder::new().create(folder.path().join("probe")).unwrap();
            let allowed = folder.path().join("probe").metadata().unwrap().permissions().mode();
            fs::set_permissions(&source, fs::Permissions::from_mode(0o6777)).unwrap();
            let output = OutputFile::create_like(&path, false, source.metadata().unwrap()).unwrap();
            output.commit().unwrap();
            let made = path.metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(made, allowed & 0o777, "{made:o}");
        });
    }

    #[test]
    fn a_folder_that_fails_to_be_synced_is_reported_and_one_that_cannot_be_is_not() {
        let folder = tempfile::tempdir().unwrap();
        sync_folder(folder.path()).unwrap();
        sync_folder(Path::new("/proc")).unwrap();
        let error = sync_folder(&folder.path().join("absent")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        use rustix::io::Errno;
        for (errno, is_ignored) in [
            (Errno::INVAL, true),
            (Errno::NOTSUP, true),
            (Errno::IO, false),
            (Errno::NOSPC, false),
            (Errno::STALE, false),
        ] {
            assert_eq!(cannot_be_synced(&errno.into()), is_ignored, "{errno}");
        }
    }

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        check_free_space(folder.path(), 1).unwrap();
        let error = check_free_space(folder.path(), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
