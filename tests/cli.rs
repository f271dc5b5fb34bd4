//! The program `twinlock` from end to end.

mod config;
mod detached;
mod doctor;
mod exported;
mod files;
#[cfg(feature = "gcp-kms")]
mod gcp_kms;
mod hostile;
mod large;
mod many;
mod memory;
mod pipes;
mod progress;
mod ranges;
mod reencrypt;
mod reports;
mod rewrap;
mod rewrap_trees;
mod signals;
pub(crate) mod tokens;
mod trees;
