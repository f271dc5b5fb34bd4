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
    let reference = Summary::of(&times["noise"]);
    println!("{:32} {:>7} {:>9} {:>9} {:>9} {:>6}", "", "n", "median", "mean", "sd", "t");
    for (kind, times) in &times {
        let summary = Summary::of(times);
        let Summary { median, mean, deviation, count } = summary;
        let t = summary.t(&reference);
        println!("{kind:32} {count:7} {median:7.1}us {mean:7.1}us {deviation:7.1}us {t:6.2}");
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

/// Of times, in microseconds.
struct Summary {
    count: f64,
    median: f64,
    mean: f64,
    deviation: f64,
}

impl Summary {
    fn of(times: &[Duration]) -> Self {
        let mut times: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        times.sort_by(f64::total_cmp);
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count;
        Self { count, median: times[times.len() / 2], mean, deviation: variance.sqrt() }
    }

    /// Welch's t of the two means: beyond 4.5 they differ.
    fn t(&self, other: &Self) -> f64 {
        let error = |it: &Self| it.deviation.powi(2) / it.count;
        (self.mean - other.mean) / (error(self) + error(other)).sqrt()
    }
}
