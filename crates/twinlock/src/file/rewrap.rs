//! A file's header is replaced, so that the file opens whenever this is killed
//! (format.md, "Journal").

use std::fs;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use twinlock_floe::Backend;
use twinlock_format::{Header, HeaderError, UnverifiedHeader, schedule};

use super::headers::{Headers, journal_path};
use super::target::{Step, Target, TargetError, reached};
use super::{OutputFile, check_free_space, folder_of, sync_folder};
use crate::decrypt::OpenHeader;
use crate::{
    DecryptError, Decryptor, KeyslotChange, OpenError, PayloadError, ReadHeaderError, RewrapError,
    RewrapPlan, RewrappedHeader, read_detached_header,
};

/// What became of a file's header.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileRewrap {
    /// The verified header, as it is now, or would still be after a preview.
    pub header: Header,
    /// What changed, or would: nothing when no keyslot was to be changed.
    pub changes: Vec<KeyslotChange>,
    /// True if an earlier rewrap was cut short, and was finished first. A
    /// preview leaves that to do.
    pub repaired: bool,
    /// True if the new header did not fit in the place of the old one, so that
    /// the whole file was written anew.
    pub rewritten: bool,
}

/// Changes the keyslots of the file `path` as `plan` says, without reading the
/// payload. First it finishes a rewrap that was cut short.
///
/// The header is replaced in place where it fits: the file opens whenever this
/// is killed, with the old keys or with the new ones. Else the whole file is
/// written anew (its extended attributes are not kept) and takes the old one's
/// place.
///
/// # Errors
/// When the file does not open, a holder fails, another rewrap is at work, or
/// writing fails. The file opens then as it did, unless writing failed half way:
/// then it opens through its journal, until the next rewrap finishes that.
pub async fn rewrap_file(
    decryptor: &Decryptor,
    path: &Path,
    plan: &RewrapPlan,
) -> Result<FileRewrap, RewrapFileError> {
    let target = Target::lock(path)?;
    let found = target.open(decryptor).await?;
    target.check_is_there()?;
    if found.repair {
        target.overwrite(found.open.header.as_bytes())?;
    }
    target.remove_journal()?;
    let new = decryptor.rewrap_open(&found.open, plan).await?;
    match new {
        None => Ok(FileRewrap::unchanged(&found)),
        Some(new) => target.replace(&found, &new),
    }
}

/// What [`rewrap_file`] would do. The file is opened with its holders, and
/// nothing is wrapped or written.
///
/// # Errors
/// When the file does not open, or the plan is refused.
pub async fn preview_rewrap_file(
    decryptor: &Decryptor,
    path: &Path,
    plan: &RewrapPlan,
) -> Result<FileRewrap, RewrapFileError> {
    let target = Target::read(path)?;
    let found = target.open(decryptor).await?;
    let changes = decryptor.preview_rewrap(&found.open, plan).await?;
    Ok(FileRewrap { changes, ..FileRewrap::unchanged(&found) })
}

/// As [`rewrap_file`], for a header that is kept apart in the file `path`. Its
/// payload is not needed. A new header takes the place of the old one as a
/// whole.
///
/// # Errors
/// As [`rewrap_file`], and when the file is more than a header.
pub async fn rewrap_header_file(
    decryptor: &Decryptor,
    path: &Path,
    plan: &RewrapPlan,
) -> Result<FileRewrap, RewrapFileError> {
    let target = Target::lock(path)?;
    let found = target.open_detached(decryptor).await?;
    match decryptor.rewrap_open(&found.open, plan).await? {
        None => Ok(FileRewrap::unchanged(&found)),
        Some(new) => {
            target.rewrite(found.open.header.as_bytes().len(), new.as_bytes())?;
            Ok(FileRewrap::new(&found, &new))
        }
    }
}

/// What [`rewrap_header_file`] would do.
///
/// # Errors
/// As [`preview_rewrap_file`], and when the file is more than a header.
pub async fn preview_rewrap_header_file(
    decryptor: &Decryptor,
    path: &Path,
    plan: &RewrapPlan,
) -> Result<FileRewrap, RewrapFileError> {
    let found = Target::read(path)?.open_detached(decryptor).await?;
    let changes = decryptor.preview_rewrap(&found.open, plan).await?;
    Ok(FileRewrap { changes, ..FileRewrap::unchanged(&found) })
}

