//! Who gives out tokens: an OpenID Connect provider in this process, with the
//! claims of Entra ID.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::client::Authority;
use crate::support::http::Message;
use crate::support::proxy::{Fault, Proxy};

pub(super) const TENANT: &str = "9a3c1f0e-5d2b-4c7a-8e61-0f1d2c3b4a59";
/// Of v1.0 tokens; the slash is part of it.
pub(super) const ISSUER: &str = "https://sts.windows.net/9a3c1f0e-5d2b-4c7a-8e61-0f1d2c3b4a59/";
pub(super) const OFFICE: &str = "d3590ed6-52b3-4102-aeff-aad2292ab01c";
/// Alice's, and everybody's: what is hers alone is her name.
pub(super) const OBJECT: &str = "5b6ce0f7-7b5c-4c0d-93a5-1f8c5c2d7e10";
pub(super) const SUBJECT: &str = "wKq4n3cS0mX9vT2hL7pYfR1dGzB5jE8uAoNiVtMkZyQ";
pub(super) const ALICE: &str = "alice@example.org";

const METADATA_PATH: &str = "/.well-known/openid-configuration";
const KEYS_PATH: &str = "/discovery/keys";

/// Serves its metadata and its public keys over TLS, and can be made to fail.
pub(super) struct Issuer {
    published: Arc<Mutex<Published>>,
    server: Proxy,
    _files: Files,
}

/// What it tells whoever asks.
struct Published {
    issuer: String,
    url: String,
    keys: Vec<&'static SigningKey>,
}

impl Issuer {
    /// One that [`ISSUER`] names, and whose key is the [`first_key`].
    pub(super) fn start(authority: &Authority) -> Self {
        Self::named(authority, ISSUER)
    }

    pub(super) fn named(authority: &Authority, issuer: &str) -> Self {
        let published = Arc::new(Mutex::new(Published {
            issuer: issuer.to_owned(),
            url: String::new(),
            keys: vec![first_key()],
        }));
        let files = Files::serve(Arc::clone(&published));
        let server = Proxy::with_tls(files.address, path_of, authority.server("127.0.0.1"));
        published.lock().unwrap().url = server.url();
        Self { published, server, _files: files }
    }

    pub(super) fn metadata_url(&self) -> String {
        self.published.lock().unwrap().url.clone() + METADATA_PATH
    }

    /// Has other keys from now on.
    pub(super) fn publish(&self, keys: &[&'static SigningKey]) {
        self.published.lock().unwrap().keys = keys.to_vec();
    }

    /// How often somebody asked for its keys.
    pub(super) fn asked_for_keys(&self) -> usize {
        self.server.count(KEYS_PATH)
    }

    /// How often somebody asked for anything.
    pub(super) fn asked(&self) -> usize {
        self.server.calls().len()
    }

    /// From now on all requests meet this.
    pub(super) fn fail(&self, fault: &Fault) {
        self.server.inject(METADATA_PATH, fault.clone());
        self.server.inject(KEYS_PATH, fault.clone());
    }

    pub(super) fn heal(&self) {
        self.server.heal();
    }
}

impl Published {
    fn metadata(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "authorization_endpoint": format!("{}/oauth2/authorize", self.url),
            "token_endpoint": format!("{}/oauth2/token", self.url),
            "jwks_uri": format!("{}{KEYS_PATH}", self.url),
            "response_types_supported": ["code", "id_token", "code id_token", "token id_token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }

    fn key_set(&self) -> Value {
        json!({ "keys": self.keys.iter().map(|key| key.public()).collect::<Vec<_>>() })
    }
}

fn path_of(request: &Message) -> String {
    request.first_line.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// The two documents, without TLS, until it is dropped.
struct Files {
    address: SocketAddr,
}

impl Files {
    fn serve(published: Arc<Mutex<Published>>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let mut connection = std::io::BufReader::new(connection);
                // The proxy sends one request on each.
                let Ok(Some(request)) = Message::read(&mut connection) else { break };
                answer(&request, &published.lock().unwrap()).write(connection.get_mut()).ok();
            }
        });
        Self { address }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::net::TcpStream::connect(self.address).ok(); // without a request: it ends
    }
}

fn answer(request: &Message, published: &Published) -> Message {
    let body = match path_of(request).as_str() {
        METADATA_PATH => published.metadata(),
        KEYS_PATH => published.key_set(),
        _ => return Message::new("HTTP/1.1 404 Not Found", &[], b""),
    };
    let headers = [("content-type", "application/json; charset=utf-8")];
    Message::new("HTTP/1.1 200 OK", &headers, body.to_string().as_bytes())
}

// === Keys ===

/// What the issuer signs with.
pub(super) fn first_key() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::new("first"))
}

