//! The program, with a SoftHSM of its own behind the module that injects faults.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::signed::Signer;
use crate::support::cli::{Dir, program};
use crate::support::http::{self, Message};
use crate::support::p11_fault::CountedModule;
use crate::support::softhsm::{PIN, SoftHsm, TOKEN, module, uri_in, write_private};

pub(super) const ID: &str = "TWINLOCKTESTSAAAAAAA";
pub(super) const SECRET: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
pub(super) const PATH: &str = "/tenant-a/kms/xks/v1";

/// More than anything takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ends with its test.
pub(super) struct Proxy {
    pub(super) dir: Dir,
    pub(super) hsm: SoftHsm,
    pub(super) address: SocketAddr,
    pub(super) operations: SocketAddr,
    pub(super) module: CountedModule,
    running: Option<Child>,
}

/// An answer, its body read as JSON where it is that.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) text: String,
    pub(super) content_type: String,
}

impl Proxy {
    /// One token, one key store, and in it the key `k` over the object `key-1`.
    pub(super) fn start() -> Self {
        Self::with(|config| config)
    }

    /// The same with another configuration: [`Proxy::config`], changed.
    pub(super) fn with(change: impl FnOnce(String) -> String) -> Self {
        let mut proxy = Self::prepared();
        let config = change(proxy.config());
        proxy.write_config(&config);
        proxy.run();
        proxy.wait_until_ready();
        proxy
    }

    /// Everything but the running program.
    pub(super) fn prepared() -> Self {
        let hsm = SoftHsm::with_token();
        let mut dir = Dir::new();
        hsm.variables().into_iter().for_each(|(name, value)| dir.set(name, value));
        for label in ["key-1", "key-2", "health"] {
            dir.run(["keys", "create", &uri_in(hsm.folder(), label)]).ok();
        }
        let counted = CountedModule::before(&module(), &mut dir);
        dir.set("P11_FAULT_CONTROL", dir.home().join("faults"));
        fs::create_dir(dir.home().join("state")).unwrap();
        write_private(&dir.home().join("secret"), SECRET);
        write_private(&dir.home().join("pin"), PIN);
        let (address, operations) = (free_address(), free_address());
        Self { dir, hsm, address, operations, module: counted, running: None }
    }

    /// What [`Proxy::start`] serves.
    pub(super) fn config(&self) -> String {
        let home = self.dir.home();
        let home = home.display();
        let token = format!("pkcs11:token={TOKEN}?module-path={}", module().display());
        let token = CountedModule::uri(&token, &module());
        format!(
            r#"
state_directory = "{home}/state"

[listen]
address = "{}"
plain_http = true

[operations]
address = "{}"

[log]
requests = "{home}/requests.jsonl"
events = "{home}/events.jsonl"

[[hsm]]
name = "a"
token = "{token}"
pin = {{ file = "{home}/pin" }}
sessions = 2
health_key = "health"

[[key_store]]
path = "/tenant-a"
regions = ["eu-central-1"]
deadline_ms = 5000

[[key_store.credential]]
access_key_id = "{ID}"
secret_access_key = {{ file = "{home}/secret" }}

[[key_store.key]]
id = "k"
hsms = ["a"]
generations = [{{ number = 1, object = "key-1" }}]
"#,
            self.address, self.operations
        )
    }

    pub(super) fn write_config(&self, text: &str) {
        fs::write(self.config_file(), text).unwrap();
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.dir.home().join("proxy.toml")
    }

    // === The program ===

