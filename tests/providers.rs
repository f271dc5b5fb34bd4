//! What every key holder has to do, tried on each with a real or stand-in
//! server: the same answers, and for the same trouble the same kind of error.
//!
//! A holder takes part with a [`Bench`](bench::Bench) and the line
//! `every_holder!(TheBench);`. What is peculiar to one provider is tested
//! elsewhere.
#![allow(clippy::unwrap_used, reason = "a panic in a helper is a failed test too")]

mod aws_kms;
#[cfg(feature = "azure-kv")]
mod azure_kv;
mod bench;
mod dke;
mod file;
#[cfg(feature = "gcp-kms")]
mod gcp_kms;
mod pkcs11;
mod planted;
mod suite;
#[cfg(feature = "vault")]
pub(crate) mod vault;
