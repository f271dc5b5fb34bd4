//! What no source file may hold: a test that is skipped, an unnamed `unsafe`.

use std::path::{Path, PathBuf};

use super::{list, members, metadata, root, text};

/// Crate roots that need `unsafe`, with the reason.
const MAY_USE_UNSAFE: &[(&str, &str)] = &[
    (
        "crates/pkcs11/examples/throughput.rs",
        "it compares with a module that is called as C calls it",
    ),
    ("crates/floe/tests/alloc.rs", "a global allocator that counts is an unsafe trait"),
    ("tests/p11-fault/src/lib.rs", "a PKCS#11 module is a C interface"),
];

/// Crates of which one module needs `unsafe`: the root, which denies it, and
/// that module, with the reason.
const MODULE_MAY_USE_UNSAFE: &[(&str, &str, &str)] =
    &[("crates/pkcs11/src/lib.rs", "one_shot", "cryptoki has no C_Encrypt in one call")];

/// Folders that hold no sources of ours.
const NOT_OURS: &[&str] = &[".git", ".tools", "target"];

#[test]
fn no_test_is_skipped() {
    let complaints: Vec<_> =
        sources().flat_map(|(path, text)| skipped_tests(&path, &text)).collect();
    assert_eq!(complaints, [""; 0], "a test that cannot run here says so itself");
}

#[test]
fn every_crate_root_forbids_unsafe_code() {
    let complaints: Vec<_> =
        crate_roots().filter_map(|(path, text)| unguarded_root(&path, &text)).collect();
    assert_eq!(complaints, [""; 0]);
}

#[test]
fn no_other_module_lifts_the_ban_on_unsafe_code() {
    let complaints: Vec<_> =
        sources().filter_map(|(path, text)| lifted_ban(&path, &text)).collect();
    assert_eq!(complaints, [""; 0]);
}

#[test]
fn a_planted_skip_is_found() {
    let skips = [
        "#[ignore]",
        "    #[ignore = \"slow\"]",
        "#[cfg_attr(unix, ignore)]",
        "/// ```ignore",
        "//! ```rust,ignore",
    ];
    for skip in skips {
        let source = format!("#[test]\n{skip}\nfn slow() {{}}\n");
        assert_eq!(skipped_tests("planted.rs", &source), ["planted.rs:2 skips a test"], "{skip}");
    }
}

#[test]
fn the_word_alone_skips_nothing() {
    let innocent =
        "// We ignore it.\nlet ignore = [1];\nmatches.ignore();\nlet text = \"#[ignore]\";\n";
    assert_eq!(skipped_tests("innocent.rs", innocent), [""; 0]);
}

#[test]
fn a_planted_root_without_the_ban_is_found() {
    let complaint = unguarded_root("crates/planted/src/lib.rs", "//! Planted.\n");
    assert_eq!(complaint.as_deref(), Some("crates/planted/src/lib.rs does not forbid unsafe code"));
    let commented = unguarded_root("main.rs", "// #![forbid(unsafe_code)]\nfn main() {}\n");
    assert!(commented.is_some());
    assert_eq!(unguarded_root("lib.rs", "//! Fine.\n#![forbid(unsafe_code)]\n"), None);
}

#[test]
fn a_planted_root_that_allows_it_to_more_than_its_module_is_found() {
    let (path, module, _) = MODULE_MAY_USE_UNSAFE[0];
    let allowed = format!("#[allow(unsafe_code, reason = \"why\")]\nmod {module};\n");
    let good = format!("//! Fine.\n#![deny(unsafe_code)]\n{allowed}");
    assert_eq!(unguarded_root(path, &good).or(lifted_ban(path, &good)), None);
    assert!(unguarded_root(path, &allowed).is_some(), "without the ban");
    for more in [&*allowed, "#[allow(unsafe_code)]\nmod other;\n", "#![allow(unsafe_code)]\n"] {
        assert!(lifted_ban(path, &format!("{good}{more}")).is_some(), "{more}");
    }
    assert!(lifted_ban("crates/pkcs11/src/token.rs", "#[expect(unsafe_code)]\n").is_some());
    assert!(lifted_ban("crates/keys/src/lib.rs", &allowed).is_some());
}

// === The guards ===

fn skipped_tests(path: &str, source: &str) -> Vec<String> {
    let numbered = (1..).zip(source.lines().map(str::trim));
    numbered
        .filter(|(_, line)| is_skipping_attribute(line) || is_skipping_doc_test(line))
        .map(|(number, _)| format!("{path}:{number} skips a test"))
        .collect()
}

fn is_skipping_attribute(line: &str) -> bool {
    let conditional = line.starts_with("#[cfg_attr(") && line.contains(" ignore");
    line.starts_with("#[ignore") || conditional
}

fn is_skipping_doc_test(line: &str) -> bool {
    let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
    comment
        .and_then(|text| text.trim_start().strip_prefix("```"))
        .is_some_and(|language| language.split(',').any(|word| word.trim().starts_with("ignore")))
}

fn unguarded_root(path: &str, source: &str) -> Option<String> {
    let named = MAY_USE_UNSAFE.iter().any(|(exception, _)| *exception == path);
    let has = |ban: &str| source.lines().any(|line| line == ban);
    let bans = match MODULE_MAY_USE_UNSAFE.iter().any(|(root, ..)| *root == path) {
        true => has("#![deny(unsafe_code)]"),
        false => has("#![forbid(unsafe_code)]"),
    };
    (!named && !bans).then(|| format!("{path} does not forbid unsafe code"))
}

/// Only a root that denies unsafe code can allow it somewhere: once, to the
/// module that is named for it.
fn lifted_ban(path: &str, source: &str) -> Option<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let lifts = |line: &&&str| {
        ["allow(unsafe_code", "expect(unsafe_code", "warn(unsafe_code"].iter().any(|lift| {
            line.strip_prefix("#[")
                .or(line.strip_prefix("#!["))
                .is_some_and(|l| l.starts_with(lift))
        })
    };
    let lifted = lines.iter().filter(lifts).count();
    let module = MODULE_MAY_USE_UNSAFE.iter().find(|(root, ..)| *root == path);
    let allowed = module.is_some_and(|(_, module, _)| {
        let module = format!("mod {module};");
        lines.windows(2).any(|pair| lifts(&&pair[0]) && pair[1] == module)
    });
    (lifted > usize::from(allowed)).then(|| format!("{path} allows unsafe code"))
}

// === What they look at ===

/// The roots of our libraries, programs, tests, benches and build scripts.
fn crate_roots() -> impl Iterator<Item = (String, String)> {
    let targets = members(metadata()).flat_map(|package| list(package, "targets"));
    targets.map(|target| read(Path::new(text(target, "src_path"))))
}

/// Every Rust file of the project, in the workspace or not.
fn sources() -> impl Iterator<Item = (String, String)> {
    let mut files = Vec::new();
    collect_sources(root(), &mut files);
    files.into_iter().map(|path| read(&path))
}

fn collect_sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && !NOT_OURS.iter().any(|not_ours| name == *not_ours) {
            collect_sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// A file's path below the root, and its text.
fn read(path: &Path) -> (String, String) {
    let source =
        std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let below = path.strip_prefix(root()).unwrap_or(path);
    (below.display().to_string(), source)
}
