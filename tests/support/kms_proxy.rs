//! Stands between the SDK and moto: records each call and, by rule, fails as
//! AWS would and moto does not.

use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{self, Message};

/// What the proxy's own answers have as `x-amzn-requestid`.
pub(crate) const REQUEST_ID: &str = "3f1b2c66-0000-4000-8000-000000000001";

/// One proxy; it stops when dropped.
pub(crate) struct KmsProxy {
    address: SocketAddr,
    state: Arc<State>,
}

/// One call as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// From `X-Amz-Target`, as in `Decrypt`; empty for what is not KMS.
    pub(crate) operation: String,
    /// From the scope of the signature.
    pub(crate) access_key: String,
    pub(crate) region: String,
    pub(crate) body: Value,
}

/// What to do instead of forwarding.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Forward, but wait first.
    Delay(Duration),
    /// Close the connection without an answer.
    Drop,
    /// Forward, and alter the JSON of the answer.
    Edit(fn(&mut Value)),
    /// Answer this.
    Raw { status: u16, body: String },
    /// Answer with the JSON of the request, in the text of a denial.
    Echo,
    /// An error of KMS, with headers.
    Refuse { status: u16, code: &'static str, headers: &'static [(&'static str, &'static str)] },
}

impl Fault {
    /// This answer, whatever it is.
    pub(crate) fn raw(status: u16, body: impl Into<String>) -> Self {
        Self::Raw { status, body: body.into() }
    }

    /// An error of KMS with status 400, as most are.
    pub(crate) fn refuse(code: &'static str) -> Self {
        Self::Refuse { status: 400, code, headers: &[] }
    }
}

impl KmsProxy {
    /// Starts one before `server`, on a free port.
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it was bound");
        let state = Arc::new(State {
            server,
            calls: Mutex::default(),
            rules: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &shared));
        Self { address, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many calls of `operation` arrived.
    pub(crate) fn count(&self, operation: &str) -> usize {
        self.calls(operation).len()
    }

    /// The calls of `operation`, in order.
    pub(crate) fn calls(&self, operation: &str) -> Vec<Call> {
        let mut calls = self.all_calls();
        calls.retain(|call| call.operation == operation);
        calls
    }

    /// All calls, in order.
    pub(crate) fn all_calls(&self) -> Vec<Call> {
        lock(&self.state.calls).clone()
    }

    /// From now on, each call of `operation` meets `fault`.
    pub(crate) fn inject(&self, operation: &'static str, fault: Fault) {
        self.inject_times(usize::MAX, operation, fault);
    }

    /// The next `times` calls of `operation` meet `fault`. Later rules go
    /// first.
    pub(crate) fn inject_times(&self, times: usize, operation: &'static str, fault: Fault) {
        lock(&self.state.rules).push(Rule { operation, fault, times });
    }
}

impl Drop for KmsProxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).ok(); // wakes the thread that accepts
    }
}

struct State {
    server: SocketAddr,
    calls: Mutex<Vec<Call>>,
    rules: Mutex<Vec<Rule>>,
    stopped: AtomicBool,
}

struct Rule {
    operation: &'static str,
    fault: Fault,
    times: usize,
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
        let call = Call::of(&request);
        let fault = state.fault_for(&call.operation);
        lock(&state.calls).push(call);
        let Some(answer) = answer(&request, fault, state.server)? else {
            return Ok(());
        };
        answer.write(connection.get_mut())?;
    }
    Ok(())
}

/// `None` to hang up.
fn answer(
    request: &Message,
    fault: Option<Fault>,
    server: SocketAddr,
) -> io::Result<Option<Message>> {
    let forward = || http::exchange(server, request);
    match fault {
        None => forward().map(Some),
        Some(Fault::Delay(wait)) => {
            thread::sleep(wait);
            forward().map(Some)
        }
        Some(Fault::Drop) => Ok(None),
        Some(Fault::Echo) => {
            let echo = String::from_utf8_lossy(&request.body);
            let body = json!({ "__type": "AccessDeniedException", "message": echo });
            Ok(Some(made(400, &[], &body.to_string())))
        }
        Some(Fault::Edit(edit)) => forward().map(|answer| Some(edited(answer, edit))),
        Some(Fault::Raw { status, body }) => Ok(Some(made(status, &[], &body))),
        Some(Fault::Refuse { status, code, headers }) => {
            let body = json!({ "__type": code, "message": format!("injected {code}") });
            Ok(Some(made(status, headers, &body.to_string())))
        }
    }
}

fn edited(mut answer: Message, edit: fn(&mut Value)) -> Message {
    let mut body = serde_json::from_slice(&answer.body).expect("KMS answers in JSON");
    edit(&mut body);
    answer.body = body.to_string().into_bytes();
    answer
}

fn made(status: u16, headers: &[(&str, &str)], body: &str) -> Message {
    let mut all = vec![("x-amzn-requestid", REQUEST_ID)];
    all.extend(headers);
    Message::new(&format!("HTTP/1.1 {status} Injected"), &all, body.as_bytes())
}

impl Call {
    fn of(request: &Message) -> Self {
        let target = request.header("x-amz-target").unwrap_or_default();
        // Credential=<access key>/<date>/<region>/kms/aws4_request
        let signature = request.header("authorization").unwrap_or_default();
        let scope = signature.split_once("Credential=").map_or("", |(_, scope)| scope);
        let part = |number| scope.split('/').nth(number).unwrap_or_default().to_owned();
        Self {
            operation: target.trim_start_matches("TrentService.").to_owned(),
            access_key: part(0),
            region: part(2),
            body: serde_json::from_slice(&request.body).unwrap_or_default(),
        }
    }
}

impl State {
    fn fault_for(&self, operation: &str) -> Option<Fault> {
        let mut rules = lock(&self.rules);
        let fits = |rule: &&mut Rule| rule.operation == operation && rule.times > 0;
        let rule = rules.iter_mut().rev().find(fits)?;
        rule.times -= 1;
        Some(rule.fault.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}
