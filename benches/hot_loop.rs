//! Runs one hot loop so many times: `hot_loop CASE ROUNDS`, or `hot_loop` alone
//! for the list. `counts.sh` has callgrind count its instructions.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the list of cases is for the script")]

use twinlock_benches::{Case, floe, headers, memory, ranges, stream, yardstick};
use twinlock_floe::Backend;

/// So many bytes that callgrind is soon done, and more than a few segments.
const TOTAL: usize = 2 << 20;

type MakeCase = fn() -> Case;

const CASES: [(&str, MakeCase); 16] = [
    ("yardstick-aws-lc-seal", || yardstick::aws_lc_seal(256 << 10, TOTAL)),
    ("floe-seal", || floe::seal(Backend::AwsLc, 256 << 10, TOTAL)),
    ("floe-open", || floe::open(Backend::AwsLc, 256 << 10, TOTAL)),
    ("floe-seal-from", || floe::seal_from(Backend::AwsLc, 256 << 10, TOTAL)),
    ("floe-open-into", || floe::open_into(Backend::AwsLc, 256 << 10, TOTAL)),
    ("floe-seal-4k", || floe::seal(Backend::AwsLc, 4 << 10, TOTAL)),
    ("floe-seal-rustcrypto", || floe::seal(Backend::RustCrypto, 256 << 10, TOTAL)),
    ("floe-open-rustcrypto", || floe::open(Backend::RustCrypto, 256 << 10, TOTAL)),
    ("stream-encrypt", || stream::encrypt(Backend::AwsLc, 256 << 10, TOTAL)),
    ("stream-decrypt", || stream::decrypt(Backend::AwsLc, 256 << 10, TOTAL)),
    ("memory-encrypt", || memory::encrypt(1, 256 << 10, TOTAL)),
    ("memory-decrypt", || memory::decrypt(1, 256 << 10, TOTAL)),
    ("range-64k", || ranges::read(64 << 10, TOTAL)),
    ("header-parse", || headers::parse(1)),
    ("header-verify", || headers::verify(1)),
    ("header-encode", || headers::encode(1)),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => CASES.iter().for_each(|(name, _)| println!("{name}")),
        [name, rounds] => run(name, rounds.parse().expect("ROUNDS is a number")),
        _ => panic!("usage: hot_loop [CASE ROUNDS]"),
    }
}

fn run(name: &str, rounds: usize) {
    let (_, make) = CASES.iter().find(|(case, _)| *case == name).expect("CASE is in the list");
    let mut case = make();
    (0..rounds).for_each(|_| case.run());
}
