//! The protocol's JSON, which looks like JOSE and is not: the modulus is standard
//! base64, the exponent a number, `RS256` the label of a key that encrypts, and a
//! time has no zone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The labels of keys that are for this: that of the protocol, and what it does.
const KEY_ALGORITHMS: [&str; 2] = ["RS256", "RSA-OAEP-256"];

/// What a service publishes, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) modulus: Vec<u8>,
    pub(super) exponent: u64,
    pub(super) version: String,
    /// In seconds since 1970.
    pub(super) expires: Option<u64>,
}

#[derive(Deserialize)]
struct PublicKeyAnswer {
    key: PublicKey,
    cache: Option<CacheHint>,
}

#[derive(Deserialize)]
struct PublicKey {
    kty: String,
    n: String,
    e: u64,
    alg: Option<String>,
    kid: String,
}

#[derive(Deserialize)]
struct CacheHint {
    exp: Option<String>,
}

#[derive(Serialize)]
struct DecryptRequest<'a> {
    alg: &'static str,
    value: &'a str,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct DecryptAnswer {
    value: String,
}

/// What some services say beside the status.
#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
}

/// `None` for what is not of the protocol.
pub(super) fn published(body: &[u8]) -> Option<Parsed> {
    let PublicKeyAnswer { key, cache } = serde_json::from_slice(body).ok()?;
    let is_for_this = key.alg.is_none_or(|name| KEY_ALGORITHMS.contains(&name.as_str()));
    if key.kty != "RSA" || !is_for_this {
        return None;
    }
    Some(Parsed {
        modulus: BASE64.decode(key.n).ok()?,
        exponent: key.e,
        version: version_of(&key.kid)?.to_owned(),
        expires: cache.and_then(|cache| seconds_of(&cache.exp?)),
    })
}

/// The body of a request to decrypt.
pub(super) fn decrypt_request(ciphertext: &[u8]) -> Vec<u8> {
    let value = BASE64.encode(ciphertext);
    let request = DecryptRequest { alg: "RSA-OAEP-256", value: &value };
    serde_json::to_vec(&request).expect("texts become JSON")
}

/// The plaintext in an answer; `None` for what is not of the protocol.
pub(super) fn plaintext(body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let answer: DecryptAnswer = serde_json::from_slice(body).ok()?;
    BASE64.decode(answer.value.as_bytes()).ok().map(Zeroizing::new)
}

/// True if the body of a refusal names this error.
pub(super) fn is_error(body: &[u8], name: &str) -> bool {
    let error: Option<ErrorAnswer> = serde_json::from_slice(body).ok();
    error.is_some_and(|answer| answer.error == name)
}

/// The version in `https://<host>/…/<version>`. Nothing else of it counts: which
/// host and path it has is the service's view, and ours is the key's URI.
fn version_of(kid: &str) -> Option<&str> {
    let (host, path) = kid.strip_prefix("https://")?.split_once('/')?;
    let (_, version) = path.rsplit_once('/')?;
    let is_url = !host.is_empty() && kid.bytes().all(|byte| byte.is_ascii_graphic());
    let is_plain = !kid.contains(['?', '#', '@', '\\']);
    (is_url && is_plain && is_version(version)).then_some(version)
}

/// `docs/format.md`, shares: what may stand in a header as a key's version.
pub(super) fn is_version(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// Of `yyyy-MM-ddTHH:mm:ss`, which is UTC without saying so; a `Z` does no harm.
/// What makes no sense is no time, and then the key is not kept.
fn seconds_of(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let is_time = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let days = days_before(year, month) + day.checked_sub(1)?;
    is_time.then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Three numbers of so many digits each.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
        *number = is_number.then(|| part.parse().ok()).flatten()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// From 1970 to the beginning of this month.
fn days_before(year: u64, month: u64) -> u64 {
    let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    years + (1..month).map(|month| days_in(year, month)).sum::<u64>()
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

#[cfg(test)]
mod tests;
