//! Where the user PIN comes from. Never from a flag's value: process listings
//! and shell histories show those.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use twinlock_keys::{Pkcs11Uri, Secret};
use zeroize::Zeroizing;

use crate::Pkcs11Error;

/// Longest PIN, in bytes.
const MAX_LEN: usize = 256;

/// Where to look for the user PIN. The first source that has one counts:
///
/// 1. the PIN that the application gave ([`PinSource::given`]);
/// 2. the URI's `pin-value`, with a warning;
/// 3. the URI's `pin-source`: a path, or `file:` and a path (`|command` is
///    refused: a URI is data and starts no programs);
/// 4. the file that the application named ([`PinSource::with_file`]);
/// 5. the environment: `TWINLOCK_PIN`, then the file that `TWINLOCK_PIN_FILE`
///    names;
/// 6. systemd's credential `twinlock-pin` (`LoadCredential=twinlock-pin:…`),
///    a file in `$CREDENTIALS_DIRECTORY`;
/// 7. a prompt on the terminal, if [`PinSource::with_prompt`] allows it.
///
/// A source that is named but cannot be read is an error, not a reason to try
/// the next. A PIN file holds the PIN and at most one trailing line break.
/// Tokens that need no login, or have a PIN pad of their own, are not asked
/// for.
///
/// Only 2 and 3 are of one token. All others are tried on every token that is
/// opened without them, and a wrong PIN costs one of few tries: whoever uses
/// several tokens gives each URI a `pin-source`.
#[derive(Clone, Default)]
pub struct PinSource {
    given: Option<SecretString>,
    file: Option<PathBuf>,
    prompt: bool,
}

impl PinSource {
    /// A PIN that the application keeps itself.
    #[must_use]
    pub fn given(pin: SecretString) -> Self {
        Self { given: Some(pin), ..Self::default() }
    }

    /// The same with a PIN file, for instance from a configuration.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// The same with a prompt on the terminal as the last source. Without the
    /// feature `prompt`, or without a terminal, nobody is asked.
    #[must_use]
    pub fn with_prompt(mut self) -> Self {
        self.prompt = true;
        self
    }

    /// Reads the PIN for the token that `uri` names. It blocks: on files, and
    /// on the person at the terminal.
    ///
    /// # Errors
    /// When no source has a PIN, or the first that should have one has none
    /// that can be used.
    pub fn read(&self, uri: &Pkcs11Uri) -> Result<SecretString, Pkcs11Error> {
        self.read_with(uri, &|name| std::env::var_os(name))
    }

    fn read_with(
        &self,
        uri: &Pkcs11Uri,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<SecretString, Pkcs11Error> {
        if let Some(pin) = &self.given {
            return Ok(pin.clone());
        }
        if let Some(pin) = from_uri(uri)? {
            return Ok(pin);
        }
        if let Some(path) = &self.file {
            return from_file(path);
        }
        if let Some(pin) = from_environment(environment)? {
            return Ok(pin);
        }
        self.ask(uri)
    }

    fn ask(&self, uri: &Pkcs11Uri) -> Result<SecretString, Pkcs11Error> {
        match self.prompt {
            true => prompt(uri).unwrap_or_else(|| Err(no_pin(uri))),
            false => Err(no_pin(uri)),
        }
    }
}

/// Says which sources there are, never what is in them.
impl fmt::Debug for PinSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinSource")
            .field("given", &self.given.is_some())
            .field("file", &self.file)
            .field("prompt", &self.prompt)
            .finish()
    }
}

fn from_uri(uri: &Pkcs11Uri) -> Result<Option<SecretString>, Pkcs11Error> {
    match (uri.pin_value(), uri.pin_source()) {
        // RFC 7512 section 2.4: a URI with both should be refused.
        (Some(_), Some(_)) => Err(Pkcs11Error::misconfigured(
            "the URI has both pin-source and pin-value; keep pin-source",
        )),
        (Some(pin), None) => {
            tracing::warn!(
                "the PIN stands in the URI (pin-value), where process listings, logs and shell \
                 histories show it; use pin-source=file:<path>"
            );
            checked(pin, "the URI's pin-value").map(Some)
        }
        (None, Some(source)) => from_file(&path_of("pin-source", source)?).map(Some),
        (None, None) => Ok(None),
    }
}

/// The file that `attribute`, such as `pin-source`, names.
pub(crate) fn path_of(attribute: &str, source: &str) -> Result<PathBuf, Pkcs11Error> {
    if source.starts_with('|') {
        return Err(Pkcs11Error::misconfigured(format!(
            "{attribute} names a command; Twinlock starts no programs for a URI. \
             Name a file: {attribute}=file:<path>"
        )));
    }
    let path = match source.strip_prefix("file:") {
        Some(path) => path.strip_prefix("//").unwrap_or(path),
        None if source.contains("://") => {
            return Err(Pkcs11Error::misconfigured(format!(
                "{attribute} is a path, or file: and a path"
            )));
        }
        None => source,
    };
    match path.is_empty() {
        true => Err(Pkcs11Error::misconfigured(format!("{attribute} names no file"))),
        false => Ok(PathBuf::from(path)),
    }
}

