//! A key service for Microsoft's Double Key Encryption (DKE): Office clients and
//! Twinlock's own have it decrypt what was encrypted under public keys whose
//! private halves stay in the customer's HSM.
//!
//! `docs/dke.md` has the protocol as this service speaks it.
//!
//! The protocol itself knows no socket, no token and no clock: a path becomes a
//! [`route::Route`], a body a [`wire::DecryptRequest`], and what went wrong an
//! [`error::ErrorName`].
#![forbid(unsafe_code)]

// The protocol.
pub mod challenge;
pub mod error;
pub mod public_url;
pub mod route;
pub mod wire;

// Who calls, and whether they may.
pub mod access;
pub mod bearer;

// What serves it.
pub mod background;
pub mod config;
pub mod health;
pub mod hsm;
pub mod key;
pub mod metrics;
mod operations;
pub mod record;
pub mod server;
pub mod state;

// The program's verbs.
pub mod check;
pub mod failure;
pub mod import;
pub mod serve;
