//! The program, with a SoftHSM of its own behind the module that injects faults.

use std::fs;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::signed::Signer;
use crate::support::cli::Dir;
use crate::support::http::{self, Message};
use crate::support::p11_fault::CountedModule;
pub(super) use crate::support::service::eventually;
use crate::support::service::{Service, beside_ours, free_address};
use crate::support::softhsm::{PIN, SoftHsm, TOKEN, module, uri_in, write_private};
use crate::support::tls::Authority;

pub(super) const ID: &str = "TWINLOCKTESTSAAAAAAA";
pub(super) const SECRET: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
pub(super) const PATH: &str = "/tenant-a/kms/xks/v1";

/// Ends with its test.
pub(crate) struct Proxy {
    service: Service,
    pub(super) hsm: SoftHsm,
    pub(crate) address: SocketAddr,
}

/// An answer, its body read as JSON where it is that.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) text: String,
    pub(super) content_type: String,
}

impl Proxy {
    /// One token, one key store, and in it the key `k` over the object `key-1`.
    pub(super) fn start() -> Self {
        Self::with(|config| config)
    }

    /// The same with TLS, for those who show a certificate.
    pub(crate) fn asking_for_certificates() -> Self {
        let authority = Authority::trusted();
        let [ca, certificate, key] =
            [authority.certificate(), authority.server_certificate(), authority.server_key()];
        let [ca, certificate, key] = [ca.display(), certificate.display(), key.display()];
        let tls = format!(
            "tls = {{ certificate = \"{certificate}\", key = \"{key}\", \
             client = {{ ca = \"{ca}\", subjects = [\"kms.example.com\"] }} }}"
        );
        Self::with(|config| config.replace("plain_http = true", &tls))
    }

    /// The same with another configuration: [`Proxy::config`], changed.
    pub(super) fn with(change: impl FnOnce(String) -> String) -> Self {
        let mut proxy = Self::prepared();
        let config = change(proxy.config());
        proxy.write_config(&config);
        proxy.run();
        proxy.wait_until_ready();
        proxy
    }

    /// Everything but the running program.
    pub(super) fn prepared() -> Self {
        let hsm = SoftHsm::with_token();
        let mut dir = Dir::new();
        hsm.variables().into_iter().for_each(|(name, value)| dir.set(name, value));
        for label in ["key-1", "key-2", "health"] {
            dir.run(["keys", "create", &uri_in(hsm.folder(), label)]).ok();
        }
        fs::create_dir(dir.home().join("state")).unwrap();
        write_private(&dir.home().join("secret"), SECRET);
        write_private(&dir.home().join("pin"), PIN);
        Self { service: Service::new("twinlock-xks", dir), hsm, address: free_address() }
    }

    /// What [`Proxy::start`] serves.
    pub(super) fn config(&self) -> String {
        let home = self.dir.home();
        let home = home.display();
        let token = format!("pkcs11:token={TOKEN}?module-path={}", module().display());
        let token = CountedModule::uri(&token, &module());
        format!(
            r#"
state_directory = "{home}/state"

[listen]
address = "{}"
plain_http = true

[operations]
address = "{}"

[log]
requests = "{home}/requests.jsonl"
events = "{home}/events.jsonl"

[[hsm]]
name = "a"
token = "{token}"
pin = {{ file = "{home}/pin" }}
sessions = 2
health_key = "health"

[[key_store]]
path = "/tenant-a"
regions = ["eu-central-1"]
deadline_ms = 5000

[[key_store.credential]]
access_key_id = "{ID}"
secret_access_key = {{ file = "{home}/secret" }}

[[key_store.key]]
id = "k"
hsms = ["a"]
generations = [{{ number = 1, object = "key-1" }}]
"#,
            self.address, self.operations
        )
    }

    /// What it recorded of the request of that id, which it does in a moment.
    pub(super) fn record(&self, request_id: &str) -> Value {
        let mut found = Value::Null;
        eventually("the request is recorded", || {
            let mut records = self.records_with(request_id);
            let is_it = |record: &Value| record["kms_request_id"] == request_id;
            found = records.drain(..).find(is_it).unwrap_or(Value::Null);
            !found.is_null()
        });
        found
    }

    // === Requests ===

    pub(super) fn signer(&self) -> Signer {
        Signer::new(ID, SECRET)
    }

    /// Sends a signed request to `operation`, such as `keys/k/encrypt`.
    pub(super) fn ask(&self, operation: &str, body: &Value) -> Answer {
        self.send(&self.post(operation, body))
    }

    pub(super) fn post(&self, operation: &str, body: &Value) -> Message {
        let path = format!("{PATH}/{operation}");
        self.signer().post(&self.address.to_string(), &path, body.to_string().as_bytes())
    }

    #[track_caller]
    pub(super) fn send(&self, request: &Message) -> Answer {
        self.try_send(request).expect("the proxy answers")
    }

    pub(super) fn try_send(&self, request: &Message) -> std::io::Result<Answer> {
        Ok(Answer::of(&http::exchange(self.address, request)?))
    }

    pub(super) fn encrypt(&self, plaintext: &[u8]) -> Answer {
        self.ask("keys/k/encrypt", &encrypt_request(plaintext))
    }

    /// Decrypts what an Encrypt of [`encrypt_request`] answered.
    pub(super) fn decrypt(&self, encrypted: &Answer) -> Answer {
        self.ask("keys/k/decrypt", &decrypt_request(&encrypted.body))
    }
}

impl Deref for Proxy {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for Proxy {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}

impl Answer {
    fn of(message: &Message) -> Self {
        let status = message.first_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let text = String::from_utf8_lossy(&message.body).into_owned();
        Self {
            status: status.unwrap(),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            content_type: message.header("content-type").unwrap_or_default().to_owned(),
            text,
        }
    }

    #[track_caller]
    pub(super) fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.text);
        self
    }

    /// The name of the error that it is.
    #[track_caller]
    pub(super) fn error(&self) -> &str {
        assert_ne!(self.status, 200, "{}", self.text);
        self.body["errorName"].as_str().unwrap()
    }
}

pub(super) const AAD: &str = "cHJvamVjdD1uaWxl";

pub(super) fn metadata() -> Value {
    json!({
        "awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
        "kmsKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/1234abcd",
        "kmsOperation": "Encrypt",
        "kmsRequestId": request_id(),
    })
}

/// Another one each time.
fn request_id() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("request-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(super) fn encrypt_request(plaintext: &[u8]) -> Value {
    json!({
        "requestMetadata": metadata(),
        "plaintext": base64(plaintext),
        "additionalAuthenticatedData": AAD,
        "encryptionAlgorithm": "AES_GCM",
    })
}

pub(super) fn decrypt_request(encrypted: &Value) -> Value {
    let mut request = encrypted.clone();
    let fields = request.as_object_mut().unwrap();
    fields.remove("ciphertextDataIntegrityValue");
    fields.insert("requestMetadata".to_owned(), metadata());
    fields.insert("additionalAuthenticatedData".to_owned(), AAD.into());
    fields.insert("encryptionAlgorithm".to_owned(), "AES_GCM".into());
    request
}

pub(super) fn xks_program() -> PathBuf {
    beside_ours("twinlock-xks")
}

/// The alphabet and the padding of RFC 4648 section 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// The names of the files in a folder.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
