//! What storage may do to a file, seen from outside.

use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::trees::{documents, text};
use crate::support::cli::{Dir, Ended};
use crate::vectors::{self, Vector};

const HEADER: usize = 2048;

/// Another bit of every byte: all bits of all bytes would be 17,000 processes,
/// and the library's tests have them.
#[test]
fn a_flip_in_any_byte_ends_with_3_and_no_output() {
    let (dir, envelope) = small_envelope();
    let elsewhere = parts_that_name_something(&envelope);
    in_parallel(envelope.len(), |byte| {
        let mut bytes = envelope.clone();
        bytes[byte] ^= 1 << (byte % 8);
        let allowed = elsewhere.iter().find(|(range, _)| range.contains(&byte));
        let codes = allowed.map_or(&[3][..], |(_, codes)| codes);
        let ended = refuse(&dir, &format!("byte {byte}"), &bytes);
        let code = ended.code.expect("no signal");
        assert!(codes.contains(&code), "byte {byte}: exit code {code}, {}", ended.stderr);
    });
}

/// Where a flip makes another file of it: one that is not ours, of a version
/// that we do not know, or of keys that the reader does not have.
fn parts_that_name_something(envelope: &[u8]) -> Vec<(Range<usize>, &'static [i32])> {
    let find = |needle: &[u8], from: usize| {
        let found = envelope[from..].windows(needle.len()).position(|window| window == needle);
        from + found.expect("it is in the header")
    };
    let mut parts: Vec<(Range<usize>, &'static [i32])> = vec![
        (0..9, &[2]),
        (PAYLOAD_SUITE..PAYLOAD_SUITE + 1, &[2, 3]),
        (KEYSLOT_KIND..KEYSLOT_KIND + 1, &[3, 4]),
        (KEK_SUITE..KEK_SUITE + 1, &[3, 4]),
    ];
    for uri_end in [&b"/provider.kek"[..], b"/customer.kek"] {
        let end = find(uri_end, 0) + uri_end.len();
        let start = find(b"file:///", end - 100);
        parts.push((start..end, &[3, 4]));
        // Behind the URI stand a field and the number of the algorithm.
        parts.push((end + 1..end + 2, &[3, 4]));
    }
    parts
}

/// Where the numbers of algorithms stand in a header without a context.
const PAYLOAD_SUITE: usize = 53;
const KEYSLOT_KIND: usize = 61;
const KEK_SUITE: usize = 102;

#[test]
fn every_truncation_ends_with_3_or_2_and_no_output() {
    let (dir, envelope) = small_envelope();
    let lens: Vec<usize> =
        (0..64).chain((64..envelope.len()).step_by(13)).chain([envelope.len() - 1]).collect();
    in_parallel(lens.len(), |index| {
        let len = lens[index];
        let ended = refuse(&dir, &format!("{len} bytes"), &envelope[..len]);
        // Who has read so little cannot know whether it is ours.
        ended.with(if len < 8 { 2 } else { 3 });
    });
}

#[test]
fn a_file_of_something_else_ends_with_2() {
    let (dir, _) = small_envelope();
    for bytes in [&b"%PDF-1.7"[..], b"", b"T", b"\x7fELF", &[0; 5000]] {
        refuse(&dir, "something else", bytes).with(2);
    }
}

#[test]
fn appended_bytes_and_another_files_parts_end_with_3() {
    let (dir, envelope) = small_envelope();
    let other = dir.run_with(["encrypt", "-"], b"attack at dusk").ok().stdout;
    for bytes in [
        [&*envelope, &[0]].concat(),
        [&*envelope, &other].concat(),
        [&envelope[..HEADER], &other[HEADER..]].concat(),
        [&envelope[..HEADER + 74], &other[HEADER + 74..]].concat(),
        [&other[..HEADER - 32], &envelope[HEADER - 32..]].concat(),
    ] {
        refuse(&dir, "spliced", &bytes).with(3);
    }
}

/// A small file is opened in memory, and a long one piece by piece.
#[test]
fn in_a_run_of_many_nothing_comes_of_what_storage_has_changed() {
    let (dir, small) = small_envelope();
    let long = dir.run_with(["encrypt", "-"], &[7; 600 << 10]).ok().stdout;
    fs::create_dir(dir.path("enc")).unwrap();
    let flips: Vec<usize> = (HEADER - 40..small.len()).chain([16, 60, 200, 600]).collect();
    let segment = HEADER + 74 + (256 << 10);
    let flips_of_long = [HEADER - 1, HEADER, HEADER + 73, HEADER + 80, segment, segment + 20];
    let cuts = [HEADER - 1, HEADER, HEADER + 30, HEADER + 74, HEADER + 74 + 31, small.len() - 1];
    let cuts_of_long = cuts.into_iter().chain([segment - 1, segment, segment + 31, long.len() - 1]);
    let flipped = |envelope: &[u8], byte: usize| {
        let mut bytes = envelope.to_vec();
        bytes[byte] ^= 1 << (byte % 8);
        bytes
    };
    let mut hostile = vec![
        [&*small, &[0]].concat(),
        [&*long, &[0]].concat(),
        [&small[..HEADER], &long[HEADER..]].concat(),
        [&long[..HEADER], &small[HEADER..]].concat(),
        [&*small, &small].concat(),
    ];
    hostile.extend(flips.into_iter().map(|byte| flipped(&small, byte)));
    hostile.extend(flips_of_long.into_iter().map(|byte| flipped(&long, byte)));
    hostile.extend(cuts.into_iter().map(|len| small[..len].to_vec()));
    hostile.extend(cuts_of_long.map(|len| long[..len].to_vec()));
    for (number, bytes) in hostile.iter().enumerate() {
        dir.write(&format!("enc/{number}.twl"), bytes);
    }
    dir.write("enc/small.twl", &small);
    dir.write("enc/long.twl", &long);

    let ended = dir.run(["decrypt", "-r", "enc", "-o", "back", "--json"]).with(6);
    let failed = documents(&ended).into_iter().filter(|document| document["status"] == "failed");
    let mut kinds: Vec<_> = failed.map(|it| text(&it["error"]["kind"]).to_owned()).collect();
    assert_eq!(kinds.len(), hostile.len());
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, ["tampered", "truncated"]);
    assert_eq!(dir.read("back/small"), b"attack at dawn");
    assert_eq!(dir.read("back/long"), [7; 600 << 10]);
    assert_eq!(fs::read_dir(dir.path("back")).unwrap().count(), 2);
}

