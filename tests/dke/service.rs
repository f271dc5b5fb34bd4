//! The service, its token, its issuer, and how a client talks to it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::client::{self, Answer, Authority, PublicKey};
use super::issuer::{ALICE, ISSUER, Issuer, TENANT, Token};
use crate::support::cli::Dir;
use crate::support::http::Message;
use crate::support::kind::Kind;
use crate::support::p11_fault::CountedModule;
pub(super) use crate::support::service::eventually;
use crate::support::service::{Service, free_address};
use crate::support::softhsm::{PIN, SoftHsm, TOKEN, module, uri_in, write_private};

/// Where clients find it. No such host exists: they know its address.
pub(super) const ORIGIN: &str = "https://dke.test";
pub(super) const HOST: &str = "dke.test";

/// The ids of the key `Confidential`, the newest first.
pub(super) const NEW: &str = "8d1f2c3a-1b0e-4f57-9c6d-2a7b8e9f0c11";
pub(super) const OLD: &str = "0c9b8a7f-6e5d-4c3b-8a29-1f0e9d8c7b6a";
/// Of the other keys.
pub(super) const ONLY: &str = "only";

/// Ends with its test.
pub(super) struct Dke {
    service: Service,
    pub(super) hsm: SoftHsm,
    pub(super) issuer: Issuer,
    pub(super) authority: Authority,
    pub(super) address: SocketAddr,
}

impl Dke {
    /// A token, an issuer, and keys that Alice may use: [`Dke::config`].
    pub(super) fn start() -> Self {
        Self::with(|config| config)
    }

    /// The same with another configuration: [`Dke::config`], changed.
    pub(super) fn with(change: impl FnOnce(String) -> String) -> Self {
        let mut dke = Self::prepared();
        let config = change(dke.config());
        dke.write_config(&config);
        dke.run();
        dke.wait_until_ready();
        dke
    }

    /// Everything but the running program.
    pub(super) fn prepared() -> Self {
        Kind::of_this_run().record();
        let hsm = tokens().copy();
        let mut dir = Dir::new();
        hsm.variables().into_iter().for_each(|(name, value)| dir.set(name, value));
        let authority = Authority::new();
        authority.write(&dir.home(), HOST, 1);
        fs::write(dir.home().join("ca.pem"), authority.pem()).unwrap();
        write_private(&dir.home().join("pin"), PIN);
        let issuer = Issuer::start(&authority);
        let service = Service::new("twinlock-dke", dir);
        Self { service, hsm, issuer, authority, address: free_address() }
    }

    /// What [`Dke::start`] serves.
    pub(super) fn config(&self) -> String {
        let home = self.dir.home();
        let home = home.display();
        let token = format!("pkcs11:token={TOKEN}?module-path={}", module().display());
        let token = CountedModule::uri(&token, &module());
        let (address, operations) = (self.address, self.operations);
        let metadata = self.issuer.metadata_url();
        let mut config = format!(
            r#"
public_url = "{ORIGIN}"

[listen]
address = "{address}"
tls = {{ certificate = "{home}/server.pem", key = "{home}/server.key" }}

[operations]
address = "{operations}"

[log]
requests = "{home}/requests.jsonl"
events = "{home}/events.jsonl"

[[issuer]]
issuer = "{ISSUER}"
metadata = "{metadata}"
tenant = "{TENANT}"
scopes = ["user_impersonation"]
ca = "{home}/ca.pem"

[[hsm]]
name = "a"
token = "{token}"
pin = {{ file = "{home}/pin" }}
sessions = 2

[[key]]
name = "Confidential"
purpose = "microsoft-label"
hsms = ["a"]
cache_days = 1
generations = [
    {{ number = 2, id = "{NEW}", object = "dke-2026" }},
    {{ number = 1, id = "{OLD}", object = "dke-2025" }},
]
access = {{ users = ["{ALICE}", "*@partner.example"] }}
"#
        );
        for (name, object) in [("Other", "other"), ("Small", "rsa-2048"), ("Large", "rsa-4096")] {
            config += &key(name, object, &format!("users = [\"{ALICE}\"]"));
        }
        config
    }

    /// What it recorded of requests to decrypt, once there are so many.
    pub(super) fn recorded(&self, count: usize) -> Vec<Value> {
        let mut records = Vec::new();
        eventually("the requests are recorded", || {
            records = self.records();
            records.retain(|record| record["operation"] == "Decrypt");
            records.len() >= count
        });
        records
    }

    // === Requests ===

