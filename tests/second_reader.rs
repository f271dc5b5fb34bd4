//! A reader in another language, written from `docs/format.md` alone, agrees
//! with ours on every vector.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[test]
fn it_computes_every_value_of_the_worked_vector() {
    let output = second_reader(&["--self-test"]);
    assert_passed(&output, "25 values");
}

#[test]
fn it_opens_and_refuses_the_same_vectors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/v1");
    let files = folder.read_dir().unwrap().map(|file| file.unwrap().path());
    let vectors = files.filter(|path| path.extension() == Some("txt".as_ref())).count();
    let output = second_reader(&["vectors", folder.to_str().unwrap()]);
    assert_passed(&output, &format!("{vectors} passed, 0 failed"));
}

fn second_reader(args: &[&str]) -> Output {
    let python = python();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("second_reader/twinlock_reader.py");
    let output = Command::new(&python).arg("-B").arg(script).args(args).output();
    output.unwrap_or_else(|error| {
        panic!("{}: {error}; install it with `scripts/test --setup`", python.display())
    })
}

fn python() -> PathBuf {
    match env::var_os("TWINLOCK_TEST_PYTHON") {
        Some(python) => python.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/venv/bin/python"),
    }
}

fn assert_passed(output: &Output, expected: &str) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains(expected), "{stdout}{stderr}");
}
