//! What a core file of a process at work has in it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, getrlimit};

use super::child::{Holding, secrets_of};
use super::{Secret, found};
use crate::support::cli::Dir;
use crate::support::softhsm::{SoftHsm, uri_in};

/// Not that of other tests: it stands in this very program.
fn random_pin() -> String {
    let mut bytes = [0; 8];
    let share = twinlock::Share::random().unwrap();
    bytes.copy_from_slice(&share.expose()[..8]);
    hex::encode(bytes)
}

/// DEK, KEK and shares are in pages that are left out, and so is the PIN once the
/// token has it. The control: what was planted on the heap is there.
#[test]
fn a_core_file_has_neither_dek_nor_shares_nor_pin() {
    let pin = random_pin();
    let hsm = SoftHsm::with_pin(&pin);
    let mut dir = Dir::new();
    hsm.variables().into_iter().for_each(|(name, value)| dir.set(name, value));
    let customer = uri_in(hsm.folder(), "kek");
    dir.set("TWINLOCK_PROVIDER", dir.new_key("provider"));
    dir.set("TWINLOCK_CUSTOMER", &customer);
    dir.run(["keys", "create", &customer]).ok();
    dir.write("a", vec![7; 2_000_000]);
    dir.run(["encrypt", "a"]).ok();
    let planted = twinlock::Share::random().unwrap();
    dir.write("planted", planted.expose());

    let mut secrets = secrets_of(&dir.work(), dir.command());
    secrets.push(Secret { name: "PIN".to_owned(), bytes: pin.into_bytes() });
    secrets.push(Secret { name: "planted".to_owned(), bytes: planted.expose().to_vec() });
    for (kind, dump) in dumps(&dir.work(), dir.command()) {
        assert_eq!(found(&dump, &secrets), ["planted"], "in the {kind}");
    }
}

/// What the system would write into a core file, and the core file itself where
/// the system writes one into the current folder.
fn dumps(folder: &Path, command: Command) -> Vec<(&'static str, Vec<u8>)> {
    let holding = Holding::start(folder, command);
    let mut dumps = vec![("memory that is dumped", dumped_memory(holding.id()))];
    holding.abort();
    let core = fs::read_dir(folder).unwrap().flatten().find(|entry| {
        let name = entry.file_name();
        name == "core" || name.to_string_lossy().starts_with("core.")
    });
    assert_eq!(core.is_some(), writes_core_files_here(), "a core file in {}", folder.display());
    dumps.extend(core.map(|entry| ("core file", fs::read(entry.path()).unwrap())));
    dumps
}

/// True if the system's pattern is a plain name (core(5)), as it is without a
/// crash handler, and nobody has forbidden core files for good.
fn writes_core_files_here() -> bool {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let is_plain = pattern.starts_with("core") && !pattern.contains('/');
    is_plain && getrlimit(Resource::Core).maximum != Some(0)
}

/// The memory of a process, but for mappings that are marked as not to be
/// dumped (`dd`), or that nobody wrote to since they came from a file: what
/// core(5) says of the usual filter, and more.
fn dumped_memory(process: u32) -> Vec<u8> {
    let maps = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let mut dump = Vec::new();
    for mapping in mappings(&maps).filter(|mapping| mapping.is_dumped()) {
        let mut bytes = vec![0; usize::try_from(mapping.to - mapping.from).unwrap()];
        // What the kernel keeps to itself ([vvar]) cannot be read, nor dumped.
        if memory.read_exact_at(&mut bytes, mapping.from).is_ok() {
            dump.append(&mut bytes);
        }
    }
    dump
}

struct Mapping<'a> {
    from: u64,
    to: u64,
    lines: Vec<&'a str>,
}

impl Mapping<'_> {
    fn is_dumped(&self) -> bool {
        let line = |name| self.lines.iter().find(|line| line.starts_with(name)).expect("in smaps");
        let readable = self.lines[0].split(' ').nth(1).expect("permissions").starts_with('r');
        let written = line("Anonymous:").split_whitespace().nth(1) != Some("0");
        let left_out = line("VmFlags:").split_whitespace().any(|flag| flag == "dd");
        readable && written && !left_out
    }
}

/// The mappings of an smaps file (proc(5)).
fn mappings(maps: &str) -> impl Iterator<Item = Mapping<'_>> {
    let mut lines = maps.lines().peekable();
    std::iter::from_fn(move || {
        let first = lines.next()?;
        let (from, to) = first.split(' ').next()?.split_once('-')?;
        let address = |hex| u64::from_str_radix(hex, 16).expect("an address");
        let mut mapping = Mapping { from: address(from), to: address(to), lines: vec![first] };
        loop {
            let line = lines.next()?;
            mapping.lines.push(line);
            if line.starts_with("VmFlags:") {
                return Some(mapping);
            }
        }
    })
}
