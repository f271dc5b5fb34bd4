//! One connection, from its handshake to its end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower_service::Service;

use super::activity::{Activities, Activity, Entry, Overdue};
use super::{BoxError, Counts, Limits, Peer};
use crate::tls::Tls;

/// What all connections of a listener share.
pub(super) struct Server<M> {
    tls: Option<Arc<Tls>>,
    limits: Limits,
    counts: Counts,
    activities: Activities,
    protocols: Protocols,
    make: M,
    started: Instant,
    /// When something was last warned of: seconds after `started`, plus one.
    warned: AtomicU64,
}

/// A connection that has requests, and had none done for so long, makes room at
/// the cap: a body does not come.
const SLOW: Duration = Duration::from_secs(1);

/// How to speak with a client that said what it speaks, or did not.
struct Protocols {
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
    either: Builder<TokioExecutor>,
}

impl<M> Server<M> {
    pub(super) fn new(tls: Option<Arc<Tls>>, limits: Limits, counts: Counts, make: M) -> Self {
        Self {
            tls,
            limits,
            counts,
            activities: Activities::default(),
            protocols: protocols(),
            make,
            started: Instant::now(),
            warned: AtomicU64::new(0),
        }
    }

    /// Ends a connection that can be spared, to make room.
    pub(super) fn shed_one(&self) {
        if self.activities.shed_one(SLOW) {
            self.counts.end("shed");
        }
    }

    /// Asks every connection to end after its requests, those that begin later too.
    pub(super) fn stop_all(&self) {
        self.activities.stop_all();
    }

    /// How many have a request in flight.
    pub(super) fn busy(&self) -> usize {
        self.activities.busy()
    }

    /// Warns, of whatever it is, ten seconds after the last warning at the
    /// earliest: clients must not be able to fill the log.
    pub(super) fn warn_seldom(&self, warning: fmt::Arguments<'_>) {
        let now = self.started.elapsed().as_secs() + 1;
        let warned = self.warned.load(Relaxed);
        let is_due = warned == 0 || now - warned >= 10;
        if is_due && self.warned.compare_exchange(warned, now, Relaxed, Relaxed).is_ok() {
            tracing::warn!("{warning}");
        }
    }

