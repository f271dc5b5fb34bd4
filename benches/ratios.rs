//! Each hot loop against its yardstick, in turns: a disturbance meets both, and
//! their ratio says more than either time.
//!
//! Prints tables for `docs/benchmarks.md`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the tables are what this is for")]

mod ratio;

use std::time::Instant;

use ratio::{PAIRS, compare, compare_by, first_tenth, time};
use twinlock_benches::{Case, SEGMENT_LENS, floe, memory, ranges, size, stream, yardstick};
use twinlock_floe::Backend;

/// Larger than the caches that a core has for itself.
const TOTAL: usize = 16 << 20;

type MakeCase = fn(u32) -> Case;

const COMPARED: [(&str, MakeCase, MakeCase); 13] = [
    (
        "AWS-LC seal / memcpy",
        |len| yardstick::aws_lc_seal(len, TOTAL),
        |len| yardstick::memcpy(len, TOTAL),
    ),
    (
        "FLOE seal / AWS-LC seal",
        |len| floe::seal(Backend::AwsLc, len, TOTAL),
        |len| yardstick::aws_lc_seal(len, TOTAL),
    ),
    (
        "FLOE open / AWS-LC open",
        |len| floe::open(Backend::AwsLc, len, TOTAL),
        |len| yardstick::aws_lc_open(len, TOTAL),
    ),
    (
        "FLOE `seal_from` / AWS-LC seal out of place",
        |len| floe::seal_from(Backend::AwsLc, len, TOTAL),
        |len| yardstick::aws_lc_seal_from(len, TOTAL),
    ),
    (
        "FLOE `open_into` / AWS-LC open out of place",
        |len| floe::open_into(Backend::AwsLc, len, TOTAL),
        |len| yardstick::aws_lc_open_into(len, TOTAL),
    ),
    (
        "`encrypt` / AWS-LC seal",
        |len| stream::encrypt(Backend::AwsLc, len, TOTAL),
        |len| yardstick::aws_lc_seal(len, TOTAL),
    ),
    (
        "`DecryptReader` / AWS-LC open",
        |len| stream::decrypt(Backend::AwsLc, len, TOTAL),
        |len| yardstick::aws_lc_open(len, TOTAL),
    ),
    (
        "aes-gcm seal / AWS-LC seal",
        |len| yardstick::aes_gcm_seal(len, TOTAL),
        |len| yardstick::aws_lc_seal(len, TOTAL),
    ),
    (
        "FLOE seal / aes-gcm seal",
        |len| floe::seal(Backend::RustCrypto, len, TOTAL),
        |len| yardstick::aes_gcm_seal(len, TOTAL),
    ),
    (
        "FLOE open / aes-gcm open",
        |len| floe::open(Backend::RustCrypto, len, TOTAL),
        |len| yardstick::aes_gcm_open(len, TOTAL),
    ),
    (
        "`encrypt` / aes-gcm seal",
        |len| stream::encrypt(Backend::RustCrypto, len, TOTAL),
        |len| yardstick::aes_gcm_seal(len, TOTAL),
    ),
    (
        "`encrypt` / `encrypt` with 256 KiB",
        |len| stream::encrypt(Backend::AwsLc, len, TOTAL),
        |_| stream::encrypt(Backend::AwsLc, 256 << 10, TOTAL),
    ),
    (
        "`DecryptReader` / the same with 256 KiB",
        |len| stream::decrypt(Backend::AwsLc, len, TOTAL),
        |_| stream::decrypt(Backend::AwsLc, 256 << 10, TOTAL),
    ),
];

fn main() {
    print_row("time / time of the yardstick", SEGMENT_LENS.map(size));
    print_row("---", SEGMENT_LENS.map(|_| "---".to_owned()));
    for (name, subject, yardstick) in COMPARED {
        print_row(name, SEGMENT_LENS.map(|len| compare(subject(len), yardstick(len)).to_string()));
    }
    println!();
    print_row("absolute", SEGMENT_LENS.map(size));
    print_row("---", SEGMENT_LENS.map(|_| "---".to_owned()));
    print_row("memcpy, GB/s", SEGMENT_LENS.map(|len| speed(yardstick::memcpy(len, TOTAL))));
    print_row(
        "AWS-LC seal, GB/s",
        SEGMENT_LENS.map(|len| speed(yardstick::aws_lc_seal(len, TOTAL))),
    );
    print_row("a 4 KiB range, µs", SEGMENT_LENS.map(|len| latency(ranges::read(len, TOTAL))));
    print_row(
        "the same with a new reader, µs",
        SEGMENT_LENS.map(|len| latency(ranges::open_and_read(len, TOTAL))),
    );
    println!();
    print_threads();
}

/// So much that nothing of it is still in a cache.
const IN_MEMORY: usize = 64 << 20;

type OnThreads = fn(usize) -> Case;

const ON_THREADS: [(&str, OnThreads); 4] = [
    ("`encrypt_into`", |threads| memory::encrypt(threads, 256 << 10, IN_MEMORY)),
    ("`decrypt_into`", |threads| memory::decrypt(threads, 256 << 10, IN_MEMORY)),
    ("the limit: AWS-LC seal", |threads| memory::aws_lc(threads, 256 << 10, IN_MEMORY)),
    ("the limit: memcpy", |threads| memory::memcpy(threads, IN_MEMORY)),
];

/// Of these, wall time: threads are there to shorten that.
fn print_threads() {
    let names = ["times as fast on 2 threads as on 1", "GB/s on 1", "GB/s on 2"];
    print_row("in memory, wall time", names.map(str::to_owned));
    print_row("---", names.map(|_| "---".to_owned()));
    for (name, case) in ON_THREADS {
        let [mut one, mut two] = [case(1), case(2)];
        let ratio = compare_by(wall_time, &mut one, &mut two).to_string();
        let speed = |case: &mut Case| {
            let times = (0..PAIRS).map(|_| wall_time(case)).collect();
            format!("{:.1}", case.bytes as f64 / 1e9 / first_tenth(times))
        };
        print_row(name, [ratio, speed(&mut one), speed(&mut two)]);
    }
}

fn print_row<const N: usize>(name: &str, cells: [String; N]) {
    println!("| {name} | {} |", cells.join(" | "));
}

fn speed(case: Case) -> String {
    let gigabytes = case.bytes as f64 / 1e9;
    format!("{:.1}", gigabytes / quiet_time(case, 1))
}

fn latency(case: Case) -> String {
    format!("{:.0}", quiet_time(case, 100) * 1e6)
}

/// Seconds that one round takes, when so many are timed together.
fn quiet_time(mut case: Case, rounds: u32) -> f64 {
    case.run();
    let mut time = || (0..rounds).map(|_| time(&mut case)).sum::<f64>() / f64::from(rounds);
    first_tenth((0..PAIRS).map(|_| time()).collect())
}

/// The wall time of one round in seconds.
fn wall_time(case: &mut Case) -> f64 {
    let start = Instant::now();
    case.run();
    start.elapsed().as_secs_f64()
}
