//! `deny.toml` bans what it says it bans: a small package with the banned
//! dependency, both made here, must fail `cargo deny`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::root;

#[test]
fn deny_finds_a_planted_ban() {
    let Some(cargo_deny) = cargo_deny() else {
        return skip();
    };
    for (importer, imported) in [
        ("anybody", "native-tls"),
        ("anybody", "openssl-sys"),
        ("anybody", "ring"),
        ("anybody", "rsa"),
        ("twinlock", "cryptoki"),
        ("twinlock-cli", "cryptoki-sys"),
        ("twinlock-cli", "aws-config"),
        ("twinlock-cli", "aws-sdk-kms"),
        ("twinlock-cli", "google-cloud-auth"),
        ("twinlock-cli", "google-cloud-kms-v1"),
    ] {
        let output = check_bans(&cargo_deny, importer, imported);
        let report = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{importer} may import {imported}: {report}");
        assert!(report.contains(&format!("crate '{imported} = 1.0.0' is")), "{report}");
    }
}

#[test]
fn deny_lets_the_one_importer_through() {
    let Some(cargo_deny) = cargo_deny() else {
        return skip();
    };
    for (importer, imported) in [
        ("anybody", "harmless"),
        ("twinlock-pkcs11", "cryptoki"),
        ("twinlock-remote-keys", "aws-sdk-kms"),
        ("twinlock-remote-keys", "google-cloud-kms-v1"),
    ] {
        let output = check_bans(&cargo_deny, importer, imported);
        let report = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{importer} may not import {imported}: {report}");
    }
}

/// Where cargo-deny is. A run that must skip nothing fails without it.
fn cargo_deny() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([root().join(".tools/venv/bin")])
        .map(|folder| folder.join("cargo-deny"))
        .find(|program| program.is_file());
    let required = std::env::var_os("TWINLOCK_REQUIRE_TOOLS").is_some();
    assert!(found.is_some() || !required, "there is no cargo-deny: run scripts/test --setup");
    found
}

/// Says so past the test harness, for a skip that nobody sees looks like a pass.
fn skip() {
    let _ = writeln!(std::io::stderr(), "skipped: no cargo-deny here; scripts/test installs it");
}

/// Runs our bans over a package that has one dependency, by path.
fn check_bans(cargo_deny: &Path, importer: &str, imported: &str) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let imports = format!("[workspace]\n[dependencies]\n{imported} = {{ path = 'imported' }}\n");
    write_package(folder.path(), importer, &imports);
    write_package(&folder.path().join("imported"), imported, "");
    Command::new(cargo_deny)
        .args(["--offline", "--manifest-path"])
        .arg(folder.path().join("Cargo.toml"))
        .arg("--config")
        .arg(root().join("deny.toml"))
        .args(["check", "bans"])
        .output()
        .expect("cargo-deny runs")
}

fn write_package(folder: &Path, name: &str, more: &str) {
    let manifest = format!(
        "[package]\nname = '{name}'\nversion = '1.0.0'\nedition = '2024'\npublish = false\n{more}"
    );
    fs::create_dir_all(folder.join("src")).expect("a folder");
    fs::write(folder.join("src/lib.rs"), "").expect("an empty source");
    fs::write(folder.join("Cargo.toml"), manifest).expect("a manifest");
}
