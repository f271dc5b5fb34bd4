//! Traces for OpenTelemetry: a span for each request, sent to a collector.
//!
//! A span says what the record of the request says, no more: its fields become
//! attributes, and where the time went becomes spans below it. As with logs no
//! request waits: spans are queued, a thread of its own sends them in batches
//! (OTLP over HTTP), and what a collector does not take is dropped.
//!
//! The settings are there in every build, so that a configuration is refused for
//! the right reason by one that has no traces (feature `opentelemetry`).

use std::time::{Duration, SystemTime};

use serde::Deserialize;

pub use self::sender::Traces;

#[cfg_attr(not(feature = "opentelemetry"), path = "traces/none.rs")]
mod sender;

/// Where spans go, and how many.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TraceSettings {
    /// The collector: `http://127.0.0.1:4318/v1/traces`. There is no TLS: it
    /// stands beside the service.
    pub endpoint: String,
    /// The part of requests that have a span, from 0 to 1.
    #[serde(default = "all")]
    pub ratio: f64,
}

fn all() -> f64 {
    1.0
}

impl TraceSettings {
    /// Settings that can be used.
    ///
    /// # Errors
    /// When they cannot, by this build or at all.
    pub fn check(&self) -> Result<(), TraceError> {
        if !cfg!(feature = "opentelemetry") {
            return Err(TraceError::NotBuilt);
        }
        if !self.endpoint.starts_with("http://") {
            return Err(TraceError::Endpoint(self.endpoint.clone()));
        }
        match (0.0..=1.0).contains(&self.ratio) {
            true => Ok(()),
            false => Err(TraceError::Ratio(self.ratio)),
        }
    }
}

/// A request's span, and what it is made of.
#[derive(Clone, Debug)]
pub struct Span<'a, R> {
    /// What was asked for.
    pub name: &'static str,
    /// What is written of it; each field is an attribute, and `error` the reason
    /// why it failed.
    pub record: &'a R,
    /// When it began.
    pub start: SystemTime,
    /// When it was answered.
    pub end: SystemTime,
    /// Whether that is the service's fault.
    pub is_fault: bool,
    /// What it did at last, one after another: name and duration.
    pub steps: Vec<(&'static str, Duration)>,
}

/// The steps of a request that a token did: how long it waited for a session, and how
/// long the token took, in microseconds. None if no token was asked.
#[must_use]
pub fn steps_of_token(queue_us: Option<u64>, hsm_us: Option<u64>) -> Vec<(&'static str, Duration)> {
    let times = [("queue", queue_us), ("hsm", hsm_us)];
    let step = |(name, micros): (_, Option<u64>)| Some((name, Duration::from_micros(micros?)));
    times.into_iter().filter_map(step).collect()
}

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// This program has no such thing.
    #[error(
        "traces: this program was built without them; build it with `--features opentelemetry`"
    )]
    NotBuilt,
    /// It is none.
    #[error("traces.endpoint = {0:?}: a collector's address begins with http://")]
    Endpoint(String),
    /// It is none.
    #[error("traces.ratio = {0}: it is a number from 0 to 1")]
    Ratio(f64),
    /// What OpenTelemetry says.
    #[error("traces: {0}")]
    NotStarted(String),
}

#[cfg(test)]
mod tests;
