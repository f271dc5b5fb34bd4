//! From a request of HTTP to its answer: which key store, whose signature, which
//! operation, and what is written of it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tower_service::Service;
use twinlock_service::limit::InFlight;
use twinlock_service::listen::{BodyError, Peer, read_body};
use twinlock_service::log::{RequestLog, micros};
use twinlock_service::traces::Traces;
use zeroize::Zeroizing;

use crate::error::{ErrorName, XksError};
use crate::key_store::KeyStore;
use crate::metrics::Metrics;
use crate::operations::{Answer, Call, Refusal};
use crate::record::Record;
use crate::sigv4::{Claim, RequestHead, SignatureError};
use crate::state::State;
use crate::uri_path::{Operation, Route};
use crate::wire::{self, MAX_BODY_LEN};

/// Requests that are answered side by side at the most: what a second of
/// KMS's default load leaves waiting when each takes half a second.
const MAX_IN_FLIGHT: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not 0");

/// Requests of one connection whose bodies did not come with their heads, at the
/// most: nobody knows yet who sends them, and each may take `MAX_BODY_LEN`. KMS's
/// are small and arrive whole, or nearly. Other connections have places of their
/// own, which strangers cannot take.
const MAX_UNFINISHED: NonZeroUsize = NonZeroUsize::new(16).expect("it is not 0");

/// What answers requests.
pub struct Server {
    state: ArcSwap<State>,
    metrics: Metrics,
    log: RequestLog<Record>,
    traces: Option<Traces>,
    body_timeout: Duration,
    in_flight: InFlight,
}

impl Server {
    /// A server of `state`.
    pub fn new(
        state: State,
        metrics: Metrics,
        log: RequestLog<Record>,
        traces: Option<Traces>,
        body_timeout: Duration,
    ) -> Self {
        Self {
            state: ArcSwap::from_pointee(state),
            metrics,
            log,
            traces,
            body_timeout,
            in_flight: InFlight::new(MAX_IN_FLIGHT),
        }
    }

    /// What it serves now.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Requests that are being answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight.now()
    }

    /// Serves something else from now on. Requests that began go on with what
    /// there was.
    pub fn replace(&self, state: State) {
        self.state.store(Arc::new(state));
    }

    /// For the connection of that peer.
    #[must_use]
    pub fn connected(self: &Arc<Self>, peer: &Peer) -> Connected {
        Connected {
            server: Arc::clone(self),
            peer: peer.clone(),
            unfinished: InFlight::new(MAX_UNFINISHED),
        }
    }

    async fn serve(&self, request: Request<Incoming>, of: &Connected) -> Response<Body> {
        let mut open =
            Open { server: self, started: Instant::now(), record: Some(Record::new(&of.peer)) };
        let record = open.record.as_mut().expect("it was just put there");
        let answer = self.answer(request, &of.unfinished, open.started, record).await;
        open.finish(answer)
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        unfinished: &InFlight,
        started: Instant,
        record: &mut Record,
    ) -> Answer {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        let route = Route::parse(path)?;
        let state = self.state.load();
        let Some(store) = state.stores.get(route.prefix) else {
            return Err(Route::not_served().into());
        };
        record.operation = Some(route.operation.name());
        record.key_store = Some(Arc::clone(&store.path));
        record.key = route.operation.key().map(ToString::to_string);
        if head.method != Method::POST {
            return Err(Refusal::new(ErrorName::UnsupportedOperation, NOT_POST));
        }
        let claim = self.claim(store, &head)?;
        let body = self.body(body, unfinished, store.deadline).await?;
        claim.verify(&body, &store.credentials).map_err(not_signed)?;
        // Only now: what is not signed takes nobody's place.
        let Some(_place) = self.in_flight.try_enter() else { return Err(too_much()) };
        record.access_key_id = Some(claim.access_key_id().to_string());
        self.metrics.clock_ahead.set(claim.seconds_ahead(SystemTime::now()));
        if store.rate.as_ref().is_some_and(|rate| !rate.try_take()) {
            return Err(over_quota());
        }
        let until = started + store.deadline;
        let decrypts = matches!(route.operation, Operation::Decrypt(_));
        let call =
            Call { state: &state, store, metrics: &self.metrics, body: &body, until, decrypts };
        let answer = call.answer(&route.operation, record).await;
        if answer.is_err() && record.kms_request_id.is_none() {
            record.kms_request_id = wire::request_id(&body).map(|id| id.into_owned());
        }
        answer
    }

    /// The body, of a request that is worth an answer: not after its deadline.
    async fn body(
        &self,
        body: Incoming,
        unfinished: &InFlight,
        deadline: Duration,
    ) -> Result<Bytes, Refusal> {
        let mut reading = pin!(read_body(body, MAX_BODY_LEN, self.body_timeout.min(deadline)));
        let at_once = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await;
        if let Poll::Ready(body) = at_once {
            return body.map_err(not_read);
        }
        let Some(_place) = unfinished.try_enter() else { return Err(too_much()) };
        reading.await.map_err(not_read)
    }

    fn claim(&self, store: &KeyStore, head: &Parts) -> Result<Claim, Refusal> {
        let signed = RequestHead {
            method: head.method.as_str(),
            path_and_query: head.uri.path_and_query().map_or("", |path| path.as_str()),
            authority: head.uri.authority().map(|authority| authority.as_str()),
            headers: &head.headers,
        };
        Claim::parse(&signed, &store.regions, SystemTime::now()).map_err(not_signed)
    }

    fn write(&self, started: Instant, mut record: Record) {
        let total = started.elapsed();
        record.total_us = micros(total);
        if let (Some(operation), Some(store)) = (record.operation, &record.key_store) {
            self.metrics.request(operation, record.outcome, store, total);
        }
        if let Some(traces) = &self.traces {
            traces.send(&record.span(total));
        }
        self.log.log(record);
    }
}

