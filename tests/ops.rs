//! What operators get beside the services: packages, an image, alerts, and pages.
#![allow(clippy::unwrap_used, reason = "a panic in a helper is a failed test too")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::support::python;
use crate::support::service::beside_ours;

const XKS: &str = "twinlock-xks";
const DKE: &str = "twinlock-dke";

#[test]
fn the_debian_package_of_the_xks_proxy_is_what_it_says() {
    passes("packages", XKS);
}

#[test]
fn the_debian_package_of_the_dke_service_is_what_it_says() {
    passes("packages", DKE);
}

#[test]
fn the_image_is_what_it_says() {
    passes("image", XKS);
}

#[test]
fn alerts_dashboard_and_page_agree_with_the_xks_proxy() {
    passes("documents", XKS);
    passes("xks_page", XKS);
}

#[test]
fn alerts_dashboard_and_page_agree_with_the_dke_service() {
    passes("documents", DKE);
}

/// Has Debian's Prometheus scrape that service, and evaluate what is shipped with it.
/// An alert on what is not exported would stay silent for ever.
#[track_caller]
pub(crate) fn every_expression_has_what_it_asks_for(service: &str, operations: SocketAddr) {
    let mut check = python_file("expressions", service);
    check.arg("--all-labels").arg(operations.to_string());
    let output = check.output().expect("Python is installed by `scripts/test --setup`");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout == b"OK\n", "{said}");
}

/// Runs the checks of a file in `tests/ops`.
#[track_caller]
fn passes(name: &str, service: &str) {
    let output = python_file(name, service).output();
    let output = output.expect("Python is installed by `scripts/test --setup`");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.ends_with("\nOK\n"), "{said}");
}

fn python_file(name: &str, service: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops");
    let mut command = Command::new(python());
    command.arg("-B").arg(folder.join(name).with_extension("py")).env("TWINLOCK_SERVICE", service);
    let variable = format!("{}_BINARY", service.to_uppercase().replace('-', "_"));
    command.env(variable, beside_ours(service));
    command
}
