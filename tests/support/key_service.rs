//! A small service of Double Key Encryption with its issuer of tokens: speaks the
//! protocol as documented, and decrypts with the `openssl` program, an
//! implementation of RSA-OAEP that is not ours.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::http::Message;

/// The client that the issuer knows.
pub(crate) const CLIENT: &str = "twinlock-tests";
pub(crate) const SECRET: &str = "client~secret+of/the=tests&%";
/// The token of a workload, from elsewhere.
pub(crate) const ASSERTION: &str = "eyJhbGciOiJub25lIn0.e30.workload";
pub(crate) const SCOPE: &str = "offline_access https://dke.test/use";
/// What every answer has as `x-request-id`.
pub(crate) const REQUEST_ID: &str = "dke-request-0001";

/// An RSA key, made by openssl.
#[derive(Clone)]
pub(crate) struct RsaKey {
    file: Arc<PathBuf>,
    /// Big-endian.
    modulus: Vec<u8>,
    exponent: u64,
    /// `sha256:` and the SHA-256 of its SubjectPublicKeyInfo.
    pub(crate) pin: String,
}

/// One service; it stops when dropped.
pub(crate) struct KeyService {
    address: SocketAddr,
    state: Arc<State>,
}

/// A key of the service: what it publishes is the first of its versions.
#[derive(Clone)]
pub(crate) struct ServedKey {
    pub(crate) versions: Vec<(String, RsaKey)>,
    pub(crate) enabled: bool,
    /// `cache.exp`
    pub(crate) expires: Option<String>,
    /// The tokens of those who may decrypt.
    pub(crate) tokens: HashSet<String>,
}

#[derive(Default)]
struct State {
    keys: Mutex<HashMap<String, ServedKey>>,
    issuer: Mutex<Issuer>,
    stopped: AtomicBool,
}

/// What the issuer has given and will take.
#[derive(Default)]
struct Issuer {
    /// Tokens that the service accepts, whoever they are of.
    good: HashSet<String>,
    given: usize,
    refresh: HashSet<String>,
    /// How often a person is waited for.
    pending: usize,
    declined: bool,
    /// In seconds.
    lifetime: u64,
}

impl RsaKey {
    /// A key of this many bits; the same `number` is the same key.
    pub(crate) fn of(number: usize) -> Self {
        static KEYS: OnceLock<Mutex<HashMap<usize, RsaKey>>> = OnceLock::new();
        let mut keys = lock(KEYS.get_or_init(Mutex::default));
        keys.entry(number).or_insert_with(|| Self::new(2048, 65537)).clone()
    }

    pub(crate) fn new(bits: u32, exponent: u64) -> Self {
        static FOLDER: OnceLock<TempDir> = OnceLock::new();
        static COUNT: Mutex<u32> = Mutex::new(0);
        let number = {
            let mut count = lock(&COUNT);
            *count += 1;
            *count
        };
        let folder = FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path();
        let file = folder.join(format!("{number}.pem"));
        let (bits, exponent_text) = (format!("rsa_keygen_bits:{bits}"), exponent.to_string());
        let exponent_option = format!("rsa_keygen_pubexp:{exponent_text}");
        let options = ["-algorithm", "RSA", "-pkeyopt", &bits, "-pkeyopt", &exponent_option];
        let pem = openssl(&[&["genpkey"][..], &options].concat(), b"");
        fs::write(&file, pem).unwrap();
        let path = file.to_str().unwrap();
        let modulus = openssl(&["rsa", "-in", path, "-noout", "-modulus"], b"");
        let digits = String::from_utf8(modulus).unwrap();
        let spki = openssl(&["pkey", "-in", path, "-pubout", "-outform", "DER"], b"");
        Self {
            modulus: hex::decode(digits.trim().strip_prefix("Modulus=").unwrap()).unwrap(),
            exponent,
            pin: format!("sha256:{}", hex::encode(Sha256::digest(spki))),
            file: Arc::new(file),
        }
    }

    /// What `ciphertext` holds; nothing if it is not of this key.
    fn decrypt(&self, ciphertext: &[u8]) -> Option<Vec<u8>> {
        let path = self.file.to_str().unwrap();
        let oaep = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"];
        let mut arguments = vec!["pkeyutl", "-decrypt", "-inkey", path];
        oaep.iter().for_each(|option| arguments.extend(["-pkeyopt", option]));
        let output = run_openssl(&arguments, ciphertext);
        output.status.success().then_some(output.stdout)
    }
}

impl ServedKey {
    pub(crate) fn new(version: &str, key: RsaKey) -> Self {
        let versions = vec![(version.to_owned(), key)];
        Self { versions, enabled: true, expires: None, tokens: HashSet::new() }
    }

