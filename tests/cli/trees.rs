//! Whole folders: `encrypt -r` and `decrypt -r`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::tokens::Rig;
use crate::support::cli::{Dir, Ended};
use crate::support::kms_proxy::Fault;

/// What an outage looks like.
const DOWN: &str = "KMSInternalException";

#[test]
fn a_tree_comes_back_as_it_was() {
    let dir = Dir::with_keys();
    let root = dir.path("data");
    for folder in ["data", "data/empty", "data/a.d/deep"] {
        fs::create_dir_all(dir.path(folder)).unwrap();
    }
    fs::write(root.join("a"), b"one").unwrap();
    fs::write(root.join("a.d/deep/b.twl"), vec![7; 700_000]).unwrap();
    fs::write(root.join("a.d/none"), b"").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"\xff\n")), b"odd").unwrap();
    fs::write(root.join(".twinlock-0123456789abcdef.tmp"), b"left behind").unwrap();
    fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(root.join("a.d"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();

    let ended = encrypt(&dir, &[]).ok();
    assert!(ended.text().contains("4 files encrypted to enc, 2 passed over"), "{}", ended.text());
    let made = files(&dir.path("enc"));
    let names: Vec<&[u8]> = made.keys().map(|name| name.as_os_str().as_bytes()).collect();
    let expected: [&[u8]; 4] = [b"a.d/deep/b.twl.twl", b"a.d/none.twl", b"a.twl", b"\xff\n.twl"];
    assert_eq!(names, expected);
    assert!(made.values().all(|bytes| bytes.starts_with(b"TWINLOCK")));
    assert!(dir.path("enc/empty").is_dir());
    assert_eq!(mode(&dir.path("enc/a.d")), 0o700);

    decrypt(&dir, &[]).ok();
    let mut expected = files(&root);
    expected.retain(|name, _| {
        !name.starts_with(".twinlock-0123456789abcdef.tmp") && name != Path::new("link")
    });
    assert_eq!(files(&dir.path("back")), expected);
    assert!(dir.path("back/empty").is_dir());
    assert_eq!(mode(&dir.path("back/a")), 0o600);
    let modified = |name: &str| dir.path(name).metadata().unwrap().modified().unwrap();
    assert_eq!(modified("back/a"), modified("data/a"));
}

#[test]
fn ten_thousand_files_are_one_call_of_each_kind_at_each_holder() {
    let (rig, token) = Rig::counted();
    let dir = &rig.dir;
    plant(dir, 10_000);
    let (wraps, unwraps) = (rig.proxy.count("Encrypt"), rig.proxy.count("Decrypt"));
    let before = token.operations();
    let calls = || {
        let kms = (rig.proxy.count("Encrypt") - wraps, rig.proxy.count("Decrypt") - unwraps);
        let now = token.operations();
        (kms, (now.0 - before.0, now.1 - before.1))
    };

    encrypt(dir, &["--context", "folder=data"]).ok();
    assert_eq!(calls(), ((1, 1), (1, 1)), "one wrap and one read-back at each holder");
    decrypt(dir, &["--context", "folder=data"]).ok();
    assert_eq!(calls(), ((1, 2), (1, 2)), "one unwrap at each holder");
    assert_eq!(files(&dir.path("enc")).len(), 10_000);
    assert_eq!(files(&dir.path("back")), files(&dir.path("data")));

    // What is done is seen to be done with one unwrap more, and left alone.
    let again = encrypt(dir, &["--context", "folder=data", "--resume"]).ok();
    assert!(again.text().contains("0 files encrypted to enc, 10000 done before"));
    assert_eq!(calls(), ((1, 3), (1, 3)));
}

#[test]
fn a_pair_serves_so_many_files_and_the_next_ones_get_another() {
    let (rig, token) = Rig::counted();
    plant(&rig.dir, 35);
    let before = token.operations();
    encrypt(&rig.dir, &["--batch-files", "10"]).ok();
    assert_eq!((rig.proxy.count("Encrypt"), rig.proxy.count("Decrypt")), (4, 4));
    assert_eq!(token.operations(), (before.0 + 4, before.1 + 4));
    decrypt(&rig.dir, &[]).ok();
    assert_eq!(rig.proxy.count("Decrypt"), 4 + 4);
    assert_eq!(token.operations(), (before.0 + 4, before.1 + 4 + 4));
}

#[test]
fn an_outage_while_encrypting_leaves_whole_files_and_the_next_run_does_the_rest() {
    let rig = Rig::new();
    let dir = &rig.dir;
    plant(dir, 35);
    rig.proxy.inject("Encrypt", Fault::refuse(DOWN));
    rig.proxy.inject_times(2, "Encrypt", Fault::Delay(Duration::ZERO));
    let ended = encrypt(dir, &["--batch-files", "10", "--json"]).with(6);
    let summary = last_document(&ended);
    assert_eq!(summary["ok"], false);
    assert_eq!(summary["error"]["kind"], "partial", "{summary}");
    assert_eq!(
        (&summary["files"]["done"], &summary["files"]["not_done"]),
        (&20.into(), &15.into())
    );
    let asked = rig.proxy.count("Encrypt") - 2;
    assert!(asked < 10, "the holder was asked {asked} times more, for 15 files");

    // Finished files are whole, unfinished ones absent.
    assert_eq!(files(&dir.path("enc")).len(), 20);
    dir.run(["decrypt", "-r", "enc", "-o", "partly"]).ok();
    let mut first = files(&dir.path("data"));
    first.retain(|name, _| dir.path("partly").join(name).exists());
    assert_eq!((first.len(), files(&dir.path("partly"))), (20, first));

    rig.proxy.inject("Encrypt", Fault::Delay(Duration::ZERO));
    let before = files(&dir.path("enc"));
    let args = ["--batch-files", "10", "--json", "--resume"];
    let summary = last_document(&encrypt(dir, &args).ok());
    assert_eq!((&summary["files"]["done"], &summary["files"]["kept"]), (&15.into(), &20.into()));
    let after = files(&dir.path("enc"));
    assert!(before.iter().all(|(name, bytes)| after[name] == *bytes), "what was done stays");
    decrypt(dir, &[]).ok();
    assert_eq!(files(&dir.path("back")), files(&dir.path("data")));
}

#[test]
fn an_outage_while_decrypting_leaves_whole_files_and_the_next_run_does_the_rest() {
    let rig = Rig::new();
    let dir = &rig.dir;
    plant(dir, 100);
    encrypt(dir, &["--batch-files", "10"]).ok();
    let before = rig.proxy.count("Decrypt");
    rig.proxy.inject("Decrypt", Fault::refuse(DOWN));
    rig.proxy.inject_times(2, "Decrypt", Fault::Delay(Duration::ZERO));
    let ended = decrypt(dir, &[]).with(6);
    assert!(ended.stderr.contains("80 of 100 files are not done"), "{}", ended.stderr);
    assert_eq!(
        ended.stderr.matches("error: ").count(),
        2,
        "one reason, not eighty: {}",
        ended.stderr
    );
    let asked = rig.proxy.count("Decrypt") - before - 2;
    assert!(asked < 20, "the holder was asked {asked} times more, for 80 files");
    let mut first = files(&dir.path("data"));
    first.retain(|name, _| dir.path("back").join(name).exists());
    assert_eq!((first.len(), files(&dir.path("back"))), (20, first));

    rig.proxy.inject("Decrypt", Fault::Delay(Duration::ZERO));
    let ended = decrypt(dir, &["--resume"]).ok();
    assert!(
        ended.text().contains("80 files decrypted to back, 20 done before"),
        "{}",
        ended.text()
    );
    assert_eq!(files(&dir.path("back")), files(&dir.path("data")));
}

#[test]
fn where_nothing_could_be_begun_the_holder_decides_the_exit_code() {
    for (fault, code) in [(DOWN, 5), ("AccessDeniedException", 4), ("DisabledException", 4)] {
        let rig = Rig::new();
        plant(&rig.dir, 3);
        rig.proxy.inject("Encrypt", Fault::refuse(fault));
        let summary = last_document(&encrypt(&rig.dir, &["--json"]).with(code));
        assert_eq!(summary["files"]["not_done"], 3, "{summary}");
        assert_eq!(files(&rig.dir.path("enc")).len(), 0);
    }
}

#[test]
fn an_output_that_no_holder_may_open_is_not_said_to_be_in_the_way() {
    for (fault, kind) in
        [("AccessDeniedException", "denied"), ("DisabledException", "key-disabled")]
    {
        let rig = Rig::new();
        let dir = &rig.dir;
        plant(dir, 3);
        encrypt(dir, &[]).ok();
        rig.proxy.inject("Decrypt", Fault::refuse(fault));
        let ended = encrypt(dir, &["--json", "--resume"]).with(4);
        let summary = last_document(&ended);
        assert_eq!(summary["files"]["not_done"], 3, "{summary}");
        let error = &documents(&ended)[0]["error"];
        assert_eq!(error["kind"], kind, "{error}");
        assert!(text(&error["message"]).contains("exists already, and cannot be confirmed"));
        assert!(!text(&error["hint"]).contains("remove it"), "{error}");

        // New files are made beside what cannot be confirmed.
        fs::write(dir.path("data/new"), b"new").unwrap();
        let ended = encrypt(dir, &["--no-read-back", "--resume"]).with(6);
        assert!(ended.text().contains("1 file encrypted to enc, 3 not done"), "{}", ended.text());
    }
}

#[test]
fn what_is_wrong_with_the_customer_s_key_decides_the_exit_code_when_decrypting() {
    let mut dir = Dir::with_keys();
    plant(&dir, 3);
    encrypt(&dir, &[]).ok();
    let customer = dir.home().join("customer.kek");
    fs::rename(&customer, dir.home().join("away.kek")).unwrap();
    let summary = last_document(&decrypt(&dir, &["--json"]).with(4));
    assert_eq!(summary["error"]["kind"], "key-not-found", "{summary}");
    fs::write(&customer, b"no key").unwrap();
    let summary = last_document(&decrypt(&dir, &["--json"]).with(2));
    assert_eq!(summary["error"]["kind"], "misconfigured", "{summary}");
    assert_eq!(summary["files"]["not_done"], 3, "{summary}");

    // What is wrong with a file is not the holder's doing.
    let other = dir.new_key("other");
    dir.set("TWINLOCK_CUSTOMER", other);
    decrypt(&dir, &[]).with(6);
}

#[test]
fn what_a_holder_denied_for_a_pair_is_not_asked_for_each_file() {
    let rig = Rig::new();
    plant(&rig.dir, 20);
    encrypt(&rig.dir, &[]).ok();
    let before = rig.proxy.count("Decrypt");
    rig.proxy.inject("Decrypt", Fault::refuse("AccessDeniedException"));
    let ended = decrypt(&rig.dir, &[]).with(4);
    assert_eq!(rig.proxy.count("Decrypt") - before, 1);
    assert!(ended.text().contains("20 not done"), "{}", ended.text());
    assert_eq!(ended.stderr.matches("error: ").count(), 2, "{}", ended.stderr);
}

#[test]
fn one_file_that_fails_does_not_keep_the_others_from_being_done() {
    let dir = Dir::with_keys();
    plant(&dir, 5);
    encrypt(&dir, &[]).ok();
    let mut tampered = fs::read(dir.path("enc/00/2.twl")).unwrap();
    *tampered.last_mut().unwrap() ^= 1;
    fs::write(dir.path("enc/00/2.twl"), tampered).unwrap();
    fs::write(dir.path("enc/00/other"), b"x").unwrap();
    let documents = documents(&decrypt(&dir, &["--json"]).with(6));
    let mut failed: Vec<_> = documents
        .iter()
        .filter(|document| document["status"] == "failed")
        .map(|document| (text(&document["input"]), text(&document["error"]["kind"])))
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, [("enc/00/2.twl", "tampered"), ("enc/00/other", "not-an-envelope")]);
    let done = |document: &&Value| document["status"] == "done" && document["ok"] == true;
    assert_eq!(documents.iter().filter(done).count(), 4);
    assert_eq!(documents.len(), 6 + 1);
    assert!(!dir.path("back/00/2").exists());
    assert_eq!(files(&dir.path("back")).len(), 4);
}

