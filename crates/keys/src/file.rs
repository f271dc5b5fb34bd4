//! A KEK in a local file: for development only, because whoever reads the file
//! holds the key.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use zeroize::Zeroizing;

use crate::{
    BoxFuture, HolderError, HolderErrorKind, KeyHolder, KeyUri, Scheme, Secret, Share,
    ShareAlgorithm, WrapContext, WrappedShare,
};

const FIRST_WORD: &str = "twinlock-file-kek-v1 ";
const NONCE_LEN: usize = 12;
const SHARE_LEN: usize = 32;
const TAG_LEN: usize = 16;

/// A KEK in a file: one line, `twinlock-file-kek-v1` and 64 hexadecimal
/// digits, readable by its owner only.
///
/// It stands in for a real holder on a developer's machine and proves nothing:
/// each use to encrypt warns about it.
///
/// ```
/// use twinlock_keys::{FileKek, KeyUri, ProviderKey};
/// # let folder = tempfile::tempdir()?;
/// # let text = format!("file://{}/dev.kek", folder.path().display());
/// let uri: KeyUri = text.parse()?; // for instance file:///home/me/dev.kek
/// FileKek::create(&uri)?;
/// let provider = ProviderKey::new(FileKek::open(&uri)?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FileKek {
    uri: KeyUri,
    key: Secret<32>,
}

/// Why a file KEK was not created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateFileKekError {
    /// The file could not be written.
    #[error("cannot create the key file {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said; an existing file is never overwritten.
        source: io::Error,
    },
    /// The URI is not of the scheme `file`.
    #[error("{0} does not name a file")]
    NotAFile(KeyUri),
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] crate::RandomnessError),
}

impl FileKek {
    /// Makes a new random KEK in the file that `uri` names. The file must not
    /// exist; only its owner may read it.
    ///
    /// # Errors
    /// When `uri` names no file, or the file exists or cannot be written.
    pub fn create(uri: &KeyUri) -> Result<(), CreateFileKekError> {
        let path = uri.file_path().ok_or_else(|| CreateFileKekError::NotAFile(uri.clone()))?;
        let key = Secret::<32>::random()?;
        let mut line = Zeroizing::new(String::with_capacity(FIRST_WORD.len() + 65));
        line.push_str(FIRST_WORD);
        for byte in key.expose() {
            for digit in [byte >> 4, byte & 15] {
                line.push(char::from_digit(digit.into(), 16).expect("four bits are one digit"));
            }
        }
        line.push('\n');
        write_new_private(&path, line.as_bytes())
            .map_err(|source| CreateFileKekError::Io { path: path.display().to_string(), source })
    }

    /// Reads the KEK from the file that `uri` names.
    ///
    /// # Errors
    /// When there is no such file, it is not a regular file or not a KEK file,
    /// or others than its owner can read it.
    pub fn open(uri: &KeyUri) -> Result<Self, HolderError> {
        let path = match (uri.scheme(), uri.file_path()) {
            (Scheme::File, Some(path)) => path,
            _ => return Err(misconfigured(format!("{uri} does not name a file"))),
        };
        let mut file = open_regular(&path)?;
        refuse_if_others_can_read(&path, &file)?;
        let mut text = Zeroizing::new([0u8; 128]);
        let len = read_up_to(&mut file, &mut *text).map_err(|error| cannot_read(&path, &error))?;
        let key = parse_kek(&text[..len]).ok_or_else(|| {
            misconfigured(format!(
                "{} is not a key file; make one with `twinlock keys create {uri}`",
                path.display()
            ))
        })?;
        Ok(Self { uri: uri.clone(), key })
    }