    /// The same for whoever has this token.
    pub(crate) fn for_token(mut self, token: &str) -> Self {
        self.tokens.insert(token.to_owned());
        self
    }
}

impl KeyService {
    /// Starts one without keys on a free port, without TLS.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it was bound");
        let state = Arc::new(State::default());
        lock(&state.issuer).lifetime = 3600;
        let shared = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &shared));
        Self { address, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `key` as `name`, a path.
    pub(crate) fn serve(&self, name: &str, key: ServedKey) {
        lock(&self.state.keys).insert(name.to_owned(), key);
    }

    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut ServedKey)) {
        change(lock(&self.state.keys).get_mut(name).expect("it is served"));
    }

    /// Knows whoever has this token, and lets nobody do anything for that.
    pub(crate) fn know(&self, token: &str) {
        lock(&self.state.issuer).good.insert(token.to_owned());
    }

    /// Forgets all tokens that were given: they are over.
    pub(crate) fn end_tokens(&self) {
        lock(&self.state.issuer).good.clear();
    }

    /// Forgets all logins.
    pub(crate) fn end_logins(&self) {
        lock(&self.state.issuer).refresh.clear();
    }

    /// Gives tokens that are good for so long.
    pub(crate) fn give_for(&self, seconds: u64) {
        lock(&self.state.issuer).lifetime = seconds;
    }

    /// A person who takes so many questions until the login is confirmed.
    pub(crate) fn confirm_after(&self, questions: usize) {
        lock(&self.state.issuer).pending = questions;
    }

    /// A person who says no.
    pub(crate) fn decline(&self) {
        lock(&self.state.issuer).declined = true;
    }
}

impl Drop for KeyService {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).ok(); // wakes the thread that accepts
    }
}

/// What a request is called: `key`, `decrypt`, `metadata`, `token` or `device`.
pub(crate) fn operation(request: &Message) -> String {
    let (_, path) = method_and_path(request);
    match path.rsplit('/').next().unwrap_or_default() {
        "decrypt" => "decrypt",
        "openid-configuration" => "metadata",
        "token" => "token",
        "device" => "device",
        _ => "key",
    }
    .to_owned()
}

impl State {
    fn answer(&self, request: &Message) -> Message {
        let (status, body) = match operation(request).as_str() {
            "metadata" => (200, metadata(request)),
            "device" => lock(&self.issuer).device(request),
            "token" => lock(&self.issuer).token(request),
            "decrypt" => self.decrypt(request),
            _ => self.key(request),
        };
        // What other clients believe: whoever answers chooses what token it gets.
        let challenge = "Bearer resource=\"https://evil.example\", \
            authorization=\"https://evil.example/authorize\", realm=\"https://evil.example\"";
        let headers = [
            ("content-type", "application/json; charset=utf-8"),
            ("x-request-id", REQUEST_ID),
            ("www-authenticate", challenge),
        ];
        let headers = if status == 401 { &headers[..] } else { &headers[..2] };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Message::new(&format!("HTTP/1.1 {status} Answered"), headers, body.as_bytes())
    }

    fn key(&self, request: &Message) -> (u16, Value) {
        let (_, path) = method_and_path(request);
        let keys = lock(&self.keys);
        let Some(key) = keys.get(path.trim_start_matches('/')).filter(|key| key.enabled) else {
            return (400, Value::Null);
        };
        let (version, rsa) = key.versions.first().expect("it has one");
        let host = request.header("host").unwrap_or_default();
        let mut answer = json!({ "key": {
            "kty": "RSA",
            "n": BASE64.encode(&rsa.modulus),
            "e": rsa.exponent,
            "alg": "RS256",
            "kid": format!("https://{host}{path}/{version}"),
        }});
        if let Some(expires) = &key.expires {
            answer["cache"] = json!({ "exp": expires });
        }
        (200, answer)
    }

