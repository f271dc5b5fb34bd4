//! An External Key Store proxy for AWS KMS: KMS calls it for each operation with
//! a KMS key whose key material stays in the customer's HSM.
//!
//! `docs/xks.md` has the protocol as this proxy speaks it; the sections that the
//! modules cite are those of AWS's XKS Proxy API Specification, version 1.0.3.
#![forbid(unsafe_code)]

pub mod aad;
pub mod ciphertext_metadata;
pub mod error;
pub mod integrity;
pub mod uri_path;
pub mod wire;
