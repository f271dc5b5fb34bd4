//! The whole chain: a cloud in AWS's place, the proxy, and a token. All of it
//! ends with its test.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::cli::{Dir, Ended, program, run};
use crate::support::http::{self, Message};
use crate::support::leash::Leashed;
use crate::support::service::read_lines;
use crate::support::softhsm::{SoftHsm, TOKEN, module, uri_in, write_private};
use crate::support::tls::{Authority, XKS_PROXY};
use crate::support::{moto, python};

pub(super) const REGION: &str = "eu-central-1";

/// The label of the first external key in the token.
pub(super) const FIRST: &str = "xks-key-1";
/// The prefix of the key store's path.
pub(super) const PATH: &str = "/tenant-a";
pub(super) const ACCESS_KEY: &str = "TWINLOCKTESTSAAAAAAA";
pub(super) const SECRET: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
/// More than any of it takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The chain, without a key store: the first thing that a client makes.
pub(super) struct Rig {
    pub(super) dir: Dir,
    pub(super) cloud: Cloud,
    hsm: SoftHsm,
    /// Where the proxy listens, for KMS and for load balancers.
    pub(super) addresses: [SocketAddr; 2],
    proxy: Option<Leashed>,
}

/// The cloud, and the record of what it sent and got.
pub(super) struct Cloud {
    pub(super) address: SocketAddr,
    log: PathBuf,
    _leash: Leashed,
}

impl Rig {
    /// With two external keys, `external-key-1` and `external-key-2`.
    pub(super) fn start() -> Self {
        Self::with_first_key(|dir, hsm| create_key(dir, hsm, FIRST))
    }

    /// The same; `make` puts the first of them into the token, under [`FIRST`].
    pub(super) fn with_first_key(make: impl FnOnce(&Dir, &SoftHsm)) -> Self {
        let hsm = SoftHsm::with_token();
        let mut dir = Dir::new();
        hsm.variables().into_iter().for_each(|(name, value)| dir.set(name, value));
        // A token in files waits for the disk, which other builds may be busy with.
        dir.write_config("profile = \"default\"\n[profiles.default]\ndeadline_seconds = 120\n");
        make(&dir, &hsm);
        create_key(&dir, &hsm, "xks-key-2");
        create_key(&dir, &hsm, "twinlock-health");
        let addresses = [free_address(), free_address()];
        let cloud = Cloud::start(&dir, addresses[0]);
        let mut rig = Self { dir, cloud, hsm, addresses, proxy: None };
        fs::write(rig.config_file(), rig.configuration()).unwrap();
        rig.start_proxy();
        rig
    }

    /// The same, and a key store that is connected.
    pub(super) fn connected() -> (Self, String) {
        let rig = Self::start();
        let store = rig.cloud.call("CreateCustomKeyStore", &store_request());
        let store = store["CustomKeyStoreId"].as_str().unwrap().to_owned();
        rig.connect(&store);
        (rig, store)
    }

    /// The ARN of a new KMS key on `external_id`.
    pub(super) fn create_key(&self, store: &str, external_id: &str) -> String {
        let request = json!({
            "Origin": "EXTERNAL_KEY_STORE",
            "CustomKeyStoreId": store,
            "XksKeyId": external_id,
        });
        let created = self.cloud.call("CreateKey", &request);
        created["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
    }

    fn connect(&self, store: &str) {
        self.cloud.call("ConnectCustomKeyStore", &json!({ "CustomKeyStoreId": store }));
        eventually("the key store is connected", || {
            let request = json!({ "CustomKeyStoreId": store });
            let entry = &self.cloud.call("DescribeCustomKeyStores", &request)["CustomKeyStores"][0];
            assert_ne!(entry["ConnectionState"], "FAILED", "{entry}");
            entry["ConnectionState"] == "CONNECTED"
        });
    }

    // === The proxy ===

    /// As it is configured by now.
    pub(super) fn start_proxy(&mut self) {
        let config = self.config_file();
        let mut command = Command::new(proxy_program());
        command.arg("serve").arg("--config").arg(config).envs(self.hsm.variables());
        let log = self.dir.home().join("proxy.log");
        let mut proxy = Leashed::start(&command, &log);
        eventually("the proxy is ready", || {
            assert!(!proxy.has_ended(), "{}", fs::read_to_string(&log).unwrap());
            self.is_ready()
        });
        self.proxy = Some(proxy);
    }

    pub(super) fn stop_proxy(&mut self) {
        self.proxy = None;
    }

    /// Changes its configuration while it runs. It looks for changes by itself.
    pub(super) fn reconfigure(&self, from: &str, to: &str) {
        let (config, new) = (self.config_file(), self.dir.home().join("proxy.toml.new"));
        let text = fs::read_to_string(&config).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&new, text.replace(from, to)).unwrap();
        fs::rename(new, config).unwrap();
    }

