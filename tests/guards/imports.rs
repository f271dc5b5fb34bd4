//! Who may import whom: the dependency rules of the workspace.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::{list, members, metadata, text};

/// Our packages, each with those of ours that it may import. Nothing may
/// import a package that stands in no list: the binaries, tests and benches.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("twinlock-floe", &[]),
    ("twinlock-format", &[]),
    ("twinlock-keys", &[]),
    ("twinlock", &["twinlock-floe", "twinlock-format", "twinlock-keys"]),
    ("twinlock-pkcs11", &["twinlock-keys"]),
    ("twinlock-remote-keys", &["twinlock-keys"]),
    ("twinlock-service", &["twinlock-keys"]),
    ("twinlock-xks", &["twinlock-keys", "twinlock-pkcs11", "twinlock-service"]),
    ("twinlock-dke", &["twinlock-keys", "twinlock-pkcs11", "twinlock-service"]),
    ("twinlock-cli", &["twinlock", "twinlock-keys", "twinlock-pkcs11", "twinlock-remote-keys"]),
    ("twinlock-p11-fault", &[]),
    ("twinlock-tests", LIBRARIES),
    ("twinlock-benches", LIBRARIES),
];

const LIBRARIES: &[&str] = &[
    "twinlock",
    "twinlock-floe",
    "twinlock-format",
    "twinlock-keys",
    "twinlock-p11-fault",
    "twinlock-pkcs11",
    "twinlock-remote-keys",
    "twinlock-service",
    "twinlock-xks",
    "twinlock-dke",
];

/// Imports that only the unit tests of a package may have: importer, imported.
const MAY_IMPORT_FOR_TESTS: &[(&str, &str)] = &[];

/// Outside packages that only some of ours may import, in any way. The first
/// row that a name begins with counts.
const FENCED: &[(&str, &[&str])] = &[
    ("cryptoki-sys", &["twinlock-p11-fault", "twinlock-pkcs11"]),
    ("cryptoki", &["twinlock-pkcs11", "twinlock-tests"]),
    ("regorus", &["twinlock-service"]),
    ("opentelemetry", &["twinlock-service"]),
    ("aws-config", &["twinlock-remote-keys", "twinlock-tests"]),
    ("aws-sdk-", &["twinlock-remote-keys", "twinlock-tests"]),
    ("azure_", &["twinlock-remote-keys"]),
    ("google-cloud-", &["twinlock-remote-keys"]),
    ("jsonwebtoken", &["twinlock-dke"]),
    ("ldap3", &["twinlock-dke"]),
    // Clouds, and the keys of the issuers whose tokens the DKE service believes.
    ("reqwest", &["twinlock-dke", "twinlock-remote-keys"]),
    ("vaultrs", &["twinlock-remote-keys"]),
];

/// The packages at the bottom, which know neither a runtime nor a protocol.
const LOW: &[&str] = &["twinlock-floe", "twinlock-format", "twinlock-keys"];

/// What must not be below them. All of tokio, not only its runtime: another
/// package of the same build can turn that feature on for everybody.
const NOT_BELOW_LOW: &[&str] =
    &["async-std", "axum", "h2", "http", "hyper", "reqwest", "smol", "tokio", "tonic", "ureq"];

#[test]
fn our_packages_import_only_whom_they_may() {
    assert_eq!(forbidden_imports(metadata()), [""; 0]);
}

#[test]
fn tokens_and_clouds_are_imported_by_one_package_each() {
    assert_eq!(climbed_fences(metadata()), [""; 0]);
}

#[test]
fn the_low_packages_reach_no_runtime_and_no_http() {
    assert_eq!(runtimes_below_low(metadata()), [""; 0]);
}

#[test]
fn a_planted_import_is_found() {
    for (importer, imported, kind) in [
        ("twinlock-floe", "twinlock-keys", json!(null)),
        ("twinlock-pkcs11", "twinlock-format", json!("build")),
        ("twinlock-keys", "twinlock-format", json!("dev")),
        ("twinlock", "twinlock-tests", json!("dev")),
        ("twinlock-tests", "twinlock-benches", json!(null)),
        ("twinlock-cli", "twinlock-fuzz", json!(null)),
    ] {
        let planted =
            with_dependency(importer, json!({"name": imported, "kind": kind, "path": "/"}));
        assert_eq!(forbidden_imports(&planted), [format!("{importer} imports {imported}")]);
    }
}

#[test]
fn a_package_without_a_row_is_found() {
    let mut planted = metadata().clone();
    package_mut(&mut planted, "twinlock-floe")["name"] = json!("twinlock-common");
    let complaints = forbidden_imports(&planted);
    assert_eq!(complaints, ["twinlock-common has no row in MAY_IMPORT"]);
}

#[test]
fn a_planted_climb_over_a_fence_is_found() {
    for (importer, imported) in [
        ("twinlock", "cryptoki"),
        ("twinlock-cli", "cryptoki-sys"),
        ("twinlock-cli", "aws-sdk-kms"),
        ("twinlock-cli", "azure_security_keyvault_keys"),
        ("twinlock-cli", "reqwest"),
        ("twinlock-cli", "google-cloud-kms-v1"),
    ] {
        let planted = with_dependency(importer, json!({"name": imported, "kind": null}));
        assert_eq!(climbed_fences(&planted), [format!("{importer} imports {imported}")]);
    }
}

