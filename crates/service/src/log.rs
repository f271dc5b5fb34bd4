//! Logs: events for operators and a record for each request, as JSON, one on a
//! line.
//!
//! Neither ever makes a request wait. Lines go into a bounded queue, and a
//! thread of its own writes them in batches; where the disk is full, or nobody
//! reads the pipe, they are dropped and counted until there is room again.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Deserializer, Serialize};
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

mod destination;
mod queue;

pub use crate::calendar::Timestamp;

use destination::Destination;
use queue::Queue;

/// What to log, and where to.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// For a record per request.
    pub requests: Target,
    /// For events.
    pub events: Target,
    /// Which events: `info`, or as `info,twinlock_pkcs11=debug`.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        let (requests, events) = (Target::Stdout, Target::Stdout);
        Self { requests, events, level: "info".to_owned() }
    }
}

/// A duration as records have it.
#[must_use]
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Where lines go: `"stdout"`, or the path of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file that lines are appended to, made with mode 0640.
    File(PathBuf),
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)? {
            text if text.is_empty() => Err(serde::de::Error::custom("a log needs a file's name")),
            text if text == "stdout" => Ok(Self::Stdout),
            text => Ok(Self::File(text.into())),
        }
    }
}

/// The logs of a service. What was logged is written when it is dropped; that
/// waits for two seconds at the most for each of the two.
#[derive(Debug)]
pub struct Logs<R: Send + 'static> {
    requests: RequestLog<R>,
    events: Queue<Vec<u8>>,
    destinations: Vec<Arc<Destination>>,
}

impl<R: Serialize + Send + 'static> Logs<R> {
    /// Opens the logs, and makes events of this process go there.
    ///
    /// # Errors
    /// When a file cannot be opened, the level is none, or events go elsewhere
    /// already.
    pub fn start(settings: &LogSettings) -> Result<Self, LogError> {
        filter(&settings.level)?; // before a file is made
        let logs = Self::open(settings)?;
        let subscriber = subscriber(&settings.level, logs.events.clone())?;
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
        Ok(logs)
    }

    fn open(settings: &LogSettings) -> Result<Self, LogError> {
        let events = Arc::new(Destination::open(&settings.events)?);
        // One and the same, so that lines of both kinds do not mix.
        let requests = match settings.requests == settings.events {
            true => Arc::clone(&events),
            false => Arc::new(Destination::open(&settings.requests)?),
        };
        let append = |line: &Vec<u8>, buffer: &mut Vec<u8>| buffer.extend_from_slice(line);
        Ok(Self {
            requests: RequestLog(Queue::start("request-log", Arc::clone(&requests), append_json)?),
            events: Queue::start("event-log", Arc::clone(&events), append)?,
            destinations: vec![events, requests],
        })
    }

    /// The log of requests.
    #[must_use]
    pub fn requests(&self) -> RequestLog<R> {
        self.requests.clone()
    }

    /// Opens the files anew, for whoever renamed them (logrotate). A file that
    /// cannot be opened is said, and the old one goes on.
    pub fn reopen(&self) {
        self.destinations.iter().for_each(|destination| destination.reopen());
    }

    /// Adds what was dropped to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [("requests", self.requests.dropped()), ("events", self.events.dropped())];
        registry.register_collector(Box::new(Dropped(counters)));
    }
}

impl<R: Send + 'static> Drop for Logs<R> {
    fn drop(&mut self) {
        self.requests.0.close();
        self.events.close();
    }
}

/// What each log dropped, as one metric: a family makes its counters itself.
#[derive(Debug)]
struct Dropped([(&'static str, Counter); 2]);

impl Collector for Dropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Lines of logs that could not be written";
        let kind = MetricType::Counter;
        let mut metric = encoder.encode_descriptor("log_dropped", help, None, kind)?;
        for (log, counter) in &self.0 {
            counter.encode(metric.encode_family(&[("log", *log)])?)?;
        }
        Ok(())
    }
}

/// A record for each request. Clones share the log.
#[derive(Debug)]
pub struct RequestLog<R: Send + 'static>(Queue<R>);

impl<R: Send + 'static> Clone for RequestLog<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Send + 'static> RequestLog<R> {
    /// Logs a record, or drops and counts it. Costs well under a microsecond:
    /// it is made JSON elsewhere.
    pub fn log(&self, record: R) {
        self.0.push(record);
    }

    /// The same, and drops it sooner, so that there is always room for records that
    /// matter more: of callers who are known beside those of anybody.
    pub fn log_if_room(&self, record: R) {
        self.0.push_if_room(record);
    }

    /// How many records were dropped.
    #[must_use]
    pub fn dropped(&self) -> Counter {
        self.0.dropped()
    }
}

fn append_json<R: Serialize>(record: &R, buffer: &mut Vec<u8>) {
    let before = buffer.len();
    match serde_json::to_writer(&mut *buffer, record) {
        Ok(()) => buffer.push(b'\n'),
        // A map with keys that are no strings, and the like: our bug.
        Err(error) => {
            buffer.truncate(before);
            tracing::error!(%error, "a record of a request is no JSON");
        }
    }
}

fn subscriber(level: &str, events: Queue<Vec<u8>>) -> Result<impl Subscriber, LogError> {
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter(level)?)
        .with_writer(Events(events))
        .log_internal_errors(false);
    Ok(subscriber.finish())
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(level).map_err(|error| LogError::Level(level.to_owned(), error.to_string()))
}

/// Where tracing writes: each event is formatted where it happens and queued.
struct Events(Queue<Vec<u8>>);

impl<'a> MakeWriter<'a> for Events {
    type Writer = EventLine<'a>;

    fn make_writer(&'a self) -> EventLine<'a> {
        EventLine { queue: &self.0, line: Vec::new() }
    }
}

struct EventLine<'a> {
    queue: &'a Queue<Vec<u8>>,
    line: Vec<u8>,
}

impl io::Write for EventLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for EventLine<'_> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.queue.push(std::mem::take(&mut self.line));
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file cannot be opened.
    #[error("cannot open the log {}: {source}", path.display())]
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The level is none.
    #[error("log.level = {0:?}: {1}; it is one of error, warn, info, debug, trace")]
    Level(String, String),
    /// No thread can be started.
    #[error("cannot start the thread of a log: {0}")]
    Thread(#[from] io::Error),
    /// There is one log of events in a process.
    #[error("the events of this process have a log already")]
    Twice,
}

#[cfg(test)]
mod tests;
