//! `pkcs11:` URIs, RFC 7512.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::{KeyUri, KeyUriError, Scheme, malformed, percent};

/// A PKCS#11 URI with everything it says (RFC 7512): which key, and how this
/// machine reaches it.
///
/// [`Pkcs11Uri::key_uri`] is the part that names the key and may stand in a
/// header. `Debug` leaves the PIN out.
///
/// ```
/// use twinlock_keys::Pkcs11Uri;
/// let uri: Pkcs11Uri = "pkcs11:token=Twinlock;object=archive\
///                       ?module-path=/usr/lib/softhsm/libsofthsm2.so\
///                       &pin-source=file:/run/pin".parse()?;
/// assert_eq!(uri.token(), Some("Twinlock"));
/// assert_eq!(uri.module_path(), Some("/usr/lib/softhsm/libsofthsm2.so"));
/// assert_eq!(uri.key_uri().as_str(), "pkcs11:token=Twinlock;object=archive");
/// # Ok::<(), twinlock_keys::KeyUriError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pkcs11Uri {
    token: Option<String>,
    manufacturer: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    object: Option<String>,
    id: Option<Vec<u8>>,
    object_type: Option<String>,
    slot_id: Option<u64>,
    module_path: Option<String>,
    pin_source: Option<String>,
    pin_value: Option<Zeroizing<String>>,
    public_key: Option<String>,
    spki_sha256: Option<[u8; 32]>,
}

/// Longest URI that is read from a profile or a command line, in bytes behind
/// `pkcs11:`.
const MAX_REST_LEN: usize = 4096;

impl Pkcs11Uri {
    /// Reads a URI that names one key: by `token` (or `serial`) and by
    /// `object` or `id`.
    ///
    /// # Errors
    /// When it is not well formed, names an attribute twice or one that we do
    /// not know, or does not say which key on which token.
    pub fn parse(text: &str) -> Result<Self, KeyUriError> {
        let uri = Self::parse_any(text)?;
        if uri.token.is_none() && uri.serial.is_none() {
            return Err(bad("it does not say which token: add token=<label> or serial=<number>"));
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(bad("it does not say which key: add object=<label> or id=%<hex>"));
        }
        match uri.key_uri().text.len() {
            len if len > super::MAX_LEN => Err(KeyUriError::TooLong { len }),
            _ => Ok(uri),
        }
    }

