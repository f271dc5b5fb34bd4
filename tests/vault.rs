//! `vault://` keys against a real OpenBao: what every holder does is tested in
//! `providers`, and here what only this one does.
#![allow(clippy::unwrap_used, reason = "a panic in a helper is a failed test too")]

mod answers;
mod keys;
mod logins;
mod logs;
mod program;
mod rig;
mod servers;
