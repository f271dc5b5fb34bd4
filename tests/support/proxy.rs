//! Stands between a holder and the server of its key: records each call and, by
//! rule, fails as the service would and its stand-in does not. HTTP/1.1, behind
//! TLS where it is told to.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::http::{self, Message};

/// One proxy; it stops when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

/// What the operation is called that a request asks for.
pub(crate) type Operation = fn(&Message) -> String;

/// What to do instead of forwarding.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Forward, and alter the answer.
    Alter(fn(&mut Message)),
    /// Answer this.
    Answer(Message),
    /// Answer what comes of the request.
    AnswerTo(fn(&Message) -> Message),
    /// Forward, but wait first.
    Delay(Duration),
    /// Close the connection without an answer.
    Drop,
    /// Forward, and alter the JSON of the answer.
    Edit(fn(&mut Value)),
}

impl Fault {
    /// An answer of these parts.
    pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        Self::Answer(Message::new(&format!("HTTP/1.1 {status} Injected"), headers, body.as_ref()))
    }
}

impl Proxy {
    /// Starts one before `server`, on a free port.
    pub(crate) fn before(server: SocketAddr, operation: Operation) -> Self {
        Self::start(server, operation, None)
    }

    /// The same, speaking TLS to those who call.
    pub(crate) fn with_tls(
        server: SocketAddr,
        operation: Operation,
        tls: Arc<ServerConfig>,
    ) -> Self {
        Self::start(server, operation, Some(tls))
    }

    fn start(server: SocketAddr, operation: Operation, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it was bound");
        let state = Arc::new(State {
            server,
            operation,
            tls,
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
        let scheme = if self.state.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// How many calls of `operation` arrived.
    pub(crate) fn count(&self, operation: &str) -> usize {
        self.calls().iter().filter(|(name, _)| name == operation).count()
    }

    /// All calls, in order: the operation and the request.
    pub(crate) fn calls(&self) -> Vec<(String, Message)> {
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

    /// From now on, all calls are forwarded.
    pub(crate) fn heal(&self) {
        lock(&self.state.rules).clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).ok(); // wakes the thread that accepts
    }
}

/// A place that nobody has any business at: counts those who come.
pub(crate) struct Trap {
    pub(crate) address: SocketAddr,
    arrivals: Arc<AtomicUsize>,
}

impl Trap {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it was bound");
        let arrivals = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&arrivals);
        thread::spawn(move || {
            for _ in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, arrivals }
    }

    pub(crate) fn arrivals(&self) -> usize {
        self.arrivals.load(Ordering::SeqCst)
    }
}

/// An address on which nobody listens.
pub(crate) fn closed_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a free port")
}

struct State {
    server: SocketAddr,
    operation: Operation,
    tls: Option<Arc<ServerConfig>>,
    calls: Mutex<Vec<(String, Message)>>,
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
        thread::spawn(move || {
            let connection = connection?;
            match state.tls.clone() {
                None => serve(connection, &state),
                Some(tls) => {
                    let session = ServerConnection::new(tls).map_err(io::Error::other)?;
                    serve(StreamOwned::new(session, connection), &state)
                }
            }
        });
    }
}

/// One connection, which the client may keep alive.
fn serve(connection: impl Read + Write, state: &State) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    while let Some(request) = Message::read(&mut connection)? {
        let operation = (state.operation)(&request);
        let fault = state.fault_for(&operation);
        lock(&state.calls).push((operation, request.clone()));
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
        Some(Fault::Alter(alter)) => forward().map(|mut answer| {
            alter(&mut answer);
            Some(answer)
        }),
        Some(Fault::Answer(answer)) => Ok(Some(answer)),
        Some(Fault::AnswerTo(make)) => Ok(Some(make(request))),
        Some(Fault::Delay(wait)) => {
            thread::sleep(wait);
            forward().map(Some)
        }
        Some(Fault::Drop) => Ok(None),
        Some(Fault::Edit(edit)) => forward().map(|answer| Some(edited(answer, edit))),
    }
}

fn edited(mut answer: Message, edit: fn(&mut Value)) -> Message {
    let mut body = serde_json::from_slice(&answer.body).expect("the server answers in JSON");
    edit(&mut body);
    answer.body = body.to_string().into_bytes();
    answer
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
