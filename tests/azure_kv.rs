//! `azure-kv://` keys against a small vault of our own that checks what the real
//! one would, behind a proxy with TLS that counts and that fails as Azure does.
#![allow(clippy::unwrap_used, reason = "a panic in a helper is a failed test too")]

mod admin;
mod checks;
mod cli;
mod failures;
mod lies;
mod logs;
mod rig;
mod round_trip;
mod tokens;
