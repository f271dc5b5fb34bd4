//! A token that is taken apart and not believed yet: a JWT in the compact form of
//! a JWS (RFC 7515 section 7.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::json;

/// The longest token that is looked at, in bytes. Those of Entra ID with two
/// hundred groups have nine thousand.
const MAX_TOKEN: usize = 16 * 1024;

/// A token of which nothing is verified.
pub(super) struct Token<'a> {
    /// What is said to have signed it.
    pub(super) algorithm: String,
    /// Which key is said to have.
    pub(super) key_id: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// What is signed.
    pub(super) message: &'a str,
    /// Base64url.
    pub(super) signature: &'a str,
}

impl<'a> Token<'a> {
    /// Takes a token apart, or says what is wrong with it.
    pub(super) fn parse(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > MAX_TOKEN {
            return Err("the token is too long");
        }
        let parts: Vec<_> = text.splitn(6, '.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(match parts.len() {
                5 => "the token is encrypted",
                _ => "the token is no JWT",
            });
        };
        let header = decoded(header).ok_or("the header of the token is malformed")?;
        let claims = decoded(claims).ok_or("the claims of the token are malformed")?;
        let (algorithm, key_id) = understood(header)?;
        let message = &text[..text.len() - signature.len() - 1];
        Ok(Self { algorithm, key_id, claims, message, signature })
    }

    /// Whose token it is said to be.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }
}

fn decoded(part: &str) -> Option<Map<String, Value>> {
    json::object(&URL_SAFE_NO_PAD.decode(part).ok()?)
}

/// The algorithm and the key's id of a header that asks for nothing else.
fn understood(header: Map<String, Value>) -> Result<(String, Option<String>), &'static str> {
    // RFC 7515 section 4.1.11: what is critical has to be understood, and nothing is.
    if header.contains_key("crit") {
        return Err("the token has a critical header that is not known here");
    }
    if !header.get("typ").is_none_or(is_access_token) {
        return Err("the token is of another type than JWT");
    }
    let Some(Value::String(algorithm)) = header.get("alg") else {
        return Err("the token names no algorithm");
    };
    let key_id = match header.get("kid") {
        None => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(_) => return Err("the key id of the token is malformed"),
    };
    Ok((algorithm.clone(), key_id))
}

/// RFC 8725 section 3.11: what an issuer signs for another purpose names that.
fn is_access_token(typ: &Value) -> bool {
    let types = ["JWT", "at+jwt", "application/at+jwt"];
    typ.as_str().is_some_and(|typ| types.iter().any(|known| known.eq_ignore_ascii_case(typ)))
}
