//! Finding keys on a token.

use std::fmt;

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use twinlock_keys::Pkcs11Uri;

use crate::facts::read;
use crate::session::TokenSession;
use crate::{KeyFacts, KeyKind, Pkcs11Error};

/// A key's name on its token: by label, by id or by both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyName {
    /// The only class that it can be of, if it is known.
    pub(crate) class: Option<KekClass>,
    pub(crate) label: Option<String>,
    pub(crate) id: Option<Vec<u8>>,
    /// Which key it has to be, if that is known: the SPKI's SHA-256 of an RSA key.
    /// Tokens do not look for that; what was found for one is not another's.
    pub(crate) public: Option<[u8; 32]>,
}

/// The classes of objects that KEKs are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KekClass {
    /// AES keys.
    Secret,
    /// RSA keys.
    Private,
}

impl KekClass {
    fn of(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Aes | KeyKind::OtherSecret => Self::Secret,
            KeyKind::EcPrivate | KeyKind::OtherPrivate | KeyKind::RsaPrivate => Self::Private,
        }
    }

    fn object_class(self) -> ObjectClass {
        match self {
            Self::Secret => ObjectClass::SECRET_KEY,
            Self::Private => ObjectClass::PRIVATE_KEY,
        }
    }

    /// RFC 7512's word for it.
    fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret-key",
            Self::Private => "private",
        }
    }
}

impl KeyName {
    /// The name of the KEK that `uri` means.
    pub(crate) fn of_kek(uri: &Pkcs11Uri) -> Result<Self, Pkcs11Error> {
        let class = match uri.object_type() {
            None => None,
            Some("secret-key") => Some(KekClass::Secret),
            Some("private") => Some(KekClass::Private),
            Some(_) => {
                return Err(Pkcs11Error::misconfigured(
                    "a customer KEK is an AES key (type=secret-key) or an RSA key (type=private); \
                     no type is needed",
                ));
            }
        };
        let (label, id) = (uri.object().map(str::to_owned), uri.id().map(<[u8]>::to_vec));
        let name = Self { class, label, id, public: None };
        match (&name.label, &name.id) {
            (None, None) => Err(Pkcs11Error::misconfigured(
                "the URI does not say which key: add object=<label> or id=%<hex>",
            )),
            _ => Ok(name),
        }
    }

    /// The same for the key that it turned out to be.
    pub(crate) fn of_found(mut self, key: &KeyFacts) -> Self {
        self.class = Some(KekClass::of(key.kind));
        let is_rsa = key.kind == KeyKind::RsaPrivate;
        let public = is_rsa.then(|| key.public_key().ok()).flatten();
        self.public = public.map(|key| key.spki_sha256());
        self
    }

    fn template(&self) -> Vec<Attribute> {
        let label = self.label.iter().map(|label| Attribute::Label(label.clone().into_bytes()));
        let id = self.id.iter().map(|id| Attribute::Id(id.clone()));
        let class = self.class.map(|class| Attribute::Class(class.object_class()));
        label.chain(id).chain(class).collect()
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.label, &self.id) {
            (Some(label), None) => write!(f, "{label:?}"),
            (Some(label), Some(id)) => write!(f, "{label:?} with id {}", hex(id)),
            (None, Some(id)) => write!(f, "with id {}", hex(id)),
            (None, None) => f.write_str("without a name"),
        }
    }
}

/// The one key of that name. Whoever has no PIN can still put public keys (those
/// that need none) on a token: such a one stands in nobody's way.
pub(crate) fn find(
    token: &TokenSession,
    name: &KeyName,
) -> Result<(ObjectHandle, KeyFacts), Pkcs11Error> {
    let found = find_all(token, name)?;
    match found.as_slice() {
        [] => Err(missing(token, name)),
        [handle] => Ok((*handle, read(token, *handle)?)),
        several => one_private(token, several)?.ok_or_else(|| ambiguous(token, name, several)),
    }
}