    /// Serves a connection to its end.
    pub(super) async fn serve<S, B>(&self, stream: TcpStream, address: SocketAddr)
    where
        M: Fn(&Peer) -> S,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let open = self.begin();
        let activity = &open.entry.activity;
        let Some(tls) = &self.tls else {
            let peer = Peer { address, subject: None };
            return self.speak(&self.protocols.either, stream, &peer, activity).await;
        };
        let Some(stream) = self.shake_hands(tls, stream, address, activity).await else {
            return;
        };
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let subject = certificate.and_then(|certificate| tls.subject_of(certificate));
        let peer = Peer { address, subject: subject.map(Arc::from) };
        let protocol = self.protocols.named(session.alpn_protocol());
        self.speak(protocol, stream, &peer, activity).await;
    }

    fn begin(&self) -> Open<'_> {
        self.counts.accepted.inc();
        self.counts.open.inc();
        Open { counts: &self.counts, entry: self.activities.begin() }
    }

    async fn shake_hands(
        &self,
        tls: &Tls,
        stream: TcpStream,
        address: SocketAddr,
        activity: &Activity,
    ) -> Option<TlsStream<TcpStream>> {
        let handshake = TlsAcceptor::from(tls.config()).accept(stream);
        let handshake = tokio::time::timeout(self.limits.handshake(), handshake);
        let done = tokio::select! {
            done = handshake => done,
            () = activity.wake.notified() => return None,
        };
        match done {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => {
                self.counts.end("tls");
                self.tell_failed_handshake(tls, address, &error);
            }
            Err(_) => self.counts.end("handshake"),
        }
        None
    }

    /// Somebody without the right certificate is worth a warning; scanners are
    /// not.
    fn tell_failed_handshake(&self, tls: &Tls, address: SocketAddr, error: &io::Error) {
        match tls.asks_for_clients() && error.kind() == io::ErrorKind::InvalidData {
            true => self.warn_seldom(format_args!("TLS with {address} failed: {error}")),
            false => tracing::debug!(%address, %error, "a TLS handshake failed"),
        }
    }

    async fn speak<I, S, B>(
        &self,
        protocol: &Builder<TokioExecutor>,
        stream: I,
        peer: &Peer,
        activity: &Arc<Activity>,
    ) where
        M: Fn(&Peer) -> S,
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let service = TowerToHyperService::new((self.make)(peer));
        let counting = Arc::clone(activity);
        let counted = service_fn(move |request: Request<Incoming>| {
            let version = request.version();
            let in_flight = counting.request(version);
            let response = hyper::service::Service::call(&service, request);
            async move {
                let mut response = response.await?;
                // Hyper may send this before `wake` is looked at.
                if version != Version::HTTP_2 && in_flight.is_stopping() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                drop(in_flight);
                Ok::<_, S::Error>(response)
            }
        });
        let io = Watched { io: TokioIo::new(stream), activity: Arc::clone(activity) };
        let mut connection = pin!(protocol.serve_connection(io, counted));
        let tick = self.limits.head() / 2;
        let mut timer = pin!(tokio::time::sleep(tick));
        let mut is_ending = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(address = %peer.address, %error, "a connection failed");
                    }
                    return;
                }
                () = activity.wake.notified() => {
                    if activity.is_cut() {
                        return;
                    }
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = timer.as_mut() => {
                    if self.is_over(activity, is_ending) {
                        return;
                    }
                    timer.as_mut().reset(tokio::time::Instant::now() + tick);
                }
            }
        }
    }

    /// Whether a connection has to be cut now.
    fn is_over(&self, activity: &Activity, is_ending: bool) -> bool {
        if is_ending {
            return !activity.is_busy(); // it does not take our goodbye
        }
        let overdue = activity.overdue(self.limits.head(), self.limits.idle());
        match overdue {
            Some(Overdue::Head) => self.counts.end("head"),
            Some(Overdue::Idle) => self.counts.end("idle"),
            None => {}
        }
        overdue.is_some()
    }
}

/// An open connection, among the others and in the metrics.
struct Open<'a> {
    counts: &'a Counts,
    entry: Entry<'a>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.counts.open.dec();
    }
}

impl Protocols {
    fn named(&self, alpn: Option<&[u8]>) -> &Builder<TokioExecutor> {
        match alpn {
            Some(b"h2") => &self.http2,
            Some(_) => &self.http1,
            None => &self.either,
        }
    }
}

/// The longest head of a request: an HTTP/1.1 one with all its headers, or the
/// headers of an HTTP/2 one.
const MAX_HEAD_BYTES: u32 = 16 * 1024;
const MAX_HEADERS: usize = 64;

fn protocols() -> Protocols {
    let mut either = Builder::new(TokioExecutor::new());
    either
        .http1()
        .max_buf_size(MAX_HEAD_BYTES as usize)
        .max_headers(MAX_HEADERS)
        .half_close(false)
        .header_read_timeout(None); // is_over()
    either
        .http2()
        .max_concurrent_streams(100)
        .max_header_list_size(MAX_HEAD_BYTES)
        // A body is read at once or not at all, so no window has to be wide.
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_frame_size(16 * 1024)
        .max_send_buf_size(64 * 1024)
        // Streams that a client resets before we came to them (rapid reset), and
        // those that we reset for its errors: then the connection ends.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100);
    Protocols { http1: either.clone().http1_only(), http2: either.clone().http2_only(), either }
}

/// A stream that tells when bytes came.
struct Watched<I> {
    io: I,
    activity: Arc<Activity>,
}

impl<I: Read + Unpin> Read for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        if polled.is_ready() {
            self.activity.read();
        }
        polled
    }
}

impl<I: Write + Unpin> Write for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}
