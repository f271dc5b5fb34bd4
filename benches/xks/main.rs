//! Load for the XKS proxy: requests that are signed one by one or, with `replay`,
//! one that is sent again and again. With a RATE, so many requests a second.
//!
//!     xks_load ADDRESS PREFIX KEY[,KEY...] ASK CONNECTIONS SECONDS [replay|RATE]
//!
//! ASK is `encrypt`, `encrypt-checked`, `decrypt`, `metadata`, `health` or
//! `livez`. The credential is in ACCESS_KEY_ID, SECRET_ACCESS_KEY and REGION. It
//! prints one line of JSON. `benches/xks.py` has the cases.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "its result")]

mod client;

use std::time::Duration;

use client::{Ask, Caller, Signer};
use tokio::net::TcpStream;
use twinlock_benches::load::{self, Connection, Load};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, prefix, keys, ask, connections, seconds, rest @ ..] = &arguments[..] else {
        panic!("xks_load ADDRESS PREFIX KEY[,KEY...] ASK CONNECTIONS SECONDS [replay|RATE]");
    };
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let target = Target {
        address: address.clone(),
        prefix: prefix.clone(),
        keys: keys.split(',').map(str::to_owned).collect(),
        caller: Caller {
            access_key_id: variable("ACCESS_KEY_ID"),
            secret: variable("SECRET_ACCESS_KEY"),
            region: variable("REGION"),
        },
        ask: Ask::of(ask).expect("ASK is one of those above"),
        replay: rest.iter().any(|word| word == "replay"),
    };
    let load = Load {
        connections: connections.parse().expect("CONNECTIONS is a number"),
        time: Duration::from_secs_f64(seconds.parse().expect("SECONDS is a number")),
        rate: rest.iter().find_map(|word| word.parse().ok()),
    };
    println!("{}", load::run(load, async |number| target.connect(number).await));
}

/// Whom to ask about what.
struct Target {
    address: String,
    prefix: String,
    /// Connections take them in turn.
    keys: Vec<String>,
    caller: Caller,
    ask: Ask,
    /// One signed request again and again.
    replay: bool,
}

impl Target {
    async fn connect(&self, number: usize) -> Connection {
        let ciphertext = match self.ask {
            Ask::Decrypt => Some(self.encrypted(number).await),
            _ => None,
        };
        let mut signer = self.signer(number, self.ask, ciphertext.as_deref());
        match self.replay {
            true => {
                let request = signer.request();
                self.open(move || request.clone()).await
            }
            false => self.open(move || signer.request()).await,
        }
    }

    /// The answer to one Encrypt, which is what Decrypt wants.
    async fn encrypted(&self, number: usize) -> String {
        let mut signer = self.signer(number, Ask::Encrypt, None);
        let mut connection = self.open(move || signer.request()).await;
        let answer = connection.ask().await.expect("the proxy answers");
        let text = String::from_utf8_lossy(answer);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        text.split_once("\r\n\r\n").expect("it is whole").1.to_owned()
    }

    fn signer(&self, number: usize, ask: Ask, ciphertext: Option<&str>) -> Signer {
        let key = &self.keys[number % self.keys.len()];
        Signer::new(&self.caller, &self.address, &self.prefix, key, ask, ciphertext)
    }

    async fn open(&self, next: impl FnMut() -> Vec<u8> + Send + 'static) -> Connection {
        let stream = TcpStream::connect(&self.address).await.expect("somebody listens there");
        stream.set_nodelay(true).expect("a TCP socket has this option");
        Connection::new(stream, next)
    }
}