    /// What its configuration has of the credential of KMS.
    pub(super) fn credential(&self) -> String {
        let file = self.dir.home().join("secret");
        write_private(&file, SECRET);
        credential(ACCESS_KEY, &file)
    }

    fn config_file(&self) -> PathBuf {
        self.dir.home().join("proxy.toml")
    }

    /// What the proxy recorded of requests.
    pub(super) fn recorded(&self) -> Vec<Value> {
        read_lines(&self.dir.home().join("requests.jsonl"), "")
    }

    fn is_ready(&self) -> bool {
        let request = Message::new("GET /readyz HTTP/1.1", &[("host", "127.0.0.1")], b"");
        let answer = http::exchange(self.addresses[1], &request);
        answer.is_ok_and(|answer| answer.first_line.contains(" 200 "))
    }

    /// Deadlines are generous, for what is slow here is the machine.
    fn configuration(&self) -> String {
        let home = self.dir.home();
        let authority = Authority::trusted();
        format!(
            r#"
[listen]
address = "{listen}"
tls = {{ certificate = "{certificate}", key = "{key}" }}

[operations]
address = "{operations}"

[log]
requests = "{requests}"

[[hsm]]
name = "a"
token = "pkcs11:token={TOKEN}?module-path={module}"
pin = {{ file = "{pin}" }}
sessions = 1
health_key = "twinlock-health"

[[key_store]]
path = "{PATH}"
regions = ["{REGION}"]
deadline_ms = 10000

{credential}
[[key_store.key]]
id = "external-key-1"
hsms = ["a"]
generations = [{{ number = 1, object = "{FIRST}" }}]

[[key_store.key]]
id = "external-key-2"
hsms = ["a"]
generations = [{{ number = 1, object = "xks-key-2" }}]
"#,
            listen = self.addresses[0],
            operations = self.addresses[1],
            certificate = authority.server_certificate().display(),
            key = authority.server_key().display(),
            requests = home.join("requests.jsonl").display(),
            module = module().display(),
            pin = self.hsm.folder().join("pin").display(),
            credential = self.credential(),
        )
    }

    // === Clients ===

    /// Runs a client of KMS, which finds the cloud by the variables that all of
    /// AWS's SDKs know.
    pub(super) fn client(&self, program: impl AsRef<Path>, args: &[&str]) -> Ended {
        let mut command = Command::new(program.as_ref());
        command.args(args).env_clear().envs(self.variables());
        command.current_dir(self.dir.work());
        run(command, b"")
    }

    /// Runs one of the scripts beside this file; what it prints is JSON.
    pub(super) fn script(&self, name: &str, args: &[&str]) -> Value {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("xks").join(name);
        let args: Vec<_> = ["-B", script.to_str().unwrap()].iter().chain(args).copied().collect();
        let ended = self.client(python(), &args).ok();
        serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{}", ended.text()))
    }

