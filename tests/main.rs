//! End-to-end tests, one binary.
#![forbid(unsafe_code)]

mod guards;
