//! From a request of HTTP to its answer: which operation, who calls, whether they
//! may, and what is written of it.
//!
//! In this order, and the first thing that is wrong is the answer: path, method;
//! and to decrypt: token, key and generation, whether the caller may, whether the
//! key is enabled, content type, body, its members, quota, HSM. Whoever has no good
//! token gets no further than that, and no request of theirs waits for a body, a
//! place or an HSM.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tower_service::Service;
use twinlock_service::limit::InFlight;
use twinlock_service::listen::{BodyError, Peer, read_body};
use twinlock_service::log::{RequestLog, micros};
use twinlock_service::traces::Traces;
use zeroize::Zeroizing;

use crate::bearer::{Caller, Unverified};
use crate::challenge::Challenge;
use crate::error::ErrorName;
use crate::metrics::Metrics;
use crate::operations::{self, Answer, Call, Refusal};
use crate::record::Record;
use crate::route::Route;
use crate::state::State;
use crate::wire::{self, MAX_BODY_LEN};

/// Decryptions that are under way side by side at the most.
const MAX_IN_FLIGHT: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not 0");

/// Requests of one connection that wait for an issuer's keys or for the rest of
/// their bodies, at the most: nobody knows yet whose they are, or how much is to
/// come. Those of clients are small and arrive whole, or nearly. Other connections
/// have places of their own, which strangers cannot take.
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

    /// Decryptions that are under way.
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
        let state = self.state.load_full();
        let mut open =
            Open { server: self, started: Instant::now(), record: Some(Record::new(&of.peer)) };
        let record = open.record.as_mut().expect("it was just put there");
        let answer = self.answer(&state, request, &of.unfinished, record).await;
        open.finish(answer, &state.challenge)
    }

    async fn answer(
        &self,
        state: &State,
        request: Request<Incoming>,
        unfinished: &InFlight,
        record: &mut Record,
    ) -> Answer {
        let (head, body) = request.into_parts();
        let route = Route::parse(head.uri.path(), state.public_url.prefix());
        let route = route.ok_or(ErrorName::NotFound)?;
        record.operation = Some(route.name());
        if head.method.as_str() != route.method() {
            return Err(Refusal {
                allow: Some(route.method()),
                ..ErrorName::MethodNotAllowed.into()
            });
        }
        match route {
            Route::PublicKey { key } => operations::public_key(state, key, record),
            Route::Decrypt { key, id } => {
                let caller = self.authenticate(state, &head.headers, unfinished).await?;
                record.note_caller(&caller);
                let call = Call::new(state, &self.metrics, (key, id), record)?;
                soon(call.authorize(&caller, record), unfinished).await??;
                self.decrypt(&call, &head.headers, body, unfinished, record).await
            }
        }
    }

    /// Who calls, by the token in the head.
    async fn authenticate(
        &self,
        state: &State,
        headers: &HeaderMap,
        unfinished: &InFlight,
    ) -> Result<Caller, Refusal> {
        let token = bearer_token(headers).ok_or_else(|| {
            Refusal::from(ErrorName::Unauthorized).because("there is no bearer token")
        })?;
        let verified = soon(state.bearer.verify(token), unfinished).await?;
        self.metrics.bearer_token(verified.as_ref());
        verified.map_err(|error| match error {
            Unverified::Invalid(why) => Refusal {
                wrong_token: Some(why),
                ..Refusal::from(ErrorName::Unauthorized).because(why)
            },
            Unverified::Unavailable(why) => Refusal::unavailable(why),
        })
    }

    /// For a caller who may: whoever may not takes nobody's place.
    async fn decrypt(
        &self,
        call: &Call<'_>,
        headers: &HeaderMap,
        body: Incoming,
        unfinished: &InFlight,
        record: &mut Record,
    ) -> Answer {
        if !is_json(headers) {
            return Err(ErrorName::UnsupportedMediaType.into());
        }
        let reading = read_body(body, MAX_BODY_LEN, self.body_timeout);
        let body = soon(reading, unfinished).await?.map_err(not_read)?;
        // Not before: a body that comes slowly would keep others out.
        let _place = self.in_flight.try_enter().ok_or_else(too_much)?;
        call.answer(&body, record).await
    }

    fn write(&self, started: Instant, mut record: Record) {
        let total = started.elapsed();
        record.total_us = micros(total);
        if let Some(operation) = record.operation {
            self.metrics.request(operation, record.outcome, record.key.as_ref(), total);
        }
        if let Some(traces) = &self.traces {
            traces.send(&record.span(total));
        }
        // What anybody can cause must not push out what somebody did.
        match record.issuer.is_some() {
            true => self.log.log(record),
            false => self.log.log_if_room(record),
        }
    }
}

