//! An External Key Store proxy for AWS KMS: KMS calls it for each operation with
//! a KMS key whose key material stays in the customer's HSM.
//!
//! `docs/xks.md` has the protocol as this proxy speaks it.
#![forbid(unsafe_code)]
