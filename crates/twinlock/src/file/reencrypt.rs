//! A file is encrypted anew, so that its old keys no longer open it.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::Path;

use twinlock_format::{EnvelopeId, Header};

use super::target::{Step, Target, TargetError, reached};
use super::{Headers, OutputFile, check_free_space, folder_of};
use crate::{DecryptError, Decryptor, EncryptorBuilder, PayloadError, PrepareError};

/// What became of a file that was encrypted anew.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileReencrypt {
    /// The verified header that it had.
    pub old: Header,
    /// The new envelope.
    pub envelope_id: EnvelopeId,
    /// How many bytes of plaintext it has.
    pub plaintext_len: u64,
    /// How long the file is now.
    pub envelope_len: u64,
}

/// Encrypts the file `path` anew with the keys of `builder`: it gets a new DEK,
/// a new envelope id and new shares, and keeps its encryption context, whatever
/// `builder` says of that. Keyslots that `builder` does not name are gone.
///
/// Plaintext is only in memory, a segment at a time. The new file takes the
/// place of the old one when it is whole, with its owner and permissions and a
/// time of modification of its own, so that backups notice it; killed at any
/// moment, the old file or the new one is there. Copies of the old file
/// elsewhere open with the old keys as before.
///
/// # Errors
/// When the file does not open or is not authentic to its last byte, a holder
/// fails, a rewrap is at work on it, it has other names (hard links), or reading
/// or writing fails. The file is then as it was.
pub async fn reencrypt_file(
    decryptor: &Decryptor,
    path: &Path,
    builder: EncryptorBuilder,
) -> Result<FileReencrypt, ReencryptFileError> {
    let target = Target::lock(path)?;
    let metadata = target.only_name()?;
    let headers = Headers::read(&target.file, &target.path).map_err(DecryptError::from)?;
    let header_len = headers.header_len();
    let envelope = headers.open(decryptor).await?;
    let old = envelope.header().clone();
    let reader = envelope.reader(behind(&target, header_len)?)?;
    check_free_space(folder_of(&target.path), metadata.len())?;

    let encryptor = builder.context(old.context().clone()).prepare().await?;
    let envelope_id = encryptor.envelope_id();
    let mut output = OutputFile::create(&target.path, true)?;
    target.give_to_owner(output.file())?;
    let plaintext_len = encryptor.encrypt(reader, output.file())?;
    output.file().set_permissions(metadata.permissions())?;
    let envelope_len = output.file().metadata()?.len();
    reached(Step::CopyGrows);
    target.check_is_there()?;
    output.commit()?;
    reached(Step::CopyIsThere);
    // Of the old envelope, if a rewrap had been cut short.
    target.remove_journal()?;
    Ok(FileReencrypt { old, envelope_id, plaintext_len, envelope_len })
}

/// The file, from behind its header on.
fn behind(target: &Target, header_len: usize) -> io::Result<&File> {
    let mut file = &target.file;
    file.seek(SeekFrom::Start(header_len as u64))?;
    Ok(file)
}

/// Why a file was not encrypted anew. It is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReencryptFileError {
    /// A rewrap or another one has the file, or something has replaced it.
    #[error("{}", TargetError::Busy)]
    Busy,
    /// The file did not open, or is not what was encrypted.
    #[error(transparent)]
    Decrypt(#[from] DecryptError),
    /// Writing failed.
    #[error(transparent)]
    Io(io::Error),
    /// Other names (hard links) would keep the old file.
    #[error("{}", TargetError::OtherNames { names: *.names })]
    OtherNames {
        /// How many it has.
        names: u64,
    },
    /// The new keys cannot be used.
    #[error(transparent)]
    Prepare(Box<PrepareError>),
}

impl From<TargetError> for ReencryptFileError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Busy => Self::Busy,
            TargetError::Io(error) => Self::Io(error),
            TargetError::OtherNames { names } => Self::OtherNames { names },
        }
    }
}

impl From<PrepareError> for ReencryptFileError {
    fn from(error: PrepareError) -> Self {
        Self::Prepare(Box::new(error))
    }
}

