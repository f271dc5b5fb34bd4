//! A module that hangs for real: another process holds the locks on the
//! token's files, for which SoftHSM waits without end and kryoptic for seconds.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock};
use twinlock_keys::{HolderErrorKind, KeyHolder as _};
use twinlock_pkcs11::{ErrorKind, Pkcs11Key, Token};

use crate::support::{SoftHsm, block_on, context, options, share, with_softhsm};

const DEADLINE: Duration = Duration::from_millis(300);

#[test]
fn callers_are_answered_at_their_deadline_and_served_again_afterwards() {
    with_softhsm(|hsm| {
        hsm.new_kek("archive");
        let uri = hsm.uri("token=Twinlock;object=archive");
        let options = options().with_deadline(DEADLINE).with_workers(1).with_hung_workers(1);
        let key = block_on(Pkcs11Key::open(&uri, options.clone())).unwrap();
        let wrap = || block_on(key.wrap_key(&share(), &context(""))).map(drop);
        wrap().unwrap();

        let hang = Hang::start(hsm);
        for expected in [HolderErrorKind::TimedOut, HolderErrorKind::TimedOut, BUSY] {
            let start = Instant::now();
            let error = wrap().unwrap_err();
            assert_eq!(without_time(error.kind()), expected, "{error}");
            assert!(start.elapsed() < DEADLINE * 5, "{:?}", start.elapsed());
        }
        let error = block_on(Token::open(&uri, options)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");

        drop(hang);
        let start = Instant::now();
        while wrap().is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "the workers never came back");
        }
    });
}

const BUSY: HolderErrorKind = HolderErrorKind::Unavailable { retry_after: None };

fn without_time(kind: HolderErrorKind) -> HolderErrorKind {
    match kind {
        HolderErrorKind::Unavailable { .. } => BUSY,
        kind => kind,
    }
}

/// Another process that holds the locks as long as this lives.
struct Hang<'a> {
    hsm: &'a SoftHsm,
    child: std::process::Child,
}

impl<'a> Hang<'a> {
    fn start(hsm: &'a SoftHsm) -> Self {
        let child = hsm.start_child("hold-locks");
        while !hsm.folder.join("held").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { hsm, child }
    }
}

impl Drop for Hang<'_> {
    fn drop(&mut self) {
        std::fs::write(self.hsm.folder.join("release"), "").unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

/// What the other process does.
pub(crate) fn hold_locks(hsm: &SoftHsm) {
    let mut held = Vec::new();
    lock_all(&hsm.folder.join("tokens"), &mut held);
    std::fs::write(hsm.folder.join("held"), "").unwrap();
    let start = Instant::now();
    while !hsm.folder.join("release").exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lock_all(folder: &Path, held: &mut Vec<File>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lock_all(&path, held);
            continue;
        }
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
        held.push(file);
    }
}