impl FileRewrap {
    fn new(old: &Found, new: &RewrappedHeader) -> Self {
        Self {
            header: new.header().clone(),
            changes: new.changes().to_vec(),
            repaired: old.repair,
            rewritten: false,
        }
    }

    fn unchanged(found: &Found) -> Self {
        Self {
            header: found.open.header.header().clone(),
            changes: Vec::new(),
            repaired: found.repair,
            rewritten: false,
        }
    }
}

/// The header that a file has, or that its journal says it is to have.
struct Found {
    open: OpenHeader,
    /// True if it is only in the journal.
    repair: bool,
}

impl Target {
    /// Opens the file's own header, or its journal's, and makes sure that the
    /// DEK is the payload's: no journal can choose that.
    async fn open(&self, decryptor: &Decryptor) -> Result<Found, RewrapFileError> {
        let headers = Headers::read(&self.file, &self.path)?;
        let found = match headers.own().cloned() {
            Ok(own) => match decryptor.open_header(own.clone()).await {
                Ok(open) => Ok(newer(open, headers.pending())),
                Err(error) => {
                    let pending = open_pending(decryptor, headers.pending()).await;
                    let pending = pending.filter(|pending| supersedes(pending, &own));
                    pending.ok_or(RewrapFileError::from(RewrapError::from(error)))
                }
            },
            Err(error) => open_pending(decryptor, headers.pending())
                .await
                .ok_or(ReadHeaderError::from(error.clone()).into()),
        }?;
        (&self.file).seek(SeekFrom::Start(headers.header_len() as u64))?;
        let envelope = found.open.envelope(Backend::default(), NonZeroUsize::MIN);
        envelope.reader(&self.file).map_err(DecryptError::from)?;
        Ok(found)
    }

    /// Opens the header that is all of the file. Its tag says enough: there is
    /// no journal that could have chosen the DEK.
    async fn open_detached(&self, decryptor: &Decryptor) -> Result<Found, RewrapFileError> {
        let header = read_detached_header(&mut &self.file)?;
        Ok(Found { open: decryptor.open_header(header).await?, repair: false })
    }

    fn replace(&self, old: &Found, new: &RewrappedHeader) -> Result<FileRewrap, RewrapFileError> {
        // Holders were asked meanwhile: a journal is only for the file that was opened.
        self.check_is_there()?;
        let in_place = journal_path(&self.path).filter(|_| new.fits());
        match &in_place {
            Some(journal) => {
                self.write_journal(journal, new.as_bytes())?;
                self.overwrite(new.as_bytes())?;
                self.remove_journal()?;
            }
            None => self.rewrite(old.open.header.as_bytes().len(), new.as_bytes())?,
        }
        Ok(FileRewrap { rewritten: in_place.is_none(), ..FileRewrap::new(old, new) })
    }

    /// From when this is done the new header is the file's.
    fn write_journal(&self, path: &Path, header: &[u8]) -> io::Result<()> {
        let mut journal = OutputFile::create_like(path, true, self.file.metadata()?)?;
        self.give_to_owner(journal.file())?;
        journal.write_all(header)?;
        reached(Step::JournalGrows);
        journal.commit()?;
        reached(Step::JournalIsThere);
        Ok(())
    }

    fn overwrite(&self, header: &[u8]) -> io::Result<()> {
        self.file.write_all_at(header, 0)?;
        reached(Step::HeaderIsWritten);
        self.file.sync_all()?;
        Ok(())
    }

    /// Whatever is in it: the file's own header has verified.
    pub(super) fn remove_journal(&self) -> io::Result<()> {
        let Some(journal) = journal_path(&self.path) else { return Ok(()) };
        if journal.symlink_metadata().is_err() {
            return Ok(());
        }
        // The header may be one that a killed rewrap had no time to sync.
        self.file.sync_all()?;
        reached(Step::HeaderIsDurable);
        fs::remove_file(journal)?;
        sync_folder(folder_of(&self.path))?;
        reached(Step::JournalIsGone);
        Ok(())
    }

