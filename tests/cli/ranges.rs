//! `decrypt --range`: what is there of a range, and what is said of the rest.

use crate::support::cli::{Dir, Ended};

/// The plaintext of a full segment, with the default length.
const FULL: usize = (256 << 10) - 32;
const SEGMENT: usize = 256 << 10;
const LEN: usize = 2 * FULL + 5;

/// With the header before the payload, and apart from it. That of a journal is
/// tested with the others of rewrap.
fn rigs() -> [(Dir, &'static [&'static str]); 2] {
    let whole = Dir::with_keys();
    whole.write("a", plaintext(LEN));
    whole.run(["-q", "encrypt", "a"]).ok();
    let apart = Dir::with_keys();
    apart.write("a", plaintext(LEN));
    apart.run(["-q", "encrypt", "a", "--detach", "--header", "a.h"]).ok();
    [(whole, &[]), (apart, &["--header", "a.h"])]
}

fn decrypt(dir: &Dir, header: &[&str], args: &[&str]) -> Ended {
    dir.run(["decrypt", "a.twl"].iter().chain(header).chain(args).copied())
}

#[test]
fn a_range_ends_where_the_plaintext_does() {
    let plaintext = plaintext(LEN);
    for (dir, header) in rigs() {
        for (start, end) in [
            (0, 1),
            (FULL - 1, FULL + 1),
            (FULL, 2 * FULL),
            (1, LEN),
            (1, LEN + 1),
            (LEN - 1, LEN),
            (LEN - 1, usize::MAX),
            (LEN, LEN),
            (LEN, usize::MAX),
            (7, 7),
        ] {
            let range = format!("{start}..{end}");
            let ended = decrypt(&dir, header, &["--range", &range]).ok();
            assert!(ended.stdout == plaintext[start..end.min(LEN)], "{header:?} {range}");
        }
        let from_the_end = format!("{LEN}..");
        assert_eq!(decrypt(&dir, header, &["--range", &from_the_end]).ok().stdout, b"");
    }
}

#[test]
fn a_range_that_begins_beyond_the_end_is_an_error() {
    for (dir, header) in rigs() {
        for end in [String::new(), format!("{}", LEN + 1), format!("{}", LEN + 9)] {
            let range = format!("{}..{end}", LEN + 1);
            let ended = decrypt(&dir, header, &["--range", &range]).with(2);
            assert_eq!(ended.stdout, b"");
            let said = format!("the range begins at byte {}, and the plaintext has {LEN}", LEN + 1);
            assert!(ended.stderr.contains(&said), "{}", ended.stderr);
        }
        decrypt(&dir, header, &["--range", "18446744073709551615.."]).with(2);
        let ended = decrypt(&dir, header, &["--range", &format!("{}..", LEN + 1), "-o", "b"]);
        ended.with(2);
        assert!(!dir.path("b").exists());
    }
}

#[test]
fn the_report_says_what_was_written() {
    for (dir, header) in rigs() {
        let range = format!("{}..{}", LEN - 7, LEN + 7);
        let args = ["--json", "--range", &*range, "-o", "b"];
        let report = decrypt(&dir, header, &args).ok().json();
        assert_eq!(report["plaintext_len"], 7);
        assert_eq!(report["range"]["start"], LEN - 7);
        assert_eq!(report["range"]["end"], LEN);
        assert_eq!(dir.read("b"), plaintext(LEN)[LEN - 7..]);
    }
}

#[test]
fn a_range_shows_nothing_of_an_altered_segment_and_needs_no_other() {
    let plaintext = plaintext(LEN);
    for (dir, header) in rigs() {
        let mut bytes = dir.read("a.twl");
        let second = bytes.len() - (SEGMENT + 37);
        bytes[second + 99] ^= 1;
        dir.write("a.twl", &bytes);
        let of = |range: &str| decrypt(&dir, header, &["--range", range]);
        assert!(of(&format!("..{FULL}")).ok().stdout == plaintext[..FULL]);
        assert!(of(&format!("{}..", 2 * FULL)).ok().stdout == plaintext[2 * FULL..]);
        // What was verified before is out by then; a file is not.
        assert!(of("9..").with(3).stdout == plaintext[9..FULL]);
        assert_eq!(of(&format!("{FULL}..{}", FULL + 1)).with(3).stdout, b"");
        decrypt(&dir, header, &["--range", "9..", "-o", "b"]).with(3);
        assert!(!dir.path("b").exists());
    }
}

#[test]
fn a_file_that_was_cut_short_has_ranges_and_no_end() {
    let plaintext = plaintext(LEN);
    for (dir, header) in rigs() {
        let bytes = dir.read("a.twl");
        // Behind the second segment, and within it.
        for cut in [37, 37 + SEGMENT / 2] {
            dir.write("a.twl", &bytes[..bytes.len() - cut]);
            let of = |range: &str| decrypt(&dir, header, &["--range", range]);
            assert!(of(&format!("3..{FULL}")).ok().stdout == plaintext[3..FULL]);
            assert!(of("3..").with(3).stdout == plaintext[3..FULL]);
            for beyond in [format!("{}..", LEN + 1), format!("{LEN}.."), "7..7".to_owned()] {
                assert_eq!(of(&beyond).with(3).stdout, b"", "{beyond}");
            }
        }
    }
}

#[test]
fn a_long_range_of_many_segments_comes_out_whole() {
    let dir = Dir::with_keys();
    let plaintext = plaintext(11 << 20);
    dir.write("a", &plaintext);
    dir.run(["-q", "encrypt", "a"]).ok();
    let ended = decrypt(&dir, &[], &["--range", "1000001..10000001"]).ok();
    assert!(ended.stdout == plaintext[1_000_001..10_000_001]);
}

/// No two segments are alike.
fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251).to_le_bytes()[0]).collect()
}
