//! Clients over real sockets: slow, hostile, many, and those that come while
//! things change.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::TcpStream as Client;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use axum::body::Body as AnyBody;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::tls::tests::Ca;

/// A server under test, and what its service does: answers `/slow` when it is
/// told to, and all else with the length of the body.
struct Served {
    address: SocketAddr,
    counts: Counts,
    tls: Option<Arc<Tls>>,
    shutdown: Shutdown,
    go_on: Arc<Notify>,
    /// Requests that came.
    came: Arc<AtomicUsize>,
    ended: JoinHandle<Drained>,
}

const MOST: usize = 1000;

async fn serve(change: impl FnOnce(&mut ListenSettings)) -> Served {
    let mut settings = ListenSettings {
        address: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        plain_http: true,
        limits: Limits::default(),
    };
    change(&mut settings);
    let body_within = settings.limits.body();
    let listener = Listener::bind(&settings).unwrap();
    let (address, tls) = (listener.address().unwrap(), listener.tls());
    let (counts, shutdown) = (listener.counts().clone(), Shutdown::default());
    let (go_on, came) = (Arc::<Notify>::default(), Arc::<AtomicUsize>::default());
    let ended = tokio::spawn({
        let (shutdown, go_on, came) = (shutdown.clone(), Arc::clone(&go_on), Arc::clone(&came));
        async move {
            let make = move |peer: &Peer| Answers {
                go_on: Arc::clone(&go_on),
                came: Arc::clone(&came),
                subject: peer.subject.clone(),
                body_within,
            };
            listener.serve_each(make, &shutdown).await
        }
    });
    Served { address, counts, tls, shutdown, go_on, came, ended }
}

#[derive(Clone)]
struct Answers {
    go_on: Arc<Notify>,
    came: Arc<AtomicUsize>,
    subject: Option<Arc<str>>,
    body_within: Duration,
}

impl Service<Request<Incoming>> for Answers {
    type Response = Response<AnyBody>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let this = self.clone();
        this.came.fetch_add(1, SeqCst);
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            if path == "/slow" {
                this.go_on.notified().await;
            }
            let text = match read_body(request.into_body(), MOST, this.body_within).await {
                Ok(_) if path == "/who" => format!("{:?}", this.subject),
                Ok(body) => body.len().to_string(),
                Err(error) => error.to_string(),
            };
            Ok(Response::new(AnyBody::from(text)))
        })
    }
}

