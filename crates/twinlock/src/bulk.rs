//! The bulk path: many segments, sealed or opened by several threads.
//!
//! Between regular files each worker takes the next block of segments, reads it
//! from its place and writes it to its place ([`file`]). A stream has one place
//! only: there, workers take turns at reading and at writing, and only what is
//! between goes on at the same time ([`stream`]).
//!
//! In memory nothing is read or written: workers take segments from slices
//! ([`memory`]).

mod block;
pub(crate) mod buffer;
mod each_block;
pub(crate) mod file;
mod in_order;
pub(crate) mod memory;
mod slices;
pub(crate) mod stream;

pub(crate) use slices::FileAt;