    pub(super) fn variables(&self) -> [(&'static str, PathBuf); 6] {
        [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.cloud.address).into()),
            ("AWS_DEFAULT_REGION", REGION.into()),
            ("AWS_ACCESS_KEY_ID", "AKIDTESTS".into()),
            ("AWS_SECRET_ACCESS_KEY", "secret".into()),
            ("HOME", self.dir.home()),
            ("PATH", std::env::var_os("PATH").unwrap().into()),
        ]
    }

    pub(super) fn uri(&self, label: &str) -> String {
        uri_in(self.hsm.folder(), label)
    }
}

impl Cloud {
    fn start(dir: &Dir, proxy: SocketAddr) -> Self {
        let log = dir.home().join("cloud.jsonl");
        let mut command = Command::new(python());
        command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("xks/cloud"));
        command.arg("--ca").arg(Authority::trusted().certificate());
        command.args(["--route", &format!("{XKS_PROXY}={proxy}"), "--timeout-ms", "60000"]);
        command.arg("--log").arg(&log);
        let errors = dir.home().join("cloud.log");
        let mut leash = Leashed::start(&command, &errors);
        let line = leash.line();
        let address = line.strip_prefix("http://").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| {
            let errors = fs::read_to_string(&errors).unwrap();
            panic!("the cloud does not start, is `scripts/test --setup` done? {errors}")
        });
        Self { address, log, _leash: leash }
    }

    /// Calls it past everything that is being tested.
    pub(super) fn call(&self, operation: &str, request: &Value) -> Value {
        self.try_call(operation, request).unwrap_or_else(|error| panic!("{operation}: {error}"))
    }

    pub(super) fn try_call(&self, operation: &str, request: &Value) -> Result<Value, Value> {
        let answer = http::exchange(self.address, &moto::request(REGION, operation, request));
        let answer = answer.expect("the cloud answers");
        let body = serde_json::from_slice(&answer.body).unwrap();
        if answer.first_line.contains(" 200 ") { Ok(body) } else { Err(body) }
    }

    /// What it asked of the proxy for `operation` of KMS, and got.
    pub(super) fn calls_of_the_proxy(&self, operation: &str) -> Vec<Value> {
        let mut records = read_lines(&self.log, "");
        records.retain(|record| {
            let metadata = &record["request"]["requestMetadata"];
            record["kind"] == "proxy" && metadata["kmsOperation"] == operation
        });
        records
    }

    /// All that passed between it and the proxy, as text.
    pub(super) fn passed(&self) -> String {
        let mut records = read_lines(&self.log, "");
        records.retain(|record| record["kind"] == "proxy");
        records.iter().map(Value::to_string).collect()
    }
}

/// The request that creates the key store of the rig's proxy.
pub(super) fn store_request() -> Value {
    json!({
        "CustomKeyStoreName": "store",
        "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
        "XksProxyConnectivity": "PUBLIC_ENDPOINT",
        "XksProxyUriEndpoint": format!("https://{XKS_PROXY}"),
        "XksProxyUriPath": format!("{PATH}/kms/xks/v1"),
        "XksProxyAuthenticationCredential": {
            "AccessKeyId": ACCESS_KEY,
            "RawSecretAccessKey": SECRET,
        },
    })
}

/// A table of the proxy's configuration.
pub(super) fn credential(id: &str, secret: &Path) -> String {
    let secret = secret.display();
    format!(
        "[[key_store.credential]]\naccess_key_id = \"{id}\"\n\
         secret_access_key = {{ file = \"{secret}\" }}\n"
    )
}

/// A new key in the token.
fn create_key(dir: &Dir, hsm: &SoftHsm, label: &str) {
    dir.run(["keys", "create", &uri_in(hsm.folder(), label)]).ok();
}

/// `TWINLOCK_XKS_BINARY`, or what lies beside the program `twinlock`, with which
/// it is built.
fn proxy_program() -> PathBuf {
    let beside = || program().with_file_name("twinlock-xks");
    std::env::var_os("TWINLOCK_XKS_BINARY").map_or_else(beside, PathBuf::from)
}

/// Free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port")
}

pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
