//! Tests in processes of their own: for what a process has one of, as its environment
//! and who listens to its logs.

use std::env;
use std::ffi::OsStr;
use std::process::Command;

const INNER: &str = "TWINLOCK_TEST_INNER";

/// Runs `work`, the body of the test `name`, in a process without other tests.
pub(crate) fn in_a_process(name: &str, work: impl AsyncFnOnce()) {
    match env::var_os(INNER) {
        Some(_) => block_on(work()),
        None => run_test(name, [(INNER, "1")]),
    }
}

/// Runs the test `name` of this binary alone, with more `variables`.
#[track_caller]
pub(crate) fn run_test(
    name: &str,
    variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
) {
    let mut itself = Command::new(env::current_exe().unwrap());
    itself.args(["--exact", name, "--nocapture"]).envs(variables);
    let output = itself.output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said[0].contains("1 passed"), "{}", said.concat());
}

/// On this thread, and on no other.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work)
}
