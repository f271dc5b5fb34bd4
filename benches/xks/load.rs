//! The connections, and what came of them.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

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

/// A fifth of the time is for warming up, and not counted. Each connection has a
/// thread: they are few, and wait most of the time.
pub(crate) fn run(target: &Target, load: &Load) -> Outcome {
    let begin = Barrier::new(load.connections);
    let all = thread::scope(|scope| {
        let asker = |number| {
            let begin = &begin;
            scope.spawn(move || {
                let mut connection = Connection::open(target, load, number);
                begin.wait();
                connection.ask_for(load.time / 5);
                begin.wait();
                connection.ask_for(load.time)
            })
        };
        let askers: Vec<_> = (0..load.connections).map(asker).collect();
        let join = |asker: thread::ScopedJoinHandle<'_, _>| asker.join().expect("it asks");
        askers.into_iter().map(join).collect::<Vec<(Vec<Duration>, usize)>>()
    });
    let failed = all.iter().map(|(_, failed)| failed).sum();
    let mut times: Vec<_> = all.into_iter().flat_map(|(times, _)| times).collect();
    times.sort_unstable();
    let per_second = times.len() as f64 / load.time.as_secs_f64();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    Outcome { per_second, answered: times.len(), failed, p50, p99 }
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
    fn open(target: &Target, load: &Load, number: usize) -> Self {
        let ciphertext = (load.ask == Ask::Decrypt).then(|| encrypted(target, number));
        Self::with(target, load, number, ciphertext.as_deref())
    }

    fn with(target: &Target, load: &Load, number: usize, ciphertext: Option<&str>) -> Self {
        let Target { address, prefix, keys, caller } = target;
        let stream = TcpStream::connect(address).expect("somebody listens there");
        stream.set_nodelay(true).expect("a TCP socket has this option");
        let key = &keys[number % keys.len()];
        let mut signer = Signer::new(caller, address, prefix, key, load.ask, ciphertext);
        let replay = load.replay.then(|| signer.request());
        Self { stream, signer, replay, buffer: vec![0; 16 << 10] }
    }

    /// Asks again and again: how long each took, and how many failed.
    fn ask_for(&mut self, time: Duration) -> (Vec<Duration>, usize) {
        let (mut times, mut failed) = (Vec::with_capacity(1 << 16), 0);
        let end = Instant::now() + time;
        loop {
            let request = match &self.replay {
                Some(request) => request.clone(),
                None => self.signer.request(),
            };
            let start = Instant::now();
            if start >= end {
                return (times, failed);
            }
            let answer = self.ask(&request).expect("the connection stays");
            times.push(start.elapsed());
            failed += usize::from(!answer.starts_with(b"HTTP/1.1 200"));
        }
    }

    fn ask(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        self.stream.write_all(request)?;
        let mut len = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[len..])?;
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
fn encrypted(target: &Target, number: usize) -> String {
    let load = Load { ask: Ask::Encrypt, connections: 1, time: Duration::ZERO, replay: false };
    let mut connection = Connection::with(target, &load, number, None);
    let request = connection.signer.request();
    let answer = connection.ask(&request).expect("the proxy answers");
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
