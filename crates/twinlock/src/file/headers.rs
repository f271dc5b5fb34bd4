//! The header of a file, read past a rewrap that was cut short (format.md,
//! "Journal").

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use twinlock_format::{HeaderError, Prefix, UnverifiedHeader, limits};

use crate::{DecryptError, Decryptor, Envelope, ReadHeaderError};

/// The headers that a file may be opened with: its own, and one that a rewrap
/// left in a journal when it was killed.
///
/// A rewrap that dies while it overwrites a header leaves one that does not
/// open; the journal beside the file then has the whole one. Nothing is
/// believed of either before its tag has verified, and a reader never writes.
#[derive(Debug)]
pub struct Headers {
    own: Result<UnverifiedHeader, HeaderError>,
    pending: Option<UnverifiedHeader>,
    header_len: usize,
}

impl Headers {
    /// Reads what stands at the beginning of `file`, whose name is `path`, and
    /// in its journal, if there is one. The position in `file` stays.
    ///
    /// # Errors
    /// When reading fails, or the file is no envelope, not even one whose
    /// header is torn.
    pub fn read(file: &File, path: &Path) -> Result<Self, ReadHeaderError> {
        Self::beginning_with(header_bytes(file)?, file, path)
    }

    /// As [`Headers::read`], of a file that begins with `front`: all of it, or
    /// so much as was read.
    ///
    /// # Errors
    /// As [`Headers::read`], and when `front` ends within the header.
    pub fn read_behind(front: &[u8], file: &File, path: &Path) -> Result<Self, ReadHeaderError> {
        Self::beginning_with(header_of(front)?.to_vec(), file, path)
    }

    fn beginning_with(bytes: Vec<u8>, file: &File, path: &Path) -> Result<Self, ReadHeaderError> {
        let headers = Self::of(file, path, bytes.clone());
        // A rewrap that is at work now may have torn the header that was read,
        // and be done with its journal before that was looked for.
        let again = header_bytes(file)?;
        match again == bytes {
            true => Ok(headers),
            false => Ok(Self::of(file, path, again)),
        }
    }

    fn of(file: &File, path: &Path, bytes: Vec<u8>) -> Self {
        let own = UnverifiedHeader::parse(bytes.clone());
        let pending = pending_header(file, path, &bytes, own.as_ref().ok());
        Self { own, pending, header_len: bytes.len() }
    }

    /// The header's length in bytes: the payload begins behind it.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// The file's own header, if it is not torn so that it cannot be read.
    ///
    /// # Errors
    /// When it cannot.
    pub fn own(&self) -> Result<&UnverifiedHeader, &HeaderError> {
        self.own.as_ref()
    }

    /// What a journal offers in place of the file's own header.
    #[must_use]
    pub fn pending(&self) -> Option<&UnverifiedHeader> {
        self.pending.as_ref()
    }

    /// The headers to try, one after the other.
    ///
    /// # Errors
    /// When there is none, with what is wrong with the file's own.
    pub fn candidates(self) -> Result<Vec<UnverifiedHeader>, HeaderError> {
        match (self.own, self.pending) {
            (Ok(own), pending) => Ok([own].into_iter().chain(pending).collect()),
            (Err(_), Some(pending)) => Ok(vec![pending]),
            (Err(error), None) => Err(error),
        }
    }

    /// Opens the file's own header, or else the journal's. Of both the payload
    /// begins at [`Headers::header_len`].
    ///
    /// # Errors
    /// When neither opens: why the first did not.
    pub async fn open(self, decryptor: &Decryptor) -> Result<Envelope, DecryptError> {
        let mut first_error = None;
        for header in self.candidates().map_err(ReadHeaderError::from)? {
            match decryptor.open(header).await {
                Ok(envelope) => return Ok(envelope),
                Err(error) => _ = first_error.get_or_insert(error),
            }
        }
        Err(first_error.expect("there is at least one candidate").into())
    }
}

/// The bytes that the prefix says are the header: it is never torn.
fn header_bytes(file: &File) -> Result<Vec<u8>, ReadHeaderError> {
    let mut bytes = read_at_start(file, limits::PADDING_STEP)?; // most have no more
    let len = Prefix::parse(&bytes)?.header_len();
    if len > bytes.len() {
        bytes = read_at_start(file, len)?;
    }
    bytes.truncate(header_of(&bytes)?.len());
    Ok(bytes)
}

/// The header that `bytes` begin with.
fn header_of(bytes: &[u8]) -> Result<&[u8], HeaderError> {
    let need = Prefix::parse(bytes)?.header_len();
    bytes.get(..need).ok_or(HeaderError::Truncated { have: bytes.len(), need })
}

fn read_at_start(file: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut read = 0;
    while read < len {
        match file.read_at(&mut bytes[read..], read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

/// The journal's header, if the journal is a candidate. Whatever is wrong with
/// it, it is as if it were not there.
fn pending_header(
    file: &File,
    path: &Path,
    own_bytes: &[u8],
    own: Option<&UnverifiedHeader>,
) -> Option<UnverifiedHeader> {
    let bytes = journal_bytes(&journal_path(path)?, file)?;
    let pending = UnverifiedHeader::parse(bytes).ok()?;
    let same_len = pending.as_bytes().len() == own_bytes.len();
    let same_id =
        own.is_none_or(|own| own.header().envelope_id() == pending.header().envelope_id());
    (same_len && same_id && pending.as_bytes() != own_bytes).then_some(pending)
}

/// Of a regular file of the same owner, and not through a link.
fn journal_bytes(journal: &Path, file: &File) -> Option<Vec<u8>> {
    // To open a named pipe would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let journal = File::from(rustix::fs::open(journal, flags, Mode::empty()).ok()?);
    let metadata = journal.metadata().ok()?;
    if !metadata.is_file() || metadata.uid() != file.metadata().ok()?.uid() {
        return None;
    }
    let mut bytes = Vec::new();
    journal.take(limits::MAX_HEADER_LEN as u64 + 1).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Where the journal of the file `path` is, links resolved. `None` if its name
/// would be too long, or the file has none.
pub(super) fn journal_path(path: &Path) -> Option<PathBuf> {
    const MAX_NAME_LEN: usize = 255;
    let path = resolved(path)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name()?);
    name.push(".twinlock-journal");
    (name.as_bytes().len() <= MAX_NAME_LEN).then(|| path.with_file_name(name))
}

/// What a link at the end of `path` leads to. Links above do not matter: the
/// journal is in the same folder.
fn resolved(path: &Path) -> Option<Cow<'_, Path>> {
    match fs::read_link(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput && path.file_name().is_some() => {
            Some(Cow::Borrowed(path))
        }
        _ => fs::canonicalize(path).ok().map(Cow::Owned),
    }
}
