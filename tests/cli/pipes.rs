//! From pipe to pipe, and terminals.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::support::cli::{Dir, program, run, wait};

/// The plaintext of a full segment of the default length.
const FULL: usize = (256 << 10) - 32;

#[test]
fn every_length_goes_through_pipes() {
    let dir = Dir::with_keys();
    for len in [0, 1, FULL, FULL + 1, 3 * FULL + 5] {
        let plaintext = vec![7; len];
        let envelope = dir.run_with(["encrypt", "-"], &plaintext).ok().stdout;
        assert!(dir.run_with(["decrypt", "-"], &envelope).ok().stdout == plaintext, "{len}");
        dir.run_with(["verify", "-"], &envelope).ok();
        dir.run_with(["decrypt", "-", "-o", "out", "--force"], &envelope).ok();
        assert!(dir.read("out") == plaintext, "{len}");
    }
}

#[test]
fn a_pipe_gets_a_verified_beginning_and_the_exit_code_says_that_it_is_one() {
    let dir = Dir::with_keys();
    let plaintext: Vec<u8> = (0..3 * FULL).map(|i| (i % 251).to_le_bytes()[0]).collect();
    let envelope = dir.run_with(["encrypt", "-"], &plaintext).ok().stdout;
    let cut = &envelope[..envelope.len() - 1];
    let ended = dir.run_with(["decrypt", "-"], cut).with(3);
    assert!(ended.stderr.contains("cut short"), "{}", ended.stderr);
    assert!(plaintext.starts_with(&ended.stdout));
    assert!(ended.stdout.len() < plaintext.len());
    // To a file, there is none.
    dir.run_with(["decrypt", "-", "-o", "out"], cut).with(3);
    assert_eq!(dir.names(), [""; 0]);
}

#[test]
fn whoever_reads_no_further_has_had_enough() {
    let dir = Dir::with_keys();
    let envelope = dir.run_with(["encrypt", "-"], &vec![7; 4 << 20]).ok().stdout;
    dir.write("a.twl", &envelope);
    let mut command = dir.command();
    command.args(["decrypt", "a.twl", "-o", "-"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    assert!(!wait(child).ok().stderr.contains("error"));
}

/// Another thread may be reading: whoever feeds it may wait for the program to end.
#[test]
fn a_failure_ends_it_also_while_more_input_may_come() {
    let dir = Dir::with_keys();
    let mut bad = dir.run_with(["encrypt", "-"], &vec![7; 8 << 20]).ok().stdout;
    bad[4 << 20] ^= 1;
    let started = |verb: &str, stdout: Stdio| {
        let mut command = dir.command();
        command.args([verb, "-", "--threads", "3"]);
        command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut decrypting = started("decrypt", Stdio::null());
    let mut held = decrypting.stdin.take().unwrap();
    _ = held.write_all(&bad); // the rest may find nobody
    wait(decrypting).with(3);
    drop(held);

    let mut encrypting = started("encrypt", Stdio::piped());
    drop(encrypting.stdout.take());
    let mut held = encrypting.stdin.take().unwrap();
    _ = held.write_all(&vec![7; 4 << 20]);
    wait(encrypting);
    drop(held);
}

#[test]
fn a_terminal_gets_no_data_unless_it_is_asked_for() {
    let dir = Dir::with_keys();
    dir.write("a.twl", dir.run_with(["encrypt", "-"], b"secret").ok().stdout);
    let on_terminal = |args: &str| {
        let mut script = Command::new("script");
        let ours = dir.command();
        script.env_clear().envs(ours.get_envs().filter_map(|(k, v)| Some((k, v?))));
        script.current_dir(dir.work()).arg("-qec");
        script.arg(format!("{} {args}", program().display())).arg("/dev/null");
        run(script, b"")
    };
    for args in ["encrypt - < a.twl", "decrypt - < a.twl", "decrypt a.twl --range 0..6"] {
        let ended = on_terminal(args).with(2);
        assert!(ended.text().contains("terminal"), "{args}: {}", ended.text());
        assert!(!ended.text().contains("secret") && !ended.text().contains("TWINLOCK\u{1}"));
    }
    assert!(on_terminal("decrypt a.twl -o -").ok().text().contains("secret"));
}
