//! A key service for Microsoft's Double Key Encryption (DKE): Office clients and
//! Twinlock's own have it decrypt what was encrypted under public keys whose
//! private halves stay in the customer's HSM.
//!
//! `docs/dke.md` has the protocol as this service speaks it.
#![forbid(unsafe_code)]

// Who may decrypt.
pub mod access;
pub mod bearer;

// The program's verbs.
pub mod import;