    /// Writes the file anew, with `header` in place of its first `old_len` bytes.
    fn rewrite(&self, old_len: usize, header: &[u8]) -> Result<(), RewrapFileError> {
        let metadata = self.only_name()?;
        let payload_len = metadata.len() - old_len as u64;
        check_free_space(folder_of(&self.path), payload_len + header.len() as u64)?;
        let mut output = OutputFile::create(&self.path, true)?;
        self.give_to_owner(output.file())?;
        output.file().write_all(header)?;
        (&self.file).seek(SeekFrom::Start(old_len as u64))?;
        // On Linux the kernel copies, and shares blocks where it can.
        let copied = io::copy(&mut &self.file, output.file())?;
        if copied != payload_len {
            return Err(io::Error::other("the file changed while it was copied").into());
        }
        output.file().set_permissions(metadata.permissions())?;
        reached(Step::CopyGrows);
        // Whatever somebody has put here meanwhile is not ours to replace.
        self.check_is_there()?;
        output.commit()?;
        reached(Step::CopyIsThere);
        Ok(())
    }
}

/// The journal's header, if it comes after the one that opened.
fn newer(open: OpenHeader, pending: Option<&UnverifiedHeader>) -> Found {
    let key = schedule::header_key(open.dek.expose(), &open.header.header().envelope_id());
    let pending = pending
        .filter(|pending| {
            pending.header().generation() > open.header.header().generation()
                && pending.header().envelope_id() == open.header.header().envelope_id()
        })
        .and_then(|pending| pending.clone().verify(&key).ok());
    match pending {
        Some(header) => {
            Found { open: OpenHeader { header: Arc::new(header), ..open }, repair: true }
        }
        None => Found { open, repair: false },
    }
}

async fn open_pending(decryptor: &Decryptor, pending: Option<&UnverifiedHeader>) -> Option<Found> {
    let open = decryptor.open_header(pending?.clone()).await.ok()?;
    Some(Found { open, repair: true })
}

/// True if the journal's header comes after the file's own, or that is torn.
fn supersedes(pending: &Found, own: &UnverifiedHeader) -> bool {
    let (dek, header) = (&pending.open.dek, pending.open.header.header());
    let key = schedule::header_key(dek.expose(), &header.envelope_id());
    match own.clone().verify(&key) {
        Ok(own) => header.generation() > own.header().generation(),
        Err(_) => true,
    }
}

/// Why a file's header was not replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewrapFileError {
    /// Another rewrap has the file, or something has replaced it just now.
    #[error("{}", TargetError::Busy)]
    Busy,
    /// No header could be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file has to be written anew, and other names (hard links) would keep
    /// the old one.
    #[error("{}", TargetError::OtherNames { names: *.names })]
    OtherNames {
        /// How many it has.
        names: u64,
    },
    /// The payload is not that of the header.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// There is no new header.
    #[error(transparent)]
    Rewrap(#[from] RewrapError),
    /// What should be a header alone goes on behind its end.
    #[error("{}", ReadHeaderError::Trailing { offset: *.offset })]
    Trailing {
        /// The first byte that should not be there.
        offset: usize,
    },
}

impl From<TargetError> for RewrapFileError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Busy => Self::Busy,
            TargetError::Io(error) => Self::Io(error),
            TargetError::OtherNames { names } => Self::OtherNames { names },
        }
    }
}

impl From<ReadHeaderError> for RewrapFileError {
    fn from(error: ReadHeaderError) -> Self {
        match error {
            ReadHeaderError::Header(error) => Self::Header(error),
            ReadHeaderError::Io(error) => Self::Io(error),
            ReadHeaderError::Trailing { offset } => Self::Trailing { offset },
        }
    }
}

impl From<OpenError> for RewrapFileError {
    fn from(error: OpenError) -> Self {
        Self::Rewrap(error.into())
    }
}

impl From<DecryptError> for RewrapFileError {
    fn from(error: DecryptError) -> Self {
        match error {
            DecryptError::Header(error) => error.into(),
            DecryptError::Io(error) => Self::Io(error),
            DecryptError::Open(error) => error.into(),
            DecryptError::Payload(error) => Self::Payload(error),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