impl Served {
    fn connect(&self) -> Client {
        let client = Client::connect(self.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        client
    }

    /// All that comes until the server ends the connection.
    fn all_of(&self, sent: &[u8]) -> String {
        let mut client = self.connect();
        let _ = client.write_all(sent); // it may have heard enough
        read_all(&mut client)
    }

    async fn until(&self, done: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !done(self) {
            assert!(started.elapsed() < Duration::from_secs(30), "it does not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) -> Drained {
        self.shutdown.begin();
        self.ended.await.unwrap()
    }
}

fn read_all(client: &mut impl io::Read) -> String {
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer); // a reset is an end, too
    String::from_utf8_lossy(&answer).into_owned()
}

/// One answer with a short body, on a connection that stays.
fn read_one(client: &mut impl io::Read) -> String {
    let (mut answer, mut byte) = (String::new(), [0]);
    while !answer.ends_with("\r\n\r\n") {
        client.read_exact(&mut byte).unwrap();
        answer.push(char::from(byte[0]));
    }
    let (_, len) = answer.split_once("content-length: ").expect("a length");
    let mut body = vec![0; len.split_once('\r').unwrap().0.parse().unwrap()];
    client.read_exact(&mut body).unwrap();
    answer + std::str::from_utf8(&body).unwrap()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
const SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";

fn ms(ms: u64) -> NonZeroU64 {
    NonZeroU64::new(ms).unwrap()
}

#[test]
fn plain_http_is_for_loopback_and_for_who_asks_for_it() {
    let settings = |text: &str| toml_edit::de::from_str::<ListenSettings>(text).unwrap();
    let error = |text| Listener::bind(&settings(text)).unwrap_err();
    assert!(matches!(error("address = '127.0.0.1:0'"), ListenError::Neither));
    let open = error("address = '0.0.0.0:0'\nplain_http = true");
    assert!(matches!(open, ListenError::NotLoopback(_)), "{open}");
    let both = "address = '127.0.0.1:0'\nplain_http = true\ntls = { certificate = 'a', key = 'b' }";
    assert!(matches!(error(both), ListenError::Both));
    for bad in ["address = 'localhost:80'", "address = '127.0.0.1:0'\nlimits = { idle_s = 0 }"] {
        assert!(toml_edit::de::from_str::<ListenSettings>(bad).is_err(), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_has_many_requests() {
    let served = serve(|_| {}).await;
    let mut client = served.connect();
    for _ in 0..3 {
        client.write_all(GET).unwrap();
        assert!(read_one(&mut client).ends_with("\r\n\r\n0"));
    }
    client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc").unwrap();
    assert!(read_one(&mut client).ends_with("\r\n\r\n3"));
    client.write_all(&[GET, GET, LAST].concat()).unwrap();
    assert_eq!(read_all(&mut client).matches("HTTP/1.1 200 OK").count(), 3);
    assert_eq!(served.counts.accepted.get(), 1);
    assert_eq!(served.end().await, Drained { cut: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_or_malformed_are_refused() {
    let served = serve(|_| {}).await;
    let many = "a: b\r\n".repeat(1000);
    let long = format!("a: {}\r\n", "b".repeat(40_000));
    for (headers, status) in [
        (many.as_str(), "431"),
        (long.as_str(), "431"),
        ("content-length: 1\r\ncontent-length: 2\r\n", "400"),
        ("content-length: +1\r\n", "400"),
        ("content-length: 99999999999999999999\r\n", "400"),
        ("transfer-encoding: identity, gzip\r\n", "400"),
        ("a b: c\r\n", "400"),
        ("a : c\r\n", "400"),
        ("a: b\r\n c\r\n", "400"),
        ("a: \0\r\n", "400"),
    ] {
        let answer =
            served.all_of(format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes());
        let shown = headers.chars().take(40).collect::<String>();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shown}: {answer}");
    }
    let endless = served.all_of(&[b'G'; 200_000]);
    assert!(endless.is_empty() || endless.starts_with("HTTP/1.1 4"), "{endless}");
    assert_eq!(served.came.load(SeqCst), 0);
}

/// RFC 9112 section 6.1: such a request may be an attempt at smuggling, and what
/// follows it is not read as a request.
#[tokio::test(flavor = "multi_thread")]
async fn two_ways_of_framing_end_the_connection() {
    let served = serve(|_| {}).await;
    let (length, chunked) = ("content-length: 4\r\n", "transfer-encoding: chunked\r\n");
    for headers in [[length, chunked].concat(), [chunked, length].concat()] {
        let smuggled = "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";
        let sent = format!("POST / HTTP/1.1\r\nhost: x\r\n{headers}\r\n0\r\n\r\n{smuggled}");
        let answer = served.all_of(sent.as_bytes());
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    let bad_chunks = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    assert!(served.all_of(bad_chunks.as_bytes()).ends_with("ended too early"));
    assert!(served.came.load(SeqCst) <= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_in_bytes_and_time() {
    let served = serve(|settings| settings.limits.body_ms = ms(200)).await;
    let post = |headers: &str, body: &str| {
        served.all_of(
            format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n{body}")
                .as_bytes(),
        )
    };
    let long = "x".repeat(MOST + 1);
    let chunked = |body: &str, size: usize| {
        let chunks = body.as_bytes().chunks(size).map(|chunk| {
            format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap())
        });
        chunks.collect::<String>() + "0\r\n\r\n"
    };
    let exact = &long[..MOST];
    assert!(post("content-length: 1000\r\n", exact).ends_with("\r\n\r\n1000"));
    assert!(post("content-length: 1001\r\n", &long).ends_with("too long"));
    assert!(post("content-length: 999999999999\r\n", "x").ends_with("too long"));
    let te = "transfer-encoding: chunked\r\n";
    for size in [1, 7, 1000] {
        assert!(post(te, &chunked(exact, size)).ends_with("\r\n\r\n1000"), "{size}");
        assert!(post(te, &chunked(&long, size)).ends_with("too long"), "{size}");
    }
    assert!(post("content-length: 10\r\n", "half").ends_with("in time"));
    let mut client = served.connect();
    client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = read_all(&mut client);
    assert!(answer.is_empty() || answer.ends_with("too early"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_or_silent_is_cut_while_others_are_served() {
    let served = serve(|settings| {
        settings.limits.head_ms = ms(200);
        settings.limits.idle_s = ms(1);
    })
    .await;
    let mut silent = served.connect();
    let mut half = served.connect();
    half.write_all(b"GET / HTTP/1.1\r\nhost:").unwrap();
    let mut idle = served.connect();
    idle.write_all(GET).unwrap();
    read_one(&mut idle);
    let mut then_half = served.connect();
    then_half.write_all(GET).unwrap();
    read_one(&mut then_half);
    then_half.write_all(b"GET /").unwrap();
    let dripping = std::thread::spawn({
        let mut client = served.connect();
        move || {
            let head = b"GET / HTTP/1.1\r\nhost: x\r\na: ".iter().chain(std::iter::repeat(&b'a'));
            let cut = head.take(3000).any(|byte| {
                std::thread::sleep(Duration::from_millis(10));
                client.write_all(&[*byte]).is_err()
            });
            assert!(cut, "thirty seconds for a head");
        }
    });
    for client in [&mut silent, &mut half, &mut idle, &mut then_half] {
        assert_eq!(read_all(client), "");
    }
    dripping.join().unwrap();
    assert!(served.all_of(LAST).starts_with("HTTP/1.1 200 "));
    assert_eq!((served.counts.ended("head"), served.counts.ended("idle")), (4, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_cap_the_idle_make_room_and_the_busy_stay() {
    let served = serve(|settings| settings.limits.connections = NonZeroU32::new(4).unwrap()).await;
    let mut busy = served.connect();
    busy.write_all(SLOW).unwrap();
    served.until(|served| served.came.load(SeqCst) == 1).await;
    let _silent: Vec<_> = (0..20).map(|_| served.connect()).collect();
    for _ in 0..10 {
        assert!(served.all_of(LAST).starts_with("HTTP/1.1 200 "));
    }
    assert!(served.counts.open.get() <= 4);
    assert!(served.counts.ended("shed") >= 17);
    served.go_on.notify_one();
    assert!(read_one(&mut busy).starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_cap_bodies_that_do_not_come_make_room() {
    let served = serve(|settings| {
        settings.limits.connections = NonZeroU32::new(4).unwrap();
        settings.limits.body_ms = ms(600_000);
    })
    .await;
    let half = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf";
    let mut slow: Vec<_> = (0..4).map(|_| served.connect()).collect();
    slow.iter_mut().for_each(|client| client.write_all(half).unwrap());
    served.until(|served| served.came.load(SeqCst) == 4).await;
    assert!(served.all_of(LAST).starts_with("HTTP/1.1 200 "));
    assert_eq!(served.counts.ended("shed"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_are_busy_the_next_waits_its_turn() {
    let served = serve(|settings| settings.limits.connections = NonZeroU32::new(2).unwrap()).await;
    let mut busy = [served.connect(), served.connect()];
    busy.iter_mut().for_each(|client| client.write_all(SLOW).unwrap());
    served.until(|served| served.came.load(SeqCst) == 2).await;
    let mut waiting = served.connect();
    waiting.write_all(LAST).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(served.came.load(SeqCst) <= 3); // two, unless this took a second
    served.go_on.notify_waiters();
    assert!(read_all(&mut waiting).starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_lets_requests_finish_and_refuses_others() {
    let served = serve(|_| {}).await;
    let mut busy = served.connect();
    busy.write_all(SLOW).unwrap();
    let mut idle = served.connect();
    idle.write_all(GET).unwrap();
    read_one(&mut idle);
    served.until(|served| served.came.load(SeqCst) == 2).await;
    served.shutdown.begin();
    assert_eq!(read_all(&mut idle), "");
    let address = served.address;
    served.until(|_| Client::connect(address).is_err()).await;
    served.go_on.notify_one();
    let answer = read_all(&mut busy);
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"),
        "{answer}"
    );
    assert_eq!(served.end().await, Drained { cut: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_no_longer_than_it_may() {
    let served = serve(|settings| settings.limits.drain_s = ms(1)).await;
    let mut busy = served.connect();
    busy.write_all(SLOW).unwrap();
    served.until(|served| served.came.load(SeqCst) == 1).await;
    assert_eq!(served.end().await, Drained { cut: 1 });
    assert_eq!(read_all(&mut busy), "");
}

/// In a process of its own, which has few files to open.
#[test]
fn without_files_to_open_it_goes_on() {
    let inner = "listen::tests::inner_without_files_to_open";
    let script = format!("ulimit -n 64 && exec \"$0\" --exact {inner}");
    let program = std::env::current_exe().unwrap();
    let mut run = std::process::Command::new("sh");
    run.args(["-c", &script]).arg(program);
    let output = run.env("TWINLOCK_FEW_FILES", "1").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inner_without_files_to_open() {
    if std::env::var_os("TWINLOCK_FEW_FILES").is_none() {
        return; // it is run by the one above
    }
    let served = serve(|_| {}).await;
    let mut idle = served.connect();
    idle.write_all(GET).unwrap();
    read_one(&mut idle);
    let mut held: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    drop(held.pop());
    let mut client = served.connect(); // the last file that there was
    client.write_all(LAST).unwrap();
    assert!(read_all(&mut client).starts_with("HTTP/1.1 200 "));
    assert_eq!(read_all(&mut idle), "", "it made room");
    assert_eq!(served.counts.ended("shed"), 1);
}

// === TLS ===

fn tls_client(served: &Served, ca: &Ca, shows: Option<&TlsSettings>) -> impl io::Read + io::Write {
    let name = ServerName::try_from("xks.example").unwrap();
    let session = ClientConnection::new(Arc::new(ca.client(shows)), name).unwrap();
    StreamOwned::new(session, served.connect())
}

async fn serve_tls(ca: &Ca, change: impl FnOnce(&mut ListenSettings)) -> Served {
    serve(|settings| {
        settings.plain_http = false;
        settings.tls = Some(ca.issue("a", &["xks.example"], None));
        change(settings);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subject_of_a_client_is_known() {
    let ca = Ca::new();
    let served = serve_tls(&ca, |settings| {
        settings.tls.as_mut().unwrap().client = ca.clients(&["kms.example"]);
    })
    .await;
    let known = ca.issue("client", &["kms.example"], None);
    let who = b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut client = tls_client(&served, &ca, Some(&known));
    client.write_all(who).unwrap();
    assert!(read_all(&mut client).ends_with("Some(\"kms.example\")"));
    let unknown = ca.issue("client", &["other.example"], None);
    let mut client = tls_client(&served, &ca, Some(&unknown));
    let _ = client.write_all(who);
    assert_eq!(read_all(&mut client), "");
    served.until(|served| served.counts.ended("tls") == 1).await;
    assert_eq!(served.came.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_handshake_is_cut_and_plain_http_is_no_handshake() {
    let ca = Ca::new();
    let served = serve_tls(&ca, |settings| settings.limits.handshake_ms = ms(100)).await;
    let mut silent = served.connect();
    assert_eq!(read_all(&mut silent), "");
    let mut half = served.connect();
    half.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    assert_eq!(read_all(&mut half), "");
    assert!(!served.all_of(GET).contains("HTTP/1.1 200"));
    served.until(|served| served.counts.ended("tls") == 1).await;
    assert_eq!(served.counts.ended("handshake"), 2);
    let mut client = tls_client(&served, &ca, None);
    client.write_all(LAST).unwrap();
    assert!(read_all(&mut client).starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_under_load_without_a_failed_request() {
    let ca = Ca::new();
    let served = serve_tls(&ca, |_| {}).await;
    let tls = served.tls.clone().unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let requests = std::thread::scope(|scope| {
        let load = || {
            let mut requests = 0;
            while !is_over.load(SeqCst) {
                let mut client = tls_client(&served, &ca, None);
                for _ in 0..10 {
                    client.write_all(GET).unwrap();
                    assert!(read_one(&mut client).starts_with("HTTP/1.1 200 "));
                    requests += 1;
                }
            }
            requests
        };
        let threads = [scope.spawn(load), scope.spawn(load)];
        for _ in 0..20 {
            ca.issue("a", &["xks.example"], None);
            tls.reload().unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
        is_over.store(true, SeqCst);
        threads.map(|thread| thread.join().unwrap())
    });
    assert!(requests.iter().all(|&requests| requests > 0));
}

// === HTTP/2 ===

/// Frames by hand, since a client library refuses to misbehave.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// GET, http, a path, and a literal `:authority: x`, in HPACK.
fn head(path: &str) -> Vec<u8> {
    let len = u8::try_from(path.len()).unwrap();
    [&[0x82, 0x86, 0x04, len], path.as_bytes(), &[0x01, 1, b'x']].concat()
}

fn http2(served: &Served) -> Client {
    let mut client = served.connect();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    client.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    client
}

/// The kinds of all frames until the server ends the connection.
fn kinds(client: &mut impl io::Read) -> Vec<u8> {
    let (mut kinds, mut head) = (Vec::new(), [0; 9]);
    while client.read_exact(&mut head).is_ok() {
        kinds.push(head[3]);
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        if io::copy(&mut client.take(len.into()), &mut io::sink()).is_err() {
            break;
        }
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_spoken_with_whoever_begins_so() {
    let served = serve(|_| {}).await;
    let mut client = http2(&served);
    client.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("/slow"))).unwrap();
    served.until(|served| served.came.load(SeqCst) == 1).await;
    served.shutdown.begin();
    tokio::time::sleep(Duration::from_millis(50)).await;
    served.go_on.notify_one();
    let kinds = kinds(&mut client);
    let (goaway, data) = (kinds.iter().position(|kind| *kind == GOAWAY), kinds.contains(&DATA));
    assert!(goaway.is_some() && data, "{kinds:?}");
    assert_eq!(served.end().await, Drained { cut: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_spoken_where_alpn_says_so() {
    let ca = Ca::new();
    let served = serve_tls(&ca, |settings| settings.limits.idle_s = ms(1)).await;
    let mut config = ca.client(None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("xks.example").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut client = StreamOwned::new(session, served.connect());
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    client.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    client.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("/"))).unwrap();
    assert!(kinds(&mut client).contains(&DATA));
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_http_2_frames_end_their_connection_only() {
    let served = serve(|_| {}).await;
    let flood = |mut frames: Box<dyn Iterator<Item = Vec<u8>>>| {
        let mut client = http2(&served);
        let reader = std::thread::spawn({
            let mut client = client.try_clone().unwrap();
            move || kinds(&mut client)
        });
        let is_cut = frames.any(|frame| client.write_all(&frame).is_err());
        let kinds = reader.join().unwrap();
        assert!(is_cut || kinds.contains(&GOAWAY), "{kinds:?}");
    };
    let rapid_resets = (0..200_000).map(|n| {
        let stream = 2 * n + 1;
        let open = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head("/slow"));
        [open, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    flood(Box::new(rapid_resets));
    let first = [frame(HEADERS, 0, 1, &head("/"))];
    let endless_head =
        std::iter::repeat_with(|| frame(CONTINUATION, 0, 1, &[0x40, 1, b'a', 1, b'b']))
            .take(200_000);
    flood(Box::new(first.into_iter().chain(endless_head)));
    let even_stream = [frame(HEADERS, END_HEADERS, 2, &head("/"))];
    flood(Box::new(even_stream.into_iter()));
    assert!(served.all_of(LAST).starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_http_2_connection_ends_although_it_pings() {
    let served = serve(|settings| {
        settings.limits.head_ms = ms(100);
        settings.limits.idle_s = ms(1);
    })
    .await;
    let mut client = http2(&served);
    client.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("/"))).unwrap();
    let mut pings = client.try_clone().unwrap();
    let pinging = std::thread::spawn(move || {
        let ping = frame(6, 0, 0, &[0; 8]);
        let cut = (0..3000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            pings.write_all(&ping).is_err()
        });
        assert!(cut, "thirty seconds of pings");
    });
    assert!(kinds(&mut client).contains(&DATA));
    pinging.join().unwrap();
    assert_eq!((served.counts.ended("idle"), served.counts.ended("head")), (1, 0));
}
