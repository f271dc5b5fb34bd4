//! A real `moto_server`: AWS KMS and STS in memory, one for all tests.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{self, Message};

/// The server, started by whoever asks first.
pub(crate) fn moto() -> &'static Moto {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(Moto::start)
}

pub(crate) struct Moto {
    pub(crate) address: SocketAddr,
    /// When its standard input closes, which happens however this process ends,
    /// it kills the server.
    _leash: Child,
}

impl Moto {
    fn start() -> Self {
        let program = program();
        let mut leash = spawn_on_leash(&program);
        let log = leash.stderr.take().expect("it was piped");
        let (tell, told) = mpsc::channel();
        thread::spawn(move || follow(log, &tell));
        let address = told.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| {
            panic!("{} did not say its address: try it by hand", program.display())
        });
        Self { address, _leash: leash }
    }

    /// A new symmetric key, with `more` of what `CreateKey` takes; its ARN.
    pub(crate) fn create_key(&self, region: &str, more: &Value) -> String {
        // AWS has these defaults, moto has not.
        let mut ask = json!({ "KeyUsage": "ENCRYPT_DECRYPT", "Description": "" });
        let more = more.as_object().expect("fields of CreateKey").clone();
        ask.as_object_mut().expect("it is one").extend(more);
        let answer = self.call(region, "CreateKey", &ask);
        answer["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned()
    }

    /// Calls KMS past everything that is being tested.
    pub(crate) fn call(&self, region: &str, operation: &str, body: &Value) -> Value {
        let answer = http::exchange(self.address, &request(region, operation, body));
        let answer = answer.expect("moto answers");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(answer.first_line.contains(" 200 "), "{operation}: {text}");
        serde_json::from_slice(&answer.body).unwrap_or(json!(null))
    }
}

/// The id in a key's ARN: some of moto's operations take nothing else.
pub(crate) fn id_of(arn: &str) -> &str {
    arn.rsplit('/').next().expect("there is always a last part")
}

/// A request as KMS takes it. moto reads the region from the signature and
/// does not check it.
pub(crate) fn request(region: &str, operation: &str, body: &Value) -> Message {
    let scope = format!("test/20260101/{region}/kms/aws4_request");
    let headers = [
        ("host", "127.0.0.1"),
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", &format!("TrentService.{operation}")),
        ("authorization", &format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host")),
    ];
    Message::new("POST / HTTP/1.1", &headers, body.to_string().as_bytes())
}

fn program() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/venv/bin/moto_server");
    let program = env::var_os("TWINLOCK_MOTO_SERVER").map_or(ours, PathBuf::from);
    assert!(
        program.is_file(),
        "there is no {}, which plays AWS KMS in these tests: install it with `scripts/test \
         --setup`, or name one in TWINLOCK_MOTO_SERVER",
        program.display()
    );
    program
}

/// Port 0 lets the system choose, and the server's log says which.
fn spawn_on_leash(program: &Path) -> Child {
    const SCRIPT: &str = r#""$0" -H 127.0.0.1 -p 0 & server=$!; cat >/dev/null; kill $server"#;
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(SCRIPT).arg(program);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    shell.spawn().expect("there is a shell")
}

/// Reads the server's log to its end, so that it never waits for a reader.
fn follow(log: impl std::io::Read, tell: &Sender<SocketAddr>) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        let address = line.split_once("Running on http://").map(|(_, rest)| rest.trim());
        if let Some(address) = address.and_then(|text| text.parse().ok()) {
            tell.send(address).ok();
        }
    }
}
