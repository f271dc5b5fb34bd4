//! What is said: the documents of `--json` and the words for people.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::Value;

use crate::support::cli::{Dir, Ended, run};

/// The fields of each document, as `docs/cli.md` promises them. Fields may be
/// added; one that goes away or changes its type fails here.
const PROMISED: &[(&str, &[&str])] = &[
    (
        "encrypt",
        &[
            "input:s",
            "output:s",
            "plaintext_len:n",
            "envelope_len:n",
            "envelope_id:s",
            "context:o",
            "keyslots:a",
            "keyslots.0.provider:s",
            "keyslots.0.customer:s",
            "needed_keys:a",
        ],
    ),
    (
        "decrypt",
        &[
            "input:s",
            "output:s",
            "plaintext_len:n",
            "range:z",
            "envelope_id:s",
            "generation:n",
            "context:o",
        ],
    ),
    ("verify", &["input:s", "plaintext_len:n", "envelope_id:s", "generation:n", "context:o"]),
    (
        "inspect",
        &[
            "input:s",
            "verified:b",
            "version:n",
            "generation:n",
            "envelope_id:s",
            "context:o",
            "keyslots:a",
            "keyslots.0.kind:n",
            "keyslots.0.supported:b",
            "keyslots.0.pair_id:s",
            "keyslots.0.provider.uri:s",
            "keyslots.0.provider.key_version:z",
            "keyslots.0.provider.algorithm:*",
            "keyslots.0.provider.wrapped_len:n",
            "keyslots.0.customer.uri:s",
            "sizes.file:n",
            "sizes.header:n",
            "sizes.header_padding:n",
            "sizes.payload_header:n",
            "sizes.segment_overhead:n",
            "sizes.plaintext:n",
            "sizes.segment:n",
            "sizes.segments:n",
        ],
    ),
    (
        "prove",
        &[
            "proves:b",
            "verdict:s",
            "time:s",
            "version:s",
            "input:s",
            "header_len:n",
            "header_sha384:s",
            "envelope_id:s",
            "generation:n",
            "context:o",
            "keyslots_not_tried:n",
            "keyslots.0.index:n",
            "keyslots.0.pair_id:s",
            "keyslots.0.provider.uri:s",
            "keyslots.0.provider.wrapped_len:n",
            "keyslots.0.provider.wrapped_sha384:s",
            "keyslots.0.customer.uri:s",
            "keyslots.0.attempts.0.holders:s",
            "keyslots.0.attempts.0.keks_tried:n",
            "keyslots.0.attempts.0.opened:b",
            "keyslots.0.attempts.0.as_expected:b",
            "keyslots.0.attempts.0.calls.0.holder:s",
            "keyslots.0.attempts.0.calls.0.share:s",
            "keyslots.0.attempts.0.calls.0.uri:s",
            "keyslots.0.attempts.0.calls.0.outcome:s",
        ],
    ),
    (
        "keys check",
        &[
            "keys.0.uri:s",
            "keys.0.development:b",
            "keys.0.open_ms:n",
            "keys.0.find_ms:z",
            "keys.0.wrap_ms:n",
            "keys.0.unwrap_ms:n",
            "keys.0.spki_sha256:z",
            "keys.0.token:z",
            "keys.0.key:z",
            "keys.0.aws_kms:z",
        ],
    ),
    ("keys create", &["uri:s", "profile_uri:s"]),
    (
        "doctor",
        &[
            "checks.0.name:s",
            "checks.0.key:z",
            "checks.0.state:s",
            "checks.0.seen:s",
            "checks.0.advice:*",
            "checks.0.kind:z",
        ],
    ),
    (
        "config show",
        &[
            "config.path:s",
            "config.exists:b",
            "config.origin.kind:s",
            "profile.name:s",
            "profile.chosen_by:s",
            "settings.0.name:s",
            "settings.0.value:s",
            "settings.0.origin.kind:s",
            "settings.0.origin.name:z",
            "settings.0.origin.line:n",
        ],
    ),
    ("completions", &["text:s", "files:a"]),
];

