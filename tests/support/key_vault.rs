//! A small Azure Key Vault and Managed HSM with its Entra ID: speaks their REST
//! interfaces as documented, wraps for real, and checks what the real ones
//! would. Each check can be skipped, to show that it is one.

mod entra;
mod keys;

use std::collections::HashSet;
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::http::Message;
use entra::Entra;
pub(crate) use entra::{ASSERTION, CLIENT, IDENTITY_HEADER, SECRET, TENANT};
pub(crate) use keys::Material;
use keys::{Keys, Version};

/// The version of the API that the SDK's release speaks.
const API_VERSIONS: [&str; 2] = ["2025-07-01", "7.6"];

/// What every answer has as `x-ms-request-id`.
pub(crate) const REQUEST_ID: &str = "3f1b2c66-0000-4000-8000-00000000a2e1";

/// One server; it stops when dropped.
pub(crate) struct KeyVault {
    address: SocketAddr,
    state: Arc<State>,
}

/// What the server looks at before it does what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Check {
    /// `alg` fits the key.
    Algorithm,
    /// `api-version` is there and known.
    ApiVersion,
    /// The token is for this service.
    Audience,
    /// There is a token, and Entra ID gave it.
    Authorization,
    /// `value` is base64url without padding.
    Encoding,
    /// The key is enabled.
    Enabled,
    /// The token is good at this time.
    Lifetime,
    /// `key_ops` has the operation.
    Operations,
    /// The caller has the permission.
    Permission,
    /// The body is JSON, says so, and has nothing but what is documented.
    Shape,
    /// The key has this version.
    Version,
}

/// An error in the form of Key Vault's.
struct Refusal {
    status: u16,
    code: &'static str,
    inner: Option<&'static str>,
    message: String,
}

type Answered = Result<Value, Refusal>;

impl KeyVault {
    /// Starts one that is called `host`, without keys, on a free port.
    pub(crate) fn start(host: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it was bound");
        let state = Arc::new(State::new(host));
        let shared = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &shared));
        Self { address, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a version of the key `name`, which may wrap and unwrap, and
    /// returns its id.
    pub(crate) fn add(&self, name: &str, material: Material) -> String {
        lock(&self.state.keys).add(name, Version::new(material))
    }

    /// Alters all versions of a key.
    pub(crate) fn change(&self, name: &str, change: impl Fn(&mut Version)) {
        lock(&self.state.keys).versions(name).iter_mut().for_each(change);
    }

    /// Takes the permission for an operation, as in `wrapKey`, from everybody.
    pub(crate) fn deny(&self, operation: &'static str) {
        lock(&self.state.denied).insert(operation);
    }

    /// Turns the vault's clock (not Entra ID's) by so many seconds.
    pub(crate) fn turn_clock(&self, seconds: i64) {
        self.state.clock_ahead.store(seconds, Ordering::SeqCst);
    }

    /// Checks this no more.
    pub(crate) fn skip(&self, check: Check) {
        lock(&self.state.skipped).insert(check);
    }

    /// A token as Entra ID gives one for `scope`.
    pub(crate) fn token(&self, scope: &str) -> String {
        lock(&self.state.entra).give(scope, now())
    }
}

impl Drop for KeyVault {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).ok(); // wakes the thread that accepts
    }
}

/// What a request is called in the API; what Entra ID is asked for is `token`.
pub(crate) fn operation(request: &Message) -> String {
    let (method, target) = method_and_target(request);
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    let last = path.rsplit('/').next().unwrap_or_default();
    match (method, last) {
        (_, "token") => "token",
        (_, "wrapkey") => "wrapKey",
        (_, "unwrapkey") => "unwrapKey",
        (_, "create") => "create",
        ("GET", _) if path.starts_with("/keys/") => "get",
        _ => "",
    }
    .to_owned()
}

struct State {
    host: String,
    entra: Mutex<Entra>,
    keys: Mutex<Keys>,
    denied: Mutex<HashSet<&'static str>>,
    skipped: Mutex<HashSet<Check>>,
    clock_ahead: AtomicI64,
    stopped: AtomicBool,
}

impl State {
    fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            entra: Mutex::default(),
            keys: Mutex::default(),
            denied: Mutex::default(),
            skipped: Mutex::default(),
            clock_ahead: AtomicI64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    fn answer(&self, request: &Message) -> Message {
        let (_, target) = method_and_target(request);
        if operation(request) == "token" {
            let (status, body) = lock(&self.entra).answer(request, target, now());
            return answer(status, &body);
        }
        match self.vault(request) {
            Ok(body) => answer(200, &body),
            Err(refusal) => answer(refusal.status, &refusal.body()),
        }
    }

