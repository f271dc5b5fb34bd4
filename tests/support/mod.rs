//! What the tests stand on: servers and tools that a test starts and owns.

pub(crate) mod cli;
pub(crate) mod http;
pub(crate) mod kms_proxy;
pub(crate) mod moto;
pub(crate) mod pages;
pub(crate) mod softhsm;
