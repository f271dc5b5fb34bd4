//! What the tests stand on: servers and tools that a test starts and owns.

pub(crate) mod cli;
pub(crate) mod http;
pub(crate) mod kms_proxy;
pub(crate) mod moto;
pub(crate) mod pages;
pub(crate) mod proxy;
pub(crate) mod softhsm;
pub(crate) mod tls;

use std::env;
use std::path::{Path, PathBuf};

/// The Python of the project's own environment.
pub(crate) fn python() -> PathBuf {
    match env::var_os("TWINLOCK_TEST_PYTHON") {
        Some(python) => python.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/venv/bin/python"),
    }
}
