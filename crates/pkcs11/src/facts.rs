//! What a token says about its keys.

use std::fmt;

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use twinlock_keys::KeyUri;

use crate::session::TokenSession;
use crate::{Pkcs11Error, RsaPublicKey, TokenFacts};

/// A key on a token, as its attributes describe it. An attribute that the
/// token does not tell is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyFacts {
    /// Its token's label.
    pub token: String,
    /// Its name as a header has it: the token's label, and the key's label or
    /// else its id. `None` for a key that has neither.
    pub uri: Option<KeyUri>,
    /// `CKA_LABEL`
    pub label: String,
    /// `CKA_ID`
    pub id: Vec<u8>,
    /// `CKA_CLASS` and `CKA_KEY_TYPE`
    pub kind: KeyKind,
    /// Its size in bits.
    pub bits: Option<u64>,
    /// `CKA_PRIVATE`: invisible without login.
    pub private: Option<bool>,
    /// `CKA_SENSITIVE`: its bytes cannot be read.
    pub sensitive: Option<bool>,
    /// `CKA_ALWAYS_SENSITIVE`
    pub always_sensitive: Option<bool>,
    /// `CKA_EXTRACTABLE`: it can leave the token, wrapped under another key.
    pub extractable: Option<bool>,
    /// `CKA_NEVER_EXTRACTABLE`
    pub never_extractable: Option<bool>,
    /// `CKA_LOCAL`: it was generated on the token.
    pub local: Option<bool>,
    /// `CKA_ENCRYPT`
    pub encrypt: Option<bool>,
    /// `CKA_DECRYPT`
    pub decrypt: Option<bool>,
    /// `CKA_WRAP`
    pub wrap: Option<bool>,
    /// `CKA_UNWRAP`
    pub unwrap: Option<bool>,
    /// `CKA_SIGN`
    pub sign: Option<bool>,
    /// `CKA_DERIVE`
    pub derive: Option<bool>,
    /// `CKA_ALLOWED_MECHANISMS` of an RSA key: all that it may be used with, where
    /// the token tells and it is not everything.
    pub allowed_mechanisms: Option<Vec<String>>,
    /// `CKA_MODULUS`, without leading zeros.
    pub(crate) modulus: Option<Vec<u8>>,
    /// `CKA_PUBLIC_EXPONENT`
    pub(crate) exponent: Option<Vec<u8>>,
    /// True if its token wants a PIN before it shows private keys.
    pub(crate) login_required: bool,
}

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// A secret key for AES.
    Aes,
    /// A private key for elliptic curves.
    EcPrivate,
    /// Another private key.
    OtherPrivate,
    /// Another secret key.
    OtherSecret,
    /// A private key for RSA.
    RsaPrivate,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes => "AES",
            Self::EcPrivate => "EC private key",
            Self::OtherPrivate => "private key",
            Self::OtherSecret => "secret key",
            Self::RsaPrivate => "RSA private key",
        })
    }
}

impl KeyFacts {
    /// Why this key cannot be a customer KEK; nothing if it can. With
    /// `allow_extractable`, keys that can leave the token, or that can be used
    /// without its PIN, are good enough.
    #[must_use]
    pub fn kek_problem(&self, allow_extractable: bool) -> Option<String> {
        let yes = |fact: Option<bool>| fact == Some(true);
        let no = |fact: Option<bool>| fact == Some(false);
        if let Some(problem) = self.kind_problem() {
            return Some(problem);
        }
        if !allow_extractable && !no(self.extractable) {
            return Some("it is extractable: it can leave the token".to_owned());
        }
        if !allow_extractable && !yes(self.sensitive) {
            return Some("it is not sensitive: the token shows its bytes".to_owned());
        }
        if !allow_extractable && self.is_public() {
            return Some("it is public: no PIN is needed to use it, or to put it there".to_owned());
        }
        None
    }

    /// Refuses a key that is none for AES-256, or not safely kept; it may be for
    /// encrypting only, or for decrypting.
    pub(crate) fn check_aead(&self, allow_extractable: bool) -> Result<(), Pkcs11Error> {
        let any_use = Self { encrypt: Some(true), decrypt: Some(true), ..self.clone() };
        match (self.kind, self.bits) {
            (KeyKind::Aes, Some(256)) => any_use.check_kek(allow_extractable),
            (kind, bits) => {
                let bits = bits.map_or_else(|| "unknown".to_owned(), |bits| bits.to_string());
                Err(Pkcs11Error::misconfigured(format!(
                    "the key {:?} cannot be used: it is no AES-256 key ({kind}, {bits} bits)",
                    self.label
                )))
            }
        }
    }