/// A request that is not answered yet. If nobody waits for the answer any more, as
/// KMS does after a quarter of a second, that is recorded when this is dropped.
struct Open<'a> {
    server: &'a Server,
    started: Instant,
    /// Until it is written.
    record: Option<Record>,
}

impl Open<'_> {
    fn finish(mut self, answer: Answer) -> Response<Body> {
        let mut record = self.record.take().expect("only this and the end take it");
        let response = match answer {
            Ok(body) => json(StatusCode::OK, body),
            Err(Refusal { error, cause }) => {
                record.outcome = error.name().as_str();
                record.error = Some(cause.unwrap_or_else(|| error.message().to_owned().into()));
                refused(&error)
            }
        };
        record.status = response.status().as_u16();
        self.server.write(self.started, record);
        response
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        record.outcome = "abandoned";
        record.status = 0;
        record.error = Some("the client went away before the answer".into());
        self.server.write(self.started, record);
    }
}

/// A server with the peer of one connection.
#[derive(Clone)]
pub struct Connected {
    server: Arc<Server>,
    peer: Peer,
    /// Its requests whose bodies are not there yet.
    unfinished: InFlight,
}

impl Service<Request<Incoming>> for Connected {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let of = self.clone();
        Box::pin(async move { Ok(of.server.serve(request, &of).await) })
    }
}

const NOT_POST: &str = "All operations of this API are POST.";

fn too_much() -> Refusal {
    Refusal::new(ErrorName::Throttling, "The proxy has as much to do as it can. Retry later.")
}

fn over_quota() -> Refusal {
    Refusal::new(
        ErrorName::Throttling,
        "This key store has used up its requests_per_second of the proxy's configuration. Retry \
         later.",
    )
}

/// What did not arrive may arrive the next time.
fn not_read(error: BodyError) -> Refusal {
    let refusal = match error {
        BodyError::TooLong => {
            Refusal::new(ErrorName::Validation, "The body is longer than any request of this API.")
        }
        _ => Refusal::new(
            ErrorName::DependencyTimeout,
            "The body did not arrive whole before the deadline. Retry.",
        ),
    };
    refusal.because(error.to_string())
}

/// One answer for every reason but the clock, which only the caller can mend.
fn not_signed(error: SignatureError) -> Refusal {
    Refusal::from(error.answer()).because(error.to_string())
}

fn refused(error: &XksError) -> Response<Body> {
    let mut response = json(error.status(), Zeroizing::new(error.body()));
    if error.message() == NOT_POST {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

fn json(status: StatusCode, body: Zeroizing<Vec<u8>>) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_owner(Wiped(body))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body that is wiped once it is sent.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
