//! A real SoftHSM with its own configuration and tokens.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub(crate) const PIN: &str = "7391-user";
pub(crate) const TOKEN: &str = "tests";

/// Names the folder in a process of [`in_a_process_with_a_token`].
pub(crate) const FOLDER: &str = "TWINLOCK_TEST_FOLDER";

/// Its folder. A process uses it that has the variables of [`SoftHsm::variables`]
/// from its start.
pub(crate) struct SoftHsm {
    folder: TempDir,
}

impl SoftHsm {
    /// A SoftHSM without tokens.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let module = module();
        assert!(
            module.is_file(),
            "there is no {}: install SoftHSM with `scripts/test --setup`, or name its library in \
             TWINLOCK_SOFTHSM_MODULE",
            module.display()
        );
        let tokens = folder.path().join("tokens");
        fs::create_dir(&tokens).unwrap();
        let configuration = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        fs::write(folder.path().join("softhsm2.conf"), configuration).unwrap();
        write_private(&folder.path().join("pin"), PIN);
        Self { folder }
    }

    /// The same with one token, [`TOKEN`].
    pub(crate) fn with_token() -> Self {
        Self::with_pin(PIN)
    }

    /// The same with another PIN, which lies in the file `pin`.
    pub(crate) fn with_pin(pin: &str) -> Self {
        let hsm = Self::new();
        write_private(&hsm.folder.path().join("pin"), pin);
        hsm.init_token(TOKEN, pin);
        hsm
    }

    /// Another one with the same tokens and the keys that they have by now.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        let mut cp = Command::new("cp");
        cp.arg("-r").arg(self.folder.path().join("tokens")).arg(copy.folder.path());
        assert!(cp.status().unwrap().success());
        copy
    }

    /// One more token, with the usual PIN.
    pub(crate) fn add_token(&self, label: &str) {
        self.init_token(label, PIN);
    }

    fn init_token(&self, label: &str, pin: &str) {
        let mut util = Command::new("softhsm2-util");
        util.envs(self.variables());
        util.args(["--init-token", "--free", "--label", label, "--so-pin", "0000", "--pin", pin]);
        let output = util.output().expect("softhsm2-util is installed with SoftHSM");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn variables(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("SOFTHSM2_CONF", self.folder.path().join("softhsm2.conf")),
            ("TWINLOCK_PKCS11_MODULE", module()),
        ]
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Runs `work`, the body of the test `name`, in a process of its own: a PKCS#11
/// module finds its tokens by a variable that has to be there from the start.
pub(crate) fn in_a_process_with_a_token(name: &str, work: impl AsyncFnOnce(&Path)) {
    if let Some(folder) = env::var_os(FOLDER) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(work(Path::new(&folder)));
    }
    let hsm = SoftHsm::with_token();
    let mut itself = Command::new(env::current_exe().unwrap());
    itself.args(["--exact", name, "--nocapture"]).envs(hsm.variables()).env(FOLDER, hsm.folder());
    let output = itself.output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said[0].contains("1 passed"), "{}", said.concat());
}

pub(crate) fn uri_in(folder: &Path, label: &str) -> String {
    uri_of(folder, TOKEN, label)
}

/// A key's URI in the token `token`.
pub(crate) fn uri_of(folder: &Path, token: &str, label: &str) -> String {
    let (module, pin) = (module(), folder.join("pin"));
    format!(
        "pkcs11:token={token};object={label}?module-path={}&pin-source=file:{}",
        module.display(),
        pin.display()
    )
}

/// The library itself.
pub(crate) fn module() -> PathBuf {
    let usual = "/usr/lib/softhsm/libsofthsm2.so";
    env::var_os("TWINLOCK_SOFTHSM_MODULE").map_or(usual.into(), PathBuf::from)
}

pub(crate) fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
