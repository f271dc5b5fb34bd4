//! The public keys of an issuer (RFC 7517, RFC 7518 section 6), and what each may
//! verify.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

/// How a token may be signed: with one key of two, and nothing of what two sides
/// share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Algorithm(jsonwebtoken::Algorithm);

use jsonwebtoken::Algorithm as Jose;

const ALGORITHMS: [(&str, Jose, Kind); 9] = [
    ("RS256", Jose::RS256, Kind::Rsa),
    ("RS384", Jose::RS384, Kind::Rsa),
    ("RS512", Jose::RS512, Kind::Rsa),
    ("PS256", Jose::PS256, Kind::Rsa),
    ("PS384", Jose::PS384, Kind::Rsa),
    ("PS512", Jose::PS512, Kind::Rsa),
    ("ES256", Jose::ES256, Kind::P256),
    ("ES384", Jose::ES384, Kind::P384),
    ("EdDSA", Jose::EdDSA, Kind::Ed25519),
];

/// What a key is. An algorithm takes keys of one kind only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Algorithm {
    /// Those of these names.
    pub(super) fn all_of(names: &[String]) -> Result<Vec<Self>, String> {
        let find = |name: &String| {
            let row = ALGORITHMS.iter().find(|(known, ..)| known == name);
            row.map(|row| Self(row.1)).ok_or_else(|| {
                let known: Vec<_> = ALGORITHMS.iter().map(|row| row.0).collect();
                format!("algorithms has {name:?}, which is none of {}", known.join(", "))
            })
        };
        match names {
            [] => Err("algorithms is empty: leave it out for RS256".to_owned()),
            names => names.iter().map(find).collect(),
        }
    }

    /// As `alg` has it.
    pub(super) fn name(self) -> &'static str {
        self.row().0
    }

    fn kind(self) -> Kind {
        self.row().2
    }

    fn row(self) -> &'static (&'static str, Jose, Kind) {
        let row = ALGORITHMS.iter().find(|row| row.1 == self.0);
        row.expect("it was made of a row")
    }
}

/// The keys that can be used.
pub(super) struct KeySet {
    keys: Vec<Key>,
}

/// A public key that verifies signatures.
pub(super) struct Key {
    id: Option<String>,
    kind: Kind,
    /// The only one that it is for, if the issuer says so.
    algorithm: Option<String>,
    key: DecodingKey,
}

/// A key as it is published. What it has beside this does not matter here.
#[derive(Deserialize)]
struct Published {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    /// Whose tokens it signs (Entra ID), where the document is for all tenants.
    issuer: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// No issuer has as many.
const MAX_KEYS: usize = 200;

impl KeySet {
    /// The usable keys among these. What cannot be used for these algorithms is
    /// left out, for an issuer may publish keys for other purposes.
    pub(super) fn of(
        published: Vec<Value>,
        algorithms: &[Algorithm],
        is_ours: impl Fn(&str) -> bool,
    ) -> Result<Self, String> {
        if published.len() > MAX_KEYS {
            return Err(format!("it publishes more than {MAX_KEYS} keys"));
        }
        let usable = |value| {
            let published: Published = serde_json::from_value(value).ok()?;
            let is_ours = published.issuer.as_deref().is_none_or(&is_ours);
            Key::of(&published).filter(|key| is_ours && algorithms.iter().any(|it| key.fits(*it)))
        };
        let keys: Vec<_> = published.into_iter().filter_map(usable).collect();
        match keys.is_empty() {
            true => {
                Err("it publishes no key that can be used: signing keys of at least 2048 bits \
                         (RSA) for `algorithms`"
                    .to_owned())
            }
            false => Ok(Self { keys }),
        }
    }

    /// The keys of which one may have signed a token that names this one. One that
    /// names none is fine where only one key can be meant.
    pub(super) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<&Key>, &'static str> {
        let fitting = self.keys.iter().filter(|key| key.fits(algorithm));
        let found: Vec<_> = match id {
            Some(id) => fitting.filter(|key| key.id.as_deref() == Some(id)).collect(),
            None => fitting.collect(),
        };
        match (id, found.len()) {
            (_, 0) => Err("the token is signed with a key that its issuer does not publish"),
            (None, 2..) => Err("the token names no key and its issuer has several"),
            _ => Ok(found),
        }
    }
}

impl Key {
    fn of(published: &Published) -> Option<Self> {
        let Published { kid, purpose, key_ops, alg, .. } = published;
        let signs = purpose.as_deref().is_none_or(|purpose| purpose == "sig");
        let verifies = key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let (kind, key) = material(published)?;
        let key = Self { id: kid.clone(), kind, algorithm: alg.clone(), key };
        (signs && verifies).then_some(key)
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let is_meant = self.algorithm.as_deref().is_none_or(|meant| meant == algorithm.name());
        self.kind == algorithm.kind() && is_meant
    }

    /// Whether it has signed this.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &str, signature: &str) -> bool {
        let verified =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.key, algorithm.0);
        self.fits(algorithm) && verified.unwrap_or(false)
    }
}

/// The key itself; none if it is of no kind that is known, or no good.
fn material(published: &Published) -> Option<(Kind, DecodingKey)> {
    let Published { kty, crv, x, y, .. } = published;
    match (kty.as_str(), crv.as_deref()) {
        ("RSA", _) => Some((Kind::Rsa, rsa(published)?)),
        ("EC", Some("P-256")) => Some((Kind::P256, ec(x.as_ref()?, y.as_ref()?, 32)?)),
        ("EC", Some("P-384")) => Some((Kind::P384, ec(x.as_ref()?, y.as_ref()?, 48)?)),
        ("OKP", Some("Ed25519")) => {
            let x = x.as_ref().filter(|x| bytes(x).is_some_and(|x| x.len() == 32))?;
            Some((Kind::Ed25519, DecodingKey::from_ed_components(x).ok()?))
        }
        _ => None,
    }
}

fn ec(x: &str, y: &str, length: usize) -> Option<DecodingKey> {
    let is_whole = |part: &str| bytes(part).is_some_and(|bytes| bytes.len() == length);
    (is_whole(x) && is_whole(y)).then(|| DecodingKey::from_ec_components(x, y).ok()).flatten()
}

/// An RSA key of 2048 to 8192 bits whose exponent is odd and at least 3.
fn rsa(published: &Published) -> Option<DecodingKey> {
    let (n, e) = (bytes(published.n.as_ref()?)?, bytes(published.e.as_ref()?)?);
    let (n, e) = (without_zeros(&n), without_zeros(&e));
    let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let is_good =
        (2048..=8192).contains(&bits) && is_odd(n) && is_odd(e) && e != [1] && e.len() <= 4;
    is_good.then(|| DecodingKey::from_rsa_raw_components(n, e))
}

/// Some publish a zero before a number, which RFC 7518 section 6.3.1.1 tells not to.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
