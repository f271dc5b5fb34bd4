//! `dke+https://` keys, against a service of the tests' own by TLS: what every
//! holder does is tested in `providers`, and here what only this one does.
#![allow(clippy::unwrap_used, reason = "a panic in a helper is a failed test too")]

mod answers;
mod program;
mod renewals;
mod rig;
mod tokens;
