//! The XKS proxy as a program: signed requests over sockets, tokens behind a
//! module that fails when it is told to, files that change while it runs.

mod clauses;
mod faults;
mod fleet;
mod keys;
pub(crate) mod proxy;
mod running;
mod signed;
mod watched;
