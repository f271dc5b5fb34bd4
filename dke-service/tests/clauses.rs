//! `docs/dke.md` says which test proves which clause of the protocol: each
//! of them has to be there.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// Where tests of the service are, from the root of the project.
const SOURCES: &[&str] =
    &["dke-service/src", "dke-service/tests", "crates/service/src", "crates/pkcs11/tests", "tests"];

#[test]
fn every_test_that_proves_a_clause_exists() {
    let sources: String = SOURCES.iter().flat_map(|folder| files(&root().join(folder))).collect();
    let page = fs::read_to_string(root().join("docs/dke.md")).unwrap();
    let named: Vec<_> = tests_of(&page).collect();
    let missing: Vec<_> = named
        .iter()
        .filter(|test| !sources.contains(&format!("fn {}(", test.rsplit("::").next().unwrap())))
        .collect();
    assert_eq!(missing, [&""; 0]);
    assert!(named.len() > 20, "the page is read as it is written");
}

/// What stands in backquotes in the last column of the tables of clauses.
fn tests_of(page: &str) -> impl Iterator<Item = &str> {
    let (_, clauses) = page.split_once("## Clause by clause").unwrap();
    let rows = clauses.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.strip_suffix('|')?.rsplit_once(" | "));
    cells.flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2))
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.flat_map(|path| match path {
        path if path.is_dir() => files(&path),
        path if path.extension().is_some_and(|it| it == "rs") => {
            vec![fs::read_to_string(&path).unwrap()]
        }
        _ => Vec::new(),
    });
    texts.collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
