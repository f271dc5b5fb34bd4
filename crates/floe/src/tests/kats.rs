//! Known answers of other implementations (C++ and Go), from a folder that is
//! not part of this repository.

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::support::{Case, READERS};
use crate::place::Rotation;
use crate::{Backend, Header, SegmentLen};

/// How many pairs the folder has.
const KNOWN_ANSWERS: usize = 6;

#[test]
fn known_answers_of_other_implementations() {
    let folder = folder();
    if !folder.is_dir() {
        let required = env::var_os("TWINLOCK_REQUIRE_KATS").is_some_and(|value| value == "1");
        assert!(!required, "floe-kats: {} not found, but required", folder.display());
        report(format_args!("skipped {KNOWN_ANSWERS} known answers (folder not found)"));
        return;
    }
    let (mut ran, mut skipped) = (0, 0);
    for name in names(&folder) {
        match case(&name) {
            Some(case) => {
                check(&folder, &name, case);
                ran += 1;
            }
            None => skipped += 1,
        }
    }
    report(format_args!("ran {ran} known answers, skipped {skipped}"));
    assert!(ran > 0, "the folder is there, but nothing in it ran");
}

/// Past the test harness, which would keep it to itself: a skip must show.
fn report(what: fmt::Arguments<'_>) {
    let line = format!("floe-kats: {what}\n"); // in one write, for tests run side by side
    io::stderr().write_all(line.as_bytes()).unwrap();
}

fn folder() -> PathBuf {
    match env::var_os("TWINLOCK_FLOE_KATS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/floe-kats"),
    }
}

/// The pairs' names, without `_ct.txt`.
fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    files.filter_map(|file| Some(file.to_str()?.strip_suffix("_ct.txt")?.to_owned())).collect()
}

/// The parameters, as the folder's README gives them by name.
fn case(name: &str) -> Option<Case> {
    let (segment_len, rotation) = match name.rsplit('_').next()? {
        "4K" => (4096, Rotation::FLOE),
        "64" => (64, Rotation::FLOE),
        "rotation" => (40, Rotation::every_power_of_two(2)),
        _ => return None,
    };
    Some(Case {
        key: [0; 32],
        iv: [0; 32], // the answer has its own
        aad: b"This is AAD".to_vec(),
        segment_len: SegmentLen::new(segment_len).unwrap(),
        rotation,
    })
}

fn check(folder: &Path, name: &str, mut case: Case) {
    let plaintext = read_hex(&folder.join(format!("{name}_pt.txt")));
    let ciphertext = read_hex(&folder.join(format!("{name}_ct.txt")));
    let header = Header::parse(ciphertext.first_chunk().unwrap()).unwrap();
    assert_eq!(header.segment_len(), case.segment_len, "{name}");
    case.iv = *header.iv();

    for &backend in Backend::available() {
        for open in READERS {
            let opened = open(&case, backend, &ciphertext).unwrap();
            assert_eq!(opened, plaintext, "{name}, {backend}");
        }
        let sealed = case.seal_like(backend, &plaintext, &ciphertext);
        assert_eq!(sealed, ciphertext, "{name} sealed again, {backend}");
    }
}

fn read_hex(path: &Path) -> Vec<u8> {
    hex::decode(fs::read_to_string(path).unwrap().trim()).unwrap()
}
