//! Secret texts, and where they are: tokens, and what proves who we are.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use twinlock_keys::{HolderError, HolderErrorKind};
use zeroize::Zeroizing;

/// The longest credential that is read, in bytes. A service account's JWT has
/// about one KiB.
pub(crate) const MAX_CREDENTIAL_LEN: usize = 16 * 1024;

/// Where Kubernetes mounts a service account's JWT.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A secret text, or where it is: read anew whenever it is needed, so that it
/// may change.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credential {
    /// The text itself.
    Value(SecretString),
    /// In this file, with or without a line feed at the end.
    File(PathBuf),
    /// In this environment variable.
    Variable(String),
}

impl Credential {
    /// The JWT of this pod's service account, where Kubernetes mounts it.
    #[must_use]
    pub fn service_account() -> Self {
        Self::File(SERVICE_ACCOUNT.into())
    }

    pub(crate) fn read(&self, what: &str) -> Result<Zeroizing<String>, HolderError> {
        match self {
            Self::Value(text) => usable(text.expose_secret(), what, "the settings"),
            Self::File(path) => read_file(path, what),
            Self::Variable(name) => match std::env::var(name).map(Zeroizing::new) {
                Ok(text) => usable(&text, what, name),
                Err(_) => Err(misconfigured(format!("found no {what} in the variable {name}"))),
            },
        }
    }
}

/// The text in a file that holds nothing else.
pub(crate) fn read_file(path: &Path, what: &str) -> Result<Zeroizing<String>, HolderError> {
    let place = path.display().to_string();
    let cannot = |error: &std::io::Error| {
        misconfigured(format!("cannot read the {what} in {place}: {error}"))
    };
    // Asked before it is opened: to open a pipe waits for its writer.
    if !path.metadata().map_err(|error| cannot(&error))?.is_file() {
        return Err(misconfigured(format!(
            "the {what} cannot be in {place}: it is no regular file"
        )));
    }
    // As large as it may become, for what grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_CREDENTIAL_LEN + 2));
    File::open(path)
        .and_then(|file| file.take(MAX_CREDENTIAL_LEN as u64 + 2).read_to_string(&mut text))
        .map_err(|error| cannot(&error))?;
    usable(&text, what, &place)
}

/// A copy of `text` without the line feed at its end.
pub(crate) fn usable(
    text: &str,
    what: &str,
    place: &str,
) -> Result<Zeroizing<String>, HolderError> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match check(text) {
        Some(text) => Ok(Zeroizing::new(text.to_owned())),
        None => Err(misconfigured(format!(
            "the {what} in {place} is empty, too long, or no visible ASCII text"
        ))),
    }
}

/// `text` if it can be a header's value: a token is sent as one.
pub(crate) fn check(text: &str) -> Option<&str> {
    let fits = (1..=MAX_CREDENTIAL_LEN).contains(&text.len());
    (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(text)
}

fn misconfigured(message: String) -> HolderError {
    HolderError::new(HolderErrorKind::Misconfigured, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, bytes).unwrap();
        let text = Credential::File(path).read("token");
        text.map(|text| text.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_credential_is_one_line_of_visible_text() {
        assert_eq!(read(b"s.abc").unwrap(), "s.abc");
        assert_eq!(read(b"s.abc\n").unwrap(), "s.abc");
        assert_eq!(read(b"s.abc\r\n").unwrap(), "s.abc");
        assert!(read(&[b'a'; MAX_CREDENTIAL_LEN]).is_ok());
        let odd: [&[u8]; 6] =
            [b"", b"\n", b"two\nlines", b"a b", b"\xff", &[b'a'; MAX_CREDENTIAL_LEN + 1]];
        for bytes in odd {
            let error = read(bytes).unwrap_err();
            assert!(error.contains("token") && error.contains("secret"), "{error}");
            assert!(!error.contains("lines"), "{error}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        for path in ["/nowhere/at/all", "/tmp", "/dev/zero"] {
            let error = Credential::File(path.into()).read("secret id").unwrap_err();
            assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
            assert!(error.to_string().contains(path), "{error}");
        }
    }
}
