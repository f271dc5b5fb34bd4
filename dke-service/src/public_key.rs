//! A public key, as clients are told it.

use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Serialize;
use twinlock_service::log::Timestamp;

/// A key's public part, as it is published.
#[derive(Clone, Copy, Debug)]
pub struct PublicKeyResponse<'a> {
    /// The modulus, big-endian, without leading zeros.
    pub modulus: &'a [u8],
    /// The public exponent.
    pub exponent: u32,
    /// The URL to which `/decrypt` is added.
    pub kid: &'a str,
    /// Until when clients may keep it; if nothing, they ask each time.
    pub expires: Option<SystemTime>,
}

impl PublicKeyResponse<'_> {
    /// The body. It looks like a JSON Web Key and is none: `n` is base64 as `value`
    /// has it, `e` a number, and `alg` says what clients expect and not what the
    /// key does.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            key: Key<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            cache: Option<Cache>,
        }
        #[derive(Serialize)]
        struct Key<'a> {
            kty: &'static str,
            n: String,
            e: u32,
            alg: &'static str,
            kid: &'a str,
        }
        #[derive(Serialize)]
        struct Cache {
            exp: String,
        }
        let n = BASE64_STANDARD.encode(self.modulus);
        let key = Key { kty: "RSA", n, e: self.exponent, alg: "RS256", kid: self.kid };
        let cache = self.expires.map(|expires| Cache { exp: moment(expires) });
        serde_json::to_vec(&Body { key, cache }).expect("strings and a number become JSON")
    }
}

/// The end of a time of so many days from `now` on.
#[must_use]
pub fn expiry(now: SystemTime, days: u32) -> SystemTime {
    now + Duration::from_secs(u64::from(days) * 24 * 60 * 60)
}

/// UTC without saying so: `2020-11-21T21:15:55`.
fn moment(time: SystemTime) -> String {
    let mut text = Timestamp(time).to_string();
    text.truncate("2020-11-21T21:15:55".len());
    text
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// Facts of the protocol, one by one: alphabet, number, label, order, no `Z`.
    #[test]
    fn a_public_key_is_published_as_clients_expect_it() {
        let response = PublicKeyResponse {
            modulus: &[0xFB, 0xFF, 0xBF, 1],
            exponent: 65537,
            kid: "https://dke.example.org/k/1",
            expires: Some(UNIX_EPOCH + Duration::from_millis(1_605_993_355_999)),
        };
        assert_eq!(
            String::from_utf8(response.body()).unwrap(),
            r#"{"key":{"kty":"RSA","n":"+/+/AQ==","e":65537,"alg":"RS256","kid":"https://dke.example.org/k/1"},"cache":{"exp":"2020-11-21T21:15:55"}}"#
        );
        let uncached = PublicKeyResponse { expires: None, ..response };
        assert_eq!(
            String::from_utf8(uncached.body()).unwrap(),
            r#"{"key":{"kty":"RSA","n":"+/+/AQ==","e":65537,"alg":"RS256","kid":"https://dke.example.org/k/1"}}"#
        );
    }

    #[test]
    fn a_cache_ends_whole_days_from_now() {
        let now = UNIX_EPOCH + Duration::from_secs(1_605_993_355);
        assert_eq!(moment(expiry(now, 1)), "2020-11-22T21:15:55");
        assert_eq!(moment(expiry(now, 3650)), "2030-11-19T21:15:55");
    }
}
