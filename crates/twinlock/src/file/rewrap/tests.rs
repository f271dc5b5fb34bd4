use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use futures_util::FutureExt as _;
use rustix::fs::FlockOperation;
use tempfile::TempDir;
use twinlock_format::{EncryptionContext, EnvelopeId, Keyslot, Padding};
use twinlock_keys::{CustomerKey, FileKek, KeyUri, ProviderKey, Secret};

use super::*;
use crate::file::{decrypt_file, decrypt_file_detached};
use crate::shares::NewPair;
use crate::{Encryptor, KeySelector, read_header};

const PLAINTEXT: &[u8] = b"attack at dawn";
const KILL_AT: &str = "TWINLOCK_TEST_KILL_AT";
const FOLDER: &str = "TWINLOCK_TEST_FOLDER";

thread_local! {
    /// A file that somebody puts at the place of another when that step is reached.
    static INTRUDER: RefCell<Option<(Step, PathBuf, PathBuf)>> = const { RefCell::new(None) };
}

/// In the child that a test started: this is as far as it gets.
pub(in crate::file) fn reached(step: Step) {
    if let Some((_, from, to)) =
        INTRUDER.with_borrow_mut(|intruder| intruder.take_if(|(when, ..)| *when == step))
    {
        fs::rename(from, to).unwrap();
    }
    if std::env::var(KILL_AT).is_ok_and(|wanted| wanted == format!("{step:?}")) {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

pub(in crate::file) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("keys in files answer at once")
}

/// A folder with an envelope of the keys `p` and `old`.
pub(in crate::file) struct Rig {
    pub(in crate::file) folder: PathBuf,
    pub(in crate::file) path: PathBuf,
    _owned: Option<TempDir>,
}

impl Rig {
    pub(in crate::file) fn new() -> Self {
        Self::named("data.twl")
    }

    fn named(name: &str) -> Self {
        let owned = tempfile::tempdir().unwrap();
        let folder = owned.path().to_owned();
        for key in ["p", "old", "new"] {
            FileKek::create(&uri(&folder, key)).unwrap();
        }
        let rig = Self { path: folder.join("data").join(name), folder, _owned: Some(owned) };
        fs::create_dir(rig.folder.join("data")).unwrap();
        let encryptor = Encryptor::builder(rig.provider("p"), rig.customer("old")).prepare();
        fs::write(&rig.path, now(encryptor).unwrap().encrypt_slice(PLAINTEXT).unwrap()).unwrap();
        rig
    }

    /// The one of the parent.
    fn at(folder: PathBuf) -> Self {
        Self { path: folder.join("data").join("data.twl"), folder, _owned: None }
    }

    pub(in crate::file) fn provider(&self, name: &str) -> ProviderKey {
        ProviderKey::new(FileKek::open(&uri(&self.folder, name)).unwrap()).unwrap()
    }

    pub(in crate::file) fn customer(&self, name: &str) -> CustomerKey {
        CustomerKey::new(FileKek::open(&uri(&self.folder, name)).unwrap()).unwrap()
    }

    pub(in crate::file) fn decryptor(&self, customers: &[&str]) -> Decryptor {
        let decryptor = Decryptor::expecting(EncryptionContext::new()).provider(self.provider("p"));
        customers.iter().fold(decryptor, |d, name| d.customer(self.customer(name)))
    }

    /// From the customer's old key to the new one.
    pub(in crate::file) fn rotation(&self) -> RewrapPlan {
        RewrapPlan::new()
            .from_key(KeySelector::new(uri(&self.folder, "old")))
            .to_customer(self.customer("new"))
    }

    /// More keyslots than there is room for.
    fn growth(&self) -> RewrapPlan {
        (0..6).fold(RewrapPlan::new(), |plan, _| {
            plan.add_keyslot(self.provider("p"), self.customer("new"))
        })
    }

    pub(in crate::file) fn rewrap(
        &self,
        customers: &[&str],
        plan: &RewrapPlan,
    ) -> Result<FileRewrap, RewrapFileError> {
        now(rewrap_file(&self.decryptor(customers), &self.path, plan))
    }

    pub(in crate::file) fn opens_with(&self, customer: &str) -> bool {
        let output = self.folder.join("output");
        let before = self.bytes();
        let decryptor = self.decryptor(&[customer]);
        let opened = now(decrypt_file(&decryptor, &self.path, &output, true)).is_ok();
        assert!(!opened || fs::read(&output).unwrap() == PLAINTEXT);
        assert_eq!(self.bytes(), before, "readers never write");
        opened
    }

    /// Leaves the header alone where the envelope was, and returns the payload,
    /// which goes elsewhere.
    fn take_header_apart(&self) -> Vec<u8> {
        let builder = Encryptor::builder(self.provider("p"), self.customer("old"));
        let encryptor = now(builder.prepare()).unwrap().detached();
        fs::write(&self.path, encryptor.header()).unwrap();
        let payload = encryptor.encrypt_slice(PLAINTEXT).unwrap();
        fs::write(self.folder.join("payload"), &payload).unwrap();
        payload
    }

    fn header_opens_with(&self, customer: &str) -> bool {
        let (payload, output) = (self.folder.join("payload"), self.folder.join("output"));
        let decryptor = self.decryptor(&[customer]);
        now(decrypt_file_detached(&decryptor, &self.path, &payload, &output, true))
            .is_ok_and(|_| fs::read(&output).unwrap() == PLAINTEXT)
    }

    pub(in crate::file) fn journal(&self) -> PathBuf {
        journal_path(&self.path).unwrap()
    }

    fn header(&self) -> Vec<u8> {
        read_header(&mut File::open(&self.path).unwrap()).unwrap().as_bytes().to_vec()
    }

    /// Every file beside the envelope, and itself.
    pub(in crate::file) fn bytes(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.folder.join("data")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap_or_default())).collect()
    }

    /// Somebody puts another file at this place at that step.
    fn intrudes_at(&self, step: Step) {
        let theirs = self.folder.join("theirs");
        fs::write(&theirs, b"theirs").unwrap();
        INTRUDER.set(Some((step, theirs, self.path.clone())));
    }

    pub(in crate::file) fn killed_at(&self, step: Step, plan: &str) -> ExitStatus {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "file::rewrap::tests::the_child_rewraps", "--test-threads=1"])
            .env(KILL_AT, format!("{step:?}"))
            .env(FOLDER, &self.folder)
            .env("TWINLOCK_TEST_PLAN", plan)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap()
    }
}

