//! Other keys for whole folders: `rewrap -r`.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use super::tokens::Rig;
use super::trees::{decrypt, documents, encrypt, files, last_document, plant, text};
use crate::support::cli::{Dir, Ended};
use crate::support::kms_proxy::Fault;
use crate::support::p11_fault::CountedModule;
use crate::support::softhsm::module;

const OLD: &str = "pkcs11:token=tests;object=kek";

#[test]
fn a_tree_of_one_context_costs_each_holder_one_call_of_each_kind() {
    let (rig, token) = Rig::counted();
    let dir = &rig.dir;
    let new = CountedModule::uri(&rig.uri("second"), &module());
    dir.run(["keys", "create", &new]).ok();
    plant(dir, 250);
    encrypt(dir, &[]).ok();
    let before = (rig.proxy.count("Encrypt"), rig.proxy.count("Decrypt"), token.operations());
    let calls = || {
        let (wraps, unwraps) = token.operations();
        let kms = (rig.proxy.count("Encrypt") - before.0, rig.proxy.count("Decrypt") - before.1);
        (kms, (wraps - before.2.0, unwraps - before.2.1))
    };
    let rotation = ["--from-key", OLD, "--to-customer", &new, "--json"];

    let summary = last_document(&rewrap(dir, &rotation).ok());
    assert_eq!(summary["files"]["changed"], 250, "{summary}");
    assert_eq!(calls(), ((1, 2), (1, 2)), "one unwrap of the old, one wrap and read-back");
    let summary = last_document(&rewrap(dir, &rotation).ok());
    assert_eq!(summary["files"]["unchanged"], 250, "{summary}");
    assert_eq!(calls(), ((1, 2), (1, 2)), "nobody is asked for what is not selected");

    decrypt(dir, &[]).with(6);
    assert_eq!(files(&dir.path("back")).len(), 0, "the old key opens none");
    decrypt(dir, &["--customer", &new]).ok();
    assert_eq!(files(&dir.path("back")), files(&dir.path("data")));
}

#[test]
fn an_outage_leaves_every_file_openable_and_the_next_run_does_the_rest() {
    let rig = Rig::new();
    let (dir, new) = (&rig.dir, rig.uri("second"));
    dir.run(["keys", "create", &new]).ok();
    plant(dir, 30);
    encrypt(dir, &[]).ok();
    let rotation = ["--from-key", OLD, "--to-customer", &new, "--batch-files", "10"];
    rig.proxy.inject("Encrypt", Fault::refuse("KMSInternalException"));
    rig.proxy.inject_times(1, "Encrypt", Fault::Delay(std::time::Duration::ZERO));
    let ended = rewrap(dir, &[&rotation[..], &["--json"]].concat()).with(6);
    let counts = last_document(&ended)["files"].clone();
    assert_eq!((&counts["changed"], &counts["not_done"]), (&10.into(), &20.into()), "{counts}");
    let both = format!("{},{new}", rig.provider);
    let old = format!("{},{}", rig.provider, rig.uri("kek"));
    decrypt(dir, &["--keyslot", &both, "--keyslot", &old]).ok();
    assert_eq!(files(&dir.path("back")), files(&dir.path("data")));

    rig.proxy.inject("Encrypt", Fault::Delay(std::time::Duration::ZERO));
    let ended = rewrap(dir, &rotation).ok();
    assert!(ended.text().contains("20 files changed, 10 unchanged"), "{}", ended.text());
    assert!(ended.text().contains("not revocation"), "{}", ended.text());
}

/// Below `enc`: files of two contexts, one of another key, a header kept apart
/// and its payload, and what is no envelope.
struct Mixed {
    dir: Dir,
    new: String,
    from: String,
}

