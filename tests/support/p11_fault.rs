//! The forwarding PKCS#11 module of this workspace, between the program and
//! its token: it counts calls.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::cli::Dir;
use super::kind::Kind;

/// What one program's module has counted.
pub(crate) struct CountedModule {
    counts: PathBuf,
}

impl CountedModule {
    /// Has the programs of `dir` use it, in front of `module`.
    pub(crate) fn before(module: &Path, dir: &mut Dir) -> Self {
        let counts = dir.home().join("p11-counts");
        dir.set("P11_FAULT_MODULE", module);
        dir.set("P11_FAULT_COUNTS", &counts);
        dir.set("P11_FAULT_ALONE", Kind::of_this_run().alone());
        Self { counts }
    }

    /// `uri` with this module in place of another.
    pub(crate) fn uri(uri: &str, module: &Path) -> String {
        let (theirs, ours) = (module.display().to_string(), built().display().to_string());
        assert!(uri.contains(&theirs), "{uri}");
        uri.replace(&theirs, &ours)
    }

    /// How many encryptions and decryptions were begun until now.
    pub(crate) fn operations(&self) -> (usize, usize) {
        (self.count("C_EncryptInit"), self.count("C_DecryptInit"))
    }

    /// How often `function` was called until now.
    pub(crate) fn count(&self, function: &str) -> usize {
        let counts = std::fs::read_to_string(&self.counts).unwrap_or_default();
        counts.lines().filter(|line| *line == function).count()
    }
}

/// The module, built as this test was.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let itself = env::current_exe().unwrap();
        let target = itself.ancestors().nth(3).expect("target/<profile>/deps/<this binary>");
        let output = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--package", "twinlock-p11-fault", "--lib"])
            .args(["--message-format", "json", "--target-dir"])
            .arg(target)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
            .output()
            .expect("cargo runs, for it built this test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).unwrap();
        messages.lines().find_map(library_in).expect("cargo names what it built")
    })
}

fn library_in(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_ours = message["target"]["name"] == "twinlock_p11_fault";
    let file = message["filenames"].get(0).filter(|_| is_ours)?;
    file.as_str().map(PathBuf::from)
}
