//! Where a secret is: never in the configuration itself.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use secrecy::SecretString;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use zeroize::Zeroizing;

/// A secret's place: `{ file = "…" }`, `{ env = "…" }`, or `{ credential = "…" }`
/// for a systemd credential (`LoadCredential=`), by its name.
///
/// A file that everybody may read is refused, as ssh refuses such a key. Its
/// group may read it, for that is how Kubernetes (`fsGroup`) and packages
/// (`root:service`, mode 0640) hand a secret to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The whole file, but for one line break at its end.
    File(PathBuf),
    /// An environment variable. The environment of a process is inherited by
    /// its children, so files are better.
    Env(String),
    /// A file of this name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl SecretSource {
    /// Reads the secret: text of at most 4096 bytes, without the line break that
    /// an editor or `echo` left at its end.
    ///
    /// # Errors
    /// When it is missing, empty, too long, not text, or readable by everybody.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        self.read_in(|name| std::env::var_os(name))
    }

    /// The file that it is in, to watch it for changes.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.path_in(|name| std::env::var_os(name))
    }

    fn path_in(&self, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Env(_) => None,
            Self::Credential(name) => {
                variable("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join(name))
            }
        }
    }

    fn read_in(
        &self,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<SecretString, SecretError> {
        let because = |problem| SecretError { source_name: self.to_string(), problem };
        let bytes = match self {
            Self::Env(name) => {
                let value = variable(name).ok_or_else(|| because(Problem::NotSet))?;
                Zeroizing::new(value.into_encoded_bytes())
            }
            Self::File(_) | Self::Credential(_) => {
                let path = self.path_in(variable).ok_or_else(|| because(Problem::NoCredentials))?;
                read_private_file(&path, MAX_SECRET_BYTES).map_err(because)?
            }
        };
        text_of(&bytes).map_err(because)
    }
}

const MAX_SECRET_BYTES: usize = 4096;

fn text_of(bytes: &[u8]) -> Result<SecretString, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::NotText)?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    match text.len() {
        0 => Err(Problem::Empty),
        1..=MAX_SECRET_BYTES => Ok(SecretString::from(text)),
        _ => Err(Problem::TooLong(MAX_SECRET_BYTES)),
    }
}

/// Reads a file that holds a secret: at most `max` bytes (and a line break) of a
/// regular file that not everybody may read.
pub(crate) fn read_private_file(path: &Path, max: usize) -> Result<Zeroizing<Vec<u8>>, Problem> {
    // Not to wait for ever on a pipe that has no writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?;
    let file = std::fs::File::from(file);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Problem::NotAFile);
    }
    if metadata.mode() & 0o007 != 0 {
        return Err(Problem::ReadableByAll(metadata.mode() & 0o777));
    }
    // Allocated at once, for what a growing vector leaves behind is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 3));
    file.take(max as u64 + 3).read_to_end(&mut bytes)?;
    match bytes.len() > max + 2 {
        true => Err(Problem::TooLong(max)),
        false => Ok(bytes),
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::Credential(name) => write!(f, "the systemd credential {name}"),
        }
    }
}

/// Why a secret could not be read, and from where.
#[derive(Debug, thiserror::Error)]
#[error("cannot take a secret from {source_name}: {problem}")]
pub struct SecretError {
    source_name: String,
    problem: Problem,
}

/// What is wrong with a file or variable that has a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("it is not set")]
    NotSet,
    #[error("CREDENTIALS_DIRECTORY is not set: is this a systemd unit with LoadCredential=?")]
    NoCredentials,
    #[error("it is not a regular file")]
    NotAFile,
    #[error(
        "everybody may read or write it (mode {0:04o}); run `chmod o= FILE`, or set \
         `defaultMode: 0440` where Kubernetes mounts it"
    )]
    ReadableByAll(u32),
    #[error("it is empty")]
    Empty,
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    #[error("it is not UTF-8 text")]
    NotText,
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

/// By hand, since derived code quotes a value of the wrong kind, and that may be
/// the secret.
struct SourceVisitor;

