//! Five gibibytes, and the memory that they take.

use std::fs;
use std::io::{self, Read};
use std::process::Stdio;
use std::thread;

use crate::support::cli::{Dir, wait};
use crate::support::memory::peak_memory;
use crate::support::pages::Pages;

const MEMORY: u64 = 64 << 20;

#[test]
fn five_gibibytes_go_through_pipes_in_64_mebibytes() {
    const LEN: u64 = 5 << 30;
    let dir = Dir::with_keys();
    let mut encrypt = dir.command();
    encrypt.args(["-q", "encrypt", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut encrypt = encrypt.spawn().unwrap();
    let mut decrypt = dir.command();
    decrypt
        .args(["-q", "decrypt", "-"])
        .stdin(encrypt.stdout.take().unwrap())
        .stdout(Stdio::piped());
    let mut decrypt = decrypt.spawn().unwrap();

    let (mut input, mut output) = (encrypt.stdin.take().unwrap(), decrypt.stdout.take().unwrap());
    let peaks = thread::scope(|scope| {
        scope.spawn(move || io::copy(&mut Pages::up_to(LEN), &mut input).unwrap());
        scope.spawn(move || assert_same(&mut output, &mut Pages::up_to(LEN)));
        let peaks = [&encrypt, &decrypt].map(|child| scope.spawn(|| peak_memory(child)));
        peaks.map(|peak| peak.join().unwrap())
    });
    wait(encrypt).ok();
    wait(decrypt).ok();
    assert!(peaks.iter().all(|peak| *peak < MEMORY), "{peaks:?} bytes");
}

/// With `TWINLOCK_LARGE_TESTS` (`scripts/test --large`) five gibibytes, which
/// take ten of the disk; else a little of that.
#[test]
fn a_large_file_comes_back_in_64_mebibytes() {
    let len = if std::env::var_os("TWINLOCK_LARGE_TESTS").is_some() { 5 << 30 } else { 200 << 20 };
    let dir = Dir::with_keys();
    let mut file = fs::File::create(dir.path("a")).unwrap();
    io::copy(&mut Pages::up_to(len), &mut file).unwrap();
    let peak_of = |args: &[&str]| {
        let child = dir.command().args(args).spawn().unwrap();
        let peak = peak_memory(&child);
        wait(child).ok();
        peak
    };
    let encrypting = peak_of(&["-q", "encrypt", "a"]);
    fs::remove_file(dir.path("a")).unwrap();
    let decrypting = peak_of(&["-q", "decrypt", "a.twl"]);
    assert_same(&mut fs::File::open(dir.path("a")).unwrap(), &mut Pages::up_to(len));
    assert!(encrypting < MEMORY && decrypting < MEMORY, "{encrypting}, {decrypting} bytes");
}

fn assert_same(one: &mut impl Read, other: &mut Pages) {
    let (mut block, mut expected) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let len = one.read(&mut block).unwrap();
        if len == 0 {
            break;
        }
        other.read_exact(&mut expected[..len]).unwrap();
        assert!(block[..len] == expected[..len], "{} bytes before the end", other.left);
    }
    assert_eq!(other.left, 0);
}