impl From<io::Error> for ReencryptFileError {
    fn from(error: io::Error) -> Self {
        match PayloadError::of(&error) {
            Some(&payload) => Self::Decrypt(payload.into()),
            None => Self::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;
    use crate::Encryptor;
    use crate::file::rewrap::tests::{Rig, now};

    impl Rig {
        /// From the keys `p` and `customer` to `p` and `new`.
        pub(in crate::file) fn reencrypt(
            &self,
            customer: &str,
        ) -> Result<FileReencrypt, ReencryptFileError> {
            let builder = Encryptor::builder(self.provider("p"), self.customer("new"));
            now(reencrypt_file(&self.decryptor(&[customer]), &self.path, builder))
        }
    }

    #[test]
    fn only_the_new_keys_open_it_and_old_copies_open_with_the_old() {
        let rig = Rig::new();
        fs::set_permissions(&rig.path, fs::Permissions::from_mode(0o604)).unwrap();
        let old = fs::read(&rig.path).unwrap();
        let done = rig.reencrypt("old").unwrap();
        assert!(rig.opens_with("new") && !rig.opens_with("old"));
        assert_ne!(done.envelope_id, done.old.envelope_id());
        assert_eq!(done.envelope_len, rig.path.metadata().unwrap().len());
        assert_eq!(rig.path.metadata().unwrap().permissions().mode() & 0o777, 0o604);
        assert_eq!(rig.bytes().len(), 1, "nothing is left beside it");
        // What a rewrap would have kept: the old header's DEK opens no more.
        let new = fs::read(&rig.path).unwrap();
        fs::write(&rig.path, [&old[..2048], &new[2048..]].concat()).unwrap();
        assert!(!rig.opens_with("old"));
        fs::write(&rig.path, old).unwrap();
        assert!(rig.opens_with("old"));
    }

    #[test]
    fn killed_at_any_step_the_file_is_the_old_one_or_the_new_one() {
        for step in [Step::CopyGrows, Step::CopyIsThere] {
            let rig = Rig::new();
            let old = fs::read(&rig.path).unwrap();
            assert_eq!(rig.killed_at(step, "reencrypt").signal(), Some(9), "{step:?}");
            let is_new = step == Step::CopyIsThere;
            assert_eq!(rig.opens_with("old"), !is_new, "{step:?}");
            assert_eq!(rig.opens_with("new"), is_new, "{step:?}");
            assert_eq!(fs::read(&rig.path).unwrap() == old, !is_new, "{step:?}");
        }
    }

    #[test]
    fn it_reads_past_a_rewrap_that_was_cut_short_and_leaves_no_journal() {
        let rig = Rig::new();
        assert_eq!(rig.killed_at(Step::JournalIsThere, "rotation").signal(), Some(9));
        assert!(rig.journal().exists());
        let done = rig.reencrypt("new").unwrap();
        assert_eq!(done.old.generation().0, 1);
        assert!(rig.opens_with("new") && !rig.opens_with("old"));
        assert!(!rig.journal().exists());
    }

    #[test]
    fn a_journal_of_the_old_envelope_brings_it_not_back() {
        let rig = Rig::new();
        assert_eq!(rig.killed_at(Step::JournalIsThere, "rotation").signal(), Some(9));
        let journal = fs::read(rig.journal()).unwrap();
        rig.reencrypt("old").unwrap();
        // As if it had been killed before it took that away.
        fs::write(rig.journal(), journal).unwrap();
        assert!(rig.opens_with("new") && !rig.opens_with("old"));
    }

    #[test]
    fn what_is_not_whole_stays_as_it_is() {
        let rig = Rig::new();
        let mut bytes = fs::read(&rig.path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        for bad in [bytes.clone(), bytes[..bytes.len() - 1].to_vec(), bytes[..2060].to_vec()] {
            fs::write(&rig.path, &bad).unwrap();
            let error = rig.reencrypt("old").unwrap_err();
            assert!(matches!(error, ReencryptFileError::Decrypt(_)), "{error}");
            assert_eq!(rig.bytes(), [(rig.path.clone(), bad)]);
        }
    }

    #[test]
    fn what_has_another_name_or_another_user_stays_as_it_is() {
        let rig = Rig::new();
        let before = rig.bytes();
        fs::hard_link(&rig.path, rig.folder.join("other-name")).unwrap();
        let error = rig.reencrypt("old").unwrap_err();
        assert!(matches!(error, ReencryptFileError::OtherNames { names: 2 }), "{error}");
        fs::remove_file(rig.folder.join("other-name")).unwrap();

        let other = fs::File::open(&rig.path).unwrap();
        rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let error = rig.reencrypt("old").unwrap_err();
        assert!(matches!(error, ReencryptFileError::Busy), "{error}");
        assert_eq!(rig.bytes(), before);
    }
}
