//! What operators get beside the program: packages, an image, alerts, and a page.

use std::path::Path;
use std::process::Command;

use crate::support::cli::program;
use crate::support::python;

#[test]
fn the_debian_package_is_what_it_says() {
    passes("packages");
}

#[test]
fn the_image_is_what_it_says() {
    passes("image");
}

#[test]
fn alerts_dashboard_and_page_agree_with_the_program() {
    passes("documents");
}

/// Runs the checks of a file in `tests/xks/ops`.
fn passes(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("xks/ops");
    let mut checks = Command::new(python());
    checks.arg("-B").arg(folder.join(name).with_extension("py"));
    if std::env::var_os("TWINLOCK_XKS_BINARY").is_none() {
        checks.env("TWINLOCK_XKS_BINARY", program().with_file_name("twinlock-xks"));
    }
    let output = checks.output().expect("Python is installed by `scripts/test --setup`");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.ends_with("\nOK\n"), "{said}");
}
