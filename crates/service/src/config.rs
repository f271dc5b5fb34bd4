//! One TOML file, read as a whole before the first socket opens.
//!
//! Types refuse what they do not know (`#[serde(deny_unknown_fields)]`), so a
//! misspelt key is an error and not a default. No complaint quotes the file:
//! somebody may have written a secret where it does not belong.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::de::DeserializeOwned;

mod secret;

pub(crate) use secret::read_private_file;
pub use secret::{SecretError, SecretSource};

/// The longest configuration that is read.
pub const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Reads the TOML file at `path`, of at most [`MAX_CONFIG_BYTES`].
///
/// # Errors
/// When the file cannot be read, is too long, or does not say what `T` needs.
/// The error names the file, the line, the column and the key.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    parse(&text_of(path)?, path)
}

/// Reads TOML that came from `path`.
///
/// # Errors
/// As [`read`].
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml_edit::de::from_str(text).map_err(|error| invalid(error, text, path))
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is missing, or this user may not read it.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No configuration is that long: it is another file.
    #[error("the configuration {} is longer than {MAX_CONFIG_BYTES} bytes: is it another file?", .0.display())]
    TooLong(PathBuf),
    /// TOML is UTF-8.
    #[error("the configuration {} is not UTF-8 text: is it another file?", .0.display())]
    NotText(PathBuf),
    /// It is not TOML, or has a key too many, too few or of the wrong kind.
    #[error("{}:{line}:{column}: {message}{}", path.display(), in_key(key.as_deref()))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
        /// The key or table that it is about, if that is known.
        key: Option<String>,
        /// What is wrong, without the text of the file.
        message: String,
    },
}

fn in_key(key: Option<&str>) -> String {
    key.map(|key| format!(" (in `{key}`)")).unwrap_or_default()
}

pub(crate) fn text_of(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let mut bounded = io::Read::take(file, MAX_CONFIG_BYTES + 1);
    io::Read::read_to_end(&mut bounded, &mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLong(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| ConfigError::NotText(path.to_owned()))
}

fn invalid(mut error: toml_edit::de::Error, text: &str, path: &Path) -> ConfigError {
    let (line, column) = position(text, error.span().map_or(0, |span| span.start));
    let message = error.message().trim_end().replace('\n', ", ");
    // Without its input the error tells the key instead of quoting the line.
    error.set_input(None);
    let told = error.to_string();
    let key = told.rsplit_once("\nin `").and_then(|(_, key)| key.trim_end().strip_suffix('`'));
    ConfigError::Invalid {
        path: path.to_owned(),
        line,
        column,
        key: key.map(str::to_owned),
        message,
    }
}

/// Line and column of a byte, both counted from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(byte)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read and never used")]
    struct Example {
        listen: Listen,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read and never used")]
    struct Listen {
        port: u16,
        pin: Option<SecretSource>,
    }

    fn complaint(text: &str) -> String {
        parse::<Example>(text, Path::new("x.toml")).unwrap_err().to_string()
    }

    #[test]
    fn a_complaint_says_where_and_which_key() {
        let told = complaint("[listen]\nport = 1\nprot = 2\n");
        assert!(told.starts_with("x.toml:3:1: "), "{told}");
        assert!(told.contains("`prot`") && told.contains("`port`"), "{told}");
        let told = complaint("# ü\n[listen]\nport = 70000\n");
        assert!(told.starts_with("x.toml:3:8: "), "{told}");
        assert!(told.contains("listen.port"), "{told}");
        assert!(complaint("[listen]\nport = \n").starts_with("x.toml:2:"), "{told}");
        assert!(complaint("[listen]\n").contains("missing field `port`"));
        assert!(complaint("[listen]\nport = 1\nport = 1\n").contains("duplicate key"));
    }

    #[test]
    fn no_complaint_quotes_a_secret() {
        for line in [
            "pin = 'swordfish'",
            "pin = 1234567",
            "pin = { value = 'swordfish' }",
            "pin = { file = 'a', value = 'swordfish' }",
            "pni = 'swordfish'",
            "pin = 'swordfish",
            "pin = [ 'swordfish' ]",
            "pin = 1234567.5",
        ] {
            let told = complaint(&format!("[listen]\nport = 1\n{line}\n"));
            assert!(!told.contains("swordfish") && !told.contains("1234567"), "{told}");
            assert!(told.starts_with("x.toml:3:"), "{told}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_not_read_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_CONFIG_BYTES + 1).unwrap();
        assert!(matches!(read::<Example>(file.path()), Err(ConfigError::TooLong(_))));
        fs::write(file.path(), b"\xff\xfe").unwrap();
        assert!(matches!(read::<Example>(file.path()), Err(ConfigError::NotText(_))));
        let missing = read::<Example>(&file.path().join("x")).unwrap_err();
        assert!(matches!(missing, ConfigError::Unreadable { .. }), "{missing}");
    }
}
