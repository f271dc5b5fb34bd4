//! A service account with a key of its own, and whoever checks its tokens.

use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::Refusal;

const EMAIL: &str = "files@blue.iam.gserviceaccount.com";
const KEY_ID: &str = "0123456789abcdef";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// What proves a user, or a workload of somebody else's, to the server of
/// tokens.
pub(crate) const REFRESH_TOKEN: &str = "refresh-0f1e2d3c";
pub(crate) const SUBJECT_TOKEN: &str = "subject-4b5a6978";

/// How far Google lets clocks be apart, in seconds.
const LEEWAY: i64 = 300;

/// The one account, whose key takes a moment to make.
pub(crate) fn account() -> &'static Account {
    static ACCOUNT: OnceLock<Account> = OnceLock::new();
    ACCOUNT.get_or_init(Account::new)
}

pub(crate) struct Account {
    key: RsaKeyPair,
}

impl Account {
    pub(crate) fn new() -> Self {
        Self { key: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key") }
    }

    /// Writes the key file as `gcloud iam service-accounts keys create` does.
    pub(crate) fn write(&self, path: &Path) {
        let file = json!({
            "type": "service_account",
            "project_id": "blue",
            "private_key_id": KEY_ID,
            "private_key": self.pem(),
            "client_email": EMAIL,
            "client_id": "1",
            "universe_domain": "googleapis.com",
        });
        std::fs::write(path, file.to_string()).expect("a file");
    }

    /// The middle of the private key, as the file has it.
    pub(crate) fn some_of_the_private_key(&self) -> String {
        self.pem().lines().nth(5).expect("many lines").to_owned()
    }

    fn pem(&self) -> String {
        let der: Pkcs8V1Der<'_> = self.key.as_der().expect("PKCS#8");
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    }

    /// A token of this account: a JWT that it signed itself (AIP-4111).
    pub(crate) fn token(&self, claims: &Value) -> String {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": KEY_ID });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let algorithm = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
        self.key.sign(algorithm, &rng, signed.as_bytes(), &mut signature).expect("signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Claims that are good now.
    pub(crate) fn claims() -> Value {
        let now = now();
        json!({ "iss": EMAIL, "sub": EMAIL, "scope": SCOPE, "iat": now - 10, "exp": now + 3600 })
    }

    /// What a server of tokens gives whoever has [`REFRESH_TOKEN`] (RFC 6749
    /// section 6) or [`SUBJECT_TOKEN`] (RFC 8693 section 2).
    pub(super) fn exchange(&self, body: &str) -> Result<Value, Refusal> {
        if !body.contains(REFRESH_TOKEN) && !body.contains(SUBJECT_TOKEN) {
            return Err(Refusal::new(400, "INVALID_ARGUMENT", "invalid_grant"));
        }
        Ok(json!({
            "access_token": self.token(&Self::claims()),
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 3600,
        }))
    }

    /// Lets pass what Google would, by a clock that is `ahead` seconds of ours.
    pub(super) fn check(&self, authorization: Option<&str>, ahead: i64) -> Result<(), Refusal> {
        let token = authorization.and_then(|header| header.strip_prefix("Bearer "));
        match token.and_then(|token| self.claims_of(token)).filter(|c| are_good(c, ahead)) {
            Some(_) => Ok(()),
            None => Err(Refusal::new(
                401,
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials.",
            )),
        }
    }

    fn claims_of(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        if json(header)?["alg"] != "RS256" {
            return None;
        }
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.key.public_key());
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        key.verify(signed.as_bytes(), &signature).ok()?;
        json(claims)
    }
}

fn are_good(claims: &Value, ahead: i64) -> bool {
    let now = now() + ahead;
    let time = |name: &str| claims[name].as_i64().unwrap_or_default();
    let scoped =
        claims["scope"].as_str().is_some_and(|scopes| scopes.split(' ').any(|s| s == SCOPE));
    claims["iss"] == EMAIL && scoped && time("iat") <= now + LEEWAY && now < time("exp") + LEEWAY
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the year 292277026596")
}
