//! The bodies of requests to decrypt and of their answers.
//!
//! Reading is as lenient as clients in the field need and no more: the names of
//! members are taken in any case of letters and unknown members are skipped, but
//! the two that count stand there once; base64 is the standard alphabet with
//! padding, in which white space counts for nothing.

use std::borrow::Cow;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

/// The most bytes of a body that are worth reading: a value of the largest key
/// has less than a tenth.
pub const MAX_BODY_LEN: usize = 16 * 1024;

/// The only algorithm: RSA-OAEP with SHA-256 and MGF1-SHA-256 (RFC 7518 section
/// 4.3). Compared as it is written.
pub const ALGORITHM: &str = "RSA-OAEP-256";

/// A request to decrypt.
pub struct DecryptRequest {
    /// Of any length: what is none of the key's gets the key's answer.
    pub ciphertext: Vec<u8>,
}

/// Why a body is no request, for the log: nothing of it is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not JSON, not UTF-8, no object, or a member of it is not a string.
    #[error("the body is not a JSON object with the strings alg and value, each once")]
    Malformed,
    /// Another algorithm, or none.
    #[error("alg is not RSA-OAEP-256")]
    Algorithm,
    /// There is no value.
    #[error("value is missing")]
    NoValue,
    /// Not base64.
    #[error("value is not base64 (RFC 4648 section 4, padded)")]
    NotBase64,
}

impl DecryptRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is no request to decrypt.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        // Members that are skipped must be UTF-8, too.
        let text = std::str::from_utf8(body).map_err(|_| RequestError::Malformed)?;
        let members: Members<'_> =
            serde_json::from_str(text).map_err(|_| RequestError::Malformed)?;
        if members.alg.as_deref() != Some(ALGORITHM) {
            return Err(RequestError::Algorithm);
        }
        let value = members.value.ok_or(RequestError::NoValue)?;
        Ok(Self { ciphertext: decode(&value)? })
    }
}

impl fmt::Debug for DecryptRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecryptRequest({} bytes)", self.ciphertext.len())
    }
}

/// True if a `Content-Type` says that a body is JSON in UTF-8.
#[must_use]
pub fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|it| it.eq_ignore_ascii_case("application/json"));
    is_json && parts.all(|parameter| !is_other_charset(parameter))
}

fn is_other_charset(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let value = value.trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8")
}

/// The body of the answer to a request to decrypt.
#[must_use]
pub fn plaintext_body(plaintext: &[u8]) -> Zeroizing<Vec<u8>> {
    const BEGIN: &[u8] = b"{\"value\":\"";
    const END: &[u8] = b"\"}";
    // At once, for what a growing vector leaves behind is not wiped.
    let len = plaintext.len().div_ceil(3) * 4;
    let mut body = Zeroizing::new(vec![0; BEGIN.len() + len + END.len()]);
    body[..BEGIN.len()].copy_from_slice(BEGIN);
    let value = &mut body[BEGIN.len()..BEGIN.len() + len];
    BASE64_STANDARD.encode_slice(plaintext, value).expect("there is room for it");
    body[BEGIN.len() + len..].copy_from_slice(END);
    body
}

/// The two members that count.
#[derive(Default)]
struct Members<'a> {
    alg: Option<Cow<'a, str>>,
    value: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        let (mut has_alg, mut has_value) = (false, false);
        while let Some(Text(name)) = map.next_key()? {
            let (known, member) = match name {
                _ if name.eq_ignore_ascii_case("alg") => (&mut has_alg, &mut members.alg),
                _ if name.eq_ignore_ascii_case("value") => (&mut has_value, &mut members.value),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            // Whose reader takes the first, and whose the last?
            if std::mem::replace(known, true) {
                return Err(de::Error::custom("a member stands there twice"));
            }
            *member = map.next_value::<Option<Text<'de>>>()?.map(|Text(text)| text);
        }
        Ok(members)
    }
}

/// A string: a piece of the body, unless it has escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Characters;

        impl<'de> Visitor<'de> for Characters {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Characters)
    }
}

fn decode(value: &str) -> Result<Vec<u8>, RequestError> {
    const WHITE: [char; 4] = [' ', '\t', '\r', '\n'];
    let value = match value.contains(WHITE) {
        true => Cow::Owned(value.replace(WHITE, "")),
        false => Cow::Borrowed(value),
    };
    BASE64_STANDARD.decode(&*value).map_err(|_| RequestError::NotBase64)
}

#[cfg(test)]
mod tests;