/// The only one of `several` that is not public.
fn one_private(
    token: &TokenSession,
    several: &[ObjectHandle],
) -> Result<Option<(ObjectHandle, KeyFacts)>, Pkcs11Error> {
    let mut private = Vec::new();
    for handle in several {
        let facts = read(token, *handle)?;
        if !facts.is_public() {
            private.push((*handle, facts));
        }
    }
    let only = private.pop().filter(|_| private.is_empty());
    Ok(only)
}

/// The handles of every secret and private key of that name.
pub(crate) fn find_all(
    token: &TokenSession,
    name: &KeyName,
) -> Result<Vec<ObjectHandle>, Pkcs11Error> {
    let found = token.find(&name.template())?;
    if name.class.is_some() {
        return Ok(found);
    }
    let mut keys = Vec::new();
    for handle in found {
        if is_of_kek_class(token, handle)? {
            keys.push(handle);
        }
    }
    Ok(keys)
}

/// False for public keys, certificates and whatever else has a label.
fn is_of_kek_class(token: &TokenSession, handle: ObjectHandle) -> Result<bool, Pkcs11Error> {
    let class = token
        .session
        .get_attributes(handle, &[AttributeType::Class])
        .map_err(|error| Pkcs11Error::of_call(error, "read the key's attributes"))?;
    let of_keks = [KekClass::Secret, KekClass::Private];
    Ok(of_keks.iter().any(|kek| class == [Attribute::Class(kek.object_class())]))
}

/// Every secret and private key. One that cannot be read does not hide the
/// others.
pub(crate) fn list(token: &TokenSession) -> Result<Vec<KeyFacts>, Pkcs11Error> {
    let mut handles = token.find(&[Attribute::Class(ObjectClass::SECRET_KEY)])?;
    handles.extend(token.find(&[Attribute::Class(ObjectClass::PRIVATE_KEY)])?);
    let readable = handles.into_iter().filter_map(|handle| {
        let facts = read(token, handle);
        facts
            .inspect_err(|error| tracing::warn!(%error, "a key cannot be read and is left out"))
            .ok()
    });
    Ok(readable.collect())
}

/// Why there is no such key: perhaps nobody is logged in any more, by whatever
/// somebody else has done since the search began.
fn missing(token: &TokenSession, name: &KeyName) -> Pkcs11Error {
    let still_there = token.check_login().and_then(|()| list(token));
    match still_there {
        Ok(keys) => not_found(token, name, &keys),
        Err(error) => error,
    }
}

fn not_found(token: &TokenSession, name: &KeyName, keys: &[KeyFacts]) -> Pkcs11Error {
    const SHOWN: usize = 8;
    let label = &token.token.label;
    let mut names: Vec<String> = keys.iter().map(|key| format!("{:?}", key.label)).collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let present = match (names.is_empty(), more) {
        (true, _) => "it holds no keys at all".to_owned(),
        (false, 0) => format!("it holds {}", names.join(", ")),
        (false, more) => format!("it holds {} and {more} more", names.join(", ")),
    };
    Pkcs11Error::not_found(format!("there is no key {name} on {label:?}; {present}"))
}

fn ambiguous(token: &TokenSession, name: &KeyName, several: &[ObjectHandle]) -> Pkcs11Error {
    let keys: Vec<KeyFacts> =
        several.iter().filter_map(|handle| read(token, *handle).ok()).collect();
    let ids: Vec<String> = keys.iter().map(|key| apart(key, &keys)).collect();
    Pkcs11Error::misconfigured(format!(
        "{} keys on {:?} are called {name}: add one of {} to the URI",
        several.len(),
        token.token.label,
        ids.join(", ")
    ))
}

/// What in a URI means `key`, and none of the `others`.
fn apart(key: &KeyFacts, others: &[KeyFacts]) -> String {
    if others.iter().filter(|other| other.id == key.id).count() > 1 {
        return format!("type={}", KekClass::of(key.kind).name());
    }
    format!("id={}", key.id.iter().map(|byte| format!("%{byte:02X}")).collect::<String>())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
