//! A token that is taken apart and not believed yet: a JWT in the compact form of
//! a JWS (RFC 7515 section 7.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::json;

/// The longest token that is looked at, in bytes. Those of Entra ID with two
/// hundred groups have nine thousand.
pub const MAX_TOKEN_LEN: usize = 16 * 1024;

/// A token of which nothing is verified. It is held while its issuer's keys are
/// waited for, so there is no more of it than is needed until then: whoever made it
/// up would otherwise choose how much memory that takes. JSON of many small members
/// takes a hundred times its length.
pub struct Token<'a> {
    /// What is said to have signed it.
    pub algorithm: String,
    /// Which key is said to have.
    pub key_id: Option<String>,
    /// Whose it is said to be.
    pub issuer: Option<String>,
    /// What is signed.
    pub message: &'a str,
    /// Base64url.
    pub signature: &'a str,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// When it cannot be, or asks for what is not known here; never a part of it.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > MAX_TOKEN_LEN {
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
        let issuer = issuer_in(claims).ok_or(MALFORMED)?;
        let (algorithm, key_id) = understood(header)?;
        let message = &text[..text.len() - signature.len() - 1];
        Ok(Self { algorithm, key_id, issuer, message, signature })
    }

    /// What it says, once its signature is good.
    ///
    /// # Errors
    /// When that is no JSON object whose members have names of their own.
    pub fn claims(&self) -> Result<Map<String, Value>, &'static str> {
        let claims = self.message.split_once('.').and_then(|(_, claims)| decoded(claims));
        claims.ok_or(MALFORMED)
    }
}

const MALFORMED: &str = "the claims of the token are malformed";

/// The `iss` of claims, if it is a text and there once; of all else only the syntax
/// is looked at, and nothing is kept.
fn issuer_in(claims: &str) -> Option<Option<String>> {
    #[derive(Deserialize)]
    struct Claims {
        iss: Option<String>,
    }
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice(&claims).ok().map(|Claims { iss }| iss)
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