/// As a rewrap leaves it that was killed.
#[test]
fn in_a_run_of_many_a_torn_header_is_read_through_its_journal() {
    let dir = Dir::with_keys();
    let new_key = dir.new_key("new");
    fs::create_dir(dir.path("data")).unwrap();
    let plaintexts = [("small", vec![1; 14]), ("long", vec![2; 600 << 10])];
    for (name, bytes) in &plaintexts {
        dir.write(&format!("data/{name}"), bytes);
    }
    dir.run(["encrypt", "-r", "data", "-o", "enc"]).ok();
    for (name, _) in &plaintexts {
        let path = format!("enc/{name}.twl");
        let old = dir.read(&path);
        dir.run(["rewrap", &path, "--to-customer", &new_key]).ok();
        let new = dir.read(&path);
        dir.write(&format!("enc/.{name}.twl.twinlock-journal"), &new[..HEADER]);
        dir.write(&path, [&new[..HEADER / 4], &old[HEADER / 4..]].concat());
    }
    dir.run(["decrypt", "-r", "enc", "-o", "back", "--customer", &new_key]).ok();
    for (name, bytes) in &plaintexts {
        assert!(dir.read(&format!("back/{name}")) == *bytes, "{name}");
    }
}

#[test]
fn the_program_gives_what_each_vector_says() {
    let keys = vectors::Keys::new();
    let dir = Dir::new();
    dir.write_config(&keys.profile());
    let all = vectors::all();
    in_parallel(all.len(), |index| {
        let vector = &all[index];
        let name = format!("{}.twl", vector.name);
        dir.write(&name, &vector.envelope);
        let pairs: Vec<String> = vector.context.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut args = vec!["-q", "decrypt", &name];
        pairs.iter().for_each(|pair| args.extend(["--context", pair]));
        let generation = vector.min_generation.to_string();
        args.extend(["--min-generation", &generation]);
        let header = format!("{}.header", vector.name);
        if let Some(bytes) = &vector.header {
            dir.write(&header, bytes);
            args.extend(["--header", &header]);
        }
        let ended = dir.run(args.iter().copied());
        let output = fs::read(dir.path(&vector.name));
        assert_eq!(ended.code, Some(exit_code(vector)), "{}: {}", vector.name, ended.stderr);
        if vector.expect == "success" {
            assert!(output.unwrap() == vectors::plaintext(vector.released_len), "{}", vector.name);
        } else {
            assert!(output.is_err(), "{}: an output", vector.name);
        }
    });
}

fn exit_code(vector: &Vector) -> i32 {
    match vector.expect.as_str() {
        "success" => 0,
        // Who has read so little cannot know whether it is ours.
        "truncated-header" if vector.envelope.len() < 8 => 2,
        // A whole envelope that is given for a part of one.
        "malformed-header" if vector.header.is_some() => 2,
        "payload-prefix" if vector.name != "payload_of_another_header" => 2,
        "not-twinlock"
        | "segment-length"
        | "unknown-field"
        | "unsupported-suite"
        | "unsupported-version" => 2,
        "no-keyslot" => 4,
        _ => 3,
    }
}

fn small_envelope() -> (Dir, Vec<u8>) {
    let dir = Dir::with_keys();
    let envelope = dir.run_with(["encrypt", "-"], b"attack at dawn").ok().stdout;
    assert_eq!(envelope.len(), HEADER + 74 + 14 + 32);
    (dir, envelope)
}

/// Decrypts `bytes` from a file, which must fail with a word and no output.
fn refuse(dir: &Dir, what: &str, bytes: &[u8]) -> Ended {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("{}.twl", COUNT.fetch_add(1, Ordering::Relaxed));
    dir.write(&name, bytes);
    let ended = dir.run(["decrypt", &name]);
    assert_ne!(ended.code, Some(0), "{what}");
    assert!(ended.stdout.is_empty(), "{what}");
    assert!(ended.stderr.contains(&name), "{what}: {}", ended.stderr);
    assert!(!dir.path(name.trim_end_matches(".twl")).exists(), "{what}: an output");
    fs::remove_file(dir.path(&name)).unwrap();
    ended
}

fn in_parallel(count: usize, test: impl Fn(usize) + Sync) {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for worker in 0..workers {
            let test = &test;
            scope.spawn(move || (worker..count).step_by(workers).for_each(test));
        }
    });
}