    pub(super) fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(xks_program());
        let ours = self.dir.command();
        command.env_clear().envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.arg(verb).arg("--config").arg(self.config_file());
        command
    }

    pub(super) fn run(&mut self) {
        let errors = fs::File::create(self.dir.home().join("stderr")).unwrap();
        let mut command = self.command("serve");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        self.running = Some(command.spawn().unwrap());
    }

    pub(super) fn wait_until_ready(&mut self) {
        eventually("the proxy is ready", || {
            assert!(self.is_running(), "{}", self.said());
            self.get("/readyz").is_ok_and(|answer| answer.contains(" 200 "))
        });
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().id()
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.running.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends it as systemd does; its exit code.
    pub(super) fn stop(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.running.take().unwrap().wait().unwrap().code()
    }

    pub(super) fn kill(&mut self) {
        let mut child = self.running.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What it said on stderr and logged of events.
    pub(super) fn said(&self) -> String {
        let read = |name| fs::read_to_string(self.dir.home().join(name)).unwrap_or_default();
        read("stderr") + &read("events.jsonl")
    }

    /// What it recorded of requests.
    pub(super) fn records(&self) -> Vec<Value> {
        let file = self.dir.home().join("requests.jsonl");
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What it recorded of the request of that id, which it does in a moment.
    pub(super) fn record(&self, request_id: &str) -> Value {
        let mut found = Value::Null;
        eventually("the request is recorded", || {
            let mut records = self.records();
            let is_it = |record: &Value| record["kms_request_id"] == request_id;
            found = records.drain(..).find(is_it).unwrap_or(Value::Null);
            !found.is_null()
        });
        found
    }

    /// A page of the operations' listener: head and body.
    pub(super) fn get(&self, path: &str) -> std::io::Result<String> {
        let request = Message::new(&format!("GET {path} HTTP/1.1"), &[("host", "x")], b"");
        let answer = http::exchange(self.operations, &request)?;
        Ok(format!("{}\n{}", answer.first_line, String::from_utf8_lossy(&answer.body)))
    }

    /// The value of a metric, with its labels.
    pub(super) fn metric(&self, name: &str) -> Option<f64> {
        let page = self.get("/metrics").unwrap();
        let line = page.lines().find(|line| line.starts_with(&format!("{name} ")))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    // === Faults ===

    /// What the module is to do from now on.
    pub(super) fn faults(&self, orders: &str) {
        let file = self.dir.home().join("faults");
        let new = file.with_extension("new");
        fs::write(&new, orders).unwrap();
        fs::rename(new, file).unwrap();
    }

    // === Requests ===

    pub(super) fn signer(&self) -> Signer {
        Signer::new(ID, SECRET)
    }

    /// Sends a signed request to `operation`, such as `keys/k/encrypt`.
    pub(super) fn ask(&self, operation: &str, body: &Value) -> Answer {
        self.send(&self.post(operation, body))
    }

    pub(super) fn post(&self, operation: &str, body: &Value) -> Message {
        let path = format!("{PATH}/{operation}");
        self.signer().post(&self.address.to_string(), &path, body.to_string().as_bytes())
    }

    #[track_caller]
    pub(super) fn send(&self, request: &Message) -> Answer {
        self.try_send(request).expect("the proxy answers")
    }

    pub(super) fn try_send(&self, request: &Message) -> std::io::Result<Answer> {
        Ok(Answer::of(&http::exchange(self.address, request)?))
    }

    pub(super) fn encrypt(&self, plaintext: &[u8]) -> Answer {
        self.ask("keys/k/encrypt", &encrypt_request(plaintext))
    }

    /// Decrypts what an Encrypt of [`encrypt_request`] answered.
    pub(super) fn decrypt(&self, encrypted: &Answer) -> Answer {
        self.ask("keys/k/decrypt", &decrypt_request(&encrypted.body))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Answer {
    fn of(message: &Message) -> Self {
        let status = message.first_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let text = String::from_utf8_lossy(&message.body).into_owned();
        Self {
            status: status.unwrap(),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            content_type: message.header("content-type").unwrap_or_default().to_owned(),
            text,
        }
    }

    #[track_caller]
    pub(super) fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.text);
        self
    }

    /// The name of the error that it is.
    #[track_caller]
    pub(super) fn error(&self) -> &str {
        assert_ne!(self.status, 200, "{}", self.text);
        self.body["errorName"].as_str().unwrap()
    }
}

pub(super) const AAD: &str = "cHJvamVjdD1uaWxl";

pub(super) fn metadata() -> Value {
    json!({
        "awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
        "kmsKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/1234abcd",
        "kmsOperation": "Encrypt",
        "kmsRequestId": request_id(),
    })
}

/// Another one each time.
fn request_id() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("request-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(super) fn encrypt_request(plaintext: &[u8]) -> Value {
    json!({
        "requestMetadata": metadata(),
        "plaintext": base64(plaintext),
        "additionalAuthenticatedData": AAD,
        "encryptionAlgorithm": "AES_GCM",
    })
}

pub(super) fn decrypt_request(encrypted: &Value) -> Value {
    let mut request = encrypted.clone();
    let fields = request.as_object_mut().unwrap();
    fields.remove("ciphertextDataIntegrityValue");
    fields.insert("requestMetadata".to_owned(), metadata());
    fields.insert("additionalAuthenticatedData".to_owned(), AAD.into());
    fields.insert("encryptionAlgorithm".to_owned(), "AES_GCM".into());
    request
}

/// `TWINLOCK_XKS_BINARY`, or what lies beside the program `twinlock`, with which
/// it is built.
pub(super) fn xks_program() -> PathBuf {
    let beside = || program().with_file_name("twinlock-xks");
    std::env::var_os("TWINLOCK_XKS_BINARY").map_or_else(beside, PathBuf::from)
}

/// Free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap()
}

#[track_caller]
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The alphabet and the padding of RFC 4648 section 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// The names of the files in a folder.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