    /// Refuses a key that is none for RSA, not for decrypting alone, or not safely
    /// kept.
    pub(crate) fn check_rsa(&self, allow_extractable: bool) -> Result<(), Pkcs11Error> {
        let problem = match (self.kind, self.sign) {
            (KeyKind::RsaPrivate, Some(true)) => {
                "it is for signing, too, and a signature without padding is a decryption \
                 (CKA_SIGN); create one for decrypting only"
            }
            (KeyKind::RsaPrivate, _) => return self.check_kek(allow_extractable),
            _ => "it is no RSA private key",
        };
        Err(Pkcs11Error::misconfigured(format!(
            "the key {:?} cannot be used: {problem}",
            self.label
        )))
    }

    /// Why a key of this kind, size and use cannot be a KEK.
    fn kind_problem(&self) -> Option<String> {
        let is_for = |use_: Option<bool>| use_ == Some(true);
        match (self.kind, self.bits) {
            (KeyKind::Aes, Some(256)) if is_for(self.encrypt) && is_for(self.decrypt) => None,
            (KeyKind::Aes, Some(256)) => {
                Some("it is not for both encrypting and decrypting".to_owned())
            }
            (KeyKind::RsaPrivate, _) if !is_for(self.decrypt) => {
                Some("it is not for decrypting".to_owned())
            }
            (KeyKind::RsaPrivate, _) => match &self.modulus {
                Some(modulus) => RsaPublicKey::problem(modulus, self.exponent()),
                None => Some("the token does not tell its modulus".to_owned()),
            },
            (kind, bits) => {
                let bits = bits.map_or_else(|| "unknown".to_owned(), |bits| bits.to_string());
                Some(format!("it is neither an AES-256 nor an RSA key ({kind}, {bits} bits)"))
            }
        }
    }

    /// The public part of an RSA key, of what the token says about the private
    /// one: anybody can put a public key beside it.
    pub(crate) fn public_key(&self) -> Result<RsaPublicKey, Pkcs11Error> {
        Ok(RsaPublicKey::new(self.modulus.as_deref().unwrap_or_default(), self.exponent())?)
    }

    /// A token that does not tell it has the usual one, or gives nothing back
    /// that was wrapped.
    fn exponent(&self) -> &[u8] {
        self.exponent.as_deref().filter(|exponent| !exponent.is_empty()).unwrap_or(&[1, 0, 1])
    }

    /// True for a key that is no matter of the PIN, on a token that has one.
    pub(crate) fn is_public(&self) -> bool {
        self.login_required && self.private == Some(false)
    }

    /// Refuses a key that cannot be a customer KEK.
    pub(crate) fn check_kek(&self, allow_extractable: bool) -> Result<(), Pkcs11Error> {
        let Some(problem) = self.kek_problem(allow_extractable) else { return Ok(()) };
        let hint = match self.kek_problem(true) {
            None => "; create another, or allow extractable keys if you must",
            Some(_) => "",
        };
        Err(Pkcs11Error::misconfigured(format!(
            "the key {:?} cannot be used: {problem}{hint}",
            self.label
        )))
    }
}

const ATTRIBUTES: [AttributeType; 19] = [
    AttributeType::Class,
    AttributeType::KeyType,
    AttributeType::Label,
    AttributeType::Id,
    AttributeType::ValueLen,
    AttributeType::Modulus,
    AttributeType::PublicExponent,
    AttributeType::Private,
    AttributeType::Sensitive,
    AttributeType::AlwaysSensitive,
    AttributeType::Extractable,
    AttributeType::NeverExtractable,
    AttributeType::Local,
    AttributeType::Encrypt,
    AttributeType::Decrypt,
    AttributeType::Wrap,
    AttributeType::Unwrap,
    AttributeType::Sign,
    AttributeType::Derive,
];

