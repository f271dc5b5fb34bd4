//! `docs/dke.md` says which test proves which case of the protocol: no case may be
//! without one, and each of them has to be there.
//!
//! The check is a function that returns complaints; violations are planted to see
//! them found.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where tests of the service are, from the root of the project.
const SOURCES: &[&str] =
    &["dke-service/src", "dke-service/tests", "crates/service/src", "crates/pkcs11/tests", "tests"];

/// The number of the last case; the first is `T0`, and then comes 1.
const LAST_CASE: usize = 40;

#[test]
fn every_case_has_a_test_and_every_named_test_exists() {
    let sources: String = SOURCES.iter().flat_map(|folder| files(&root().join(folder))).collect();
    let page = fs::read_to_string(root().join("docs/dke.md")).unwrap();
    assert_eq!(complaints(&page, &sources), [""; 0]);
}

/// What is wrong with the page's tables of cases, if these are all sources of tests.
fn complaints(page: &str, sources: &str) -> Vec<String> {
    let (rows, tests) = (rows_of(page), tests_in(sources));
    let without = cases().filter(|case| {
        let of_it = |row: &&Row<'_>| row.case == *case && !row.tests.is_empty();
        rows.iter().filter(of_it).count() != 1
    });
    let without = without.map(|case| format!("case {case} has not one row with a test"));
    let named = rows.iter().flat_map(|row| &row.tests);
    let missing = named.filter(|test| !tests.contains(**test));
    without.chain(missing.map(|test| format!("there is no test {test}"))).collect()
}

fn cases() -> impl Iterator<Item = String> {
    ["T0".to_owned()].into_iter().chain((1..=LAST_CASE).map(|number| number.to_string()))
}

/// A row of a table: the first column and what stands in backquotes in the last.
struct Row<'a> {
    case: &'a str,
    tests: Vec<&'a str>,
}

fn rows_of(page: &str) -> Vec<Row<'_>> {
    let clauses = page.split_once("## Clause by clause").map_or("", |(_, clauses)| clauses);
    let rows = clauses.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    rows.filter_map(|row| {
        let (case, rest) = row.split_once('|')?;
        let (_, tests) = rest.rsplit_once('|')?;
        Some(Row { case: case.trim(), tests: tests.split('`').skip(1).step_by(2).collect() })
    })
    .collect()
}

/// The names of functions that have `#[test]` or one like it among their attributes.
fn tests_in(sources: &str) -> HashSet<&str> {
    let mut is_test = false;
    let mut tests = HashSet::new();
    for line in sources.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.ends_with("test]");
        } else if let Some((before, after)) = line.split_once("fn ") {
            let name = after.split(['(', '<']).next().unwrap_or_default();
            if is_test && ["", "async "].contains(&before) {
                tests.insert(name);
            }
            is_test = false;
        }
    }
    tests
}

#[test]
fn a_violation_is_found() {
    let head = "## Clause by clause\n\n| # | clause | answer | tests |\n|---|---|---|---|\n";
    let row = |case: &str, tests: &str| format!("| {case} | `kid` | as asked | {tests} |\n");
    let good: String = cases().map(|case| row(&case, "`is_proven`, `is_seen`")).collect();
    let good = format!("{head}{good}{}", row("", "`is_seen`"));
    let sources = "#[test]\nfn is_proven() {}\n\n#[tokio::test]\n#[expect(x)]\nasync fn is_seen() {}\n\
                   fn helps() {}\n";
    assert_eq!(complaints(&good, sources), [""; 0]);
    let of_7 = row("7", "`is_proven`, `is_seen`");
    for (planted, found) in [
        (String::new(), "case 7 has not one row with a test"),
        (row("7", ""), "case 7 has not one row with a test"),
        (row("7", "is_proven"), "case 7 has not one row with a test"),
        (of_7.clone() + &of_7, "case 7 has not one row with a test"),
        (row("7", "`is_proven`, `is_gone`"), "there is no test is_gone"),
        (row("7", "`helps`"), "there is no test helps"),
        (row("7", "`is_prove`"), "there is no test is_prove"),
    ] {
        assert_eq!(complaints(&good.replace(&of_7, &planted), sources), [found], "{planted}");
    }
    assert_eq!(complaints("", sources).len(), LAST_CASE + 1);
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
