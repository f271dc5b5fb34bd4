//! An External Key Store proxy for AWS KMS: KMS calls it for each operation with
//! a KMS key whose key material stays in the customer's HSM.
//!
//! `docs/xks.md` has the protocol as this proxy speaks it; the sections that the
//! modules cite are those of AWS's XKS Proxy API Specification, version 1.0.3.
//!
//! The protocol itself knows no socket, no token and no clock: a raw path becomes
//! a [`uri_path::Route`], a head a [`sigv4::Claim`], a body a request of [`wire`],
//! and what went wrong an [`error::XksError`]. It needs none of the rest, and is all
//! that there is without the feature `server`: enough to be fuzzed.
#![forbid(unsafe_code)]

// The protocol.
pub mod aad;
pub mod ciphertext_metadata;
pub mod error;
pub mod integrity;
pub mod sigv4;
pub mod uri_path;
pub mod wire;

// What serves it.
#[cfg(feature = "server")]
pub mod authorization;
#[cfg(feature = "server")]
pub mod background;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod counts;
#[cfg(feature = "server")]
pub mod health;
#[cfg(feature = "server")]
pub mod hsm;
#[cfg(feature = "server")]
pub mod key_store;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
mod operations;
#[cfg(feature = "server")]
pub mod record;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod state;
#[cfg(feature = "server")]
mod text;

// The program's verbs.
#[cfg(feature = "server")]
pub mod check;
#[cfg(feature = "server")]
pub mod credentials;
#[cfg(feature = "server")]
pub mod failure;
#[cfg(feature = "server")]
pub mod policy_test;
#[cfg(feature = "server")]
pub mod serve;