    /// In the order of the real one: who calls comes before what is wanted.
    fn vault(&self, request: &Message) -> Answered {
        let operation = operation(request);
        self.authorize(request)?;
        let (_, target) = method_and_target(request);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        self.check(Check::ApiVersion, || {
            let version = query.split('&').find_map(|pair| pair.strip_prefix("api-version="));
            match version.is_some_and(|version| API_VERSIONS.contains(&version)) {
                true => Ok(()),
                false => Err(bad_parameter("api-version must be specified and supported")),
            }
        })?;
        self.check(Check::Permission, || match lock(&self.denied).contains(operation.as_str()) {
            true => Err(self.not_permitted(&operation)),
            false => Ok(()),
        })?;
        let parts: Vec<&str> = path.split('/').collect();
        match (operation.as_str(), parts.as_slice()) {
            ("get", ["", "keys", name]) => self.described(name, ""),
            ("get", ["", "keys", name, version]) => self.described(name, version),
            ("create", ["", "keys", name, "create"]) => self.create(name, request),
            ("wrapKey" | "unwrapKey", ["", "keys", name, version, _]) => {
                self.used(&operation, name, version, request)
            }
            _ => Err(Refusal::new(404, "NotFound", "there is nothing of this name")),
        }
    }

    fn authorize(&self, request: &Message) -> Result<(), Refusal> {
        let bearer = request.header("authorization").and_then(|it| it.strip_prefix("Bearer "));
        let entra = lock(&self.entra);
        let token = entra.tokens.get(bearer.unwrap_or_default());
        let unauthorized = |message: &str| Refusal::new(401, "Unauthorized", message);
        self.check(Check::Authorization, || match token {
            Some(_) => Ok(()),
            None => Err(unauthorized("AKV10000: Request is missing a Bearer or PoP token.")),
        })?;
        let Some(token) = token else { return Ok(()) };
        self.check(Check::Audience, || {
            let (_, service) = self.host.split_once('.').expect("a vault's host has a name first");
            match token.audience == format!("https://{service}") {
                true => Ok(()),
                false => Err(unauthorized("AKV10022: Invalid audience.")),
            }
        })?;
        self.check(Check::Lifetime, || {
            let now = now() + self.clock_ahead.load(Ordering::SeqCst);
            match (token.not_before..token.expires).contains(&now) {
                true => Ok(()),
                false => Err(unauthorized("AKV10001: the token is expired or not yet valid.")),
            }
        })
    }

    fn described(&self, name: &str, version: &str) -> Answered {
        let mut keys = lock(&self.keys);
        let found = self.version(&mut keys, name, version)?;
        Ok(found.described(&self.host, name))
    }

    fn create(&self, name: &str, request: &Message) -> Answered {
        let body = self.body(request, &["attributes", "key_ops", "key_size", "kty"])?;
        let material = match (body["kty"].as_str(), body["key_size"].as_u64()) {
            (Some(kind @ ("RSA" | "RSA-HSM")), Some(bits)) => Material::rsa(kind, bits),
            (Some("oct-HSM"), Some(256)) => Material::aes(),
            _ => return Err(bad_parameter("this kind of key is not supported")),
        };
        let mut version = Version::new(material);
        if let Some(operations) = body["key_ops"].as_array() {
            let word = |word: &Value| word.as_str().expect("operations are words").to_owned();
            version.operations = operations.iter().map(word).collect();
        }
        lock(&self.keys).add(name, version);
        self.described(name, "")
    }

    fn used(&self, operation: &str, name: &str, version: &str, request: &Message) -> Answered {
        let body = self.body(request, &["alg", "value"])?;
        let mut keys = lock(&self.keys);
        let found = self.version(&mut keys, name, version)?;
        self.check(Check::Enabled, || match found.enabled {
            true => Ok(()),
            false => {
                let message = format!("Operation {operation} is not allowed on a disabled key.");
                Err(Refusal::new(403, "Forbidden", &message).inner("KeyDisabled"))
            }
        })?;
        self.check(Check::Operations, || {
            match found.operations.iter().any(|it| it == operation) {
                true => Ok(()),
                false => {
                    let message = format!("Operation {operation} is not permitted on this key.");
                    Err(Refusal::new(403, "Forbidden", &message).inner("KeyOperationForbidden"))
                }
            }
        })?;
        self.check(Check::Algorithm, || match body["alg"] == found.material.algorithm() {
            true => Ok(()),
            false => Err(bad_parameter("Key and signing algorithm are incompatible.")),
        })?;
        let value = self.decoded(&body["value"])?;
        let result = match operation {
            "wrapKey" => found.material.wrap(&value),
            _ => found.material.unwrap_key(&value),
        };
        let result = result.ok_or_else(|| bad_parameter("The parameter is incorrect."))?;
        Ok(json!({
            "kid": found.kid(&self.host, name),
            "value": URL_SAFE_NO_PAD.encode(result),
        }))
    }