    /// A request without a token.
    pub(super) fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(&Message::new(&format!("{method} {path} HTTP/1.1"), &[("host", HOST)], b""))
    }

    pub(super) fn public_key(&self, name: &str) -> PublicKey {
        PublicKey::of(&self.ask("GET", &format!("/{name}")).ok().body)
    }

    /// The plaintext of a ciphertext, asked for by Alice.
    pub(super) fn decrypt(&self, key: &PublicKey, ciphertext: &[u8]) -> Answer {
        self.decrypt_with(&Token::of(ALICE), key, ciphertext)
    }

    pub(super) fn decrypt_with(&self, token: &Token, key: &PublicKey, ciphertext: &[u8]) -> Answer {
        self.send(&decrypt_request(&token.signed(), &path_of(&key.id), ciphertext))
    }

    /// Any body to the newest generation of `Confidential`, from Alice.
    pub(super) fn post(&self, body: &[u8]) -> Answer {
        self.send(&post(&Token::of(ALICE).signed(), &confidential(NEW), body))
    }

    /// A good request of the bearer of `token`, and what comes of it: 200 if the
    /// token is good.
    pub(super) fn try_token(&self, token: &str) -> Answer {
        self.send(&decrypt_request(token, &confidential(NEW), good_ciphertext()))
    }

    #[track_caller]
    pub(super) fn send(&self, request: &Message) -> Answer {
        self.try_send(request).expect("the service answers")
    }

    pub(super) fn try_send(&self, request: &Message) -> io::Result<Answer> {
        let connection = client::connect(self.address, HOST, self.authority.client())?;
        client::exchange(connection, request)
    }

    /// How often the token was asked to decrypt.
    pub(super) fn decryptions(&self) -> usize {
        self.module.count("C_DecryptInit")
    }
}

impl Deref for Dke {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for Dke {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}

/// A key with one generation, and who may use it.
pub(super) fn key(name: &str, object: &str, access: &str) -> String {
    format!(
        r#"
[[key]]
name = "{name}"
purpose = "microsoft-label"
hsms = ["a"]
generations = [{{ number = 1, id = "{ONLY}", object = "{object}" }}]
access = {{ {access} }}
"#
    )
}

/// Where a generation of `Confidential` decrypts.
pub(super) fn confidential(id: &str) -> String {
    format!("/Confidential/{id}/decrypt")
}

/// Where a client sends its request, by what the service said that the key is.
pub(super) fn path_of(key_id: &str) -> String {
    let path = key_id.strip_prefix(ORIGIN).expect("it is where it said that it is");
    format!("{path}/decrypt")
}

pub(super) fn decrypt_request(token: &str, path: &str, ciphertext: &[u8]) -> Message {
    post(token, path, decrypt_body(ciphertext).to_string().as_bytes())
}

pub(super) fn decrypt_body(ciphertext: &[u8]) -> Value {
    json!({ "alg": "RSA-OAEP-256", "value": BASE64_STANDARD.encode(ciphertext) })
}

pub(super) fn post(token: &str, path: &str, body: &[u8]) -> Message {
    let headers = [
        ("host", HOST),
        ("content-type", "application/json"),
        ("authorization", &format!("Bearer {token}")),
    ];
    Message::new(&format!("POST {path} HTTP/1.1"), &headers, body)
}

/// A token with all keys. It takes a while to make them, so it is copied.
fn tokens() -> &'static SoftHsm {
    static TOKENS: OnceLock<SoftHsm> = OnceLock::new();
    TOKENS.get_or_init(|| {
        let hsm = SoftHsm::with_token();
        let mut dir = Dir::new();
        hsm.variables().into_iter().for_each(|(name, value)| dir.set(name, value));
        for label in ["dke-2026", "dke-2025", "other", "spare"] {
            let uri = uri_in(hsm.folder(), label);
            dir.run(["keys", "create", "--type", "rsa-3072", &uri]).ok();
        }
        hsm.add_rsa_2048("rsa-2048");
        dir.run(["keys", "create", "--type", "rsa-4096", &uri_in(hsm.folder(), "rsa-4096")]).ok();
        hsm
    })
}

/// What somebody encrypted under the newest generation of `Confidential`, which is
/// the same in each test.
fn good_ciphertext() -> &'static [u8] {
    static CIPHERTEXT: OnceLock<Vec<u8>> = OnceLock::new();
    CIPHERTEXT.get_or_init(|| {
        // Who logs in to a SoftHSM writes to it, and others copy the original.
        let hsm = tokens().copy();
        let mut dir = Dir::new();
        hsm.variables().into_iter().for_each(|(name, value)| dir.set(name, value));
        dir.run(["keys", "export-public", "-o", "key.pem", &uri_in(hsm.folder(), "dke-2026")]).ok();
        let key = ["pkeyutl", "-encrypt", "-pubin", "-inkey", "key.pem"];
        let options = client::OAEP.iter().flat_map(|option| ["-pkeyopt", option]);
        client::openssl(&dir.work(), &key.into_iter().chain(options).collect::<Vec<_>>(), b"x")
    })
}

/// Has the running service read `config`, and waits until it has.
pub(super) fn reloaded(dke: &Dke, config: &str) {
    let before = reloads(dke, "ok");
    dke.write_config(config);
    dke.signal(rustix::process::Signal::HUP);
    eventually("the configuration is read again", || reloads(dke, "ok") > before);
}

pub(super) fn reloads(dke: &Dke, result: &str) -> f64 {
    let name = format!("twinlock_dke_reloads_total{{result=\"{result}\"}}");
    dke.metric(&name).unwrap_or(0.0)
}
