//! What Twinlock's services share: configuration, secrets, TLS, limits, policy,
//! logs, traces, metrics, readiness and shutdown.
//!
//! It knows nothing of the protocols that the services speak. A service reads
//! its [`config`], starts its [`log`], binds a [`listen::Listener`] and one for
//! [`ops`], tells [`systemd`] that it is ready, and serves until its
//! [`shutdown`].
#![forbid(unsafe_code)]

mod calendar;
pub mod config;
pub mod limit;
pub mod listen;
pub mod log;
pub mod ops;
pub mod policy;
pub mod process;
pub mod readiness;
pub mod reload;
pub mod shutdown;
pub mod systemd;
pub mod tls;
pub mod traces;