    /// Reads a URI that may name less than a key: a token, or just a module.
    ///
    /// # Errors
    /// As [`Pkcs11Uri::parse`], but nothing is required.
    pub fn parse_any(text: &str) -> Result<Self, KeyUriError> {
        let rest = text.strip_prefix(Scheme::Pkcs11.prefix()).ok_or(KeyUriError::UnknownScheme)?;
        if rest.len() > MAX_REST_LEN {
            return Err(KeyUriError::TooLong { len: text.len() });
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut uri = Self::default();
        for (name, value) in attributes(path, ';')? {
            uri.set_path_attribute(&name, value)?;
        }
        for (name, value) in attributes(query.unwrap_or_default(), '&')? {
            uri.set_query_attribute(&name, value)?;
        }
        // Escaping can make it longer than it came, and it must be readable again.
        match uri.profile_uri().len() {
            len if len > Scheme::Pkcs11.prefix().len() + MAX_REST_LEN => {
                Err(KeyUriError::TooLong { len })
            }
            _ => Ok(uri),
        }
    }

    /// The key with the label `object` on the token with the label `token`.
    #[must_use]
    pub fn of_key(token: impl Into<String>, object: impl Into<String>) -> Self {
        Self { token: Some(token.into()), object: Some(object.into()), ..Self::default() }
    }

    /// The same key, reached through the module at `path`.
    #[must_use]
    pub fn with_module_path(mut self, path: impl Into<String>) -> Self {
        self.module_path = Some(path.into());
        self
    }

    /// The same key, with its PIN in the file that `source` names.
    #[must_use]
    pub fn with_pin_source(mut self, source: impl Into<String>) -> Self {
        self.pin_source = Some(source.into());
        self
    }

    /// The same RSA key, whose public part lies in the file that `source` names
    /// and has a `SubjectPublicKeyInfo` with this SHA-256.
    #[must_use]
    pub fn with_public_key(mut self, source: impl Into<String>, spki_sha256: [u8; 32]) -> Self {
        self.public_key = Some(source.into());
        self.spki_sha256 = Some(spki_sha256);
        self
    }

    /// The key's name and how this machine reaches it, as a profile has it.
    /// A PIN in the URI is left out.
    #[must_use]
    pub fn profile_uri(&self) -> String {
        let mut text = self.key_uri().as_str().to_owned();
        if let Some(slot) = self.slot_id {
            let separator = if text.ends_with(':') { "" } else { ";" };
            text.push_str(&format!("{separator}slot-id={slot}"));
        }
        let pin = self.spki_sha256.map(|pin| hex(&pin));
        let query = [
            ("module-path", &self.module_path),
            ("pin-source", &self.pin_source),
            ("public-key", &self.public_key),
            ("spki-sha256", &pin),
        ];
        let mut separator = '?';
        for (name, value) in query {
            let Some(value) = value else { continue };
            text.push_str(&format!(
                "{separator}{name}={}",
                percent::encode(value.as_bytes(), b"/:")
            ));
            separator = '&';
        }
        text
    }

    /// The key's name, without anything that is local to this machine (module,
    /// PIN, slot) or that does not tell keys apart (`type`): attributes in a
    /// fixed order, minimally escaped.
    #[must_use]
    pub fn key_uri(&self) -> KeyUri {
        let texts = [
            ("token", &self.token),
            ("manufacturer", &self.manufacturer),
            ("model", &self.model),
            ("serial", &self.serial),
            ("object", &self.object),
        ];
        let mut parts: Vec<String> = texts
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)))
            .map(|(name, value)| format!("{name}={}", percent::encode(value.as_bytes(), b"")))
            .collect();
        if let Some(id) = &self.id {
            parts.push(format!("id={}", escape_all(id)));
        }
        KeyUri { scheme: Scheme::Pkcs11, text: format!("pkcs11:{}", parts.join(";")) }
    }

    /// The token's label.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The token's manufacturer.
    #[must_use]
    pub fn manufacturer(&self) -> Option<&str> {
        self.manufacturer.as_deref()
    }

    /// The token's model.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The token's serial number.
    #[must_use]
    pub fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    /// The key's label (`CKA_LABEL`).
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }

    /// The key's id (`CKA_ID`).
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        self.id.as_deref()
    }

    /// The key's class as RFC 7512 names it: `secret-key`, `private`, `public`.
    #[must_use]
    pub fn object_type(&self) -> Option<&str> {
        self.object_type.as_deref()
    }

    /// The slot's number on this machine. Tokens move between slots; prefer
    /// the token's label.
    #[must_use]
    pub fn slot_id(&self) -> Option<u64> {
        self.slot_id
    }

    /// The PKCS#11 module to load.
    #[must_use]
    pub fn module_path(&self) -> Option<&str> {
        self.module_path.as_deref()
    }

    /// Where the PIN is: a path, or `file:` and a path.
    #[must_use]
    pub fn pin_source(&self) -> Option<&str> {
        self.pin_source.as_deref()
    }

    /// A PIN that stands in the URI itself, where every process listing and
    /// shell history shows it. Whoever uses it warns about it.
    #[must_use]
    pub fn pin_value(&self) -> Option<&str> {
        self.pin_value.as_deref().map(String::as_str)
    }

    /// Where the public part of an RSA key is, as PEM: a path, or `file:` and a
    /// path. Whoever names it may wrap without the token.
    #[must_use]
    pub fn public_key(&self) -> Option<&str> {
        self.public_key.as_deref()
    }

    /// The SHA-256 of the RSA key's `SubjectPublicKeyInfo` (DER): the key is
    /// this one, or refused.
    #[must_use]
    pub fn spki_sha256(&self) -> Option<[u8; 32]> {
        self.spki_sha256
    }

    fn set_path_attribute(&mut self, name: &str, value: Vec<u8>) -> Result<(), KeyUriError> {
        match name {
            "token" => set_text(&mut self.token, value),
            "manufacturer" => set_text(&mut self.manufacturer, value),
            "model" => set_text(&mut self.model, value),
            "serial" => set_text(&mut self.serial, value),
            "object" => set_text(&mut self.object, value),
            "type" => set_text(&mut self.object_type, value).and_then(|()| self.check_type()),
            "id" if value.is_empty() => Err(bad("an id has at least one byte")),
            "id" => set(&mut self.id, value),
            "slot-id" => set(&mut self.slot_id, number(&value)?),
            "module-path" | "module-name" | "pin-source" | "pin-value" | "public-key"
            | "spki-sha256" => Err(bad("how a key is reached stands behind '?', separated by '&'")),
            _ => Err(bad("an attribute that Twinlock does not know stands before '?'")),
        }
    }

    fn set_query_attribute(&mut self, name: &str, value: Vec<u8>) -> Result<(), KeyUriError> {
        match name {
            "module-path" => set_text(&mut self.module_path, value),
            "pin-source" => set_text(&mut self.pin_source, value),
            "pin-value" => set(&mut self.pin_value, Zeroizing::new(text(value)?)),
            "public-key" => set_text(&mut self.public_key, value),
            "spki-sha256" => set(&mut self.spki_sha256, sha256(&value)?),
            "token" | "object" | "id" | "type" | "slot-id" | "serial" => {
                Err(bad("token, object and id stand before '?', separated by ';'"))
            }
            _ => Err(bad("an attribute that Twinlock does not know stands behind '?'")),
        }
    }

    fn check_type(&self) -> Result<(), KeyUriError> {
        match self.object_type.as_deref() {
            Some("secret-key" | "private" | "public") => Ok(()),
            _ => Err(bad("a key's type is secret-key, private or public")),
        }
    }
}

