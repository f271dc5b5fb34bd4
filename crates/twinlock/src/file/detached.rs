//! Files whose header is a file of its own (format.md, "Detached headers").

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{OutputFile, check_free_space, decrypt_to, encrypt_to, folder_of};
use crate::{DecryptError, Decryptor, Encryptor, read_detached_header};

/// As [`encrypt_file`](super::encrypt_file), with the header in the new file
/// `header` and the payload alone in `to`.
///
/// A header that is there is never overwritten, whatever `overwrite` says of
/// the payload: it may be the only way into another one.
///
/// # Errors
/// As [`encrypt_file`](super::encrypt_file), and when `header` exists.
pub fn encrypt_file_detached(
    encryptor: Encryptor,
    from: &Path,
    to: &Path,
    header: &Path,
    overwrite: bool,
) -> io::Result<u64> {
    let encryptor = encryptor.detached();
    let input = File::open(from)?;
    let metadata = input.metadata()?;
    if let Some(len) = encryptor.envelope_len(metadata.len()) {
        check_free_space(folder_of(to), len)?;
    }
    let mut header = OutputFile::create_like(header, false, metadata.clone())?;
    header.write_all(encryptor.header())?;
    let mut output = OutputFile::create_like(to, overwrite, metadata)?;
    let len = encrypt_to(encryptor, input, &mut output)?;
    commit_detached(header, output)?;
    Ok(len)
}

/// Puts a header and its payload at their places. The header comes first: a
/// payload without it would be lost.
///
/// # Errors
/// When one of them cannot be put there. Neither is there then, and what the
/// payload would have replaced still is.
pub fn commit_detached(header: OutputFile, payload: OutputFile) -> io::Result<()> {
    let (header_path, payload_path) = (header.path.clone(), payload.path.clone());
    header.commit()?;
    let done = match is_same_file(&header_path, &payload_path) {
        true => Err(io::Error::other("the header and the payload need files of their own")),
        false => payload.commit(),
    };
    if done.is_err() {
        // Of no use to anybody: its payload does not exist.
        let _ = fs::remove_file(&header_path);
    }
    done
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// As [`decrypt_file`](super::decrypt_file), with the header in the file
/// `header` and the payload alone in `from`.
///
/// # Errors
/// As [`decrypt_file`](super::decrypt_file), and when `header` is more than a
/// header or `from` is not its payload.
pub async fn decrypt_file_detached(
    decryptor: &Decryptor,
    header: &Path,
    from: &Path,
    to: &Path,
    overwrite: bool,
) -> Result<u64, DecryptError> {
    let input = File::open(from)?;
    let metadata = input.metadata()?;
    let header = read_detached_header(&mut File::open(header)?)?;
    let envelope = decryptor.open(header).await?.detached();
    decrypt_to(&envelope, input, metadata, to, overwrite)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::testing::MemoryHolder;
    use crate::{CustomerKey, EncryptionContext, PayloadError, ProviderKey, ReadHeaderError};

    struct Rig {
        folder: tempfile::TempDir,
        provider: ProviderKey,
        customer: CustomerKey,
    }

    impl Rig {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("plain"), b"attack at dawn").unwrap();
            Self {
                folder,
                provider: ProviderKey::new(MemoryHolder::provider("p")).unwrap(),
                customer: CustomerKey::new(MemoryHolder::customer("c")).unwrap(),
            }
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.folder.path().join(name)
        }

        fn encrypt(&self, to: &str, header: &str, overwrite: bool) -> io::Result<u64> {
            let builder = Encryptor::builder(self.provider.clone(), self.customer.clone());
            let encryptor = builder.prepare().now_or_never().unwrap().unwrap();
            let [from, to, header] = ["plain", to, header].map(|name| self.path(name));
            encrypt_file_detached(encryptor, &from, &to, &header, overwrite)
        }

        fn decrypt(&self, header: &str, payload: &str) -> Result<Vec<u8>, DecryptError> {
            let decryptor = Decryptor::expecting(EncryptionContext::new())
                .provider(self.provider.clone())
                .customer(self.customer.clone());
            let [header, payload, out] = [header, payload, "out"].map(|name| self.path(name));
            let done = decrypt_file_detached(&decryptor, &header, &payload, &out, true);
            done.now_or_never().unwrap()?;
            Ok(fs::read(out).unwrap())
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.folder.path()).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_payload_opens_with_its_header_only() {
        let rig = Rig::new();
        assert_eq!(rig.encrypt("a", "a.h", false).unwrap(), 14);
        rig.encrypt("b", "b.h", false).unwrap();
        assert_eq!(rig.decrypt("a.h", "a").unwrap(), b"attack at dawn");
        let error = rig.decrypt("b.h", "a").unwrap_err();
        assert!(
            matches!(error, DecryptError::Payload(PayloadError::OtherEnvelope { .. })),
            "{error}"
        );
        fs::write(rig.path("more"), [fs::read(rig.path("a.h")).unwrap(), vec![0]].concat())
            .unwrap();
        let error = rig.decrypt("more", "a").unwrap_err();
        assert!(matches!(error, DecryptError::Header(ReadHeaderError::Trailing { .. })), "{error}");
    }

    #[test]
    fn a_header_that_is_there_stays_and_so_does_the_payload() {
        let rig = Rig::new();
        rig.encrypt("a", "a.h", false).unwrap();
        let kept = || ["a", "a.h"].map(|name| fs::read(rig.path(name)).unwrap());
        let before = kept();
        let error = rig.encrypt("a", "a.h", true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        // A payload that must not be replaced leaves no new header either.
        assert!(rig.encrypt("a", "new.h", false).is_err());
        assert_eq!(kept(), before);
        assert_eq!(rig.names(), ["a", "a.h", "plain"]);
    }

    #[test]
    fn one_name_for_both_makes_neither() {
        let rig = Rig::new();
        for overwrite in [false, true] {
            rig.encrypt("same", "same", overwrite).unwrap_err();
            assert_eq!(rig.names(), ["plain"]);
        }
    }
}
