//! Other keys for a file, in place.

use std::fs;

use crate::support::cli::Dir;

/// A file `a.twl` of the profile's keys, and the URIs of these and a new one.
struct Rig {
    dir: Dir,
    provider: String,
    customer: String,
    new: String,
}

impl Rig {
    fn new() -> Self {
        let dir = Dir::with_keys();
        let uri = |name: &str| format!("file://{}/{name}.kek", dir.home().display());
        let (provider, customer, new) = (uri("provider"), uri("customer"), dir.new_key("new"));
        dir.write("a", "secret");
        dir.run(["-q", "encrypt", "a", "--context", "object=a"]).ok();
        Self { dir, provider, customer, new }
    }

    fn rewrap(&self, args: &[&str]) -> crate::support::cli::Ended {
        let fixed = ["rewrap", "a.twl", "--context", "object=a"];
        self.dir.run(fixed.iter().chain(args).copied())
    }

    fn open(&self, args: &[&str]) -> crate::support::cli::Ended {
        let fixed = ["decrypt", "a.twl", "-o", "-", "--any-context"];
        self.dir.run(fixed.iter().chain(args).copied())
    }
}

#[test]
fn a_key_is_rotated_in_place_and_the_old_one_no_longer_opens() {
    let rig = Rig::new();
    let before = rig.dir.read("a.twl");
    let planned = rig.rewrap(&["--to-customer", &rig.new, "--dry-run", "--json"]).ok().json();
    assert_eq!(planned["changed"], false);
    assert_eq!(planned["changes"][0]["after"]["customer"], rig.new);
    assert_eq!(rig.dir.read("a.twl"), before);

    let text = rig.rewrap(&["--to-customer", &rig.new]).ok().text();
    assert!(text.contains("generation 1") && text.contains("not revocation"), "{text}");
    let after = rig.dir.read("a.twl");
    assert_eq!((after.len(), &after[2048..]), (before.len(), &before[2048..]));
    assert_eq!(rig.dir.names(), ["a", "a.twl"]);
    rig.open(&[]).with(4);
    let opened = rig.open(&["--customer", &rig.new, "--min-generation", "1"]).ok();
    assert_eq!(opened.stdout, b"secret");
    // What the documents say of old copies.
    rig.dir.write("a.twl", before);
    assert_eq!(rig.open(&[]).ok().stdout, b"secret");
}

#[test]
fn keyslots_come_and_go_but_never_the_last() {
    let rig = Rig::new();
    let added = format!("{},{}", rig.provider, rig.new);
    let own = format!("{},{}", rig.provider, rig.customer);
    rig.rewrap(&["--remove-keyslot", &own, "--remove-unopened"]).with(2);
    rig.rewrap(&["--add-keyslot", &added]).ok();
    assert_eq!(rig.open(&["--customer", &rig.new]).ok().stdout, b"secret");
    let again = rig.rewrap(&["--add-keyslot", &added, "--json"]).ok().json();
    assert_eq!((&again["changed"], &again["generation"]), (&false.into(), &1.into()));

    let ended = rig.rewrap(&["--to-customer", &rig.new]).with(2);
    assert!(ended.stderr.contains("--from-key"), "{}", ended.stderr);
    // The keys given do not open the one that would remain.
    let ended = rig.rewrap(&["--remove-keyslot", &own]).with(2);
    assert!(ended.stderr.contains("--remove-unopened"), "{}", ended.stderr);
    rig.rewrap(&["--remove-keyslot", &own, "--keyslot", &added]).ok();
    rig.open(&[]).with(4);
}

#[test]
fn only_the_expected_file_is_changed_and_only_where_the_key_is() {
    let rig = Rig::new();
    let before = rig.dir.read("a.twl");
    let to = ["--to-customer", rig.new.as_str()];
    rig.dir.run(["rewrap", "a.twl", "--context", "object=b"].into_iter().chain(to)).with(3);
    rig.dir.run(["rewrap", "-"].into_iter().chain(to)).with(2);
    rig.rewrap(&["--to-customer", &rig.new, "--from-key", &rig.new]).ok();
    assert_eq!(rig.dir.read("a.twl"), before);
}

#[test]
fn every_reader_reads_past_a_rewrap_that_was_cut_short() {
    let rig = Rig::new();
    rig.rewrap(&["--to-customer", &rig.new]).ok();
    let new = rig.dir.read("a.twl");
    let mut torn = new.clone();
    torn[100..2048].fill(0);
    rig.dir.write("a.twl", &torn);
    rig.dir.write(".a.twl.twinlock-journal", &new[..2048]);

    assert_eq!(rig.open(&["--customer", &rig.new]).ok().stdout, b"secret");
    let range = ["--customer", rig.new.as_str(), "--range", "1..3"];
    assert_eq!(rig.open(&range).ok().stdout, b"ec");
    rig.dir.run(["verify", "a.twl", "--any-context", "--customer", &rig.new]).ok();
    assert_eq!(rig.dir.read("a.twl"), torn, "readers never write");

    let repaired = rig.rewrap(&["--customer", &rig.new, "--json"]).ok().json();
    assert_eq!(repaired["repaired"], true);
    assert_eq!(rig.dir.read("a.twl"), new);
    assert_eq!(rig.dir.names(), ["a", "a.twl"]);
    fs::write(rig.dir.path(".a.twl.twinlock-journal"), "no header at all").unwrap();
    assert_eq!(rig.open(&["--customer", &rig.new]).ok().stdout, b"secret");
}