impl FromStr for Pkcs11Uri {
    type Err = KeyUriError;

    fn from_str(text: &str) -> Result<Self, KeyUriError> {
        Self::parse(text)
    }
}

impl fmt::Debug for Pkcs11Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Uri")
            .field("key", &self.key_uri().as_str())
            .field("slot_id", &self.slot_id)
            .field("module_path", &self.module_path)
            .field("pin_source", &self.pin_source)
            .field("public_key", &self.public_key)
            .field("spki_sha256", &self.spki_sha256.map(|pin| hex(&pin)))
            .finish_non_exhaustive()
    }
}

/// Splits `name=value` pairs and decodes the values (RFC 7512 section 2.3).
fn attributes(text: &str, separator: char) -> Result<Vec<(String, Vec<u8>)>, KeyUriError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(separator).map(attribute).collect()
}

fn attribute(pair: &str) -> Result<(String, Vec<u8>), KeyUriError> {
    let (name, value) = pair.split_once('=').ok_or(bad("attributes are written name=value"))?;
    if value.contains(['#', '?', ';', ' ']) || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("spaces, ';', '?', '#' and non-ASCII characters are written as %XX"));
    }
    let value = percent::decode(value).ok_or(bad("'%' is followed by two hexadecimal digits"))?;
    Ok((name.to_owned(), value))
}

fn set<T>(field: &mut Option<T>, value: T) -> Result<(), KeyUriError> {
    if field.is_some() {
        return Err(bad("an attribute stands there twice"));
    }
    *field = Some(value);
    Ok(())
}

fn set_text(field: &mut Option<String>, value: Vec<u8>) -> Result<(), KeyUriError> {
    set(field, text(value)?)
}

fn text(value: Vec<u8>) -> Result<String, KeyUriError> {
    let text = String::from_utf8(value).map_err(|_| bad("a value is not UTF-8"))?;
    if text.is_empty() || text.contains('\0') {
        return Err(bad("a value is empty or has a zero byte"));
    }
    Ok(text)
}

fn number(value: &[u8]) -> Result<u64, KeyUriError> {
    let digits = std::str::from_utf8(value).ok();
    digits
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or(bad("slot-id is a decimal number"))
}

fn sha256(value: &[u8]) -> Result<[u8; 32], KeyUriError> {
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Option<Vec<u8>> = value.iter().map(digit).collect();
    let bytes = digits.filter(|digits| digits.len() == 64).map(|digits| {
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>()
    });
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(bad("spki-sha256 is 64 hexadecimal digits: the SHA-256 of the public key"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn escape_all(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

fn bad(problem: &'static str) -> KeyUriError {
    malformed(Scheme::Pkcs11, problem)
}
