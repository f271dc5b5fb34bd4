//! From file to file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use crate::support::cli::Dir;

/// The plaintext of a full segment of the default length.
const FULL: usize = (256 << 10) - 32;

#[test]
fn every_length_comes_back_with_mode_and_time() {
    let dir = Dir::with_keys();
    for len in [0, 1, FULL, FULL + 1, 3 * FULL + 5] {
        let plaintext = plaintext(len);
        dir.write("a", &plaintext);
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::set_permissions(dir.path("a"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::File::options()
            .write(true)
            .open(dir.path("a"))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();

        assert_eq!(dir.run(["-q", "encrypt", "a"]).ok().text(), "");
        assert_eq!(dir.names(), ["a", "a.twl"], "the input is kept, and nothing else is left");
        fs::remove_file(dir.path("a")).unwrap();
        dir.run(["-q", "verify", "a.twl"]).ok();
        assert_eq!(dir.names(), ["a.twl"], "verify writes nothing");
        dir.run(["decrypt", "a.twl"]).ok();
        assert!(dir.read("a") == plaintext, "{len} bytes");
        for name in ["a", "a.twl"] {
            let metadata = fs::metadata(dir.path(name)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, 0o640, "{name}");
            assert_eq!(metadata.modified().unwrap(), long_ago, "{name}");
        }
        fs::remove_file(dir.path("a.twl")).unwrap();
    }
}

#[test]
fn an_existing_file_is_replaced_only_by_force() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    dir.write("b", "other");
    dir.run(["encrypt", "a"]).ok();
    let envelope = dir.read("a.twl");
    assert!(dir.run(["encrypt", "a"]).with(1).stderr.contains("--force"));
    assert_eq!(dir.read("a.twl"), envelope);
    dir.run(["decrypt", "a.twl", "-o", "b"]).with(1);
    assert_eq!(dir.read("b"), b"other");
    dir.run(["decrypt", "a.twl", "-o", "b", "--force"]).ok();
    assert_eq!(dir.read("b"), b"secret");
    assert_eq!(dir.names(), ["a", "a.twl", "b"]);
}

#[test]
fn the_input_is_never_replaced() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    fs::hard_link(dir.path("a"), dir.path("the-same")).unwrap();
    for output in ["a", "./a", "the-same"] {
        let ended = dir.run(["encrypt", "a", "-o", output, "--force"]);
        assert!(matches!(ended.code, Some(1 | 2)), "{output}: {}", ended.stderr);
    }
    assert_eq!(dir.read("a"), b"secret");
}

#[test]
fn a_failure_leaves_no_output() {
    let dir = Dir::with_keys();
    dir.write("a", plaintext(2 * FULL + 5));
    dir.run(["encrypt", "a"]).ok();
    let mut envelope = dir.read("a.twl");
    fs::remove_file(dir.path("a")).unwrap();
    dir.write("cut.twl", &envelope[..envelope.len() - 1]);
    *envelope.last_mut().unwrap() ^= 1;
    dir.write("a.twl", &envelope);
    dir.write("kept", "as it was");
    for args in [
        &["decrypt", "a.twl"][..],
        &["decrypt", "cut.twl"],
        &["verify", "a.twl"],
        &["decrypt", "cut.twl", "-o", "kept", "--force"],
        &["decrypt", "a.twl", "--context", "object=a"],
    ] {
        dir.run(args.iter().copied()).with(3);
    }
    assert_eq!(dir.names(), ["a.twl", "cut.twl", "kept"]);
    assert_eq!(dir.read("kept"), b"as it was");
}