#[test]
fn a_planted_runtime_is_found_however_deep_it_lies() {
    let mut planted = metadata().clone();
    let middle = json!({"name": "middle", "id": "middle"});
    let tokio = json!({"name": "tokio", "id": "planted tokio"});
    push(&mut planted["packages"], [middle, tokio]);
    push(
        &mut planted["resolve"]["nodes"],
        [json!({"id": "middle", "deps": [edge("planted tokio", json!("build"))]})],
    );
    let keys = id_of(&planted, "twinlock-keys").to_owned();
    push(&mut node_mut(&mut planted, &keys)["deps"], [edge("middle", json!(null))]);
    assert_eq!(runtimes_below_low(&planted), ["twinlock-keys reaches tokio"]);
}

#[test]
fn a_runtime_for_unit_tests_alone_is_no_violation() {
    let mut planted = metadata().clone();
    push(&mut planted["packages"], [json!({"name": "tokio", "id": "planted tokio"})]);
    let keys = id_of(&planted, "twinlock-keys").to_owned();
    push(&mut node_mut(&mut planted, &keys)["deps"], [edge("planted tokio", json!("dev"))]);
    assert_eq!(runtimes_below_low(&planted), [""; 0]);
}

// === The guards ===

fn forbidden_imports(metadata: &Value) -> Vec<String> {
    members(metadata).flat_map(forbidden_imports_of).collect()
}

fn forbidden_imports_of(package: &Value) -> Vec<String> {
    let importer = text(package, "name");
    let Some((_, may_import)) = MAY_IMPORT.iter().find(|(name, _)| *name == importer) else {
        return vec![format!("{importer} has no row in MAY_IMPORT")];
    };
    list(package, "dependencies")
        .iter()
        .filter(|dependency| dependency["path"].is_string()) // one of ours
        .filter(|dependency| {
            let imported = text(dependency, "name");
            let for_tests =
                dependency["kind"] == "dev" && MAY_IMPORT_FOR_TESTS.contains(&(importer, imported));
            !for_tests && !may_import.contains(&imported)
        })
        .map(|dependency| format!("{importer} imports {}", text(dependency, "name")))
        .collect()
}

fn climbed_fences(metadata: &Value) -> Vec<String> {
    let imports = members(metadata).flat_map(|package| {
        let importer = text(package, "name");
        list(package, "dependencies").iter().map(move |to| (importer, text(to, "name")))
    });
    imports
        .filter(|(importer, imported)| {
            let fence = FENCED.iter().find(|(name, _)| imported.starts_with(name));
            fence.is_some_and(|(_, inside)| !inside.contains(importer))
        })
        .map(|(importer, imported)| format!("{importer} imports {imported}"))
        .collect()
}

fn runtimes_below_low(metadata: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    for low in LOW {
        let reached = names_below(metadata, id_of(metadata, low));
        let found = NOT_BELOW_LOW.iter().filter(|name| reached.contains(*name));
        complaints.extend(found.map(|name| format!("{low} reaches {name}")));
    }
    complaints
}

/// The names of all packages that are built into `id`.
fn names_below<'a>(metadata: &'a Value, id: &'a str) -> BTreeSet<&'a str> {
    let names: HashMap<_, _> =
        list(metadata, "packages").iter().map(|p| (text(p, "id"), text(p, "name"))).collect();
    let nodes: HashMap<_, _> =
        list(&metadata["resolve"], "nodes").iter().map(|n| (text(n, "id"), n)).collect();
    let mut seen = BTreeSet::new();
    let mut to_visit = vec![id];
    while let Some(id) = to_visit.pop() {
        let edges = nodes.get(id).map_or(&[][..], |node| list(node, "deps"));
        let built_in = edges.iter().filter(|edge| {
            list(edge, "dep_kinds").iter().any(|dep_kind| dep_kind["kind"] != "dev")
        });
        to_visit.extend(built_in.map(|edge| text(edge, "pkg")).filter(|id| seen.insert(*id)));
    }
    seen.into_iter().map(|id| names[id]).collect()
}

fn id_of<'a>(metadata: &'a Value, name: &str) -> &'a str {
    let package = members(metadata).find(|package| text(package, "name") == name);
    text(package.unwrap_or_else(|| panic!("there is no package {name}")), "id")
}

// === Planting ===

fn with_dependency(importer: &str, dependency: Value) -> Value {
    let mut planted = metadata().clone();
    push(&mut package_mut(&mut planted, importer)["dependencies"], [dependency]);
    planted
}

fn package_mut<'a>(metadata: &'a mut Value, name: &str) -> &'a mut Value {
    let id = id_of(metadata, name).to_owned();
    find_mut(&mut metadata["packages"], &id)
}

fn node_mut<'a>(metadata: &'a mut Value, id: &str) -> &'a mut Value {
    find_mut(&mut metadata["resolve"]["nodes"], id)
}

fn find_mut<'a>(list: &'a mut Value, id: &str) -> &'a mut Value {
    let items = list.as_array_mut().expect("a list");
    items.iter_mut().find(|item| item["id"] == id).expect("cargo metadata names it")
}

fn edge(to: &str, kind: Value) -> Value {
    json!({"pkg": to, "dep_kinds": [{"kind": kind}]})
}

fn push<const N: usize>(list: &mut Value, items: [Value; N]) {
    list.as_array_mut().expect("a list").extend(items);
}
