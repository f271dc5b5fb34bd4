//! Secret texts, and where they are: tokens, and what proves who we are.

use std::env::VarError;
use std::fmt;
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
                Err(VarError::NotPresent) => Err(misconfigured(format!(
                    "found no {what} in the variable {name}: set it, or say in the profile where \
                     else it is"
                ))),
                Err(VarError::NotUnicode(_)) => Err(unusable(what, name, Flaw::NotAscii)),
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
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_CREDENTIAL_LEN + 3));
    File::open(path)
        .and_then(|file| file.take(MAX_CREDENTIAL_LEN as u64 + 3).read_to_end(&mut bytes))
        .map_err(|error| cannot(&error))?;
    line_of(&bytes).map_err(|flaw| unusable(what, &place, flaw))
}

/// A copy of `text` without the line feed at its end.
pub(crate) fn usable(
    text: &str,
    what: &str,
    place: &str,
) -> Result<Zeroizing<String>, HolderError> {
    line_of(text.as_bytes()).map_err(|flaw| unusable(what, place, flaw))
}

/// Why something is no credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Empty,
    NotAscii,
    TooLong,
}

/// `the token in … is …`
impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::NotAscii => f.write_str("no single line of visible ASCII text"),
            Self::TooLong => write!(f, "longer than {MAX_CREDENTIAL_LEN} bytes"),
        }
    }
}

/// A copy of the one line that is all there is.
pub(crate) fn line_of(bytes: &[u8]) -> Result<Zeroizing<String>, Flaw> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(Flaw::Empty);
    }
    if line.len() > MAX_CREDENTIAL_LEN {
        return Err(Flaw::TooLong);
    }
    let text = std::str::from_utf8(line).ok().and_then(check).ok_or(Flaw::NotAscii)?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn unusable(what: &str, place: &str, flaw: Flaw) -> HolderError {
    misconfigured(format!("the {what} in {place} is {flaw}: put a good one there"))
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
        let long = [b'a'; MAX_CREDENTIAL_LEN + 1];
        let odd: [(&[u8], Flaw); 7] = [
            (b"", Flaw::Empty),
            (b"\n", Flaw::Empty),
            (b"two\nlines", Flaw::NotAscii),
            (b"a b", Flaw::NotAscii),
            (b"\xff", Flaw::NotAscii),
            (&long, Flaw::TooLong),
            (&[b'a'; 8 * MAX_CREDENTIAL_LEN], Flaw::TooLong),
        ];
        for (bytes, flaw) in odd {
            let error = read(bytes).unwrap_err();
            assert!(error.contains("token") && error.contains("secret"), "{error}");
            assert!(error.contains(&flaw.to_string()), "{error}");
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