    fn wrap(&self, share: &Share, aad: &[u8]) -> Result<WrappedShare, HolderError> {
        let mut bytes = vec![0u8; NONCE_LEN + SHARE_LEN + TAG_LEN];
        let (nonce, rest) = bytes.split_at_mut(NONCE_LEN);
        let (text, tag) = rest.split_at_mut(SHARE_LEN);
        getrandom::fill(nonce).map_err(|error| {
            HolderError::new(HolderErrorKind::Failed, format!("no random bytes: {error}"))
        })?;
        let nonce: [u8; NONCE_LEN] = nonce.try_into().expect("split to this length");
        text.copy_from_slice(share.expose());
        let made = self
            .cipher()
            .encrypt_inout_detached(&Nonce::from(nonce), aad, text.into())
            .expect("32 bytes are far below the limit of GCM");
        tag.copy_from_slice(&made);
        Ok(WrappedShare::new(ShareAlgorithm::HolderAead, bytes))
    }

    fn unwrap(&self, wrapped: &WrappedShare, aad: &[u8]) -> Result<Share, HolderError> {
        let refused = || HolderError::invalid_ciphertext("the file's key does not open this share");
        let bytes = wrapped.bytes();
        let ours = wrapped.algorithm() == ShareAlgorithm::HolderAead;
        if !ours || bytes.len() != NONCE_LEN + SHARE_LEN + TAG_LEN {
            return Err(refused());
        }
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>().expect("checked above");
        let (text, tag) = rest.split_first_chunk::<SHARE_LEN>().expect("checked above");
        let tag: [u8; TAG_LEN] = tag.try_into().expect("checked above");
        let mut share = Zeroizing::new(*text);
        self.cipher()
            .decrypt_inout_detached(
                &Nonce::from(*nonce),
                aad,
                share.as_mut_slice().into(),
                &Tag::from(tag),
            )
            .map_err(|_| refused())?;
        Ok(Share::copy_of(&share))
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(self.key.expose().into())
    }
}

impl KeyHolder for FileKek {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        Box::pin(async move { self.wrap(share, context.aad()) })
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(async move { self.unwrap(wrapped, context.aad()) })
    }
}

fn write_new_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn open_regular(path: &Path) -> Result<File, HolderError> {
    // Asked before it is opened: to open a pipe waits for its writer.
    let facts = std::fs::metadata(path).map_err(|error| cannot_read(path, &error))?;
    if !facts.is_file() {
        return Err(misconfigured(format!("the key file {} is no regular file", path.display())));
    }
    File::open(path).map_err(|error| cannot_read(path, &error))
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn parse_kek(text: &[u8]) -> Option<Secret<32>> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix(FIRST_WORD)?.trim_end_matches(['\r', '\n']);
    let mut key = Zeroizing::new([0u8; 32]);
    if digits.len() != 2 * key.len() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(Secret::copy_of(&key))
}

#[cfg(unix)]
fn refuse_if_others_can_read(path: &Path, file: &File) -> Result<(), HolderError> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = file.metadata().map_err(|error| cannot_read(path, &error))?.mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(misconfigured(format!(
        "others than its owner can use the key file {path} (mode {mode:03o}); run: chmod 600 {path}",
        path = path.display(),
        mode = mode & 0o777,
    )))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "one signature on all systems")]
fn refuse_if_others_can_read(_path: &Path, _file: &File) -> Result<(), HolderError> {
    Ok(())
}

fn cannot_read(path: &Path, error: &io::Error) -> HolderError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => HolderErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => HolderErrorKind::Denied,
        _ => HolderErrorKind::Misconfigured,
    };
    HolderError::new(kind, format!("cannot read the key file {}: {error}", path.display()))
}