/// Another one, for an exchange of keys, or for somebody who has no business here.
pub(super) fn other_key() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::new("other"))
}

pub(super) struct SigningKey {
    pub(super) id: &'static str,
    pair: RsaKeyPair,
}

impl SigningKey {
    fn new(id: &'static str) -> Self {
        Self { id, pair: RsaKeyPair::generate(KeySize::Rsa2048).unwrap() }
    }

    /// As a JWK (RFC 7518 section 6.3), as Entra ID publishes it.
    fn public(&self) -> Value {
        // RFC 8017 appendix A.1.1: a head of nine bytes, the modulus, two more, 65537.
        let modulus = &self.pair.public_key().as_ref()[9..][..256];
        json!({
            "kty": "RSA", "use": "sig", "kid": self.id, "x5t": self.id,
            "n": BASE64URL.encode(modulus), "e": "AQAB",
        })
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let random = SystemRandom::new();
        self.pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).unwrap();
        signature
    }

    /// What HS256 makes of the public key, which everybody has.
    fn mac(&self, text: &str) -> Vec<u8> {
        let key = self.pair.public_key();
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_ref()).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }
}

// === Tokens ===

/// A token that is good, until something of it is changed.
#[derive(Clone)]
pub(super) struct Token {
    header: Value,
    claims: Value,
    key: &'static SigningKey,
}

impl Token {
    /// A v1.0 access token of Entra ID, for the service at [`super::service::ORIGIN`].
    pub(super) fn of(user: &str) -> Self {
        let now = now();
        let claims = json!({
            "aud": super::service::ORIGIN, "iss": ISSUER, "tid": TENANT,
            "iat": now - 10, "nbf": now - 10, "exp": now + 3600, "ver": "1.0",
            "oid": OBJECT, "sub": SUBJECT, "upn": user, "unique_name": user,
            "appid": OFFICE, "appidacr": "0", "scp": "user_impersonation",
        });
        let key = first_key();
        let header = json!({ "typ": "JWT", "alg": "RS256", "kid": key.id, "x5t": key.id });
        Self { header, claims, key }
    }

    pub(super) fn with(mut self, claim: &str, value: impl Into<Value>) -> Self {
        self.claims[claim] = value.into();
        self
    }

    pub(super) fn without(mut self, claim: &str) -> Self {
        self.claims.as_object_mut().unwrap().remove(claim).unwrap();
        self
    }

    pub(super) fn with_header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header[name] = value.into();
        self
    }

    /// Seconds from now.
    pub(super) fn at(self, claim: &str, seconds: i64) -> Self {
        self.with(claim, now() + seconds)
    }

    /// Signed by that key, which the header names.
    pub(super) fn by(mut self, key: &'static SigningKey) -> Self {
        self.key = key;
        self.with_header("kid", key.id).with_header("x5t", key.id)
    }

    /// Signed by that key, whatever the header says.
    pub(super) fn forged_by(mut self, key: &'static SigningKey) -> Self {
        self.key = key;
        self
    }

    pub(super) fn signed(&self) -> String {
        let text = self.to_sign();
        let signature = self.key.sign(&text);
        format!("{text}.{}", BASE64URL.encode(signature))
    }

    /// `alg: none` (RFC 7519 section 6).
    pub(super) fn unsigned(self) -> String {
        self.with_header("alg", "none").to_sign() + "."
    }

    /// HS256 with the public key as the secret, which some verifiers fell for.
    pub(super) fn with_a_mac(self) -> String {
        let token = self.with_header("alg", "HS256");
        let text = token.to_sign();
        let mac = token.key.mac(&text);
        format!("{text}.{}", BASE64URL.encode(mac))
    }

    fn to_sign(&self) -> String {
        let part = |value: &Value| BASE64URL.encode(value.to_string());
        format!("{}.{}", part(&self.header), part(&self.claims))
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}
