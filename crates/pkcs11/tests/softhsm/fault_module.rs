//! The module that fails on request, between this crate and the token.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use twinlock_keys::{HolderError, KeyHolder as _, WrappedShare};
use twinlock_pkcs11::{Pkcs11Key, TokenOptions};

use crate::kind::Kind;
use crate::support::{SoftHsm, TOKEN, alone, block_on, context, module, share, test_name};

/// What the scheduler of a busy machine may add to a deadline. The faults here
/// last for good, so that whoever waited for one would wait much longer.
pub(crate) const SCHEDULING: Duration = Duration::from_secs(30);

/// As `with_softhsm`, through a module that does what it is told.
pub(crate) fn with_faults<F: FnOnce(&SoftHsm, &Faults<'_>)>(test: F) {
    let Some(hsm) = SoftHsm::of_this_process() else {
        let kind = Kind::of_this_run();
        return alone(test_name::<F>(), |folder| {
            vec![
                (kind.module_variable(), built().to_owned()),
                ("P11_FAULT_MODULE", module().into()),
                ("P11_FAULT_CONTROL", folder.join("faults")),
                ("P11_FAULT_COUNTS", folder.join("counts")),
                ("P11_FAULT_ALONE", kind.alone().into()),
            ]
        });
    };
    hsm.create_token(TOKEN);
    test(&hsm, &Faults { folder: Cow::Borrowed(&hsm.folder) });
}

/// The same with two copies of that module, `a` in front of SoftHSM and `b` in
/// front of the token of this run. No token is there yet.
pub(crate) fn with_copies<F>(test: impl FnOnce(&SoftHsm, [Faults<'_>; 2])) {
    let Some(hsm) = SoftHsm::of_this_process() else {
        return alone(test_name::<F>(), |folder| {
            let kinds = [Kind::SoftHsm, Kind::of_this_run()];
            for (name, kind) in ["a", "b"].into_iter().zip(kinds) {
                copy_for(kind, &folder.join(name));
            }
            let tokens = folder.join("softhsm");
            std::fs::create_dir(&tokens).expect("a folder for tokens");
            let file = folder.join("softhsm.conf");
            std::fs::write(&file, Kind::SoftHsm.configuration(&tokens)).expect("a configuration");
            vec![(Kind::SoftHsm.configuration_variable(), file)]
        });
    };
    let copies = ["a", "b"].map(|name| Faults { folder: Cow::Owned(hsm.folder.join(name)) });
    test(&hsm, copies);
}

/// Makes the copy in `folder`, in front of the module of that kind.
fn copy_for(kind: Kind, folder: &Path) {
    std::fs::create_dir(folder).expect("a folder for the copy");
    let module = folder.join(MODULE);
    std::fs::copy(built(), &module).expect("a copy of the module");
    let settings = format!(
        "P11_FAULT_MODULE={}\nP11_FAULT_CONTROL={}\nP11_FAULT_COUNTS={}\nP11_FAULT_ALONE={}\n",
        kind.module(),
        folder.join("faults").display(),
        folder.join("counts").display(),
        kind.alone()
    );
    std::fs::write(folder.join(format!("{MODULE}.settings")), settings).expect("its settings");
}

/// A copy's name in its folder.
const MODULE: &str = "module.so";

/// The orders of this process's module, and its memory.
#[derive(Clone)]
pub(crate) struct Faults<'a> {
    folder: Cow<'a, Path>,
}

impl Faults<'_> {
    /// The same for closures that outlive the test's own.
    pub(crate) fn to_owned(&self) -> Faults<'static> {
        Faults { folder: Cow::Owned(self.folder.to_path_buf()) }
    }

    /// The copy of the module.
    pub(crate) fn module(&self) -> PathBuf {
        self.folder.join(MODULE)
    }

    /// From now on these are its orders, and no others.
    pub(crate) fn set(&self, orders: &str) {
        let new = self.folder.join("faults.new");
        std::fs::write(&new, orders).expect("orders");
        std::fs::rename(new, self.folder.join("faults")).expect("in one step");
    }

    pub(crate) fn clear(&self) {
        self.set("");
    }

    /// How often `function` was called until now.
    pub(crate) fn count(&self, function: &str) -> usize {
        self.calls().remove(function).unwrap_or(0)
    }

    /// How often each function was called until now.
    pub(crate) fn calls(&self) -> BTreeMap<String, usize> {
        let counts = std::fs::read_to_string(self.folder.join("counts")).unwrap_or_default();
        let mut calls = BTreeMap::new();
        for function in counts.lines() {
            *calls.entry(function.to_owned()).or_default() += 1;
        }
        calls
    }
}

/// A key that was opened before the faults began, and something it wrapped.
pub(crate) struct OpenKey {
    pub(crate) key: Pkcs11Key,
    pub(crate) wrapped: WrappedShare,
}

impl OpenKey {
    pub(crate) fn new(hsm: &SoftHsm, options: TokenOptions) -> Self {
        drop(hsm.new_kek("archive"));
        let uri = hsm.uri(&format!("token={TOKEN};object=archive"));
        let key = block_on(Pkcs11Key::open(&uri, options)).expect("the new key");
        let wrapped = block_on(key.wrap_key(&share(), &context(""))).expect("no faults yet");
        Self { key, wrapped }
    }

    pub(crate) fn wrap(&self) -> Result<(), HolderError> {
        block_on(self.key.wrap_key(&share(), &context(""))).map(drop)
    }

    pub(crate) fn unwrap(&self) -> Result<(), HolderError> {
        block_on(self.key.unwrap_key(&self.wrapped, &context(""))).map(drop)
    }

    /// With the context of something else.
    pub(crate) fn unwrap_badly(&self) -> Result<(), HolderError> {
        block_on(self.key.unwrap_key(&self.wrapped, &context("another"))).map(drop)
    }
}

/// Does `work`, and fails unless that ends in time.
pub(crate) fn in_time<T>(deadline: Duration, what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let time = start.elapsed();
    assert!(time <= deadline + SCHEDULING, "{what}: {time:?}");
    result
}

/// Tries until it works: nothing but time may be needed.
pub(crate) fn resumes<T, E: std::fmt::Display>(what: &str, work: impl Fn() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match work() {
            Ok(result) => return result,
            Err(error) => {
                assert!(start.elapsed() < Duration::from_secs(60), "{what}: still {error}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Where cargo has put the module, which it builds first if it has to. (Cargo
/// builds no library of this kind for a package that depends on it.)
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let (target, profile) = own_target();
        let output = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--package", "twinlock-p11-fault"])
            .args(["--message-format", "json", "--profile", &profile, "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs, for it built this test");
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{problem}");
        let messages = String::from_utf8_lossy(&output.stdout);
        let module = messages.lines().find_map(library_of);
        module.unwrap_or_else(|| panic!("cargo names no library of twinlock-p11-fault: {problem}"))
    })
}

/// The folder that this test was built in, and its profile.
fn own_target() -> (PathBuf, String) {
    let exe = std::env::current_exe().expect("this binary");
    let profile = exe.ancestors().nth(2).expect("it lies in <target>/<profile>/deps");
    let name = profile.file_name().expect("a profile").to_string_lossy();
    let name = if name == "debug" { "dev".to_owned() } else { name.into_owned() };
    (profile.parent().expect("a target folder").to_owned(), name)
}

fn library_of(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_ours = message["target"]["name"] == "twinlock_p11_fault";
    is_ours.then(|| message["filenames"][0].as_str().map(PathBuf::from)).flatten()
}