fn from_environment(
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<SecretString>, Pkcs11Error> {
    if let Some(value) = environment("TWINLOCK_PIN") {
        let value = value.into_string().map(Zeroizing::new).map_err(|value| {
            drop(Zeroizing::new(value.into_encoded_bytes()));
            Pkcs11Error::misconfigured("TWINLOCK_PIN is not UTF-8")
        })?;
        return checked(&value, "TWINLOCK_PIN").map(Some);
    }
    if let Some(path) = environment("TWINLOCK_PIN_FILE") {
        return from_file(Path::new(&path)).map(Some);
    }
    let credential = environment("CREDENTIALS_DIRECTORY")
        .map(|folder| Path::new(&folder).join("twinlock-pin"))
        .filter(|path| path.exists());
    credential.map(|path| from_file(&path)).transpose()
}

fn from_file(path: &Path) -> Result<SecretString, Pkcs11Error> {
    let name = format!("the PIN file {}", path.display());
    let unreadable = |error| Pkcs11Error::misconfigured(format!("{name} cannot be read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    warn_if_others_can_read(path, &file);
    // Room for a line break, and for one byte that shows the file is too long.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN + 3));
    file.take(MAX_LEN as u64 + 3).read_to_end(&mut bytes).map_err(unreadable)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Pkcs11Error::misconfigured(format!("{name} is not UTF-8")))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    checked(line.strip_suffix('\r').unwrap_or(line), &name)
}

/// A PIN worth trying: a wrong one costs one of few tries.
fn checked(pin: &str, source: &str) -> Result<SecretString, Pkcs11Error> {
    let problem = match pin.len() {
        0 => "is empty",
        1..=MAX_LEN if pin.contains(['\n', '\r', '\0']) => "has more than one line",
        1..=MAX_LEN => return Ok(SecretString::from(pin)),
        _ => "is longer than 256 bytes",
    };
    Err(Pkcs11Error::misconfigured(format!("{source} {problem}")))
}

#[cfg(unix)]
fn warn_if_others_can_read(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt as _;
    let others = file.metadata().is_ok_and(|facts| facts.permissions().mode() & 0o044 != 0);
    if others {
        tracing::warn!(path = %path.display(), "others can read the PIN file; chmod 600 it");
    }
}

#[cfg(not(unix))]
fn warn_if_others_can_read(_: &Path, _: &File) {}

/// Asks on the terminal; nothing if there is none.
#[cfg(feature = "prompt")]
fn prompt(uri: &Pkcs11Uri) -> Option<Result<SecretString, Pkcs11Error>> {
    use std::io::IsTerminal as _;
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let question = format!("PIN of the token {}: ", token_name(uri));
    let answer = rpassword::prompt_password(question).map(Zeroizing::new).ok()?;
    Some(checked(&answer, "the PIN that was typed"))
}

#[cfg(not(feature = "prompt"))]
fn prompt(_: &Pkcs11Uri) -> Option<Result<SecretString, Pkcs11Error>> {
    None
}

fn no_pin(uri: &Pkcs11Uri) -> Pkcs11Error {
    Pkcs11Error::misconfigured(format!(
        "the token {} wants a PIN and no source has one: add ?pin-source=file:<path> to its URI, \
         or set TWINLOCK_PIN_FILE or TWINLOCK_PIN, or give systemd's credential twinlock-pin",
        token_name(uri)
    ))
}

fn token_name(uri: &Pkcs11Uri) -> String {
    let name = uri.token().or(uri.serial());
    name.map_or_else(|| "of this module".to_owned(), |name| format!("{name:?}"))
}

/// A PIN for as long as a token is open: locked in memory and left out of core
/// dumps, as a [`Secret`] is.
pub(crate) struct Pin {
    pieces: Vec<Secret<PIECE_LEN>>,
    len: usize,
}

const PIECE_LEN: usize = 64;

impl Pin {
    /// A copy; the caller's is wiped when it is dropped.
    pub(crate) fn copy_of(pin: &SecretString) -> Self {
        let bytes = pin.expose_secret().as_bytes();
        let piece = |bytes: &[u8]| {
            let mut whole = Zeroizing::new([0; PIECE_LEN]);
            whole[..bytes.len()].copy_from_slice(bytes);
            Secret::copy_of(&whole)
        };
        Self { pieces: bytes.chunks(PIECE_LEN).map(piece).collect(), len: bytes.len() }
    }

    /// The PIN as a module wants it, outside of that memory: for one call.
    pub(crate) fn expose(&self) -> SecretString {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.pieces.len() * PIECE_LEN));
        self.pieces.iter().for_each(|piece| bytes.extend_from_slice(piece.expose()));
        let text = std::str::from_utf8(&bytes[..self.len]).expect("it was a string");
        SecretString::from(text)
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        let pieces = self.pieces.iter().map(|piece| Secret::copy_of(piece.expose())).collect();
        Self { pieces, len: self.len }
    }
}

impl PartialEq for Pin {
    fn eq(&self, other: &Self) -> bool {
        let pieces = self.pieces.iter().zip(&other.pieces);
        self.len == other.len
            && pieces.into_iter().all(|(one, other)| one.expose() == other.expose())
    }
}

#[cfg(test)]
mod tests;
