//! `aws-kms://` keys against a real moto KMS, with a proxy between that counts
//! and that fails as AWS does.
#![allow(clippy::unwrap_used, reason = "a panic in a helper is a failed test too")]

mod admin;
mod chain;
mod failures;
mod logs;
mod rig;
mod round_trip;
