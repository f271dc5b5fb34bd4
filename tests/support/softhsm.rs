//! A real SoftHSM with its own configuration and tokens.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub(crate) const PIN: &str = "7391-user";
pub(crate) const TOKEN: &str = "tests";

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
        let hsm = Self::new();
        let mut util = Command::new("softhsm2-util");
        util.envs(hsm.variables());
        util.args(["--init-token", "--free", "--label", TOKEN, "--so-pin", "0000", "--pin", PIN]);
        let output = util.output().expect("softhsm2-util is installed with SoftHSM");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        hsm
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

pub(crate) fn uri_in(folder: &Path, label: &str) -> String {
    let (module, pin) = (module(), folder.join("pin"));
    format!(
        "pkcs11:token={TOKEN};object={label}?module-path={}&pin-source=file:{}",
        module.display(),
        pin.display()
    )
}

fn module() -> PathBuf {
    let usual = "/usr/lib/softhsm/libsofthsm2.so";
    env::var_os("TWINLOCK_SOFTHSM_MODULE").map_or(usual.into(), PathBuf::from)
}

pub(crate) fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