fn misconfigured(message: String) -> HolderError {
    HolderError::new(HolderErrorKind::Misconfigured, message)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::Side;

    fn new_kek(folder: &Path, name: &str) -> KeyUri {
        let uri = KeyUri::parse(&format!("file://{}/{name}", folder.display())).expect("a URI");
        FileKek::create(&uri).expect("a new key");
        uri
    }

    fn context(aad: u8) -> WrapContext {
        WrapContext::new(Side::Provider, "v1/provider/00".into(), vec![aad; 66], Vec::new())
    }

    fn unwrap(kek: &FileKek, wrapped: &WrappedShare, aad: u8) -> Result<[u8; 32], HolderErrorKind> {
        let result = kek.unwrap_key(wrapped, &context(aad)).now_or_never().expect("never waits");
        result.map(|share| *share.expose()).map_err(|error| error.kind())
    }

    #[test]
    fn a_share_opens_under_its_key_and_context_only() {
        let folder = tempfile::tempdir().unwrap();
        let kek = FileKek::open(&new_kek(folder.path(), "one")).unwrap();
        let other = FileKek::open(&new_kek(folder.path(), "two")).unwrap();
        let share = Share::random().unwrap();
        let wrapped = kek.wrap_key(&share, &context(1)).now_or_never().unwrap().unwrap();
        assert_eq!(unwrap(&kek, &wrapped, 1), Ok(*share.expose()));
        assert_eq!(unwrap(&kek, &wrapped, 2), Err(HolderErrorKind::InvalidCiphertext));
        assert_eq!(unwrap(&other, &wrapped, 1), Err(HolderErrorKind::InvalidCiphertext));
    }

    #[test]
    fn every_flip_and_every_length_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let kek = FileKek::open(&new_kek(folder.path(), "kek")).unwrap();
        let share = Share::random().unwrap();
        let wrapped = kek.wrap_key(&share, &context(1)).now_or_never().unwrap().unwrap();
        let altered = |bytes: Vec<u8>| WrappedShare::new(ShareAlgorithm::HolderAead, bytes);
        for bit in 0..wrapped.bytes().len() * 8 {
            let mut bytes = wrapped.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unwrap(&kek, &altered(bytes), 1), Err(HolderErrorKind::InvalidCiphertext));
        }
        for len in (0..wrapped.bytes().len()).chain([wrapped.bytes().len() + 1]) {
            let mut bytes = wrapped.bytes().to_vec();
            bytes.resize(len, 0);
            assert_eq!(unwrap(&kek, &altered(bytes), 1), Err(HolderErrorKind::InvalidCiphertext));
        }
    }

    #[test]
    fn an_existing_key_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let uri = new_kek(folder.path(), "kek");
        assert!(matches!(FileKek::create(&uri), Err(CreateFileKekError::Io { .. })));
        FileKek::open(&uri).unwrap();
    }

    fn kind_of_opening(folder: &Path, content: &[u8], mode: u32) -> HolderErrorKind {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join("odd");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let uri = KeyUri::parse(&format!("file://{}", path.display())).unwrap();
        FileKek::open(&uri).err().expect("refused").kind()
    }

    #[cfg(unix)]
    #[test]
    fn odd_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let line = |digits: &str| format!("{FIRST_WORD}{digits}\n").into_bytes();
        let cases = [
            (Vec::new(), 0o600),
            (line("abcd"), 0o600),
            (vec![0xff; 86], 0o600),
            (line(&"+1".repeat(32)), 0o600),
            (line(&"ab".repeat(60)), 0o600),
            (line(&"ab".repeat(32)), 0o640),
        ];
        for (content, mode) in cases {
            let kind = kind_of_opening(folder.path(), &content, mode);
            assert_eq!(kind, HolderErrorKind::Misconfigured, "{content:?}");
        }
        for odd in ["/dev/zero".to_owned(), folder.path().display().to_string()] {
            let uri = KeyUri::parse(&format!("file://{odd}")).unwrap();
            let error = FileKek::open(&uri).err().unwrap();
            assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
            assert!(error.to_string().ends_with("is no regular file"), "{error}");
        }
        let missing = KeyUri::parse(&format!("file://{}/none", folder.path().display())).unwrap();
        assert_eq!(FileKek::open(&missing).err().unwrap().kind(), HolderErrorKind::NotFound);
    }
}