/// What the token says about one key.
pub(crate) fn read(token: &TokenSession, handle: ObjectHandle) -> Result<KeyFacts, Pkcs11Error> {
    let attributes = token
        .session
        .get_attributes(handle, &ATTRIBUTES)
        .map_err(|error| Pkcs11Error::of_call(error, "read the key's attributes"))?;
    let mut facts = KeyFacts::unknown(&token.token);
    let (mut class, mut key_type) = (None, None);
    for attribute in attributes {
        match attribute {
            Attribute::Class(value) => class = Some(value),
            Attribute::KeyType(value) => key_type = Some(value),
            other => facts.set(other),
        }
    }
    facts.kind = kind_of(class, key_type);
    if facts.kind == KeyKind::RsaPrivate {
        facts.allowed_mechanisms = allowed_mechanisms(token, handle);
    }
    facts.uri = uri_of(&facts);
    Ok(facts)
}

/// By itself: many tokens do not know it, and it may name what cryptoki does not.
fn allowed_mechanisms(token: &TokenSession, handle: ObjectHandle) -> Option<Vec<String>> {
    let found = token.session.get_attributes(handle, &[AttributeType::AllowedMechanisms]).ok()?;
    match found.as_slice() {
        [Attribute::AllowedMechanisms(list)] if !list.is_empty() => {
            Some(list.iter().map(ToString::to_string).collect())
        }
        _ => None,
    }
}

impl KeyFacts {
    fn unknown(token: &TokenFacts) -> Self {
        Self {
            token: token.label.clone(),
            uri: None,
            label: String::new(),
            id: Vec::new(),
            kind: KeyKind::OtherSecret,
            bits: None,
            private: None,
            sensitive: None,
            always_sensitive: None,
            extractable: None,
            never_extractable: None,
            local: None,
            encrypt: None,
            decrypt: None,
            wrap: None,
            unwrap: None,
            sign: None,
            derive: None,
            allowed_mechanisms: None,
            modulus: None,
            exponent: None,
            login_required: token.login_required,
        }
    }

    fn set(&mut self, attribute: Attribute) {
        match attribute {
            Attribute::Label(label) => self.label = String::from_utf8_lossy(&label).into_owned(),
            Attribute::Id(id) => self.id = id,
            Attribute::ValueLen(bytes) => self.bits = Some(usize::from(bytes) as u64 * 8),
            Attribute::Modulus(modulus) => {
                self.bits = Some(RsaPublicKey::bits_of(&modulus));
                self.modulus = Some(modulus);
            }
            Attribute::PublicExponent(exponent) => self.exponent = Some(exponent),
            Attribute::Private(value) => self.private = Some(value),
            Attribute::Sensitive(value) => self.sensitive = Some(value),
            Attribute::AlwaysSensitive(value) => self.always_sensitive = Some(value),
            Attribute::Extractable(value) => self.extractable = Some(value),
            Attribute::NeverExtractable(value) => self.never_extractable = Some(value),
            Attribute::Local(value) => self.local = Some(value),
            Attribute::Encrypt(value) => self.encrypt = Some(value),
            Attribute::Decrypt(value) => self.decrypt = Some(value),
            Attribute::Wrap(value) => self.wrap = Some(value),
            Attribute::Unwrap(value) => self.unwrap = Some(value),
            Attribute::Sign(value) => self.sign = Some(value),
            Attribute::Derive(value) => self.derive = Some(value),
            _ => {}
        }
    }
}

fn kind_of(class: Option<ObjectClass>, key_type: Option<KeyType>) -> KeyKind {
    match (class == Some(ObjectClass::PRIVATE_KEY), key_type) {
        (false, Some(KeyType::AES)) => KeyKind::Aes,
        (true, Some(KeyType::RSA)) => KeyKind::RsaPrivate,
        (true, Some(KeyType::EC)) => KeyKind::EcPrivate,
        (true, _) => KeyKind::OtherPrivate,
        (false, _) => KeyKind::OtherSecret,
    }
}

fn uri_of(facts: &KeyFacts) -> Option<KeyUri> {
    let escaped =
        |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let key = match (facts.label.is_empty(), facts.id.is_empty()) {
        (false, _) => format!("object={}", escaped(facts.label.as_bytes())),
        (true, false) => format!("id={}", escaped(&facts.id)),
        (true, true) => return None,
    };
    format!("pkcs11:token={};{key}", escaped(facts.token.as_bytes())).parse().ok()
}