/// What stands behind `Bearer ` in the one `Authorization` (RFC 6750 section 2.1).
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let text = one(headers, &header::AUTHORIZATION)?;
    let (scheme, token) = text.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn is_json(headers: &HeaderMap) -> bool {
    one(headers, &header::CONTENT_TYPE).is_some_and(wire::is_json)
}

/// A header that is there once, as text.
fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok())?
}

/// What comes of it, at once or in one of the connection's places.
async fn soon<T>(work: impl Future<Output = T>, places: &InFlight) -> Result<T, Refusal> {
    let mut work = pin!(work);
    let at_once = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
    if let Poll::Ready(done) = at_once {
        return Ok(done);
    }
    let _place = places.try_enter().ok_or_else(too_much)?;
    Ok(work.await)
}

fn too_much() -> Refusal {
    Refusal::from(ErrorName::Busy).because("too many requests are under way")
}

fn not_read(error: BodyError) -> Refusal {
    let name = match error {
        BodyError::TooLong => ErrorName::TooLarge,
        BodyError::TooSlow => ErrorName::TooSlow,
        _ => ErrorName::InvalidRequest,
    };
    Refusal::from(name).because(error.to_string())
}

/// A request that is not answered yet. If nobody waits for the answer any more,
/// that is recorded when this is dropped.
struct Open<'a> {
    server: &'a Server,
    started: Instant,
    /// Until it is written.
    record: Option<Record>,
}

impl Open<'_> {
    fn finish(mut self, answer: Answer, challenge: &Challenge) -> Response<Body> {
        let mut record = self.record.take().expect("only this and the end take it");
        let response = match answer {
            Ok(body) => json(StatusCode::OK, body),
            Err(refusal) => {
                record.outcome = refusal.name.as_str();
                let response = refused(&refusal, challenge);
                let cause = refusal.cause.unwrap_or_else(|| refusal.name.message().into());
                record.error = Some(cause);
                response
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
    /// Its requests that wait for what only others can bring.
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

fn refused(refusal: &Refusal, challenge: &Challenge) -> Response<Body> {
    let mut response = json(refusal.name.status(), refusal.name.body().into());
    let headers = response.headers_mut();
    if refusal.name == ErrorName::Unauthorized {
        challenge.add_to(headers, refusal.wrong_token);
    }
    if let Some(seconds) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(method) = refusal.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(method));
    }
    response
}

fn json(status: StatusCode, body: Zeroizing<Vec<u8>>) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_owner(Wiped(body))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    // A plaintext, a challenge or a key that may be exchanged: nothing for a cache
    // in between. How long clients may keep a public key stands in its body.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const JSON: &str = "application/json; charset=utf-8";

/// A body that is wiped once it is sent.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_bearer_token_stands_behind_its_scheme() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c "] {
            let headers = headers("authorization", &[value.as_bytes()]);
            assert_eq!(bearer_token(&headers), Some("a.b.c"), "{value}");
        }
    }

    /// Case 14.
    #[test]
    fn what_is_no_bearer_token_is_none() {
        for values in [
            &[][..],
            &[&b""[..]],
            &[b"Bearer"],
            &[b"Bearer "],
            &[b"Bearer   "],
            &[b"Basic a.b.c"],
            &[b"Bearer\xff x"],
            &[b"Bearera.b.c"],
            &[b"Bearer a.b.c", b"Bearer a.b.c"],
        ] {
            assert_eq!(bearer_token(&headers("authorization", values)), None, "{values:?}");
        }
    }

    #[test]
    fn a_content_type_is_there_once() {
        let json: &[u8] = b"application/json";
        assert!(is_json(&headers("content-type", &[json])));
        assert!(!is_json(&headers("content-type", &[])));
        assert!(!is_json(&headers("content-type", &[json, json])));
    }

    #[test]
    fn a_refusal_is_told_and_its_cause_is_not() {
        let challenge = Challenge::new(&Default::default(), "https://h").unwrap();
        let refusal = Refusal::unavailable("the PIN of hsm a is locked");
        let response = refused(&refusal, &challenge);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        assert!(!response.headers().contains_key("www-authenticate"));
        let unauthorized = refused(&ErrorName::Unauthorized.into(), &challenge);
        assert!(unauthorized.headers().contains_key("www-authenticate"));
        assert!(!unauthorized.headers().contains_key("retry-after"));
    }
}
