//! What each fuzz target checks, apart from the fuzzer: a function takes bytes
//! and panics when they break a promise.
//!
//! Nothing here is random, so a file that libFuzzer writes down fails again on
//! any machine.
#![forbid(unsafe_code)]

mod dke_body;
mod dke_path;
mod dke_token;
mod edit;
mod envelope;
mod header;
mod journal;
mod key_uri;
#[cfg(test)]
mod seeds;
mod segment;
mod sigv4;
mod xks_body;
mod xks_path;

pub use dke_body::dke_body;
pub use dke_path::dke_path;
pub use dke_token::dke_token;
pub use envelope::envelope;
pub use header::header;
pub use journal::journal;
pub use key_uri::key_uri;
pub use segment::segment;
pub use sigv4::sigv4;
pub use xks_body::xks_body;
pub use xks_path::xks_path;

/// Bytes that no segment length divides: the period is 251.
fn message(len: usize) -> Vec<u8> {
    (0..251u8).map(|i| i.wrapping_mul(31)).cycle().take(len).collect()
}

/// 32 bytes that count up from `first`.
fn counting_from(first: u8) -> [u8; 32] {
    let mut next = first..;
    std::array::from_fn(|_| next.next().expect("it is asked for 32 below 256"))
}
