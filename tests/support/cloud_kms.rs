//! A small Google Cloud KMS: speaks its REST interface as documented, encrypts
//! for real, and checks what the real one would. Each check can be skipped, to
//! show that it is one, and each answer can be made to fail or to lie.
//!
//! Google's own client, which calls it, keeps it honest about paths, fields and
//! encodings. What it cannot show, for want of the real one: the exact words of
//! refusals (the holder looks into those of `FAILED_PRECONDITION` and of checksums
//! that do not fit), which permissions a call needs, quotas, and whether a
//! project's number in a key's name is answered with its id.

pub(crate) mod account;
mod keys;

use std::collections::HashSet;
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use rustls::ServerConfig;
use serde_json::{Value, json};

use super::http::Message;
use super::proxy::{Fault, Proxy};
use account::account;
use keys::Keys;
pub(crate) use keys::{Purpose, State as VersionState, crc32c};

/// One server, and a proxy before it that makes it fail or lie; they stop when
/// dropped.
pub(crate) struct CloudKms {
    address: SocketAddr,
    state: Arc<State>,
    proxy: Proxy,
}

/// What the server looks at before it does what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Check {
    /// A token that our service account signed, for this API and this time.
    Authorization,
    /// The ciphertext is one of this key's.
    Key,
    /// `additionalAuthenticatedData` is what it was encrypted with.
    Aad,
    PlaintextCrc32c,
    CiphertextCrc32c,
    AadCrc32c,
    /// The version is enabled.
    State,
    /// The key is for `ENCRYPT_DECRYPT`.
    Purpose,
}

/// One call as it arrived.
pub(crate) struct Call {
    /// `Encrypt`, `Decrypt`, `GetCryptoKey`, `CreateCryptoKey`, `Token` for the
    /// server that gives tokens; empty for what is none of them.
    pub(crate) operation: &'static str,
    /// The resource in the path.
    pub(crate) name: String,
    pub(crate) body: Value,
    /// `x-goog-user-project`
    pub(crate) quota_project: Option<String>,
    /// The body as it is, for what is not JSON.
    pub(crate) text: String,
    query: String,
    authorization: Option<String>,
}

/// An error in the form of Google's, `google.rpc.Status`.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) http: u16,
    pub(crate) status: &'static str,
    pub(crate) message: String,
    pub(crate) details: Value,
}

/// Google refuses every call, with this code.
pub(crate) fn refuse(http: u16, status: &'static str) -> Fault {
    Refusal::new(http, status, &format!("injected {status}")).into()
}

/// Half of the answer arrives.
pub(crate) fn cut() -> Fault {
    Fault::Alter(|answer| answer.body.truncate(answer.body.len() / 2))
}

/// Google refuses every call, with the JSON of the request as the message.
pub(crate) fn echo() -> Fault {
    Fault::AnswerTo(|request| {
        let message = String::from_utf8_lossy(&request.body);
        message_of(Err(Refusal::new(403, "PERMISSION_DENIED", &message)))
    })
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Answer(message_of(Err(refusal)))
    }
}

impl Refusal {
    pub(crate) fn new(http: u16, status: &'static str, message: &str) -> Self {
        Self { http, status, message: message.to_owned(), details: json!([]) }
    }

    /// `google.rpc.RetryInfo`, in the spelling of `google.protobuf.Duration`.
    pub(crate) fn retry_after(mut self, delay: &str) -> Self {
        let kind = "type.googleapis.com/google.rpc.RetryInfo";
        self.details = json!([{ "@type": kind, "retryDelay": delay }]);
        self
    }
}

