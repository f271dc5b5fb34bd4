//! Load for the XKS proxy: connections that each wait for an answer before they
//! ask again, with requests that are signed one by one or, with `replay`, one
//! that is sent again and again. With a RATE, so many requests a second.
//!
//!     xks_load ADDRESS PREFIX KEY[,KEY...] ASK CONNECTIONS SECONDS [replay|RATE]
//!
//! ASK is `encrypt`, `encrypt-checked`, `decrypt`, `metadata`, `health` or
//! `livez`. The credential is in ACCESS_KEY_ID, SECRET_ACCESS_KEY and REGION. It
//! prints one line of JSON. `benches/xks.py` has the cases.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "its result")]

mod client;
mod load;

use std::time::Duration;

use client::{Ask, Caller};
use load::{Load, Target};

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
    };
    let load = Load {
        ask: Ask::of(ask).expect("ASK is one of those above"),
        connections: connections.parse().expect("CONNECTIONS is a number"),
        time: Duration::from_secs_f64(seconds.parse().expect("SECONDS is a number")),
        replay: rest.iter().any(|word| word == "replay"),
        rate: rest.iter().find_map(|word| word.parse().ok()),
    };
    println!("{}", load::run(target, load));
}
