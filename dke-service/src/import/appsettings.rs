//! The settings of Microsoft's sample, as far as they say who may do what.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::comments;
use crate::json;

/// Why nothing was made of a settings file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotImported(String);

impl NotImported {
    pub(super) fn of(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// What the sample is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSettings {
    pub(super) tenant: Option<String>,
    pub(super) issuers: Vec<String>,
    pub(super) audience: Option<String>,
    pub(super) authorization: Option<String>,
    pub(super) ldap_path: Option<String>,
    /// In the order of the file.
    pub(super) keys: Vec<Key>,
}

/// Keys of one name; the first generation is the active one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) generations: Vec<Generation>,
}

/// One entry of `TestKeys`, without its PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Generation {
    /// Which of `TestKeys`, from 0 on.
    pub(super) index: usize,
    pub(super) id: String,
    pub(super) emails: Vec<String>,
    pub(super) roles: Vec<String>,
    pub(super) cache_days: Option<u64>,
    /// Whether it has a private key.
    pub(super) has_private_key: bool,
}

impl AppSettings {
    /// Reads the text of a settings file.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, NotImported> {
        let root = &root_of(text)?;
        let azure = object(root, "AzureAd")?;
        let validation = azure.map(|it| object(it, "TokenValidationParameters")).transpose()?;
        let entries = entries_of(root)?;
        Ok(Self {
            tenant: azure.map(|azure| text_of(azure, "TenantId")).transpose()?.flatten(),
            issuers: match validation.flatten() {
                Some(validation) => texts(validation, "ValidIssuers")?,
                None => Vec::new(),
            },
            audience: text_of(root, "JwtAudience")?,
            authorization: text_of(root, "JwtAuthorization")?,
            ldap_path: match object(root, "RoleAuthorizer")? {
                Some(authorizer) => text_of(authorizer, "LDAPPath")?,
                None => None,
            },
            keys: keys(&entries)?,
        })
    }
}

/// The private key of an entry of `TestKeys`, from 0 on: DER.
pub(super) fn private_key(text: &str, index: usize) -> Result<Zeroizing<Vec<u8>>, NotImported> {
    let entries = entries_of(&root_of(text)?)?;
    let place = |problem: &str| NotImported(format!("TestKeys[{index}]: {problem}"));
    let entry = entries.get(index).ok_or_else(|| place("there is none"))?;
    let entry = entry.as_object().ok_or_else(|| place("it is no object"))?;
    let pem = text_of(entry, "PrivatePem")?.ok_or_else(|| place("it has no PrivatePem"))?;
    let body: Zeroizing<String> = Zeroizing::new(pem.split_ascii_whitespace().collect());
    let der = BASE64_STANDARD.decode(&*body).map_err(|_| place("PrivatePem is no base64"))?;
    Ok(Zeroizing::new(der))
}

fn root_of(text: &str) -> Result<Map<String, Value>, NotImported> {
    let plain = comments::without(text);
    let root: Value = serde_json::from_str(&plain).map_err(|error| {
        NotImported(format!("line {}, column {}: not JSON", error.line(), error.column()))
    })?;
    let Value::Object(root) = root else { return Err(NotImported::of("it is no JSON object")) };
    match json::object(plain.as_bytes()) {
        Some(_) => Ok(root),
        None => Err(NotImported::of("something in it is there twice")),
    }
}

fn entries_of(root: &Map<String, Value>) -> Result<Vec<Value>, NotImported> {
    let entries = list(root, "TestKeys")?;
    match entries.is_empty() {
        true => Err(NotImported::of("it has no TestKeys: is it the sample's appsettings.json?")),
        false => Ok(entries),
    }
}

/// Puts generations of one name together.
fn keys(entries: &[Value]) -> Result<Vec<Key>, NotImported> {
    let mut keys: Vec<Key> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let place = |problem: NotImported| NotImported(format!("TestKeys[{index}]: {problem}"));
        let (name, generation) = key(index, entry).map_err(place)?;
        let known = keys.iter_mut().find(|key| key.name == name);
        match known {
            Some(key) if key.generations.iter().any(|other| other.id == generation.id) => {
                return Err(NotImported(format!("two of the key {name:?} have one Id")));
            }
            Some(key) => key.generations.push(generation),
            None => keys.push(Key { name, generations: vec![generation] }),
        }
    }
    Ok(keys)
}

fn key(index: usize, entry: &Value) -> Result<(String, Generation), NotImported> {
    let entry = entry.as_object().ok_or_else(|| NotImported::of("it is no object"))?;
    let needed =
        |name: &str| text_of(entry, name)?.ok_or_else(|| NotImported(format!("it has no {name}")));
    let (name, id) = (needed("Name")?, needed("Id")?);
    let fits = |text: &str, more: &str| {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte);
        text.len() <= 64 && text.bytes().all(is_fit)
    };
    if !fits(&name, "._-") || !fits(&id, "-") {
        return Err(NotImported::of(
            "its Name or Id is none that this service takes: Name of up to 64 of A-Za-z0-9._- and \
             Id of up to 64 of A-Za-z0-9-",
        ));
    }
    let emails = texts(entry, "AuthorizedEmailAddress")?;
    if emails.iter().any(|email| email.contains(['*', '?'])) {
        return Err(NotImported::of(
            "AuthorizedEmailAddress has * or ?, which here stands for other characters",
        ));
    }
    let generation = Generation {
        index,
        id,
        emails,
        roles: texts(entry, "AuthorizedRoles")?,
        cache_days: days(entry)?,
        has_private_key: text_of(entry, "PrivatePem")?.is_some(),
    };
    Ok((name, generation))
}

/// A number, or one in quotes, as .NET reads both.
fn days(entry: &Map<String, Value>) -> Result<Option<u64>, NotImported> {
    let days = match member(entry, "CacheExpirationInDays")? {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_u64(),
    };
    days.map(Some).ok_or_else(|| NotImported::of("CacheExpirationInDays is no number of days"))
}

/// The text of that name, if there is one that is not empty.
fn text_of(object: &Map<String, Value>, name: &str) -> Result<Option<String>, NotImported> {
    match member(object, name)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|it| !it.is_empty())),
        Some(_) => Err(NotImported(format!("{name} is no text"))),
    }
}

fn texts(object: &Map<String, Value>, name: &str) -> Result<Vec<String>, NotImported> {
    let text = |value: Value| match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        _ => Err(NotImported(format!("{name} has something that is no text"))),
    };
    list(object, name)?.into_iter().map(text).collect()
}

fn list(object: &Map<String, Value>, name: &str) -> Result<Vec<Value>, NotImported> {
    match member(object, name)? {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => Ok(values.clone()),
        Some(_) => Err(NotImported(format!("{name} is no list"))),
    }
}

fn object<'a>(
    of: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Map<String, Value>>, NotImported> {
    match member(of, name)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(_) => Err(NotImported(format!("{name} is no object"))),
    }
}

/// The member of that name in any case, as .NET looks names up.
fn member<'a>(of: &'a Map<String, Value>, name: &str) -> Result<Option<&'a Value>, NotImported> {
    let mut found = of.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(NotImported(format!("{name} is there twice"))),
        (found, None) => Ok(found.map(|(_, value)| value)),
    }
}