#[test]
fn every_document_has_the_fields_that_are_promised() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    let new_key = format!("file://{}/new.kek", dir.home().display());
    for (verb, fields) in PROMISED {
        let rest: &[&str] = match *verb {
            "encrypt" => &["a", "--context", "object=a"],
            "decrypt" => &["a.twl", "-o", "b", "--any-context"],
            "verify" => &["a.twl", "--any-context"],
            "keys check" | "config show" | "doctor" => &[],
            "keys create" => &[&new_key],
            "completions" => &["bash"],
            _ => &["a.twl"],
        };
        let args = ["--json"].into_iter().chain(verb.split(' ')).chain(rest.iter().copied());
        let ended = dir.run(args).ok();
        let document = ended.json();
        assert_eq!(ended.text().lines().count(), 1, "one document on one line");
        assert_eq!((&document["twinlock"], &document["verb"]), (&1.into(), &(*verb).into()));
        assert_eq!(document["ok"], true);
        fields.iter().for_each(|field| assert_has(&document, field));
    }
}

#[track_caller]
fn assert_has(document: &Value, field: &str) {
    let (path, kind) = field.split_once(':').unwrap();
    let pointer = format!("/{}", path.replace('.', "/"));
    let value = document.pointer(&pointer).unwrap_or_else(|| panic!("no {path} in {document}"));
    let fits = match kind {
        "a" => value.is_array(),
        "b" => value.is_boolean(),
        "n" => value.is_u64() || value.is_f64(),
        "o" => value.is_object(),
        "s" => value.is_string(),
        "z" => value.is_null(),
        _ => true,
    };
    assert!(fits, "{path} is {value}");
}

#[test]
fn a_failure_is_one_document_too() {
    let dir = Dir::with_keys();
    dir.write("not.twl", "not one of ours");
    dir.write("a", "secret");
    for (args, code, kind) in [
        (&["decrypt", "not.twl"][..], 2, "not-an-envelope"),
        (&["decrypt", "missing.twl"], 1, "io"),
        (&["encrypt", "a", "--provider", "ftp://x"], 2, "usage"),
        (&["encrypt", "a", "--no-such-flag"], 2, "usage"),
    ] {
        let ended = dir.run(["--json"].into_iter().chain(args.iter().copied())).with(code);
        let document = ended.json();
        assert_eq!(document["ok"], false);
        assert_eq!(document["error"]["code"], code);
        assert_eq!(document["error"]["kind"], kind, "{document}");
        assert!(document["error"]["message"].is_string());
        assert!(!ended.stderr.contains("error:"), "said once: {}", ended.stderr);
    }
}

#[test]
fn with_data_on_stdout_the_document_is_the_last_line_of_stderr() {
    let dir = Dir::with_keys();
    let envelope = dir.run_with(["encrypt", "-"], b"secret").ok().stdout;
    let ended = dir.run_with(["--json", "decrypt", "-"], &envelope).ok();
    assert_eq!(ended.stdout, b"secret");
    assert!(ended.stderr.trim_end().lines().last().unwrap().starts_with("{\"twinlock\":1"));
}

#[test]
fn sizes_that_inspect_shows_add_up() {
    let dir = Dir::with_keys();
    for len in [0, 1, 262_112, 262_113, 1_000_000] {
        dir.write("a", vec![7; len]);
        dir.run(["encrypt", "a", "--force"]).ok();
        let sizes = dir.run(["--json", "inspect", "a.twl"]).ok().json()["sizes"].clone();
        let part = |name: &str| sizes[name].as_u64().unwrap();
        let parts = ["header", "payload_header", "segment_overhead", "plaintext"].map(part);
        assert_eq!(parts.iter().sum::<u64>(), part("file"));
        assert_eq!(part("file"), dir.path("a.twl").metadata().unwrap().len());
        assert_eq!(part("plaintext"), len as u64);
    }
}

