//! Finding keys on a token.

use std::fmt;

use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use twinlock_keys::Pkcs11Uri;

use crate::facts::read;
use crate::session::TokenSession;
use crate::{KeyFacts, Pkcs11Error};

/// A key's name on its token: by label, by id or by both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyName {
    pub(crate) label: Option<String>,
    pub(crate) id: Option<Vec<u8>>,
}

impl KeyName {
    /// The name of the secret key that `uri` means.
    pub(crate) fn of_secret_key(uri: &Pkcs11Uri) -> Result<Self, Pkcs11Error> {
        if uri.object_type().is_some_and(|class| class != "secret-key") {
            return Err(Pkcs11Error::misconfigured(
                "a customer KEK is an AES key: type=secret-key, or no type at all",
            ));
        }
        let name =
            Self { label: uri.object().map(str::to_owned), id: uri.id().map(<[u8]>::to_vec) };
        match (&name.label, &name.id) {
            (None, None) => Err(Pkcs11Error::misconfigured(
                "the URI does not say which key: add object=<label> or id=%<hex>",
            )),
            _ => Ok(name),
        }
    }

    fn template(&self) -> Vec<Attribute> {
        let label = self.label.iter().map(|label| Attribute::Label(label.clone().into_bytes()));
        let id = self.id.iter().map(|id| Attribute::Id(id.clone()));
        label.chain(id).collect()
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

/// The one secret key of that name. Whoever has no PIN can still put public
/// keys on a token: such a one stands in nobody's way.
pub(crate) fn find(
    token: &TokenSession,
    name: &KeyName,
) -> Result<(ObjectHandle, KeyFacts), Pkcs11Error> {
    let found = find_all(token, name)?;
    match found.as_slice() {
        [] => Err(not_found(token, name)),
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

/// The handles of every secret key of that name.
pub(crate) fn find_all(
    token: &TokenSession,
    name: &KeyName,
) -> Result<Vec<ObjectHandle>, Pkcs11Error> {
    let mut template = name.template();
    template.push(Attribute::Class(ObjectClass::SECRET_KEY));
    token.find(&template)
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

fn not_found(token: &TokenSession, name: &KeyName) -> Pkcs11Error {
    const SHOWN: usize = 8;
    let label = &token.token.label;
    let mut names: Vec<String> = match list(token) {
        Ok(keys) => keys.iter().map(|key| format!("{:?}", key.label)).collect(),
        Err(error) => return error,
    };
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let present = match (names.is_empty(), more) {
        (true, _) => "it holds no keys at all".to_owned(),
        (false, 0) => format!("it holds {}", names.join(", ")),
        (false, more) => format!("it holds {} and {more} more", names.join(", ")),
    };
    Pkcs11Error::not_found(format!("there is no secret key {name} on {label:?}; {present}"))
}

fn ambiguous(token: &TokenSession, name: &KeyName, several: &[ObjectHandle]) -> Pkcs11Error {
    let ids: Vec<String> = several
        .iter()
        .filter_map(|handle| read(token, *handle).ok())
        .map(|key| format!("id={}", key.id.iter().map(|b| format!("%{b:02X}")).collect::<String>()))
        .collect();
    Pkcs11Error::misconfigured(format!(
        "{} keys on {:?} are called {name}: add one of {} to the URI",
        several.len(),
        token.token.label,
        ids.join(", ")
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