fn uri(folder: &Path, name: &str) -> KeyUri {
    KeyUri::parse(&format!("file://{}/{name}.kek", folder.display())).unwrap()
}

/// Does nothing by itself: `killed_at` starts it in a process of its own.
#[test]
fn the_child_rewraps() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let rig = Rig::at(folder.into());
    match std::env::var("TWINLOCK_TEST_PLAN").unwrap().as_str() {
        "rotation" => drop(rig.rewrap(&["old"], &rig.rotation()).unwrap()),
        "growth" => drop(rig.rewrap(&["old"], &rig.growth()).unwrap()),
        "reencrypt" => drop(rig.reencrypt("old").unwrap()),
        _ => {
            let (decryptor, plan) = (rig.decryptor(&["old"]), rig.rotation());
            now(rewrap_header_file(&decryptor, &rig.path, &plan)).unwrap();
        }
    }
}

#[test]
fn killed_at_any_step_in_place_the_file_opens() {
    use Step::*;
    for step in [JournalGrows, JournalIsThere, HeaderIsWritten, HeaderIsDurable, JournalIsGone] {
        let rig = Rig::new();
        let len = rig.path.metadata().unwrap().len();
        assert_eq!(rig.killed_at(step, "rotation").signal(), Some(9), "{step:?}");
        let header_is_old = matches!(step, JournalGrows | JournalIsThere);
        assert_eq!(rig.opens_with("old"), header_is_old, "{step:?}");
        assert_eq!(rig.opens_with("new"), step != JournalGrows, "{step:?}");

        // The same again, as an operator does: it finishes what was begun.
        let done = rig.rewrap(&["old", "new"], &rig.rotation()).unwrap();
        assert_eq!(done.repaired, step == JournalIsThere, "{step:?}");
        assert_eq!(done.header.generation().0, 1, "{step:?}");
        assert!(!rig.opens_with("old"), "{step:?}");
        assert!(rig.opens_with("new"), "{step:?}");
        assert!(!rig.journal().exists(), "{step:?}");
        assert_eq!(rig.path.metadata().unwrap().len(), len, "{step:?}");
    }
}