#[test]
fn text_from_a_header_cannot_command_a_terminal() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    dir.run(["encrypt", "a", "--context", "note=x\u{202e}y\u{200b}z"]).ok();
    let says_it = |ended: Ended| {
        let said = ended.text() + &ended.stderr;
        assert!(said.contains(r"\u{202e}"), "{said}");
        assert!(!said.contains('\u{202e}') && !said.contains('\u{200b}'), "{said}");
    };
    says_it(dir.run(["inspect", "a.twl"]).ok());
    says_it(dir.run(["decrypt", "a.twl", "-o", "b"]).with(3));
}

#[test]
fn a_key_in_a_file_is_warned_about_unless_quiet() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    assert!(dir.run(["encrypt", "a"]).ok().stderr.contains("for development"));
    let quiet = dir.run(["-q", "encrypt", "a", "--force"]).ok();
    assert_eq!((quiet.text().as_str(), quiet.stderr.as_str()), ("", ""));
    let failed = dir.run(["-q", "encrypt", "a"]).with(1);
    assert!(failed.stderr.contains("exists already"), "{}", failed.stderr);
}

#[test]
fn nothing_is_coloured_for_who_does_not_want_it() {
    let mut dir = Dir::with_keys();
    dir.write("a", "secret");
    dir.set("NO_COLOR", "1");
    for args in
        [&["--help"][..], &["encrypt", "a", "-vv"], &["encrypt", "a"], &["inspect", "a.twl"]]
    {
        let ended = dir.run(args.iter().copied());
        assert!(!(ended.text() + &ended.stderr).contains('\u{1b}'), "{args:?}");
    }
}

#[test]
fn help_version_completions_and_manual_come_out() {
    let dir = Dir::new();
    assert!(dir.run(["--help"]).ok().text().contains("Exit codes"));
    assert!(dir.run(["--version"]).ok().text().starts_with("twinlock "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(dir.run(["completions", shell]).ok().text().contains("twinlock"));
    }
    assert!(dir.run(["man"]).ok().text().contains(".TH"));
    dir.run(["man", "--dir", "."]).ok();
    assert!(dir.names().contains(&"twinlock.1".to_owned()), "{:?}", dir.names());
    dir.run([]).with(2);
    dir.run(["frobnicate"]).with(2);
}

#[test]
fn a_pin_among_words_that_make_no_sense_is_not_repeated() {
    let dir = Dir::new();
    let uri = "pkcs11:token=t;object=o?pin-value=81'35&module-path=/m";
    let keyslot = format!("file:///p;{uri}");
    for args in [
        &["encrypt", "a", "--keyslot", &keyslot][..],
        &["rewrap", "a", "--add-keyslot", &keyslot],
        &["rewrap", "a", "--remove-keyslot", &keyslot],
        &["encrypt", "a", "b", uri],
        &["encrypt", "a", "--keyslott", uri],
        &["keys", "check", "a", uri],
        &["--profile", uri],
        &[uri],
    ] {
        for more in [&[][..], &["--json"]] {
            let ended = dir.run([args, more].concat()).with(2);
            let said = ended.text() + &ended.stderr;
            assert!(!said.contains("81") && !said.contains("35"), "{args:?}: {said}");
            assert!(!said.is_empty());
        }
    }
}

#[test]
fn a_word_that_is_not_utf_8_is_a_usage_error_in_the_report() {
    let dir = Dir::new();
    let mut command = dir.command();
    command.arg(OsStr::from_bytes(b"\xff")).arg("--json");
    let report = run(command, b"").with(2).json();
    assert_eq!(report["error"]["kind"], "usage", "{report}");
    let report = dir.run(["--json", "encrypt"]).with(2).json();
    assert_eq!(report["verb"], "encrypt", "{report}");
}