    /// Who calls comes before what is wanted.
    fn decrypt(&self, request: &Message) -> (u16, Value) {
        let bearer = request.header("authorization").and_then(|it| it.strip_prefix("Bearer "));
        let Some(token) = bearer else { return (401, Value::Null) };
        let keys = lock(&self.keys);
        let is_known = lock(&self.issuer).good.contains(token)
            || keys.values().any(|key| key.tokens.contains(token));
        if !is_known {
            return (401, Value::Null);
        }
        let (_, path) = method_and_path(request);
        let path = path.trim_start_matches('/').trim_end_matches("/decrypt");
        let Some((name, version)) = path.rsplit_once('/') else { return (404, Value::Null) };
        let Some(key) = keys.get(name) else { return (404, Value::Null) };
        if !key.enabled || !key.tokens.contains(token) {
            return (403, Value::Null);
        }
        let found = key.versions.iter().find(|(id, _)| id == version);
        let Some((_, rsa)) = found else { return (404, Value::Null) };
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let value = body["value"].as_str().and_then(|value| BASE64.decode(value).ok());
        let plaintext = value
            .filter(|_| body["alg"] == "RSA-OAEP-256")
            .and_then(|ciphertext| rsa.decrypt(&ciphertext));
        match plaintext {
            Some(plaintext) => (200, json!({ "value": BASE64.encode(plaintext) })),
            None => (400, Value::Null),
        }
    }
}

impl Issuer {
    fn device(&self, request: &Message) -> (u16, Value) {
        let form = form(&request.body);
        if form.get("client_id").map(String::as_str) != Some(CLIENT) {
            return (401, json!({ "error": "invalid_client" }));
        }
        let answer = json!({
            "device_code": "device-code", "user_code": "WDJB-MJHT", "expires_in": 600,
            "verification_uri": "https://issuer.example/device", "interval": 0,
        });
        (200, answer)
    }

    fn token(&mut self, request: &Message) -> (u16, Value) {
        let form = form(&request.body);
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let refused = |code: &str| (400, json!({ "error": code, "error_description": SECRET }));
        let by_header = format!("Basic {}", BASE64.encode(format!("{CLIENT}:{}", encoded(SECRET))));
        match field("grant_type") {
            "client_credentials" => {
                let by_secret = request.header("authorization") == Some(&by_header);
                let by_assertion = field("client_id") == CLIENT
                    && field("client_assertion") == ASSERTION
                    && field("client_assertion_type").ends_with(":jwt-bearer");
                match by_secret || by_assertion {
                    true => self.give(false),
                    false => refused("invalid_client"),
                }
            }
            "urn:ietf:params:oauth:grant-type:device_code" => match field("device_code") {
                "device-code" if self.declined => refused("access_denied"),
                "device-code" if self.pending > 0 => {
                    self.pending -= 1;
                    refused("authorization_pending")
                }
                "device-code" => self.give(true),
                _ => refused("invalid_grant"),
            },
            // Each is good once.
            "refresh_token" => match self.refresh.remove(field("refresh_token")) {
                true => self.give(true),
                false => refused("invalid_grant"),
            },
            _ => refused("unsupported_grant_type"),
        }
    }

    fn give(&mut self, with_refresh: bool) -> (u16, Value) {
        self.given += 1;
        let (token, refresh) = (token_number(self.given), format!("refresh-{}", self.given));
        self.good.insert(token.clone());
        let mut answer =
            json!({ "access_token": token, "token_type": "Bearer", "expires_in": self.lifetime });
        if with_refresh {
            answer["refresh_token"] = json!(refresh);
            self.refresh.insert(refresh);
        }
        (200, answer)
    }
}

/// The issuer's token of this number, from 1.
pub(crate) fn token_number(number: usize) -> String {
    format!("token-{number}-of-the-issuer")
}

fn metadata(request: &Message) -> Value {
    let url = format!("https://{}", request.header("host").unwrap_or_default());
    json!({
        "issuer": url,
        "token_endpoint": format!("{url}/token"),
        "device_authorization_endpoint": format!("{url}/device"),
    })
}

fn form(body: &[u8]) -> HashMap<String, String> {
    url::form_urlencoded::parse(body).into_owned().collect()
}

fn encoded(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| match unreserved(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

fn method_and_path(request: &Message) -> (&str, &str) {
    let mut words = request.first_line.split(' ');
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for connection in listener.incoming() {
        if state.stopped.load(Ordering::Relaxed) {
            return;
        }
        let state = Arc::clone(state);
        thread::spawn(move || connection.and_then(|connection| answer_all(connection, &state)));
    }
}

/// One connection, which the client may keep alive.
fn answer_all(connection: TcpStream, state: &State) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    while let Some(request) = Message::read(&mut connection)? {
        state.answer(&request).write(connection.get_mut())?;
    }
    Ok(())
}

pub(crate) fn openssl(arguments: &[&str], stdin: &[u8]) -> Vec<u8> {
    let output = run_openssl(arguments, stdin);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
    output.stdout
}

fn run_openssl(arguments: &[&str], stdin: &[u8]) -> std::process::Output {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed by `scripts/test --setup`");
    // It may end without having read all.
    child.stdin.take().unwrap().write_all(stdin).ok();
    child.wait_with_output().unwrap()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}
