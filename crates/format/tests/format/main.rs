//! The crate against `docs/format.md`: one binary, a module per subject.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod context;
mod detached;
mod errors;
mod identity;
mod keyslots;
mod padding;
mod refused;
mod schedule;
mod support;
mod text;
mod vector;
