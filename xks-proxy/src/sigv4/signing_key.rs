use std::sync::Arc;

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sha2::digest::Update;
use zeroize::Zeroizing;

use super::{Region, SERVICE};

/// The most signing keys that are kept of one credential: those of two days and
/// of all regions that are likely.
const MAX_CACHED: usize = 16;

/// What a signing key is for: a day, a region and a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) date: [u8; 8],
    pub(super) region: Region,
    pub(super) service: &'static str,
}

impl Scope {
    pub(super) fn of_xks(date: [u8; 8], region: Region) -> Self {
        Self { date, region, service: SERVICE }
    }

    fn write(&self, out: &mut impl Update) {
        out.update(&self.date);
        for part in ["/", self.region.as_str(), "/", self.service, "/aws4_request"] {
            out.update(part.as_bytes());
        }
    }
}

/// The key of a scope, as an HMAC that took it in already. Wiped when dropped.
#[derive(Clone)]
pub(super) struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// Four HMACs below the secret (Appendix A, task 3).
    pub(super) fn derive(secret: &str, scope: &Scope) -> Self {
        let mut secret_key = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
        secret_key.extend_from_slice(b"AWS4");
        secret_key.extend_from_slice(secret.as_bytes());
        let of_date = hmac_sha256(&secret_key, &scope.date);
        let of_region = hmac_sha256(&*of_date, scope.region.as_str().as_bytes());
        let of_service = hmac_sha256(&*of_region, scope.service.as_bytes());
        Self(keyed(&*hmac_sha256(&*of_service, b"aws4_request")))
    }

    /// The signature of the string to sign (Appendix A, task 2): of a moment, a
    /// scope and the hash of a canonical request.
    pub(super) fn sign(self, moment: &[u8; 16], scope: &Scope, request: &[u8; 32]) -> [u8; 32] {
        let mut mac = self.0;
        write_string_to_sign(moment, scope, request, &mut mac);
        mac.finalize().into_bytes().into()
    }
}

pub(super) fn write_string_to_sign(
    moment: &[u8; 16],
    scope: &Scope,
    request: &[u8; 32],
    out: &mut impl Update,
) {
    out.update(b"AWS4-HMAC-SHA256\n");
    out.update(moment);
    out.update(b"\n");
    scope.write(out);
    out.update(b"\n");
    out.update(&hex_of(request));
}

/// 64 lower-case digits.
pub(super) fn hex_of(hash: &[u8; 32]) -> [u8; 64] {
    let mut digits = [0; 64];
    hex::encode_to_slice(hash, &mut digits).expect("64 digits are two for each of 32 bytes");
    digits
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = keyed(key);
    Update::update(&mut mac, message);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// The signing keys that a credential was last asked for. Only scopes of the
/// key store's regions and of today, give or take five minutes, get this far.
#[derive(Default)]
pub(super) struct SigningKeys(ArcSwap<Vec<Arc<(Scope, SigningKey)>>>);

impl SigningKeys {
    pub(super) fn of(&self, secret: &str, scope: &Scope) -> SigningKey {
        if let Some(cached) = self.0.load().iter().find(|cached| cached.0 == *scope) {
            return cached.1.clone();
        }
        let key = SigningKey::derive(secret, scope);
        let cached = Arc::new((scope.clone(), key.clone()));
        self.0.rcu(|old| {
            let newest = old.iter().skip(old.len().saturating_sub(MAX_CACHED - 1)).cloned();
            newest.chain([cached.clone()]).collect::<Vec<_>>()
        });
        key
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.load().len()
    }
}
