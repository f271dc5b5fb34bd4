//! New DEKs for old files.

use crate::support::cli::{Dir, Ended};

/// A file `a.twl` of the profile's keys and of a second keyslot, `old`.
struct Rig {
    dir: Dir,
    old: String,
    new: String,
}

impl Rig {
    fn new() -> Self {
        let dir = Dir::with_keys();
        let provider = format!("file://{}/provider.kek", dir.home().display());
        let [old, new] = ["old", "new"].map(|name| format!("{provider},{}", dir.new_key(name)));
        dir.write("a", "secret");
        dir.run(["-q", "encrypt", "a", "--context", "object=a", "--keyslot", &old]).ok();
        Self { dir, old, new }
    }

    fn reencrypt(&self, args: &[&str]) -> Ended {
        let fixed = ["reencrypt", "a.twl", "--context", "object=a"];
        self.dir.run(fixed.iter().chain(args).copied())
    }

    fn open(&self, keyslot: &str) -> Ended {
        let (provider, customer) = keyslot.split_once(',').unwrap();
        self.dir.run([
            "decrypt",
            "a.twl",
            "-o",
            "-",
            "--context",
            "object=a",
            "--provider",
            provider,
            "--customer",
            customer,
        ])
    }
}

#[test]
fn only_the_keys_of_now_open_it_and_what_is_gone_is_listed() {
    let rig = Rig::new();
    let before = rig.dir.read("a.twl");
    assert_eq!(rig.open(&rig.old).ok().stdout, b"secret");
    let ended = rig.reencrypt(&[]).ok();
    let text = ended.text();
    assert!(text.contains("old.kek") && text.contains("Copies of the old file"), "{text}");
    assert!(!text.contains("customer.kek"), "{text}");
    rig.open(&rig.old).with(4);
    let opened = rig.dir.run(["decrypt", "a.twl", "-o", "-", "--context", "object=a"]).ok();
    assert_eq!(opened.stdout, b"secret");
    assert_eq!(rig.dir.names(), ["a", "a.twl"]);
    // What is said of copies.
    rig.dir.write("a.twl", before);
    assert_eq!(rig.open(&rig.old).ok().stdout, b"secret");
}

#[test]
fn a_file_of_old_keys_alone_gets_new_ones() {
    let rig = Rig::new();
    let (provider, customer) = rig.new.split_once(',').unwrap();
    let new = ["--provider", provider, "--customer", customer];
    rig.reencrypt(&new).with(4);
    let report = rig.reencrypt(&[&new[..], &["--from-keyslot", &rig.old, "--json"]].concat());
    let report = report.ok().json();
    assert_eq!((&report["in_place"], &report["plaintext_len"]), (&true.into(), &6.into()));
    assert_eq!((&report["context"]["object"], &report["output"]), (&"a".into(), &"a.twl".into()));
    assert_eq!(report["keyslots"].as_array().unwrap().len(), 1);
    assert_eq!(report["old_keyslots"].as_array().unwrap().len(), 2);
    assert_ne!(report["envelope_id"], report["old_envelope_id"]);
    assert_eq!(report["envelope_len"], rig.dir.read("a.twl").len());
    rig.open(&rig.old).with(4);
    assert_eq!(rig.open(&rig.new).ok().stdout, b"secret");
}

#[test]
fn what_is_not_the_expected_file_or_not_whole_stays() {
    let rig = Rig::new();
    let before = rig.dir.read("a.twl");
    rig.dir.run(["reencrypt", "a.twl"]).with(3);
    rig.dir.run(["reencrypt", "a.twl", "--context", "object=b"]).with(3);
    rig.dir.run(["reencrypt", "a", "--any-context"]).with(2);
    rig.dir.run(["reencrypt", "-", "--any-context"]).with(2);
    rig.dir.run(["reencrypt", "a.twl", "--header", "h", "--any-context"]).with(2);
    assert_eq!(rig.dir.read("a.twl"), before);
    for bad in [before[..before.len() - 1].to_vec(), [&before[..], b"x"].concat()] {
        rig.dir.write("a.twl", &bad);
        let ended = rig.reencrypt(&[]).with(3);
        assert!(ended.stderr.contains("a.twl"), "{}", ended.stderr);
        assert_eq!(rig.dir.read("a.twl"), bad);
        rig.reencrypt(&["-o", "b.twl"]).with(3);
        assert_eq!(rig.dir.names(), ["a", "a.twl"]);
    }
}

#[test]
fn another_output_leaves_the_old_file() {
    let rig = Rig::new();
    let before = rig.dir.read("a.twl");
    rig.reencrypt(&["-o", "a.twl", "--force"]).with(2);
    let report = rig.reencrypt(&["-o", "b.twl", "--json"]).ok().json();
    assert_eq!((&report["in_place"], &report["output"]), (&false.into(), &"b.twl".into()));
    rig.reencrypt(&["-o", "b.twl"]).with(1);
    assert_eq!(rig.dir.read("a.twl"), before);
    let decrypt = |name| rig.dir.run(["decrypt", name, "-o", "-", "--context", "object=a"]);
    assert_eq!(decrypt("b.twl").ok().stdout, b"secret");

    let piped = rig.dir.run_with(["reencrypt", "-", "-o", "-", "--context", "object=a"], &before);
    rig.dir.write("c.twl", piped.ok().stdout);
    assert_eq!(decrypt("c.twl").ok().stdout, b"secret");

    rig.dir.run(["-q", "encrypt", "a", "-o", "d", "--detach", "--header", "d.h"]).ok();
    rig.dir.run(["reencrypt", "d", "--header", "d.h", "-o", "e.twl"]).ok();
    assert_eq!(rig.dir.run(["decrypt", "e.twl", "-o", "-"]).ok().stdout, b"secret");
}
