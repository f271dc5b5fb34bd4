//! Headers that are files of their own.

use std::fs;

use crate::support::cli::{Dir, Ended};

const SECRET: &str = "attack at dawn";

/// `a.twl`, a payload, and its header `a.h`.
fn rig() -> Dir {
    let dir = Dir::with_keys();
    dir.write("a", SECRET);
    dir.run(["-q", "encrypt", "a", "--detach", "--header", "a.h", "--context", "object=a"]).ok();
    dir
}

fn open(dir: &Dir, args: &[&str]) -> Ended {
    let fixed = ["decrypt", "a.twl", "-o", "-", "--any-context"];
    dir.run(fixed.iter().chain(args).copied())
}

#[test]
fn a_payload_opens_with_its_header_and_not_without() {
    let dir = rig();
    assert!(dir.read("a.twl").starts_with(b"TWINPAYL") && dir.read("a.h").starts_with(b"TWINLOCK"));
    assert_eq!(open(&dir, &["--header", "a.h"]).ok().stdout, SECRET.as_bytes());
    assert_eq!(open(&dir, &["--header", "a.h", "--range", "7..9"]).ok().stdout, b"at");
    let verify = ["--json", "verify", "a.twl", "--header", "a.h", "--context", "object=a"];
    assert_eq!(dir.run(verify).ok().json()["plaintext_len"], 14);
    let with_header = ["decrypt", "-", "--header", "a.h", "--context", "object=a"];
    assert_eq!(dir.run_with(with_header, &dir.read("a.twl")).ok().stdout, SECRET.as_bytes());
    assert_eq!(
        dir.run_with(
            ["decrypt", "a.twl", "-o", "-", "--any-context", "--header", "-"],
            &dir.read("a.h")
        )
        .ok()
        .stdout,
        SECRET.as_bytes()
    );
    dir.run(["decrypt", "a.twl", "-o", "-", "--header", "a.h"]).with(3);

    for verb in ["inspect", "verify", "prove", "rewrap"] {
        let ended = dir.run([verb, "a.twl"]).with(2);
        assert!(
            ended.stderr.contains("a.twl") && ended.stderr.contains("--header"),
            "{}",
            ended.stderr
        );
    }
    let ended = open(&dir, &[]).with(2);
    assert!(ended.stderr.contains("--header"), "{}", ended.stderr);
}

#[test]
fn what_belongs_to_another_file_is_refused() {
    let dir = rig();
    dir.write("b", "something else");
    dir.run(["-q", "encrypt", "b", "--detach", "--header", "b.h"]).ok();
    dir.run(["-q", "encrypt", "b", "-o", "whole.twl"]).ok();

    let ended = open(&dir, &["--header", "b.h"]).with(3);
    assert!(ended.stderr.contains("another header"), "{}", ended.stderr);
    for (header, payload) in [("whole.twl", "a.twl"), ("a.h", "whole.twl"), ("a.twl", "a.h")] {
        let args = ["decrypt", payload, "-o", "-", "--any-context", "--header", header];
        let ended = dir.run(args).with(2);
        assert!(ended.stdout.is_empty() && ended.stderr.contains("--header"), "{}", ended.stderr);
    }
    for verb in ["inspect", "prove", "rewrap"] {
        dir.run([verb, "a.twl", "--header", "b.h"]).with(3);
    }
    dir.run_with(["decrypt", "-", "--header", "-"], b"").with(2);
    dir.run(["decrypt", "a.twl", "--header", "missing"]).with(1);
    dir.run(["inspect"]).with(2);
}

#[test]
fn damage_to_either_is_refused() {
    let dir = rig();
    let (header, payload) = (dir.read("a.h"), dir.read("a.twl"));
    let broken: [(&str, Vec<u8>, i32); 5] = [
        ("a.h", [header.as_slice(), b"x"].concat(), 2),
        ("a.h", header[..header.len() - 1].to_vec(), 3),
        ("a.h", vec![], 2),
        ("a.twl", payload[..40].to_vec(), 3),
        ("a.twl", [payload.as_slice(), b"x"].concat(), 3),
    ];
    for (name, bytes, code) in broken {
        dir.write("a.h", &header);
        dir.write("a.twl", &payload);
        dir.write(name, bytes);
        let ended = dir.run(["decrypt", "a.twl", "-o", "out", "--any-context", "--header", "a.h"]);
        assert_eq!(ended.code, Some(code), "{name}: {}", ended.stderr);
        assert!(!dir.path("out").exists());
    }
}

