//! The vectors: one file, one success or failure, named after it. Every vector
//! goes through every entry point.

mod cbor;
mod failures;
mod keys;
mod successes;
mod text;
mod words;
mod writer;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use twinlock::Backend;

pub(crate) use keys::Keys;
pub(crate) use text::Vector;
pub(crate) use writer::plaintext;

use crate::entry_points::{ENTRY_POINTS, Outcome, Released};

/// A folder for each version of the format. Files are added, never changed:
/// every release opens every vector of every earlier one.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v1");

/// Rules that no file can show.
const WITHOUT_A_VECTOR: &[(&str, &str)] = &[("R34", "it would be a file of 2^52 bytes")];

#[test]
fn every_entry_point_and_backend_gives_what_each_vector_says() {
    let keys = Keys::new();
    let mut complaints = Vec::new();
    for vector in all() {
        for (entry_name, entry_point) in ENTRY_POINTS {
            for &backend in Backend::available() {
                let decryptor = keys.decryptor(&vector).backend(backend);
                let outcome = entry_point(&decryptor, vector.stored());
                if let Err(complaint) = compare(&outcome, &vector) {
                    complaints
                        .push(format!("{}, {entry_name}, {backend}: {complaint}", vector.name));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_files_are_what_their_writer_writes() {
    let written = written();
    if env::var_os("TWINLOCK_WRITE_VECTORS").is_some() {
        for (name, text) in &written {
            fs::write(Path::new(FOLDER).join(name), text).unwrap();
        }
    }
    for (name, text) in &written {
        let file = fs::read_to_string(Path::new(FOLDER).join(name)).unwrap_or_default();
        assert!(file == *text, "{name} differs: TWINLOCK_WRITE_VECTORS=1 writes it anew");
    }
    let names: BTreeSet<&str> = written.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), written.len(), "two vectors have one name");
    let files: BTreeSet<String> = paths().iter().map(|path| file_name(path)).collect();
    assert_eq!(files.iter().map(String::as_str).collect::<BTreeSet<_>>(), names);
}

#[test]
fn every_rule_has_a_vector() {
    let rules: BTreeSet<String> = all().into_iter().filter_map(|vector| vector.rule).collect();
    for number in 1..=34 {
        let rule = format!("R{number}");
        let excused = WITHOUT_A_VECTOR.iter().any(|(without, _)| *without == rule);
        assert!(rules.contains(&rule) != excused, "{rule}");
    }
}

#[test]
fn the_folder_stays_small() {
    let size: u64 = paths().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(size < 2 << 20, "{size} bytes");
}

fn compare(outcome: &Outcome, vector: &Vector) -> Result<(), String> {
    let expected_end = match (&outcome.released, &vector.expect_seeking) {
        (Released::BySeeking(_), Some(expect)) => expect,
        _ => &vector.expect,
    };
    let end = words::end_of(&outcome.result);
    if end != *expected_end {
        return Err(format!("ends in {end}, not {expected_end}"));
    }
    let whole = vector.expect == "success";
    let plaintext = writer::plaintext(vector.released_len);
    let fits = match &outcome.released {
        Released::AtOnce(bytes) if !whole => bytes.is_empty(),
        // It goes by the size, and may stop before a stream would.
        Released::BySeeking(bytes) if !whole => plaintext.starts_with(bytes),
        // Its length is what the size of the input says.
        Released::InPlaces(bytes) if !whole => {
            bytes.iter().zip(&plaintext).all(|(byte, known)| byte == known)
                && bytes.iter().skip(plaintext.len()).all(|byte| *byte == 0)
        }
        Released::AtOnce(bytes)
        | Released::BySeeking(bytes)
        | Released::Streaming(bytes)
        | Released::InPlaces(bytes) => *bytes == plaintext,
    };
    if fits { Ok(()) } else { Err("releases what it must not".to_owned()) }
}

/// All vectors, from the files.
pub(crate) fn all() -> Vec<Vector> {
    let read = |path: &PathBuf| {
        let name = file_name(path);
        Vector::parse(name.trim_end_matches(".txt"), &fs::read_to_string(path).unwrap())
    };
    paths().iter().filter(|path| path.extension().is_some_and(|e| e == "txt")).map(read).collect()
}

fn paths() -> Vec<PathBuf> {
    let entries = fs::read_dir(FOLDER).expect("the vectors are beside this file");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// All files, as the writer has them.
fn written() -> Vec<(String, String)> {
    let vectors = [successes::all(), failures::all()].concat();
    let vectors = vectors.iter().map(|vector| (format!("{}.txt", vector.name), vector.to_text()));
    vectors.chain(writer::kek_files()).collect()
}