#[test]
fn an_output_that_is_not_this_file_encrypted_is_an_error_of_that_file() {
    let mut dir = Dir::with_keys();
    plant(&dir, 6);
    encrypt(&dir, &[]).ok();
    fs::write(dir.path("data/00/0"), b"longer than it was").unwrap();
    set_modified(&dir.path("data/00/0"), SystemTime::UNIX_EPOCH);
    set_modified(&dir.path("data/00/1"), SystemTime::now() + Duration::from_secs(100));
    fs::write(dir.path("enc/00/2.twl"), b"foreign").unwrap();
    let cut = fs::read(dir.path("enc/00/3.twl")).unwrap();
    fs::write(dir.path("enc/00/3.twl"), &cut[..cut.len() - 1]).unwrap();
    fs::remove_file(dir.path("enc/00/4.twl")).unwrap();
    symlink("5.twl", dir.path("enc/00/4.twl")).unwrap();
    let before = files(&dir.path("enc"));

    let ended = encrypt(&dir, &["--resume"]).with(6);
    for why in ["is of another file", "is older than", "does not open"] {
        assert!(ended.stderr.contains(why), "{why}: {}", ended.stderr);
    }
    assert!(ended.text().contains("1 done before, 5 failed"), "{}", ended.text());
    assert_eq!(files(&dir.path("enc")), before, "nothing was touched");

    // Nor is what other keys or another context made.
    encrypt(&dir, &["--context", "a=b", "--resume"]).with(6);
    let other = dir.new_key("other");
    dir.set("TWINLOCK_PROVIDER", other);
    encrypt(&dir, &["--resume"]).with(6);
    encrypt(&dir, &["--force"]).ok();
    decrypt(&dir, &[]).ok();
    assert_eq!(files(&dir.path("back")), files(&dir.path("data")));
}

