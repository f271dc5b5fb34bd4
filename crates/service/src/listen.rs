//! The listener: an accept loop of our own, with a bound for everything that a
//! client can make last or grow.
//!
//! HTTP/1.1 and HTTP/2, by ALPN or by what a client begins with. Malformed
//! framing, heads that are too large and floods of resets are refused by hyper
//! and h2, within the limits set here; how long a connection may take for what
//! is watched here, with one timer for each connection and none for a request.
//!
//! **At the cap.** One more connection is accepted and takes the place of another:
//! of the oldest that never had a request, else of one whose request has been
//! coming for more than a second, else of the one that has been idle the longest.
//! Where all are being served it waits, and all after it wait in the kernel's
//! backlog. So a crowd of idle, half-open or slow clients cannot keep others out.

use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower_service::Service;

use crate::shutdown::Shutdown;
use crate::tls::{Tls, TlsError, TlsSettings};

mod activity;
mod body;
mod connection;
mod counts;
mod socket;

pub use body::{BodyError, read_body};
pub use counts::Counts;

use connection::Server;

/// Where to listen, and how.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ListenSettings {
    /// Address and port.
    pub address: SocketAddr,
    /// Certificate and key. Without them, see `plain_http`.
    pub tls: Option<TlsSettings>,
    /// Serves without TLS, on a loopback address only.
    #[serde(default)]
    pub plain_http: bool,
    /// What clients may take.
    #[serde(default)]
    pub limits: Limits,
}

/// What the clients of a listener may take, each and together.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at a time.
    pub connections: NonZeroU32,
    /// For a TLS handshake.
    pub handshake_ms: NonZeroU64,
    /// For a request's head, from its first byte; for the first one, from the
    /// connection's begin. It is enforced within half as much again.
    pub head_ms: NonZeroU64,
    /// For a request's body, where a service reads it with [`read_body`].
    pub body_ms: NonZeroU64,
    /// Between two requests on a connection.
    pub idle_s: NonZeroU64,
    /// For the requests that are in flight when the service shuts down.
    pub drain_s: NonZeroU64,
}

impl Default for Limits {
    fn default() -> Self {
        const fn n(n: u64) -> NonZeroU64 {
            NonZeroU64::new(n).expect("not zero")
        }
        Self {
            connections: NonZeroU32::new(1024).expect("not zero"),
            handshake_ms: n(5000),
            head_ms: n(5000),
            body_ms: n(5000),
            idle_s: n(300),
            drain_s: n(10),
        }
    }
}

impl Limits {
    /// For a request's body.
    #[must_use]
    pub fn body(&self) -> Duration {
        Duration::from_millis(self.body_ms.get())
    }

    fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms.get())
    }

    fn head(&self) -> Duration {
        Duration::from_millis(self.head_ms.get())
    }

    fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_s.get())
    }

    fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s.get())
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the connection comes from: the client, or the last proxy before us.
    pub address: SocketAddr,
    /// Whose certificate the client showed, where one is asked for.
    pub subject: Option<Arc<str>>,
}

/// A bound socket that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    counts: Counts,
}

impl Listener {
    /// Loads certificate and key, and binds the address.
    ///
    /// # Errors
    /// When TLS cannot be served, or is missing and must not be, or the address
    /// is taken or not this machine's.
    pub fn bind(settings: &ListenSettings) -> Result<Self, ListenError> {
        let ListenSettings { address, tls, plain_http, limits } = settings;
        let tls = match tls {
            Some(_) if *plain_http => return Err(ListenError::Both),
            Some(tls) => Some(Arc::new(Tls::load(tls)?)),
            None if !plain_http => return Err(ListenError::Neither),
            None if !address.ip().is_loopback() => return Err(ListenError::NotLoopback(*address)),
            None => None,
        };
        Self::bind_to(*address, tls, limits.clone())
    }