#[test]
fn killed_at_any_step_of_writing_anew_the_file_opens() {
    for step in [Step::CopyGrows, Step::CopyIsThere] {
        let rig = Rig::new();
        assert_eq!(rig.killed_at(step, "growth").signal(), Some(9), "{step:?}");
        assert!(rig.opens_with("old"), "{step:?}");
        assert_eq!(rig.opens_with("new"), step == Step::CopyIsThere, "{step:?}");
        assert!(!rig.journal().exists(), "{step:?}");
    }
}

#[test]
fn killed_at_any_step_a_header_that_is_kept_apart_is_the_old_one_or_the_new_one() {
    for step in [Step::CopyGrows, Step::CopyIsThere] {
        let rig = Rig::new();
        let payload = rig.take_header_apart();
        assert_eq!(rig.killed_at(step, "header").signal(), Some(9), "{step:?}");
        let is_new = step == Step::CopyIsThere;
        assert_eq!(rig.header_opens_with("old"), !is_new, "{step:?}");
        assert_eq!(rig.header_opens_with("new"), is_new, "{step:?}");
        assert!(!rig.journal().exists(), "{step:?}");
        assert_eq!(fs::read(rig.folder.join("payload")).unwrap(), payload, "{step:?}");
    }
}

#[test]
fn a_header_that_is_kept_apart_is_replaced_and_its_journal_is_nobody_s() {
    let rig = Rig::new();
    rig.take_header_apart();
    let old = rig.header();
    fs::write(rig.journal(), &old).unwrap();
    let decryptor = rig.decryptor(&["old"]);
    let seen = now(preview_rewrap_header_file(&decryptor, &rig.path, &rig.rotation())).unwrap();
    assert_eq!((seen.changes.len(), rig.header()), (1, old));
    let done = now(rewrap_header_file(&decryptor, &rig.path, &rig.rotation())).unwrap();
    assert_eq!((done.changes, done.header.generation().0), (seen.changes, 1));
    assert!(rig.header_opens_with("new") && !rig.header_opens_with("old"));
    // A whole envelope is no header.
    let whole = Rig::new();
    let error = now(rewrap_header_file(&whole.decryptor(&["old"]), &whole.path, &whole.rotation()));
    assert!(matches!(error, Err(RewrapFileError::Trailing { .. })));
}

#[test]
fn wherever_the_header_is_torn_the_journal_opens_the_file_and_repairs_it() {
    let rig = Rig::new();
    let old = rig.header();
    rig.rewrap(&["old"], &rig.rotation()).unwrap();
    let new = rig.header();
    let payload = fs::read(&rig.path).unwrap().split_off(old.len());
    for cut in (0..=old.len()).step_by(37) {
        for (start, end) in [(&new, &old), (&old, &new)] {
            let torn = [&start[..cut], &end[cut..], &payload].concat();
            fs::write(&rig.path, torn).unwrap();
            fs::write(rig.journal(), &new).unwrap();
            assert!(rig.opens_with("new"), "cut at {cut}");
            let done = rig.rewrap(&["new"], &RewrapPlan::new()).unwrap();
            assert!(done.changes.is_empty());
            assert_eq!(rig.header(), new, "cut at {cut}");
            assert!(!rig.journal().exists());
        }
    }
}

#[test]
fn a_rotation_leaves_the_payload_and_reads_and_writes_little_of_4_gib() {
    let rig = Rig::new();
    let file = File::options().write(true).open(&rig.path).unwrap();
    file.set_len(4 << 30).unwrap(); // sparse: nobody is to look
    let before = thread_io();
    let done = rig.rewrap(&["old"], &rig.rotation()).unwrap();
    let moved = thread_io() - before;
    assert!(!done.rewritten);
    assert!(moved < 1 << 20, "{moved} bytes were read and written");
    assert_eq!(rig.path.metadata().unwrap().len(), 4 << 30);
}