impl CloudKms {
    /// Starts one without keys, on a free port.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it was bound");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &shared));
        Self { address, state, proxy: Proxy::before(address, operation) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    pub(crate) fn url(&self) -> String {
        self.proxy.url()
    }

    /// Another way to the server, behind TLS.
    pub(crate) fn with_tls(&self, tls: Arc<ServerConfig>) -> Proxy {
        Proxy::with_tls(self.address, operation, tls)
    }

    /// A new key with one enabled version; its resource name.
    pub(crate) fn create_key(&self, purpose: Purpose) -> String {
        lock(&self.state.keys).create(purpose)
    }

    /// Adds a version to a key, which becomes the primary one.
    pub(crate) fn rotate(&self, key: &str) {
        lock(&self.state.keys).rotate(key);
    }

    /// Puts every version of a key into a state.
    pub(crate) fn set_state(&self, key: &str, state: VersionState) {
        lock(&self.state.keys).set_state(key, state);
    }

    /// From now on the server does not look at this.
    pub(crate) fn skip(&self, check: Check) {
        lock(&self.state.skipped).insert(check);
    }

    /// Sets the server's clock ahead of ours, or behind it.
    pub(crate) fn set_clock_ahead(&self, seconds: i64) {
        self.state.clock_ahead.store(seconds, Ordering::Relaxed);
    }

    /// How many calls of `operation` arrived.
    pub(crate) fn count(&self, operation: &str) -> usize {
        self.proxy.count(operation)
    }

    /// The calls of `operation`, in order.
    pub(crate) fn calls(&self, operation: &str) -> Vec<Call> {
        let all = self.proxy.calls().into_iter();
        all.filter(|(name, _)| name == operation).map(|(_, request)| Call::of(&request)).collect()
    }

    /// From now on, each call of `operation` meets `fault`.
    pub(crate) fn inject(&self, operation: &'static str, fault: Fault) {
        self.proxy.inject(operation, fault);
    }

    /// The next `times` calls of `operation` meet `fault`. Later rules go
    /// first.
    pub(crate) fn inject_times(&self, times: usize, operation: &'static str, fault: Fault) {
        self.proxy.inject_times(times, operation, fault);
    }

    /// From now on, the server answers as it should.
    pub(crate) fn heal(&self) {
        self.proxy.heal();
    }
}

impl Drop for CloudKms {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).ok(); // wakes the thread that accepts
    }
}

#[derive(Default)]
struct State {
    keys: Mutex<Keys>,
    skipped: Mutex<HashSet<Check>>,
    clock_ahead: AtomicI64,
    stopped: AtomicBool,
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
        let answer = message_of(state.result_of(&Call::of(&request)));
        answer.write(connection.get_mut())?;
    }
    Ok(())
}

impl State {
    fn result_of(&self, call: &Call) -> Result<Value, Refusal> {
        if call.operation == "Token" {
            return account().exchange(&call.text);
        }
        if self.looks_at(Check::Authorization) {
            let ahead = self.clock_ahead.load(Ordering::Relaxed);
            account().check(call.authorization.as_deref(), ahead)?;
        }
        let checks = |check| self.looks_at(check);
        let mut keys = lock(&self.keys);
        match call.operation {
            "Encrypt" => keys.encrypt(&call.name, &call.body, &checks),
            "Decrypt" => keys.decrypt(&call.name, &call.body, &checks),
            "GetCryptoKey" => keys.describe(&call.name),
            "CreateCryptoKey" => keys.make(&call.name, &call.query, &call.body),
            _ => Err(Refusal::new(404, "NOT_FOUND", "there is no such method")),
        }
    }

    fn looks_at(&self, check: Check) -> bool {
        !lock(&self.skipped).contains(&check)
    }
}

/// As the proxy has it.
fn operation(request: &Message) -> String {
    Call::of(request).operation.to_owned()
}

impl Call {
    fn of(request: &Message) -> Self {
        let mut words = request.first_line.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let resource = path.strip_prefix("/v1/").unwrap_or("");
        let (operation, name) = match (method, resource.rsplit_once(':')) {
            ("POST", _) if path == "/token" => ("Token", path),
            ("POST", Some((name, "encrypt"))) => ("Encrypt", name),
            ("POST", Some((name, "decrypt"))) => ("Decrypt", name),
            ("POST", _) if resource.ends_with("/cryptoKeys") => ("CreateCryptoKey", resource),
            ("GET", _) if resource.contains("/cryptoKeys/") => ("GetCryptoKey", resource),
            _ => ("", resource),
        };
        let header = |name| request.header(name).map(str::to_owned);
        Self {
            operation,
            name: name.to_owned(),
            body: serde_json::from_slice(&request.body).unwrap_or_default(),
            quota_project: header("x-goog-user-project"),
            text: String::from_utf8_lossy(&request.body).into_owned(),
            query: query.to_owned(),
            authorization: header("authorization"),
        }
    }
}

fn message_of(result: Result<Value, Refusal>) -> Message {
    match result {
        Ok(answer) => made(200, &answer),
        Err(refusal) => {
            let error = json!({ "error": {
                "code": refusal.http,
                "status": refusal.status,
                "message": refusal.message,
                "details": refusal.details,
            }});
            made(refusal.http, &error)
        }
    }
}

fn made(status: u16, body: &Value) -> Message {
    let headers = [("content-type", "application/json; charset=UTF-8")];
    Message::new(&format!("HTTP/1.1 {status} Made"), &headers, body.to_string().as_bytes())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}
