//! `scripts/bench-peers` works: a smoke run of it, with the tools that a machine
//! of these tests has anyway.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::cli::program;

#[test]
fn it_compares_files_and_trees_and_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let output = bench(&["--quick", "--tools", "twinlock,cp"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report = String::from_utf8(output.stdout).unwrap();
    for found in ["### A file of 4 MiB ", "### 20 files of 4 KiB "] {
        assert!(report.contains(found), "no {found:?} in {report}");
    }
    // Two workloads, both directions, and the line of facts.
    assert_eq!(rows_of("twinlock", &report), 5, "{report}");
    assert_eq!(rows_of("cp", &report), 5, "{report}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn it_replaces_its_section_of_a_page_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("page.md");
    std::fs::write(&page, format!("before\n{BEGIN}\nold\n{END}\nafter\n")).unwrap();
    let small = ["--size", "4096", "--tree", "0", "--rounds", "1", "--tools", "cp", "--report"];
    let mut args = small.to_vec();
    args.push(page.to_str().unwrap());
    let read = || std::fs::read_to_string(&page).unwrap();
    for _ in 0..2 {
        let output = bench(&args, folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let (before, rest) = read().split_once(BEGIN).map(owned).unwrap();
        let (section, after) = rest.split_once(END).map(owned).unwrap();
        assert_eq!((before.as_str(), after.as_str()), ("before\n", "\nafter\n"));
        assert_eq!((section.contains("old"), rows_of("cp", &section)), (false, 3), "{section}");
    }

    std::fs::write(&page, "no section\n").unwrap();
    let output = bench(&args, folder.path());
    assert_eq!((output.status.code(), read().as_str()), (Some(1), "no section\n"));
}

#[test]
fn it_refuses_what_the_folder_has_no_room_for_and_tools_it_does_not_know() {
    let folder = TempDir::new().unwrap();
    let large = ["--size", "1000000GiB", "--tools", "cp", "--report", "-"];
    let output = bench(&large, folder.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.contains("has room for")), (Some(1), true), "{said}");

    let output = bench(&["--quick", "--tools", "cp,nonsense"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no such tool: nonsense"));
}

const BEGIN: &str = "<!-- bench-peers: begin -->";
const END: &str = "<!-- bench-peers: end -->";

fn bench(args: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(root().join("scripts/bench-peers"));
    command.args(args).arg(folder).env("TWINLOCK_BINARY", program());
    command.output().expect("a script of the project")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rows_of(tool: &str, report: &str) -> usize {
    report.lines().filter(|line| line.starts_with(&format!("| {tool} |"))).count()
}

fn owned((before, after): (&str, &str)) -> (String, String) {
    (before.to_owned(), after.to_owned())
}