/// Bytes that this thread has read and written so far, by any system call.
fn thread_io() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").unwrap();
    let count = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    count("rchar:") + count("wchar:")
}

#[test]
fn what_does_not_fit_is_written_anew() {
    let rig = Rig::new();
    fs::set_permissions(&rig.path, fs::Permissions::from_mode(0o604)).unwrap();
    let done = rig.rewrap(&["old"], &rig.growth()).unwrap();
    assert!(done.rewritten);
    assert_eq!(done.changes.len(), 6);
    assert!(rig.opens_with("old") && rig.opens_with("new"));
    assert_eq!(rig.path.metadata().unwrap().permissions().mode() & 0o777, 0o604);
    assert_eq!(rig.bytes().len(), 1, "nothing is left beside it");
}

#[test]
fn another_name_would_keep_the_old_header() {
    let rig = Rig::new();
    fs::hard_link(&rig.path, rig.folder.join("other-name")).unwrap();
    let error = rig.rewrap(&["old"], &rig.growth()).unwrap_err();
    assert!(matches!(error, RewrapFileError::OtherNames { names: 2 }), "{error}");
    // In place there is one file, whatever it is called.
    rig.rewrap(&["old"], &rig.rotation()).unwrap();
    assert_eq!(fs::read(&rig.path).unwrap(), fs::read(rig.folder.join("other-name")).unwrap());
}

#[test]
fn a_name_too_long_for_a_journal_is_written_anew() {
    let rig = Rig::named(&"n".repeat(240));
    assert!(rig.rewrap(&["old"], &rig.rotation()).unwrap().rewritten);
    assert!(rig.opens_with("new") && !rig.opens_with("old"));
}

#[test]
fn a_link_is_followed_and_stays_one() {
    let mut rig = Rig::new();
    let (file, link) = (rig.path.clone(), rig.folder.join("link.twl"));
    symlink(&file, &link).unwrap();
    assert_eq!(rig.killed_at(Step::JournalIsThere, "rotation").signal(), Some(9));
    rig.path = link.clone();
    assert!(rig.opens_with("new"), "through the journal beside the file itself");
    rig.rewrap(&["old"], &rig.growth()).unwrap();
    assert!(link.is_symlink() && file.is_file());
    assert!(!file.is_symlink());
}

#[test]
fn a_second_rewrap_keeps_out() {
    let rig = Rig::new();
    let other = File::open(&rig.path).unwrap();
    rustix::fs::flock(&other, FlockOperation::LockExclusive).unwrap();
    let error = rig.rewrap(&["old"], &rig.rotation()).unwrap_err();
    assert!(matches!(error, RewrapFileError::Busy), "{error}");
    assert!(rig.opens_with("old"), "readers do not wait");
    rustix::fs::flock(&other, FlockOperation::Unlock).unwrap();
    rig.rewrap(&["old"], &rig.rotation()).unwrap();
}

#[test]
fn a_file_that_somebody_puts_there_meanwhile_is_not_replaced() {
    for is_apart in [false, true] {
        let rig = Rig::new();
        if is_apart {
            rig.take_header_apart();
        }
        rig.intrudes_at(Step::CopyGrows);
        let error = match is_apart {
            false => rig.rewrap(&["old"], &rig.growth()),
            true => now(rewrap_header_file(&rig.decryptor(&["old"]), &rig.path, &rig.rotation())),
        };
        assert!(matches!(error, Err(RewrapFileError::Busy)), "{error:?}");
        assert_eq!(rig.bytes(), [(rig.path.clone(), b"theirs".to_vec())]);
    }
}