impl Mixed {
    fn new() -> Self {
        let dir = Dir::with_keys();
        let from = format!("file://{}/customer.kek", dir.home().display());
        let (new, other) = (dir.new_key("new"), dir.new_key("other"));
        fs::create_dir_all(dir.path("enc/deep")).unwrap();
        dir.write("a", "secret");
        let encrypt = |output: &str, more: &[&str]| {
            let fixed = ["-q", "encrypt", "a", "-o", output];
            dir.run(fixed.iter().chain(more).copied()).ok();
        };
        encrypt("enc/a.twl", &["--context", "object=a"]);
        encrypt("enc/deep/b.twl", &["--context", "object=b"]);
        encrypt("enc/other.twl", &["--customer", &other]);
        encrypt("enc/payload", &["--detach", "--header", "enc/header"]);
        fs::write(dir.path("enc/note.txt"), "no envelope").unwrap();
        fs::write(dir.path("enc/empty"), "").unwrap();
        symlink("../a", dir.path("enc/link")).unwrap();
        Self { dir, new, from }
    }

    fn rotate(&self, more: &[&str]) -> Ended {
        let fixed = ["--any-context", "--from-key", &self.from, "--to-customer", &self.new];
        rewrap(&self.dir, &[&fixed[..], more].concat())
    }

    fn opens(&self, args: &[&str]) -> bool {
        let fixed = ["decrypt", "--any-context", "-o", "-"];
        let ended = self.dir.run(fixed.iter().chain(args).copied());
        ended.code == Some(0) && ended.stdout == b"secret"
    }
}

fn rewrap(dir: &Dir, more: &[&str]) -> Ended {
    dir.run(["rewrap", "-r", "enc"].iter().chain(more).copied())
}

fn statuses(documents: &[Value]) -> Vec<(&str, &str)> {
    documents.iter().map(|d| (text(&d["input"]), text(&d["status"]))).collect()
}

#[test]
fn what_names_the_key_is_changed_and_the_rest_is_left_alone() {
    let mixed = Mixed::new();
    let before = files(&mixed.dir.path("enc"));
    let planned = documents(&mixed.rotate(&["--dry-run", "--json"]).ok());
    assert_eq!(files(&mixed.dir.path("enc")), before);
    let would = planned.iter().filter(|d| d["status"] == "would-change").count();
    assert_eq!((would, &planned.last().unwrap()["files"]["changed"]), (3, &3.into()));

    let done = documents(&mixed.rotate(&["--json"]).ok());
    let (summary, lines) = done.split_last().unwrap();
    let expected = [
        ("enc/a.twl", "changed"),
        ("enc/deep/b.twl", "changed"),
        ("enc/empty", "passed-over"),
        ("enc/header", "changed"),
        ("enc/link", "passed-over"),
        ("enc/note.txt", "passed-over"),
        ("enc/other.twl", "unchanged"),
        ("enc/payload", "passed-over"),
    ];
    assert_eq!(statuses(lines), expected);
    let alone: Vec<_> = lines.iter().filter(|line| line["what"] == "header alone").collect();
    assert_eq!((alone.len(), &alone[0]["input"]), (1, &"enc/header".into()));
    let a = &lines[0];
    assert_eq!((&a["generation"], &a["context"]["object"]), (&1.into(), &"a".into()), "{a}");
    assert_eq!(a["changes"][0]["after"]["customer"], mixed.new.as_str());
    assert_eq!(summary["revokes"], false);
    assert_eq!(summary["files"]["passed_over"], 4, "{summary}");

    let new = ["--customer", mixed.new.as_str()];
    for file in ["enc/a.twl", "enc/deep/b.twl"] {
        assert!(mixed.opens(&[&[file], &new[..]].concat()), "{file}");
        assert!(!mixed.opens(&[file]), "{file}");
    }
    let apart = ["enc/payload", "--header", "enc/header"];
    assert!(mixed.opens(&[&apart[..], &new].concat()) && !mixed.opens(&apart));
    let after = files(&mixed.dir.path("enc"));
    assert_eq!(after.len(), before.len());
    let unchanged = after.iter().filter(|(name, bytes)| before[*name] == **bytes).count();
    assert_eq!(unchanged, before.len() - 3);
    // What is done is left alone.
    let summary = last_document(&mixed.rotate(&["--json"]).ok());
    assert_eq!(
        (&summary["files"]["changed"], &summary["files"]["unchanged"]),
        (&0.into(), &4.into())
    );
}