    /// Binds an address without TLS, wherever it is: for what is no secret.
    pub(crate) fn bind_plain(address: SocketAddr, limits: Limits) -> Result<Self, ListenError> {
        Self::bind_to(address, None, limits)
    }

    fn bind_to(
        address: SocketAddr,
        tls: Option<Arc<Tls>>,
        limits: Limits,
    ) -> Result<Self, ListenError> {
        let socket = socket::bind(address)
            .map_err(|source| ListenError::CannotListen { address, source })?;
        Ok(Self { socket, tls, limits, counts: Counts::default() })
    }

    /// The address, with the port that was given where 0 was asked for.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The TLS side, to reload it and to know when it expires.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// What is counted here, for metrics.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Serves until `shutdown` begins and what is in flight is done, or its time
    /// is over.
    pub async fn serve<S, B>(self, service: S, shutdown: &Shutdown) -> Drained
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        self.serve_each(move |_| service.clone(), shutdown).await
    }

    /// As [`serve`](Self::serve), with a service made for each connection, which
    /// knows its peer. (An extension of each request would cost two allocations
    /// each.)
    pub async fn serve_each<M, S, B>(self, make: M, shutdown: &Shutdown) -> Drained
    where
        M: Fn(&Peer) -> S + Send + Sync + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let Self { socket, tls, limits, counts } = self;
        let slots = Arc::new(Semaphore::new(limits.connections.get() as usize));
        let drain = limits.drain();
        let server = Arc::new(Server::new(tls, limits, counts, make));
        let mut running = JoinSet::new();
        let accepting = async {
            loop {
                let (stream, address) = accept(&socket, &server).await;
                let slot = slot(&slots, &server).await;
                while running.try_join_next().is_some() {} // what is done
                let server = Arc::clone(&server);
                running.spawn(async move {
                    server.serve(stream, address).await;
                    drop(slot);
                });
            }
        };
        tokio::select! {
            () = shutdown.begun() => (),
            () = accepting => (),
        }
        server.stop_all();
        drop(socket); // further clients are refused, and go elsewhere
        drain_all(&server, running, drain).await
    }
}

/// Anything that can be said to have gone wrong.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut with a request in flight, for its time was
    /// over.
    pub cut: usize,
}

/// Waits for a connection. Whatever is wrong, it goes on.
async fn accept<M>(socket: &TcpListener, server: &Server<M>) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                server.warn_seldom(format_args!("cannot accept connections: {error}"));
                // File descriptors or memory are used up: free some, and do not
                // ask again at once.
                server.shed_one();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The client was gone before we came to it (accept(2)).
fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A place for one connection more; another has to make room.
async fn slot<M>(slots: &Arc<Semaphore>, server: &Server<M>) -> OwnedSemaphorePermit {
    loop {
        if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            return slot;
        }
        server.warn_seldom(format_args!("all connections of limits.connections are in use"));
        server.shed_one();
        // Idle ones come up without telling us.
        let freed = Arc::clone(slots).acquire_owned();
        if let Ok(Ok(slot)) = tokio::time::timeout(Duration::from_millis(20), freed).await {
            return slot;
        }
    }
}

async fn drain_all<M>(server: &Server<M>, mut running: JoinSet<()>, within: Duration) -> Drained {
    let all = async { while running.join_next().await.is_some() {} };
    let cut = match tokio::time::timeout(within, all).await {
        Ok(()) => 0,
        Err(_) => server.busy(),
    };
    running.shutdown().await;
    Drained { cut }
}

/// Why nothing can be listened to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No TLS, and nobody said that it is meant so.
    #[error("set listen.tls; or listen.plain_http = true, which only a loopback address may have")]
    Neither,
    /// Both were said.
    #[error("listen has tls and plain_http = true: remove one of them")]
    Both,
    /// Whoever is on the network would read along.
    #[error("{0} is no loopback address, and only those may have plain_http: set listen.tls")]
    NotLoopback(SocketAddr),
    /// What the system said.
    #[error("cannot listen on {address}: {source}")]
    CannotListen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