#[test]
fn a_header_is_never_replaced_by_encrypting() {
    let dir = rig();
    let before = (dir.read("a.h"), dir.read("a.twl"));
    let again = ["encrypt", "a", "--force", "--detach", "--header"];
    let ended = dir.run(again.into_iter().chain(["a.h"])).with(1);
    assert!(ended.stderr.contains("another payload"), "{}", ended.stderr);
    // The header and the payload need two names.
    dir.run(["encrypt", "a", "--force", "--detach", "--header", "new", "-o", "new"]).with(1);
    assert_eq!((dir.read("a.h"), dir.read("a.twl")), before);
    assert_eq!(dir.names(), ["a", "a.h", "a.twl"]);

    let report = dir.run(["--json", "encrypt", "a", "--force", "--detach"]).ok().json();
    assert_eq!(report["header"], "a.twl.header");
    assert_eq!(open(&dir, &["--header", "a.twl.header"]).ok().stdout, SECRET.as_bytes());
    dir.run(["encrypt", "a", "--header", "h"]).with(2);
    dir.run_with(["encrypt", "-", "--detach"], b"x").with(2);
    dir.run_with(["encrypt", "-", "--detach", "--header", "-"], b"x").with(2);
    let piped = dir.run_with(["encrypt", "-", "--detach", "--header", "p.h"], b"x").ok().stdout;
    let ended = dir.run_with(["decrypt", "-", "--header", "p.h"], &piped).ok();
    assert_eq!(ended.stdout, b"x");
}

#[test]
fn an_input_that_cannot_be_read_leaves_no_header() {
    let dir = Dir::with_keys();
    dir.write("a", "x");
    dir.write("exists.twl", "y");
    dir.run(["encrypt", "a", "-o", "exists.twl", "--detach"]).with(1);
    dir.run(["encrypt", "a", "--detach", "--customer", "file:///nowhere/kek"]).with(4);
    assert_eq!(dir.names(), ["a", "exists.twl"]);
}

#[test]
fn a_rewrap_replaces_the_header_alone() {
    let dir = rig();
    let new = dir.new_key("new");
    let payload = dir.read("a.twl");
    let old = dir.read("a.h");
    fs::rename(dir.path("a.twl"), dir.path("elsewhere")).unwrap();
    let rewrap = ["rewrap", "--header", "a.h", "--context", "object=a", "--to-customer", &new];
    let planned = dir.run(rewrap.into_iter().chain(["--dry-run", "--json"])).ok().json();
    assert_eq!((&planned["input"], &planned["changed"]), (&"a.h".into(), &false.into()));
    assert_eq!(dir.read("a.h"), old);
    let done = dir.run(rewrap.into_iter().chain(["--json"])).ok().json();
    assert_eq!((&done["changed"], &done["generation"]), (&true.into(), &1.into()));
    assert_eq!(dir.names(), ["a", "a.h", "elsewhere"]);
    assert_eq!(dir.read("elsewhere"), payload);

    let decrypt = ["decrypt", "elsewhere", "-o", "-", "--any-context", "--header", "a.h"];
    dir.run(decrypt).with(4);
    let opened = dir.run(decrypt.into_iter().chain(["--customer", &new])).ok();
    assert_eq!(opened.stdout, SECRET.as_bytes());

    // More than there is room for, and with the payload beside it.
    let keyslot = format!("file://{}/provider.kek,{new}", dir.home().display());
    let mut grow =
        vec!["rewrap", "elsewhere", "--header", "a.h", "--any-context", "--customer", &new];
    (0..6).for_each(|_| grow.extend(["--add-keyslot", &keyslot]));
    dir.run(grow).ok();
    fs::hard_link(dir.path("a.h"), dir.path("other-name")).unwrap();
    let ended = dir.run([
        "rewrap",
        "--header",
        "a.h",
        "--any-context",
        "--customer",
        &new,
        "--from-key",
        &new,
    ]);
    assert!(ended.with(1).stderr.contains("hard links"));
}

#[test]
fn a_header_alone_can_be_inspected_and_tried() {
    let dir = rig();
    let report = dir.run(["--json", "inspect", "--header", "a.h"]).ok().json();
    assert_eq!((&report["header_from"], &report["input"]), (&"detached".into(), &"a.h".into()));
    assert!(report["sizes"]["file"].is_null());
    let report = dir.run(["--json", "inspect", "a.twl", "--header", "a.h"]).ok().json();
    let sizes = &report["sizes"];
    let parts = ["payload_prefix", "payload_header", "segment_overhead", "plaintext"];
    let sum: u64 = parts.iter().map(|part| sizes[part].as_u64().unwrap()).sum();
    assert_eq!((sizes["file"].as_u64(), sum), (Some(sum), dir.read("a.twl").len() as u64));
    assert!(dir.run(["inspect", "a.twl", "--header", "a.h"]).ok().text().contains("kept apart"));
    for args in [&["--header", "a.h"][..], &["a.twl", "--header", "a.h"]] {
        let proof =
            dir.run(["--json", "prove"].into_iter().chain(args.iter().copied())).ok().json();
        assert_eq!(proof["keyslots"][0]["attempts"][2]["opened"], true, "{proof}");
    }
}