#[test]
fn a_context_is_expected_not_shown() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    dir.run(["encrypt", "a", "--context", "object=a", "--context", "env=x=y"]).ok();
    let decrypt =
        |more: &[&'static str]| dir.run([&["decrypt", "a.twl", "-o", "-"], more].concat());
    assert_eq!(decrypt(&["--context", "object=a"]).ok().stdout, b"secret");
    assert_eq!(decrypt(&["--context", "object=a", "--context", "env=x=y"]).ok().stdout, b"secret");
    assert_eq!(decrypt(&["--any-context"]).ok().stdout, b"secret");
    let unexpected = decrypt(&[]).with(3);
    assert!(unexpected.stdout.is_empty());
    assert!(unexpected.stderr.contains("--context object=a"), "{}", unexpected.stderr);
    assert!(unexpected.stderr.contains("--any-context"), "{}", unexpected.stderr);
    for wrong in ["object=b", "Object=a", "more=1"] {
        let ended = decrypt(&["--context", wrong]).with(3);
        assert!(ended.stdout.is_empty());
    }
    decrypt(&["--context", "object=a", "--min-generation", "1"]).with(3);
    dir.run(["encrypt", "a", "--force", "--context", "twinlock:x=1"]).with(2);
    dir.run(["encrypt", "a", "--force", "--context", "novalue"]).with(2);
}

#[test]
fn a_range_is_that_part_of_the_plaintext() {
    let dir = Dir::with_keys();
    let plaintext = plaintext(2 * FULL + 5);
    dir.write("a", &plaintext);
    dir.run(["encrypt", "a"]).ok();
    let len = plaintext.len();
    for (range, expected) in [
        ("0..0", &plaintext[..0]),
        ("0..10", &plaintext[..10]),
        ("..10", &plaintext[..10]),
        ("262100..262200", &plaintext[262_100..262_200]),
        ("524000..", &plaintext[524_000..]),
        ("..", &plaintext[..]),
        ("524000..999999999", &plaintext[524_000..]),
    ] {
        let ended = dir.run(["decrypt", "a.twl", "--range", range]).ok();
        assert!(ended.stdout == expected, "{range}");
    }
    let beyond = format!("{}..", len + 1);
    for wrong in ["9..3", "x", "1-2", &*beyond] {
        let ended = dir.run(["decrypt", "a.twl", "--range", wrong]).with(2);
        assert!(ended.stdout.is_empty(), "{wrong}");
    }
    // A range shows only what was verified, and asks for no more.
    let mut envelope = dir.read("a.twl");
    let in_the_second = envelope.len() - 200_000;
    envelope[in_the_second] ^= 1;
    dir.write("a.twl", &envelope);
    assert!(dir.run(["decrypt", "a.twl", "--range", "..10"]).ok().stdout == plaintext[..10]);
    assert_eq!(dir.run(["decrypt", "a.twl", "--range", "262112..262113"]).with(3).stdout, b"");
}

#[test]
fn what_is_no_file_is_refused() {
    let dir = Dir::with_keys();
    fs::create_dir(dir.path("folder")).unwrap();
    for verb in ["encrypt", "decrypt", "verify", "inspect"] {
        for input in ["folder", "/dev/zero", "missing"] {
            let ended = dir.run([verb, input]);
            assert!(matches!(ended.code, Some(1 | 2)), "{verb} {input}: {}", ended.stderr);
            assert!(ended.stderr.contains(input), "{}", ended.stderr);
        }
    }
    assert_eq!(dir.names(), ["folder"]);
}

#[test]
fn where_nothing_can_be_written_nothing_is() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    for output in ["no/such/folder/a.twl", "/proc/a.twl"] {
        let ended = dir.run(["encrypt", "a", "-o", output]).with(1);
        assert!(ended.stderr.contains(output.rsplit_once('/').unwrap().0), "{}", ended.stderr);
    }
    assert_eq!(dir.names(), ["a"]);
}

#[test]
fn any_of_several_keyslots_opens() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    let (provider, customer) = (dir.new_key("p2"), dir.new_key("c2"));
    dir.run(["encrypt", "a", "--keyslot", &format!("{provider},{customer}")]).ok();
    let with = |provider: &str, customer: &str| {
        let keys = ["--provider", provider, "--customer", customer];
        dir.run([&["decrypt", "a.twl", "-o", "-"], &keys[..]].concat())
    };
    assert_eq!(dir.run(["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");
    assert_eq!(with(&provider, &customer).ok().stdout, b"secret");
    let first = format!("file://{}/customer.kek", dir.home().display());
    with(&provider, &first).with(4); // the halves of two keyslots are none
}

fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251).to_le_bytes()[0]).collect()
}