    fn body(&self, request: &Message, fields: &[&str]) -> Answered {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        self.check(Check::Shape, || {
            let is_json = request
                .header("content-type")
                .is_some_and(|kind| kind.split(';').next() == Some("application/json"));
            let known = body
                .as_object()
                .is_some_and(|object| object.keys().all(|field| fields.contains(&field.as_str())));
            match is_json && known {
                true => Ok(()),
                false => Err(bad_parameter("the body is not what this operation takes")),
            }
        })?;
        Ok(body)
    }

    /// An empty version means the newest one.
    fn version<'a>(
        &self,
        keys: &'a mut Keys,
        name: &str,
        version: &str,
    ) -> Result<&'a mut Version, Refusal> {
        let versions = keys.versions(name);
        let at = match versions.iter().position(|found| found.id == version) {
            Some(at) => Some(at),
            None if version.is_empty() => versions.len().checked_sub(1),
            None => {
                self.check(Check::Version, || Err(not_found(name, version)))?;
                versions.len().checked_sub(1)
            }
        };
        at.and_then(|at| versions.get_mut(at)).ok_or_else(|| not_found(name, version))
    }

    fn decoded(&self, value: &Value) -> Result<Vec<u8>, Refusal> {
        let text = value.as_str().unwrap_or_default();
        self.check(Check::Encoding, || match URL_SAFE_NO_PAD.decode(text) {
            Ok(bytes) if !bytes.is_empty() => Ok(()),
            _ => Err(bad_parameter("Content of 'value' is not base64url.")),
        })?;
        let lenient = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
        URL_SAFE_NO_PAD.decode(lenient).map_err(|_| bad_parameter("not base64 at all"))
    }

    fn check(
        &self,
        check: Check,
        look: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match lock(&self.skipped).contains(&check) {
            true => Ok(()),
            false => look(),
        }
    }

    fn not_permitted(&self, operation: &str) -> Refusal {
        let message = format!(
            "The user, group or application 'appid={CLIENT};iss=https://sts.windows.net/{TENANT}/' \
             does not have keys {operation} permission on key vault '{}'.",
            self.host
        );
        Refusal::new(403, "Forbidden", &message).inner("ForbiddenByPolicy")
    }
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: &str) -> Self {
        Self { status, code, inner: None, message: message.to_owned() }
    }

    fn inner(mut self, code: &'static str) -> Self {
        self.inner = Some(code);
        self
    }

    fn body(&self) -> Value {
        refusal(self.code, self.inner, &self.message)
    }
}

/// The body of a refusal.
pub(crate) fn refusal(code: &str, inner: Option<&str>, message: &str) -> Value {
    let mut error = json!({ "code": code, "message": message });
    if let Some(inner) = inner {
        error["innererror"] = json!({ "code": inner });
    }
    json!({ "error": error })
}

fn bad_parameter(message: &str) -> Refusal {
    Refusal::new(400, "BadParameter", message)
}

fn not_found(name: &str, version: &str) -> Refusal {
    let message = format!(
        "A key with (name/id) {name}/{version} was not found in this key vault. If you recently \
         deleted this key you may be able to recover it using the correct recovery command."
    );
    Refusal::new(404, "KeyNotFound", &message)
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for connection in listener.incoming() {
        if state.stopped.load(Ordering::Relaxed) {
            return;
        }
        let state = Arc::clone(state);
        thread::spawn(move || connection.and_then(|connection| serve(connection, &state)));
    }
}

/// One connection, which the client may keep alive.
fn serve(connection: TcpStream, state: &State) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    while let Some(request) = Message::read(&mut connection)? {
        state.answer(&request).write(connection.get_mut())?;
    }
    Ok(())
}

fn answer(status: u16, body: &Value) -> Message {
    let mut headers =
        vec![("content-type", "application/json; charset=utf-8"), ("x-ms-request-id", REQUEST_ID)];
    if status == 401 {
        // What other clients believe: whoever answers chooses what token it gets.
        headers.push((
            "www-authenticate",
            "Bearer authorization=\"https://evil.example/tenant\", resource=\"https://evil.example\"",
        ));
    }
    let line = format!("HTTP/1.1 {status} Answered");
    Message::new(&line, &headers, body.to_string().as_bytes())
}

fn method_and_target(request: &Message) -> (&str, &str) {
    let mut words = request.first_line.split(' ');
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_secs()).expect("it is before the year 292277026596")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}
