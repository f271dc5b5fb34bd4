//! How long it takes to be refused: whoever could tell kinds of bad ciphertexts
//! apart could decrypt with them (Manger, 2001).

use std::collections::BTreeMap;
use std::io::BufReader;
use std::time::{Duration, Instant};

use super::client;
use super::decrypting::bad_ciphertexts;
use super::issuer::{ALICE, Token};
use super::service::{Dke, HOST, decrypt_request, path_of};
use crate::support::http::Message;

/// Times each kind in turn, on one connection, and prints what came of it.
/// Nothing is asserted of times; a few rounds show that this works.
///
/// `TWINLOCK_DKE_ROUNDS=2000 scripts/test dke::timing -- --nocapture`, on a machine
/// with nothing else to do, makes the table of the decision record.
#[test]
fn the_times_of_bad_ciphertexts_are_measured() {
    let rounds = std::env::var("TWINLOCK_DKE_ROUNDS").ok().and_then(|it| it.parse().ok());
    let times = measured(rounds.unwrap_or(4));
    let head = ["n", "quartile", "median", "quartile", "z", "control"];
    println!("{:32} {}", "", head.map(|it| format!("{it:>9}")).join(" "));
    for (kind, of_kind) in &times {
        let [low, median, high] = quartiles(of_kind).map(|it| format!("{it:7.1}us"));
        let (n, z) = (of_kind.len(), z(of_kind, &times["noise"]));
        let control = z_of_halves(of_kind);
        println!("{kind:32} {n:9} {low} {median} {high} {z:9.2} {control:9.2}");
    }
}

fn measured(rounds: usize) -> BTreeMap<&'static str, Vec<Duration>> {
    let dke = Dke::start();
    let [public, other] = ["Confidential", "Other"].map(|name| dke.public_key(name));
    let token = Token::of(ALICE).signed();
    let request = |ciphertext: &[u8]| decrypt_request(&token, &path_of(&public.id), ciphertext);
    let good = ("plaintext", public.encrypt(b"plaintext"));
    let kinds = bad_ciphertexts(&public, &other).into_iter().chain([good]);
    let mut requests: Vec<_> = kinds.map(|(kind, it)| (kind, request(&it))).collect();
    let connection = client::connect(dke.address, HOST, dke.authority.client()).unwrap();
    let mut connection = BufReader::new(connection);
    let mut times: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for round in 0..rounds + 1 {
        // Whatever goes on beside it hits no kind more than another.
        shuffle(&mut requests, round);
        for (kind, request) in &requests {
            let start = Instant::now();
            let answer = client::exchange_on(&mut connection, request).unwrap();
            let time = start.elapsed();
            let _ = answer.with(if *kind == "plaintext" { 200 } else { 400 });
            if round > 0 {
                times.entry(*kind).or_default().push(time);
            }
        }
    }
    times
}

/// Another order for each round, the same each time this runs.
fn shuffle(requests: &mut [(&'static str, Message)], round: usize) {
    let mut state = round as u64 + 1;
    for at in (1..requests.len()).rev() {
        // Knuth's, of MMIX.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        requests.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
    }
}

/// The times that a quarter, half and three quarters are below, in microseconds.
fn quartiles(times: &[Duration]) -> [f64; 3] {
    let mut times = times.to_vec();
    times.sort_unstable();
    [1, 2, 3].map(|quarter| times[times.len() * quarter / 4].as_secs_f64() * 1e6)
}

/// Those of even rounds beside those of odd ones, which nothing distinguishes.
fn z_of_halves(times: &[Duration]) -> f64 {
    let half = |first| times.iter().skip(first).step_by(2).copied().collect::<Vec<_>>();
    z(&half(0), &half(1))
}

/// Mann and Whitney's U of the two as a number of standard deviations, which a few
/// very long times do not move as they move a mean: beyond 4.5 the two differ.
fn z(one: &[Duration], other: &[Duration]) -> f64 {
    let mut other = other.to_vec();
    other.sort_unstable();
    let below = |time: &Duration| {
        let (less, not_more) =
            (other.partition_point(|it| it < time), other.partition_point(|it| it <= time));
        (less + not_more) as f64 / 2.0
    };
    let u: f64 = one.iter().map(below).sum();
    let (n, m) = (one.len() as f64, other.len() as f64);
    (u - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt()
}