#[test]
fn an_output_with_other_keyslots_is_not_done() {
    let dir = Dir::with_keys();
    plant(&dir, 3);
    encrypt(&dir, &[]).ok();
    let key = |name: &str| format!("file://{}/{name}.kek", dir.home().display());
    let pair = |provider: &str, customer: &str| format!("{},{}", key(provider), key(customer));
    dir.new_key("recovery");
    let (first, second) = (pair("provider", "customer"), pair("provider", "recovery"));
    let both = ["--resume", "--keyslot", &*first, "--keyslot", &*second];
    let turned = ["--resume", "--keyslot", &*second, "--keyslot", &*first];

    // A keyslot that the files do not have, and then one that they should not have.
    let more = encrypt(&dir, &both).with(6);
    assert!(more.stderr.contains("has other keyslots: rewrap it, or --force"), "{}", more.stderr);
    assert!(more.text().contains("3 failed"), "{}", more.text());
    dir.run(["rewrap", "-r", "enc", "--add-keyslot", &second]).ok();
    let same = encrypt(&dir, &both).ok();
    assert!(same.text().contains("3 done before"), "{}", same.text());
    encrypt(&dir, &turned).ok();
    let fewer = encrypt(&dir, &["--resume"]).with(6);
    assert!(fewer.stderr.contains("has other keyslots"), "{}", fewer.stderr);

    // A key that moved has two names and is one key.
    fs::rename(dir.home().join("recovery.kek"), dir.home().join("safe.kek")).unwrap();
    let moved = pair("provider", "safe");
    let both = ["--resume", "--keyslot", &*first, "--keyslot", &*moved];
    encrypt(&dir, &both).with(6);
    dir.write_config(&format!(
        "[profiles.default]\nmoved = [{{ from = \"{}\", to = \"{}\" }}]\n",
        key("recovery"),
        key("safe"),
    ));
    encrypt(&dir, &both).ok();
}