#[test]
fn in_place_a_file_that_somebody_puts_there_meanwhile_gets_no_journal() {
    let rig = Rig::new();
    let target = Target::lock(&rig.path).unwrap();
    let decryptor = rig.decryptor(&["old"]);
    let found = now(target.open(&decryptor)).unwrap();
    let new = now(decryptor.rewrap_open(&found.open, &rig.rotation())).unwrap().unwrap();
    assert!(new.fits());
    // While the holders wrapped.
    fs::remove_file(&rig.path).unwrap();
    fs::write(&rig.path, b"theirs").unwrap();
    let error = target.replace(&found, &new).unwrap_err();
    assert!(matches!(error, RewrapFileError::Busy), "{error}");
    assert_eq!(rig.bytes(), [(rig.path.clone(), b"theirs".to_vec())]);
}

#[test]
fn a_preview_changes_nothing() {
    let rig = Rig::new();
    let before = rig.bytes();
    let decryptor = rig.decryptor(&["old"]);
    let seen = now(preview_rewrap_file(&decryptor, &rig.path, &rig.rotation())).unwrap();
    assert_eq!(seen.changes.len(), 1);
    assert_eq!(rig.bytes(), before);
    assert_eq!(rig.rewrap(&["old"], &rig.rotation()).unwrap().changes, seen.changes);
}

#[test]
fn a_journal_of_another_envelope_is_not_believed_and_goes() {
    let (rig, other) = (Rig::new(), Rig::new());
    fs::write(rig.journal(), other.header()).unwrap();
    assert!(rig.opens_with("old"));
    let done = rig.rewrap(&["old"], &rig.rotation()).unwrap();
    assert!(!done.repaired);
    assert!(rig.opens_with("new") && !rig.journal().exists());
}

#[test]
fn an_older_journal_brings_no_old_key_back() {
    let rig = Rig::new();
    let old = rig.header();
    rig.rewrap(&["old"], &rig.rotation()).unwrap();
    fs::write(rig.journal(), old).unwrap();
    let error = rig.rewrap(&["old"], &RewrapPlan::new()).unwrap_err();
    assert!(matches!(error, RewrapFileError::Rewrap(RewrapError::Open(_))), "{error}");
    assert!(!rig.rewrap(&["new"], &RewrapPlan::new()).unwrap().repaired);
    assert!(!rig.opens_with("old") && rig.opens_with("new"));
}

#[test]
fn a_journal_behind_a_link_is_no_journal() {
    let rig = Rig::new();
    assert_eq!(rig.killed_at(Step::JournalIsThere, "rotation").signal(), Some(9));
    let elsewhere = rig.folder.join("elsewhere");
    fs::rename(rig.journal(), &elsewhere).unwrap();
    symlink(&elsewhere, rig.journal()).unwrap();
    assert!(!rig.opens_with("new"));
    rig.rewrap(&["old"], &rig.rotation()).unwrap();
    assert!(rig.opens_with("new") && elsewhere.exists());
}

#[test]
fn a_forged_journal_with_a_dek_of_its_own_repairs_nothing() {
    let rig = Rig::new();
    let own = rig.header();
    let id = read_header(&mut &own[..]).unwrap().header().envelope_id();
    fs::write(rig.journal(), forged(&rig, id, own.len())).unwrap();
    let mut torn = fs::read(&rig.path).unwrap();
    torn[own.len() - 1] ^= 1;
    fs::write(&rig.path, &torn).unwrap();
    let error = rig.rewrap(&["old"], &RewrapPlan::new()).unwrap_err();
    assert!(matches!(error, RewrapFileError::Payload(PayloadError::Header { .. })), "{error}");
    assert!(!rig.opens_with("old"));
    assert_eq!(fs::read(&rig.path).unwrap(), torn);
}

/// A good header of this envelope's id, but not of its DEK.
fn forged(rig: &Rig, id: EnvelopeId, len: usize) -> Vec<u8> {
    let context = EncryptionContext::new();
    let dek = Secret::<32>::random().unwrap();
    let (provider, customer) = (rig.provider("p"), rig.customer("old"));
    let pair = now(NewPair::make(&provider, &customer, &context, true)).unwrap();
    let keyslot = Keyslot::from(pair.keyslot(&id, &[5; 12], &dek));
    let header = Header::new(id, context, vec![keyslot]).unwrap();
    header.encode(Padding::FillTo(len)).unwrap().sign(&schedule::header_key(dek.expose(), &id))
}
