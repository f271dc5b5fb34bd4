//! What operators and load balancers ask: `/livez`, `/readyz` and `/metrics`, on
//! a listener of their own.
//!
//! Without TLS, for probes and scrapers rarely have any; what it tells is no
//! secret. Bind it to an address that only they reach.
//!
//! Serve it until another [`Shutdown`](crate::shutdown::Shutdown) than the one
//! that readiness knows, begun when requests are done: then `/readyz` says 503
//! while they are.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde::Deserialize;

use crate::listen::{Limits, ListenError, Listener};
use crate::readiness::Readiness;

/// Where operators ask.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct OpsSettings {
    /// Address and port.
    pub address: SocketAddr,
}

/// Binds the address. Serve [`router`] there.
///
/// # Errors
/// When the address is taken or not this machine's.
pub fn bind(settings: &OpsSettings) -> Result<Listener, ListenError> {
    let second = NonZeroU64::MIN;
    let limits = Limits {
        connections: NonZeroU32::new(64).expect("not zero"),
        drain_s: second,
        ..Limits::default()
    };
    Listener::bind_plain(settings.address, limits)
}

/// The three pages, for GET and HEAD.
pub fn router(readiness: Readiness, metrics: Arc<Registry>) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(readiness)
        .merge(Router::new().route("/metrics", get(scrape)).with_state(metrics))
}

/// This process answers: all that a supervisor has to know to let it run.
async fn live() -> &'static str {
    "ok\n"
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let problems = readiness.problems();
    if problems.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n")
}

async fn scrape(State(metrics): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    let encoded = prometheus_client::encoding::text::encode(&mut text, &metrics);
    if encoded.is_err() {
        text.clear();
        let _ = writeln!(text, "the metrics cannot be encoded"); // a String takes all
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    }
    ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use prometheus_client::metrics::counter::Counter;

    use super::*;
    use crate::shutdown::Shutdown;

    fn ask(address: SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn probes_and_scrapers_get_what_they_ask() {
        let shutdown = Shutdown::default();
        let readiness = Readiness::new(shutdown.clone());
        let hsm = readiness.condition("hsm");
        let mut registry = Registry::default();
        registry.register("requests", "Requests", Counter::<u64>::default());
        let listener = bind(&OpsSettings { address: "127.0.0.1:0".parse().unwrap() }).unwrap();
        let address = listener.address().unwrap();
        let served = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { listener.serve(router(readiness, Arc::new(registry)), &shutdown).await }
        });
        tokio::task::spawn_blocking(move || {
            assert!(ask(address, "GET /livez").ends_with("\r\n\r\nok\n"));
            let unready = ask(address, "GET /readyz");
            assert!(unready.starts_with("HTTP/1.1 503 "), "{unready}");
            assert!(unready.ends_with("\r\n\r\nhsm: not checked yet\n"), "{unready}");
            hsm.set(Ok(()));
            assert!(ask(address, "GET /readyz").starts_with("HTTP/1.1 200 "));
            let head = ask(address, "HEAD /readyz");
            assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
            let metrics = ask(address, "GET /metrics");
            assert!(metrics.contains(&format!("content-type: {OPEN_METRICS}\r\n")), "{metrics}");
            assert!(metrics.ends_with("requests_total 0\n# EOF\n"), "{metrics}");
            assert!(ask(address, "POST /livez").starts_with("HTTP/1.1 405 "));
            assert!(ask(address, "GET /").starts_with("HTTP/1.1 404 "));
        })
        .await
        .unwrap();
        shutdown.begin();
        assert_eq!(served.await.unwrap().cut, 0);
    }
}
