//! External Key Stores: unmodified clients of AWS KMS, a cloud in AWS's place,
//! the proxy, and a token.
#![allow(clippy::unwrap_used, reason = "a panic in a helper is a failed test too")]

mod agreement;
mod changes;
mod checks;
mod clients;
mod rig;
mod two_sides;
