//! A service of ours as a program: what is the same whatever it serves.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cli::{Dir, program};
use super::http::{self, Message};
use super::p11_fault::CountedModule;
use super::softhsm::module;

/// More than anything takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// One, with its token behind the module that injects faults. It ends with its
/// test.
pub(crate) struct Service {
    pub(crate) dir: Dir,
    /// Where the operations' listener is.
    pub(crate) operations: SocketAddr,
    pub(crate) module: CountedModule,
    program: PathBuf,
    running: Option<Child>,
}

impl Service {
    /// The program of this name with a home in `dir`, not yet running.
    pub(crate) fn new(name: &str, mut dir: Dir) -> Self {
        let counted = CountedModule::before(&module(), &mut dir);
        dir.set("P11_FAULT_CONTROL", dir.home().join("faults"));
        let operations = free_address();
        Self { dir, operations, module: counted, program: beside_ours(name), running: None }
    }

    pub(crate) fn write_config(&self, text: &str) {
        fs::write(self.config_file(), text).unwrap();
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.home().join("service.toml")
    }

    // === The program ===

    pub(crate) fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        let ours = self.dir.command();
        command.env_clear().envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.arg(verb).arg("--config").arg(self.config_file());
        command
    }

    pub(crate) fn run(&mut self) {
        let errors = fs::File::create(self.dir.home().join("stderr")).unwrap();
        let mut command = self.command("serve");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        self.running = Some(command.spawn().unwrap());
    }

    pub(crate) fn wait_until_ready(&mut self) {
        let start = Instant::now();
        while !self.get("/readyz").is_ok_and(|answer| answer.contains(" 200 ")) {
            let waits = self.is_running() && start.elapsed() < PATIENCE;
            assert!(waits, "it is not ready: {:?}\n{}", self.get("/readyz"), self.said());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.running.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends it as systemd does; its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.running.take().unwrap().wait().unwrap().code()
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.running.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What it said on stderr and logged of events.
    pub(crate) fn said(&self) -> String {
        let read = |name| fs::read_to_string(self.dir.home().join(name)).unwrap_or_default();
        read("stderr") + &read("events.jsonl")
    }

    /// What it recorded of requests.
    pub(crate) fn records(&self) -> Vec<Value> {
        self.records_with("")
    }

    /// The same, of the lines with `text`.
    pub(crate) fn records_with(&self, text: &str) -> Vec<Value> {
        read_lines(&self.dir.home().join("requests.jsonl"), text)
    }

    /// A page of the operations' listener: head and body.
    pub(crate) fn get(&self, path: &str) -> std::io::Result<String> {
        let request = Message::new(&format!("GET {path} HTTP/1.1"), &[("host", "x")], b"");
        let answer = http::exchange(self.operations, &request)?;
        Ok(format!("{}\n{}", answer.first_line, String::from_utf8_lossy(&answer.body)))
    }

    /// The value of a metric, with its labels.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let page = self.get("/metrics").unwrap();
        let line = page.lines().find(|line| line.starts_with(&format!("{name} ")))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// The most memory that it has had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    // === Faults ===

    /// What the module is to do from now on.
    pub(crate) fn faults(&self, orders: &str) {
        let file = self.dir.home().join("faults");
        let new = file.with_extension("new");
        fs::write(&new, orders).unwrap();
        fs::rename(new, file).unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// `TWINLOCK_XKS_BINARY` for `twinlock-xks`, or what lies beside the program
/// `twinlock`, with which it is built.
pub(crate) fn beside_ours(name: &str) -> PathBuf {
    let variable = format!("{}_BINARY", name.to_uppercase().replace('-', "_"));
    let beside = || program().with_file_name(name);
    std::env::var_os(variable).map_or_else(beside, PathBuf::from)
}

/// Free a moment ago, and below the ports that the system gives to whoever asks for
/// any (from 32768 on, in Linux), so that nobody is given it meanwhile.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    let mut tries = std::iter::repeat_with(|| {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let port = 20_000 + u16::try_from(number).expect("it is less than 12,000");
        SocketAddr::from(([127, 0, 0, 1], port))
    });
    tries.find(|address| TcpListener::bind(address).is_ok()).expect("one of them is free")
}

/// The lines of JSON with `text`. Under load there are many, and the last one may be
/// half written.
pub(crate) fn read_lines(path: &Path, text: &str) -> Vec<Value> {
    let lines = fs::read_to_string(path).unwrap_or_default();
    let whole = lines.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let wanted = whole.filter(|line| line.contains(text));
    wanted.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Tells threads to stop, when an assertion fails, too: whoever began them waits for
/// their end before that is said.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
