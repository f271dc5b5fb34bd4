//! An External Key Store proxy for AWS KMS: KMS calls it for each operation with
//! a KMS key whose key material stays in the customer's HSM.
//!
//! `docs/xks.md` has the protocol as this proxy speaks it; the sections that the
//! modules cite are those of AWS's XKS Proxy API Specification, version 1.0.3.
//!
//! The protocol itself knows no socket, no token and no clock: a raw path becomes
//! a [`uri_path::Route`], a head a [`sigv4::Claim`], a body a request of [`wire`],
//! and what went wrong an [`error::XksError`].
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
pub mod authorization;
pub mod background;
pub mod config;
pub mod counts;
pub mod health;
pub mod hsm;
pub mod key_store;
pub mod metrics;
mod operations;
pub mod record;
pub mod server;
pub mod state;
mod text;

// The program's verbs.
pub mod check;
pub mod credentials;
pub mod failure;
pub mod policy_test;
pub mod serve;