#[test]
fn a_decrypted_file_of_another_length_is_an_error_of_that_file() {
    let dir = Dir::with_keys();
    plant(&dir, 3);
    encrypt(&dir, &[]).ok();
    decrypt(&dir, &[]).ok();
    fs::write(dir.path("back/00/1"), b"").unwrap();
    let ended = decrypt(&dir, &["--resume"]).with(6);
    assert!(ended.text().contains("2 done before, 1 failed"), "{}", ended.text());
    decrypt(&dir, &["--force"]).ok();
    assert_eq!(files(&dir.path("back")), files(&dir.path("data")));
}

#[test]
fn a_decrypted_file_of_another_time_is_an_error_of_that_file() {
    let dir = Dir::with_keys();
    plant(&dir, 3);
    encrypt(&dir, &[]).ok();
    decrypt(&dir, &[]).ok();
    // Of the same length: one is planted, and one of an envelope that was replaced.
    fs::write(dir.path("back/00/1"), b"FILE 1").unwrap();
    set_modified(&dir.path("enc/00/2.twl"), SystemTime::UNIX_EPOCH);
    let ended = decrypt(&dir, &["--resume"]).with(6);
    assert!(ended.text().contains("1 done before, 2 failed"), "{}", ended.text());
    assert!(ended.stderr.contains("another time of modification"), "{}", ended.stderr);
    assert_eq!(fs::read(dir.path("back/00/1")).unwrap(), b"FILE 1");
    decrypt(&dir, &["--force"]).ok();
    assert_eq!(files(&dir.path("back")), files(&dir.path("data")));
    decrypt(&dir, &["--resume"]).ok();
}

