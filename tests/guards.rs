//! Guards: what the design forbids, checked where a review might miss it.
//!
//! Each guard is a pure function that returns complaints, and has a test that
//! plants a violation and sees it found.

mod bans;
mod imports;
mod sources;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// The folder of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a folder of the workspace")
}

/// What `cargo metadata` says of the workspace with all features on. It uses
/// the network only for crates that were never downloaded.
fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(|| {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--locked", "--all-features", "--format-version", "1"])
            .current_dir(root())
            .output()
            .expect("cargo runs, for it built this test");
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo metadata: {problem}");
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
    })
}

/// The packages of the workspace.
fn members(metadata: &Value) -> impl Iterator<Item = &Value> {
    let members = list(metadata, "workspace_members");
    list(metadata, "packages").iter().filter(move |package| members.contains(&package["id"]))
}

fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_else(|| panic!("cargo metadata gives no {key}"))
}
