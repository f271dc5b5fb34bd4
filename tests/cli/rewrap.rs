//! Other keys for a file, in place.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;

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

    /// Kills a rewrap to the new key, so to speak, where the file's bytes are
    /// what `tear` makes of the new ones. Returns what they should be.
    fn cut_short(&self, tear: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        self.rewrap(&["--to-customer", &self.new]).ok();
        let new = self.dir.read("a.twl");
        let mut torn = new.clone();
        tear(&mut torn);
        self.dir.write("a.twl", &torn);
        self.dir.write(".a.twl.twinlock-journal", &new[..2048]);
        new
    }

    /// On storage that lets nobody write (but for root, so what is there is
    /// compared as well).
    fn readers_change_nothing(&self, readers: impl Fn()) {
        let set_mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let work = self.dir.work();
        self.dir.names().iter().for_each(|name| set_mode(&work.join(name), 0o444));
        set_mode(&work, 0o555);
        let before = self.everything();
        readers();
        assert_eq!(self.everything(), before);
        set_mode(&work, 0o755);
        self.dir.names().iter().for_each(|name| set_mode(&work.join(name), 0o644));
    }

    /// The folder and all in it: name, inode, what changes with each write, and bytes.
    fn everything(&self) -> Vec<(String, u64, SystemTime, i64, Vec<u8>)> {
        let facts = |name: &str| {
            let path = self.dir.path(name);
            let facts = path.metadata().unwrap();
            let bytes = fs::read(&path).unwrap_or_default();
            (name.to_owned(), facts.ino(), facts.modified().unwrap(), facts.ctime_nsec(), bytes)
        };
        self.dir.names().iter().map(String::as_str).chain(["."]).map(facts).collect()
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
    let new = rig.cut_short(|new| new[100..2048].fill(0));
    let customer = ["--customer", rig.new.as_str()];

    rig.readers_change_nothing(|| {
        assert_eq!(rig.open(&customer).ok().stdout, b"secret");
        for (range, expected) in [("1..3", "ec"), ("4..99", "et"), ("6..", ""), ("2..2", "")] {
            let args = ["--customer", rig.new.as_str(), "--range", range];
            assert_eq!(rig.open(&args).ok().stdout, expected.as_bytes(), "{range}");
        }
        rig.open(&["--customer", &rig.new, "--range", "7.."]).with(2);
        rig.dir.run(["verify", "a.twl", "--any-context"].into_iter().chain(customer)).ok();
        let shown = rig.dir.run(["--json", "inspect", "a.twl"]).ok().json();
        assert_eq!((&shown["header_from"], &shown["generation"]), (&"journal".into(), &1.into()));
        assert!(shown["sizes"]["plaintext"] == 6, "{shown}");
        assert!(rig.dir.run(["inspect", "a.twl"]).ok().text().contains("cut short"));
        let proof =
            rig.dir.run(["--json", "prove", "a.twl"].into_iter().chain(customer)).ok().json();
        assert_eq!((&proof["header_from"], &proof["generation"]), (&"journal".into(), &1.into()));
    });

    let repaired = rig.rewrap(&["--customer", &rig.new, "--json"]).ok().json();
    assert_eq!(repaired["repaired"], true);
    assert_eq!(rig.dir.read("a.twl"), new);
    assert_eq!(rig.dir.names(), ["a", "a.twl"]);
    fs::write(rig.dir.path(".a.twl.twinlock-journal"), "no header at all").unwrap();
    assert_eq!(rig.open(&["--customer", &rig.new]).ok().stdout, b"secret");
}

#[test]
fn a_torn_header_that_still_reads_is_no_evidence_and_its_journal_is() {
    let rig = Rig::new();
    // The tag alone was not written yet.
    rig.cut_short(|new| new[2047] ^= 1);
    let customer = ["--customer", rig.new.as_str()];
    rig.readers_change_nothing(|| {
        let shown = rig.dir.run(["--json", "inspect", "a.twl"]).ok().json();
        assert_eq!(
            (&shown["header_from"], &shown["pending_generation"]),
            (&"file".into(), &1.into())
        );
        let proof =
            rig.dir.run(["--json", "prove", "a.twl"].into_iter().chain(customer)).ok().json();
        assert_eq!(proof["header_from"], "journal", "{proof}");
    });
}

#[test]
fn until_it_is_finished_a_rewrap_leaves_the_old_keys_and_the_new_ones() {
    let rig = Rig::new();
    let old = rig.dir.read("a.twl");
    rig.cut_short(|new| new[..2048].copy_from_slice(&old[..2048]));
    let prove = |customer: &str| {
        rig.dir.run(["--json", "prove", "a.twl", "--customer", customer]).ok().json()
    };
    rig.readers_change_nothing(|| {
        assert_eq!(prove(&rig.customer)["header_from"], "file");
        assert_eq!(prove(&rig.new)["header_from"], "journal");
        assert!(rig.dir.run(["inspect", "a.twl"]).ok().text().contains("generation 1"));
    });
}

#[test]
fn a_journal_that_does_not_verify_is_no_evidence() {
    let rig = Rig::new();
    rig.cut_short(|new| new[100..2048].fill(0));
    let journal = ".a.twl.twinlock-journal";
    let mut forged = rig.dir.read(journal);
    forged[2047] ^= 1;
    rig.dir.write(journal, forged);
    let customer = ["--customer", rig.new.as_str()];
    let ended = rig.dir.run(["--json", "prove", "a.twl"].into_iter().chain(customer)).with(1);
    assert_eq!(ended.json()["keyslots"][0]["attempts"][2]["opened"], false);
    rig.open(&customer).with(3);
}
