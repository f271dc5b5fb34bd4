//! The project's own vectors, `vectors/*.txt`: they always run.
//!
//! The files are what this code writes for the table below, and the test says
//! so by comparing them. `TWINLOCK_WRITE_VECTORS=1` writes them anew.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::differential::decrypt_with_floe_rs;
use super::support::{Case, READERS, message};
use crate::{Backend, Header};

/// Name, segment length, plaintext length (32 less fit a segment).
const VECTORS: [(&str, u32, usize); 11] = [
    ("64-empty", 64, 0),
    ("64-one-byte", 64, 1),
    ("64-one-segment", 64, 32),
    ("64-one-segment-and-a-byte", 64, 33),
    ("64-three-full-segments", 64, 96),
    ("64-several", 64, 150),
    ("4096-empty", 4096, 0),
    ("4096-one-byte", 4096, 1),
    ("4096-one-segment", 4096, 4064),
    ("4096-one-segment-and-a-byte", 4096, 4065),
    ("4096-several", 4096, 10_000),
];

#[test]
fn vectors_are_what_every_backend_writes() {
    for (name, segment_len, plaintext_len) in VECTORS {
        let path = folder().join(name).with_extension("txt");
        for &backend in Backend::available() {
            let written = text(&Case::new(segment_len), backend, &message(plaintext_len));
            if env::var_os("TWINLOCK_WRITE_VECTORS").is_some_and(|value| value == "1") {
                fs::write(&path, &written).unwrap();
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), written, "{name}, {backend}");
        }
    }
}

#[test]
fn vectors_open() {
    let mut files = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            check(&path);
            files += 1;
        }
    }
    assert_eq!(files, VECTORS.len(), "every file is in the table");
}

fn check(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let segment_len = value(&text, "segment-length").parse().unwrap();
    let mut case = Case::new(segment_len);
    case.key = bytes(&text, "key").try_into().unwrap();
    case.aad = bytes(&text, "aad");
    let plaintext = bytes(&text, "plaintext");
    let payload = [bytes(&text, "header"), bytes(&text, "segments")].concat();

    for &backend in Backend::available() {
        for open in READERS {
            assert_eq!(open(&case, backend, &payload).unwrap(), plaintext, "{path:?}, {backend}");
        }
    }
    let theirs = match segment_len {
        64 => decrypt_with_floe_rs::<64>(&case, &payload),
        4096 => decrypt_with_floe_rs::<4096>(&case, &payload),
        _ => panic!("{path:?}: add this segment length here"),
    };
    assert_eq!(theirs, plaintext, "{path:?}, floe-rs");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// A vector file: `name: value` lines; long hex goes on in indented lines.
fn text(case: &Case, backend: Backend, plaintext: &[u8]) -> String {
    let payload = case.seal(backend, plaintext);
    let (header, segments) = payload.split_at(Header::LEN);
    let mut text = format!("segment-length: {}\n", case.segment_len.get());
    for (name, value) in [
        ("key", &case.key[..]),
        ("floe-iv", &case.iv),
        ("aad", &case.aad),
        ("plaintext", plaintext),
        ("header", header),
        ("segments", segments),
    ] {
        writeln!(text, "{name}:").unwrap();
        for line in value.chunks(32) {
            writeln!(text, "  {}", hex::encode(line)).unwrap();
        }
    }
    text
}

fn bytes(text: &str, name: &str) -> Vec<u8> {
    hex::decode(value(text, name)).unwrap()
}

/// The value of a name, its lines put together.
fn value(text: &str, name: &str) -> String {
    let prefix = format!("{name}:");
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&prefix));
    let first = lines.next().expect("the name stands in the file");
    let more = lines.take_while(|line| line.starts_with(' '));
    let rest = first[prefix.len()..].trim().to_owned();
    more.fold(rest, |value, line| value + line.trim())
}