#[test]
fn a_file_that_fails_does_not_keep_the_others_from_being_changed() {
    let mixed = Mixed::new();
    let dir = &mixed.dir;
    let envelope = dir.read("enc/a.twl");
    let broken = |at: usize| {
        let mut bytes = envelope.clone();
        bytes[at] ^= 1;
        bytes
    };
    dir.write("enc/cut.twl", &envelope[..1000]);
    dir.write("enc/newer.twl", broken(8));
    dir.write("enc/tag.twl", broken(2047));
    let documents = documents(&mixed.rotate(&["--json"]).with(6));
    let (summary, lines) = documents.split_last().unwrap();
    let failed: Vec<_> = lines
        .iter()
        .filter(|d| d["status"] == "failed")
        .map(|d| (text(&d["input"]), text(&d["error"]["kind"])))
        .collect();
    let expected = [
        ("enc/cut.twl", "truncated"),
        ("enc/newer.twl", "not-an-envelope"),
        ("enc/tag.twl", "tampered"),
    ];
    assert_eq!(failed, expected);
    assert_eq!((&summary["files"]["changed"], &summary["files"]["failed"]), (&3.into(), &3.into()));
    assert_eq!(summary["error"]["kind"], "partial");
    assert_eq!(dir.read("enc/cut.twl"), &envelope[..1000]);
}

#[test]
fn the_last_keyslot_of_each_file_stays() {
    let mixed = Mixed::new();
    let own = format!("file://{}/provider.kek,{}", mixed.dir.home().display(), mixed.from);
    let before = files(&mixed.dir.path("enc"));
    let remove = ["--any-context", "--remove-keyslot", &own, "--remove-unopened"];
    let ended = rewrap(&mixed.dir, &remove).with(6);
    assert_eq!(ended.stderr.matches("the last keyslot").count(), 3, "{}", ended.stderr);
    assert_eq!(files(&mixed.dir.path("enc")), before);
}

#[test]
fn an_envelope_cut_behind_its_header_is_said_to_be_a_header_alone() {
    let mixed = Mixed::new();
    let whole = mixed.dir.read("enc/a.twl");
    mixed.dir.write("enc/a.twl", &whole[..2048]);
    let lines = documents(&mixed.rotate(&["--json"]).ok());
    assert_eq!(
        (&lines[0]["input"], &lines[0]["what"]),
        (&"enc/a.twl".into(), &"header alone".into())
    );
}

#[test]
fn rewraps_that_were_cut_short_are_finished() {
    let mixed = Mixed::new();
    let dir = &mixed.dir;
    mixed.rotate(&[]).ok();
    let whole = dir.read("enc/a.twl");
    let mut torn = whole.clone();
    torn[100..2048].fill(0);
    dir.write("enc/a.twl", torn);
    dir.write("enc/.a.twl.twinlock-journal", &whole[..2048]);
    let keys = ["--any-context", "--customer", &mixed.new, "--json"];
    let lines = documents(&rewrap(dir, &keys).ok());
    assert_eq!(
        (&lines[0]["status"], &lines[0]["what"]),
        (&"passed-over".into(), &"journal".into())
    );
    assert_eq!((&lines[1]["status"], &lines[1]["repaired"]), (&"changed".into(), &true.into()));
    assert_eq!(dir.read("enc/a.twl"), whole);
    assert!(!dir.path("enc/.a.twl.twinlock-journal").exists());
}

#[test]
fn only_expected_files_are_changed_and_misuse_is_refused() {
    let mixed = Mixed::new();
    let rotation = ["--from-key", &mixed.from, "--to-customer", &mixed.new, "--json"];
    let lines = documents(
        &rewrap(&mixed.dir, &[&rotation[..], &["--context", "object=a"]].concat()).with(6),
    );
    let changed: Vec<_> = lines.iter().filter(|d| d["status"] == "changed").collect();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0]["input"], "enc/a.twl");
    let dir = &mixed.dir;
    let ended = rewrap(dir, &["--any-context", "--to-customer", &mixed.new]).with(2);
    assert!(ended.stderr.contains("--from-key"), "{}", ended.stderr);
    dir.run(["rewrap", "-r", "enc/a.twl", "--any-context"]).with(2);
    dir.run(["rewrap", "-r", "-", "--any-context"]).with(1);
    dir.run(["rewrap", "-r", "enc", "--header", "enc/header"]).with(2);
    dir.run(["rewrap", "enc/a.twl", "--batch-files", "3"]).with(2);
}
