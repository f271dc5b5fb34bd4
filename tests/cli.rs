//! The program `twinlock` from end to end.

mod config;
mod files;
mod hostile;
mod large;
mod pipes;
mod reports;
mod rewrap;
mod signals;
mod tokens;
mod trees;
