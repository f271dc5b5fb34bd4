//! The connections, and what came of them.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::client::{Ask, Caller, Signer};

/// Whom to ask about what.
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) prefix: String,
    /// Connections take them in turn.
    pub(crate) keys: Vec<String>,
    pub(crate) caller: Caller,
}

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) ask: Ask,
    pub(crate) connections: usize,
    pub(crate) time: Duration,
    /// One signed request again and again.
    pub(crate) replay: bool,
    /// Requests a second of all connections; as many as are answered if there is none.
    pub(crate) rate: Option<u32>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    per_second: f64,
    answered: usize,
    failed: usize,
    p50: Duration,
    p99: Duration,
}

/// A fifth of the time is for warming up, and not counted. One thread has all
/// connections, so that it takes little from what is measured.
pub(crate) fn run(target: Target, load: Load) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system gives a poll").block_on(run_all(target, load))
}

async fn run_all(target: Target, load: Load) -> Outcome {
    let mut askers = JoinSet::new();
    let mut connections = Vec::new();
    for number in 0..load.connections {
        connections.push(Connection::open(&target, &load, number).await);
    }
    let begin = Instant::now();
    let counted = begin + load.time / 5;
    for (number, mut connection) in connections.into_iter().enumerate() {
        askers.spawn(async move {
            let mut pace = load.pace(begin, number);
            connection.ask_until(counted, &mut pace).await;
            connection.ask_until(counted + load.time, &mut pace).await
        });
    }
    Outcome::of(askers.join_all().await, load.time)
}

/// When a connection asks next, if not as soon as it is answered.
struct Pace {
    next: Instant,
    every: Duration,
}

impl Load {
    fn pace(&self, begin: Instant, number: usize) -> Option<Pace> {
        let connections = u32::try_from(self.connections).expect("they are few");
        let every = Duration::from_secs(1) * connections / self.rate?;
        let number = u32::try_from(number).expect("they are few");
        Some(Pace { next: begin + every * number / connections, every })
    }
}

impl Outcome {
    fn of(all: Vec<(Vec<Duration>, usize)>, time: Duration) -> Self {
        let failed = all.iter().map(|(_, failed)| failed).sum();
        let mut times: Vec<_> = all.into_iter().flat_map(|(times, _)| times).collect();
        times.sort_unstable();
        let per_second = times.len() as f64 / time.as_secs_f64();
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        Self { per_second, answered: times.len(), failed, p50, p99 }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { per_second, answered, failed, p50, p99 } = self;
        let (p50, p99) = (p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3);
        write!(
            f,
            "{{\"per_second\": {per_second:.1}, \"answered\": {answered}, \"failed\": {failed}, \
             \"p50_ms\": {p50:.3}, \"p99_ms\": {p99:.3}}}"
        )
    }
}

struct Connection {
    stream: TcpStream,
    signer: Signer,
    replay: Option<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(target: &Target, load: &Load, number: usize) -> Self {
        let ciphertext = match load.ask {
            Ask::Decrypt => Some(encrypted(target, number).await),
            _ => None,
        };
        Self::with(target, load, number, ciphertext.as_deref()).await
    }

    async fn with(target: &Target, load: &Load, number: usize, ciphertext: Option<&str>) -> Self {
        let Target { address, prefix, keys, caller } = target;
        let stream = TcpStream::connect(address).await.expect("somebody listens there");
        stream.set_nodelay(true).expect("a TCP socket has this option");
        let key = &keys[number % keys.len()];
        let mut signer = Signer::new(caller, address, prefix, key, load.ask, ciphertext);
        let replay = load.replay.then(|| signer.request());
        Self { stream, signer, replay, buffer: vec![0; 16 << 10] }
    }

    /// Asks again and again: how long each took, and how many failed.
    async fn ask_until(&mut self, end: Instant, pace: &mut Option<Pace>) -> (Vec<Duration>, usize) {
        let (mut times, mut failed) = (Vec::with_capacity(1 << 16), 0);
        loop {
            if let Some(pace) = pace {
                sleep_until(pace.next.into()).await;
                pace.next += pace.every;
            }
            let request = match &self.replay {
                Some(request) => request.clone(),
                None => self.signer.request(),
            };
            let start = Instant::now();
            if start >= end {
                return (times, failed);
            }
            let answer = self.ask(&request).await.expect("the connection stays");
            failed += usize::from(!answer.starts_with(b"HTTP/1.1 200"));
            times.push(start.elapsed());
        }
    }

    async fn ask(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        self.stream.write_all(request).await?;
        let mut len = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[len..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            len += read;
            if is_whole(&self.buffer[..len]) {
                return Ok(&self.buffer[..len]);
            }
        }
    }
}

/// The answer to one Encrypt, which is what Decrypt wants.
async fn encrypted(target: &Target, number: usize) -> String {
    let load =
        Load { ask: Ask::Encrypt, connections: 1, time: Duration::ZERO, replay: false, rate: None };
    let mut connection = Connection::with(target, &load, number, None).await;
    let request = connection.signer.request();
    let answer = connection.ask(&request).await.expect("the proxy answers");
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text.split_once("\r\n\r\n").expect("it is whole").1.to_owned()
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let text = std::str::from_utf8(&answer[..head]).expect("heads are ASCII");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
    answer.len() >= head + 4 + length
}