#[test]
fn all_files_of_a_run_have_its_context() {
    let dir = Dir::with_keys();
    plant(&dir, 3);
    encrypt(&dir, &["--context", "folder=data"]).ok();
    let ended = decrypt(&dir, &["--json"]).with(6);
    let kinds = documents(&ended);
    assert!(kinds[..3].iter().all(|document| document["error"]["kind"] == "wrong-context"));
    assert_eq!(files(&dir.path("back")).len(), 0);
    decrypt(&dir, &["--context", "folder=data"]).ok();
}

#[test]
fn a_link_in_the_place_of_a_folder_is_not_written_through() {
    let dir = Dir::with_keys();
    plant(&dir, 3);
    fs::create_dir(dir.path("elsewhere")).unwrap();
    fs::create_dir(dir.path("enc")).unwrap();
    symlink("../elsewhere", dir.path("enc/00")).unwrap();
    let ended = encrypt(&dir, &[]).with(6);
    assert!(ended.stderr.contains("has to be a folder"), "{}", ended.stderr);
    assert_eq!(files(&dir.path("elsewhere")).len(), 0);
}

#[test]
fn folders_that_lie_in_one_another_and_other_misuse_are_refused() {
    let dir = Dir::with_keys();
    plant(&dir, 1);
    fs::create_dir(dir.path("enc")).unwrap();
    symlink("data/00", dir.path("inside")).unwrap();
    for output in ["data", "data/enc", "data/../data/new", ".", "inside", "inside/new"] {
        let ended = dir.run(["encrypt", "-r", "data", "-o", output]).with(2);
        assert!(ended.stderr.contains("lie in one another"), "{output}: {}", ended.stderr);
    }
    assert_eq!(files(&dir.path("data")).len(), 1);
    dir.run(["encrypt", "-r", "data"]).with(2);
    dir.run(["encrypt", "-r", "data/00/0", "-o", "enc"]).with(2);
    dir.run(["encrypt", "data", "-o", "enc", "--batch-files", "9"]).with(2);
    dir.run(["encrypt", "-r", "data", "-o", "enc", "--batch-files", "0"]).with(2);
    dir.run(["decrypt", "-r", "enc", "-o", "back", "--range", "1.."]).with(2);
    assert!(!dir.path("back").exists());
    assert!(dir.run(["encrypt", "data"]).with(2).stderr.contains("-r and -o FOLDER"));
}

pub(super) fn encrypt(dir: &Dir, more: &[&str]) -> Ended {
    dir.run(["encrypt", "-r", "data", "-o", "enc"].iter().chain(more).copied())
}

pub(super) fn decrypt(dir: &Dir, more: &[&str]) -> Ended {
    dir.run(["decrypt", "-r", "enc", "-o", "back"].iter().chain(more).copied())
}

/// So many small files below `data`, a hundred in a folder.
pub(super) fn plant(dir: &Dir, number: usize) {
    for n in 0..number {
        let folder = dir.path(&format!("data/{:02}", n / 100));
        if n % 100 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::write(folder.join(format!("{}", n % 100)), format!("file {n}")).unwrap();
    }
}

/// The regular files and links below `root`, and what is in them.
pub(super) fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.symlink_metadata().unwrap().is_dir() {
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(root).unwrap().to_owned();
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

pub(super) fn documents(ended: &Ended) -> Vec<Value> {
    ended.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(super) fn last_document(ended: &Ended) -> Value {
    documents(ended).pop().expect("a summary")
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn set_modified(path: &Path, time: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}
