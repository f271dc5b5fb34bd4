//! The program `twinlock-xks`.
#![forbid(unsafe_code)]

fn main() {}