const KINDS: &[&str] = &["file", "env", "credential"];

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the place of a secret, one of { file = \"…\" }, { env = \"…\" }, { credential = \"…\" }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretSource, A::Error> {
        let Some(kind) = map.next_key::<String>()? else {
            return Err(de::Error::invalid_length(0, &self));
        };
        let source = match kind.as_str() {
            "file" => SecretSource::File(map.next_value()?),
            "env" => SecretSource::Env(map.next_value()?),
            "credential" => SecretSource::Credential(credential_name(map.next_value()?)?),
            _ => return Err(de::Error::unknown_field(&kind, KINDS)),
        };
        match map.next_key::<String>()? {
            None => Ok(source),
            Some(_) => Err(de::Error::custom("a secret has one place, and this names two")),
        }
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretSource, E> {
        Err(misplaced())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretSource, E> {
        Err(misplaced())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretSource, E> {
        Err(misplaced())
    }
}

fn misplaced<E: de::Error>() -> E {
    E::custom(
        "a secret does not stand in the configuration: put it into a file that only the service \
         reads, and name that here with { file = \"…\" }, or use { env = \"…\" } or \
         { credential = \"…\" }",
    )
}

fn credential_name<E: de::Error>(name: String) -> Result<String, E> {
    match name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        true => Err(E::custom("a credential is named as LoadCredential= names it, without a path")),
        false => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Holds {
        pin: SecretSource,
    }

    fn parse(text: &str) -> Result<SecretSource, String> {
        let parsed = toml_edit::de::from_str::<Holds>(text).map(|holds| holds.pin);
        parsed.map_err(|error| error.message().to_owned())
    }

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_place_is_one_of_three() {
        assert_eq!(parse("pin = { file = '/a' }"), Ok(SecretSource::File("/a".into())));
        assert_eq!(parse("pin = { env = 'A' }"), Ok(SecretSource::Env("A".to_owned())));
        let credential = SecretSource::Credential("pin".to_owned());
        assert_eq!(parse("[pin]\ncredential = 'pin'"), Ok(credential));
        for bad in ["{}", "{ file = 'a', env = 'b' }", "{ credential = '../a' }", "true", "[]"] {
            assert!(parse(&format!("pin = {bad}")).is_err(), "{bad}");
        }
        assert!(parse("pin = '1234'").unwrap_err().contains("{ file = "));
    }

    #[test]
    fn one_line_break_is_taken_off() {
        for (content, secret) in
            [("a b", "a b"), ("ab\n", "ab"), ("ab\r\n", "ab"), ("ab\n\n", "ab\n"), (" ab ", " ab ")]
        {
            let (_folder, path) = file(content.as_bytes(), 0o600);
            assert_eq!(SecretSource::File(path).read().unwrap().expose_secret(), secret);
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_and_never_shown() {
        let long = "x".repeat(MAX_SECRET_BYTES + 1);
        let longer = "x".repeat(100_000);
        for (content, mode, expected) in [
            ("", 0o600, "it is empty"),
            ("\n", 0o600, "it is empty"),
            (long.as_str(), 0o600, "longer than 4096 bytes"),
            (longer.as_str(), 0o600, "longer than 4096 bytes"),
            ("hunter2", 0o644, "everybody may read or write it (mode 0644)"),
            ("hunter2", 0o602, "everybody may read or write it"),
        ] {
            let (_folder, path) = file(content.as_bytes(), mode);
            let told = SecretSource::File(path).read().unwrap_err().to_string();
            assert!(told.contains(expected), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
        let (_folder, path) = file(b"\xff", 0o600);
        assert!(SecretSource::File(path).read().unwrap_err().to_string().contains("not UTF-8"));
        let (_folder, path) = file(&[b'x'; MAX_SECRET_BYTES], 0o640);
        assert!(SecretSource::File(path).read().is_ok());
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let (folder, path) = file(b"x", 0o600);
        let told = SecretSource::File(folder.path().to_owned()).read().unwrap_err().to_string();
        assert!(told.contains("not a regular file"), "{told}");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        let told = SecretSource::File(pipe).read().unwrap_err().to_string();
        assert!(told.contains("not a regular file"), "{told}");
        fs::remove_file(&path).unwrap();
        assert!(SecretSource::File(path).read().unwrap_err().to_string().contains("pin: "));
    }

    #[test]
    fn credentials_and_variables_are_looked_up() {
        let (folder, path) = file(b"1234\n", 0o400);
        let environment = |name: &str| match name {
            "CREDENTIALS_DIRECTORY" => Some(folder.path().as_os_str().to_owned()),
            "PIN" => Some("5678".into()),
            _ => None,
        };
        let credential = SecretSource::Credential("pin".to_owned());
        assert_eq!(credential.path_in(environment), Some(path));
        assert_eq!(credential.read_in(environment).unwrap().expose_secret(), "1234");
        let variable = SecretSource::Env("PIN".to_owned());
        assert_eq!(variable.read_in(environment).unwrap().expose_secret(), "5678");
        let told = variable.read_in(|_| None).unwrap_err().to_string();
        assert_eq!(told, "cannot take a secret from the environment variable PIN: it is not set");
        assert!(credential.read_in(|_| None).unwrap_err().to_string().contains("LoadCredential"));
    }
}
