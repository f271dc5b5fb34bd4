//! Load for a service: connections that each wait for an answer before they ask
//! again, and what came of it.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// That ask side by side.
    pub connections: usize,
    /// For which what is answered counts.
    pub time: Duration,
    /// Requests a second of all connections; as many as are answered if there is none.
    pub rate: Option<u32>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    per_second: f64,
    answered: usize,
    failed: usize,
    p50: Duration,
    p99: Duration,
}

/// Puts this load on connections that `open` opens, each by its number. A fifth of
/// the time is for warming up, and not counted. One thread has all connections, so
/// that it takes little from what is measured.
///
/// # Panics
/// If a connection breaks off.
pub fn run(load: Load, open: impl AsyncFn(usize) -> Connection) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system gives a poll").block_on(run_all(load, open))
}

async fn run_all(load: Load, open: impl AsyncFn(usize) -> Connection) -> Outcome {
    let mut askers = JoinSet::new();
    let mut connections = Vec::new();
    for number in 0..load.connections {
        connections.push(open(number).await);
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

/// A line of JSON.
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

/// What a connection is made of: TCP, or TLS above it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection and what it asks.
pub struct Connection {
    stream: Box<dyn Stream>,
    next: Box<dyn FnMut() -> Vec<u8> + Send>,
    buffer: Vec<u8>,
}

impl Connection {
    /// One that sends what `next` makes, each time a request of HTTP/1.1.
    pub fn new(
        stream: impl Stream + 'static,
        next: impl FnMut() -> Vec<u8> + Send + 'static,
    ) -> Self {
        Self { stream: Box::new(stream), next: Box::new(next), buffer: vec![0; 16 << 10] }
    }

    /// Asks once.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub async fn ask(&mut self) -> io::Result<&[u8]> {
        let request = (self.next)();
        self.send(&request).await
    }

    /// Asks again and again: how long each took, and how many failed.
    async fn ask_until(&mut self, end: Instant, pace: &mut Option<Pace>) -> (Vec<Duration>, usize) {
        let (mut times, mut failed) = (Vec::with_capacity(1 << 16), 0);
        loop {
            if let Some(pace) = pace {
                sleep_until(pace.next.into()).await;
                pace.next += pace.every;
            }
            let request = (self.next)();
            let start = Instant::now();
            if start >= end {
                return (times, failed);
            }
            let answer = self.send(&request).await.expect("the connection stays");
            failed += usize::from(!answer.starts_with(b"HTTP/1.1 200"));
            times.push(start.elapsed());
        }
    }

    async fn send(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
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

fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let text = std::str::from_utf8(&answer[..head]).expect("heads are ASCII");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
    answer.len() >= head + 4 + length
}
