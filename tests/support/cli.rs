//! The program `twinlock`, run in a folder of its own with nothing of the
//! user's environment.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use serde_json::Value;
use tempfile::TempDir;
use twinlock::{FileKek, KeyUri};

/// The program, built as this test was: with the same profile and features, so
/// that little is built twice. `TWINLOCK_BINARY` names another.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match env::var_os("TWINLOCK_BINARY") {
        Some(path) => path.into(),
        None => build(),
    })
}

/// What this test was built with beyond the default.
const FEATURES: &[&str] = &[
    #[cfg(feature = "azure-kv")]
    "twinlock-cli/azure-kv,twinlock-tests/azure-kv",
    #[cfg(feature = "gcp-kms")]
    "twinlock-cli/gcp-kms,twinlock-tests/gcp-kms",
];

fn build() -> PathBuf {
    // target/<profile>/deps/<this binary>
    let itself = env::current_exe().unwrap();
    let profile = itself.ancestors().nth(2).expect("cargo's layout");
    let name = match profile.file_name().and_then(OsStr::to_str) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{} is in no profile's folder", itself.display()),
    };
    let output = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--workspace", "--lib", "--bins", "--tests", "--profile", name])
        .args(["--features", &FEATURES.join(",")])
        .arg("--target-dir")
        .arg(profile.parent().expect("cargo's layout"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .output()
        .expect("cargo runs, for it built this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    profile.join("twinlock")
}

/// A folder to work in, and a home without anything.
pub(crate) struct Dir {
    folder: TempDir,
    variables: Vec<(String, PathBuf)>,
}

impl Dir {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, variables: Vec::new() }
    }

    /// The same with two keys in files, and a profile that names them.
    pub(crate) fn with_keys() -> Self {
        let dir = Self::new();
        let [provider, customer] = ["provider", "customer"].map(|name| dir.new_key(name));
        dir.write_config(&format!(
            "profile = \"default\"\n[profiles.default]\nprovider = \"{provider}\"\ncustomer = \"{customer}\"\n"
        ));
        dir
    }

    /// A new key in a file of the home; its URI.
    pub(crate) fn new_key(&self, name: &str) -> String {
        let uri = format!("file://{}/{name}.kek", self.home().display());
        FileKek::create(&KeyUri::parse(&uri).unwrap()).unwrap();
        uri
    }

    pub(crate) fn write_config(&self, text: &str) {
        let folder = self.home().join(".config/twinlock");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.toml"), text).unwrap();
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The folder that the program runs in.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.work().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// What is in the folder, hidden files too.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.work()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Sets a variable for every run.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<PathBuf>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.env_clear().env("HOME", self.home()).env("PATH", env::var_os("PATH").unwrap());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.work());
        command
    }

    pub(crate) fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Ended {
        self.run_with(args, &[])
    }

    /// Runs it with `stdin`.
    pub(crate) fn run_with<'a>(
        &self,
        args: impl IntoIterator<Item = &'a str>,
        stdin: &[u8],
    ) -> Ended {
        let mut command = self.command();
        command.args(args);
        run(command, stdin)
    }
}

pub(crate) fn run(mut command: Command, stdin: &[u8]) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    thread::scope(|scope| {
        // It may end without having read all.
        scope.spawn(move || pipe.write_all(stdin).ok());
        wait(child)
    })
}

pub(crate) fn wait(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    /// The same, having ended with `code`.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.with(0)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The document of `--json`, wherever it stands.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let stdout = String::from_utf8_lossy(&self.stdout);
        let document =
            stdout.lines().chain(self.stderr.lines()).find(|line| line.starts_with("{\""));
        serde_json::from_str(document.expect("a document")).unwrap()
    }
}
