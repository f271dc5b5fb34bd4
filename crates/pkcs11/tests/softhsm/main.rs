//! Against a real token: SoftHSM 2 (Debian's package `softhsm2`), or kryoptic if
//! the run is told so (see `kind`).
//!
//! SoftHSM reads the environment once per process, and logins are per process
//! too. So each test runs in a process of its own, with its own tokens: it
//! starts this test binary again for itself alone (see `support`).

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod aead_key;
mod child;
mod creating;
mod fault_module;
mod faults;
mod fleet;
mod hanging;
mod keys;
mod kind;
mod logins;
mod matrix;
mod rsa;
mod rsa_key;
mod support;
mod tokens;
