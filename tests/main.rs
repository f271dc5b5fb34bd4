//! End-to-end tests, one binary.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod aws_kms;
#[cfg(feature = "azure-kv")]
mod azure_kv;
mod bench_peers;
mod cli;
mod dke;
mod dke_keys;
mod entry_points;
#[cfg(feature = "gcp-kms")]
mod gcp_kms;
mod guards;
mod holders;
mod hostile;
mod hygiene;
mod in_memory;
mod ops;
mod people;
mod providers;
mod ranges;
mod recovery;
mod roundtrip;
mod second_reader;
mod streams;
mod support;
mod two_holders;
#[cfg(feature = "vault")]
mod vault;
mod vectors;
mod xks;
mod xks_proxy;
