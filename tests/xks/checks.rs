//! The cloud is what its README says.

use std::path::Path;
use std::process::Command;

use crate::support::python;
use crate::support::tls::Authority;

#[test]
fn the_cloud_passes_its_own_checks() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("xks/checks.py");
    let mut checks = Command::new(python());
    checks.arg("-B").arg(script).arg(Authority::trusted().certificate().parent().unwrap());
    let output = checks.output().expect("Python is installed by `scripts/test --setup`");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.ends_with("\nOK\n"), "{said}");
}
