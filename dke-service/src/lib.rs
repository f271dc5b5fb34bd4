//! A key service for Microsoft's Double Key Encryption (DKE): Office clients and
//! Twinlock's own have it decrypt what was encrypted under public keys whose
//! private halves stay in the customer's HSM.
//!
//! `docs/dke.md` has the protocol as this service speaks it.
//!
//! The protocol itself knows no socket, no token and no clock: a path becomes a
//! [`route::Route`], a body a [`wire::DecryptRequest`], and what went wrong an
//! [`error::ErrorName`]. What reads bytes of strangers needs none of the rest, and
//! is all that there is without the feature `server`: enough to be fuzzed.
#![forbid(unsafe_code)]

// What strangers send.
mod json;
pub mod public_url;
pub mod route;
pub mod token;
pub mod wire;

// What they are told.
#[cfg(feature = "server")]
pub mod challenge;
#[cfg(feature = "server")]
pub mod error;
#[cfg(feature = "server")]
pub mod public_key;

// Who calls, and whether they may.
#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "server")]
pub mod bearer;

// What serves it.
#[cfg(feature = "server")]
pub mod background;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod health;
#[cfg(feature = "server")]
pub mod hsm;
#[cfg(feature = "server")]
pub mod key;
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

// The program's verbs.
#[cfg(feature = "server")]
pub mod check;
#[cfg(feature = "server")]
pub mod failure;
#[cfg(feature = "server")]
pub mod import;
#[cfg(feature = "server")]
pub mod serve;
