//! Load for the DKE service: one request again and again, on connections that stay,
//! over TLS where there is an authority for it. With a RATE, so many requests a
//! second.
//!
//!     dke_load ADDRESS PATH CONNECTIONS SECONDS [RATE]
//!
//! With a BODY it is a POST of that JSON with the bearer token TOKEN, else a GET.
//! CA names the file of the authority that vouches for the host `localhost`. It
//! prints one line of JSON. `benches/dke.py` has the cases.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "its result")]

use std::env;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use twinlock_benches::load::{self, Connection, Load};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, path, connections, seconds, rate @ ..] = &arguments[..] else {
        panic!("dke_load ADDRESS PATH CONNECTIONS SECONDS [RATE]");
    };
    let load = Load {
        connections: connections.parse().expect("CONNECTIONS is a number"),
        time: Duration::from_secs_f64(seconds.parse().expect("SECONDS is a number")),
        rate: rate.first().map(|rate| rate.parse().expect("RATE is a number")),
    };
    let (request, tls) = (request(path), env::var("CA").ok().map(|file| trusting(&file)));
    let open = async |_| {
        let stream = TcpStream::connect(address).await.expect("somebody listens there");
        stream.set_nodelay(true).expect("a TCP socket has this option");
        let request = request.clone();
        let next = move || request.clone();
        match &tls {
            None => Connection::new(stream, next),
            Some(tls) => {
                let host = ServerName::try_from("localhost").expect("it is a name");
                let stream = tls.connect(host, stream).await.expect("it speaks TLS");
                Connection::new(stream, next)
            }
        }
    };
    println!("{}", load::run(load, open));
}

fn request(path: &str) -> Vec<u8> {
    let Ok(body) = env::var("BODY") else {
        return format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes();
    };
    let token = env::var("TOKEN").expect("TOKEN is set where there is a BODY");
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn trusting(file: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(file).expect("CA is a certificate in PEM");
    roots.add(certificate).expect("CA is an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
