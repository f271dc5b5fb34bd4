//! What Twinlock's services share: configuration, secrets, TLS, limits, policy,
//! logs, metrics, readiness and shutdown.
//!
//! It knows nothing of the protocols that the services speak.
#![forbid(unsafe_code)]
