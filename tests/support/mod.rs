//! What the tests stand on: servers and tools that a test starts and owns.

pub(crate) mod cli;
#[cfg(feature = "gcp-kms")]
pub(crate) mod cloud_kms;
pub(crate) mod http;
pub(crate) mod key_service;
#[cfg(feature = "azure-kv")]
pub(crate) mod key_vault;
pub(crate) mod kind;
pub(crate) mod kms_proxy;
#[cfg(feature = "vault")]
pub(crate) mod kubernetes;
pub(crate) mod leash;
pub(crate) mod logs;
pub(crate) mod memory;
pub(crate) mod moto;
#[cfg(feature = "vault")]
pub(crate) mod openbao;
pub(crate) mod p11_fault;
pub(crate) mod pages;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod service;
pub(crate) mod slapd;
pub(crate) mod softhsm;
pub(crate) mod terminal;
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

/// In base64 without padding (RFC 4648 section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0, |sum, at| sum << 8 | u32::from(*three.get(at).unwrap_or(&0)));
        let digits = [18, 12, 6, 0].map(|shift| DIGITS[(number >> shift & 63) as usize]);
        out.extend(digits.into_iter().take(three.len() + 1).map(char::from));
    }
    out
}

#[test]
fn base64_is_that_of_the_rfc() {
    // RFC 4648 section 10, without padding.
    let known = [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
    for (bytes, text) in known {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}
