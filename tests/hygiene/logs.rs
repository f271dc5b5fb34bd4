//! What is said at full verbosity, in success and failure.

use std::fmt::Write as _;

use super::child::secrets_of;
use super::{Secret, found};
use crate::cli::tokens::Rig;
use crate::support::cli::Ended;
use crate::support::kms_proxy::Fault;
use crate::support::softhsm::{PIN, write_private};

#[test]
fn no_secret_is_said_at_full_verbosity() {
    let mut rig = Rig::new();
    rig.dir.set("TWINLOCK_LOG", "trace");
    rig.dir.set("LOG_SIGNABLE_BODY", "true"); // makes the SDK print shares, if it may speak
    rig.dir.set("LOG_SENSITIVE_BODIES", "true");
    rig.dir.write("a", "secret");
    let mut said = Said::default();
    said.hear(rig.dir.run(["encrypt", "a", "--context", "object=a"]).ok());
    let secrets = rig.secrets();
    for args in [
        &["decrypt", "a.twl", "-o", "b", "--any-context"][..],
        &["verify", "a.twl", "--any-context", "--json"],
        &["inspect", "a.twl"],
        &["prove", "a.twl"],
        &["prove", "a.twl", "--json"],
        &["keys", "check"],
        &["keys", "check", "--json"],
        &["keys", "list"],
        &["doctor"],
        &["config", "show", "--origin"],
        &["rewrap", "a.twl", "--any-context", "--dry-run"],
    ] {
        said.hear(rig.dir.run(args.iter().chain(&["-vv"]).copied()).ok());
    }
    // A rewrap has both old and new shares in its hands.
    let second = rig.uri("second");
    rig.dir.run(["keys", "create", &second]).ok();
    said.hear(rig.dir.run(["rewrap", "a.twl", "--any-context", "--to-customer", &second]).ok());
    said.hear(rig.dir.run(["decrypt", "a.twl", "-o", "c", "--any-context"]).with(4));
    let new_secrets = rig.secrets_with(&second);
    fail(&rig, &mut said);

    let all: Vec<Secret> = secrets.into_iter().chain(new_secrets).flat_map(spellings).collect();
    assert!(said.0.len() > 10_000, "it was at full verbosity: {}", said.0);
    assert_eq!(found(said.0.as_bytes(), &all), [""; 0]);
    assert!(!said.0.contains(PIN));
}

/// The same verbs when a holder refuses, garbles, hangs up, or wants another
/// PIN.
fn fail(rig: &Rig, said: &mut Said) {
    for fault in [
        Fault::refuse("AccessDeniedException"),
        Fault::Echo,
        Fault::raw(200, "<html>"),
        Fault::raw(500, ""),
        Fault::Drop,
    ] {
        for operation in ["Encrypt", "Decrypt"] {
            rig.proxy.inject(operation, fault.clone());
        }
        for args in [
            &["encrypt", "a", "-o", "d"][..],
            &["decrypt", "a.twl", "-o", "d", "--any-context"],
            &["rewrap", "a.twl", "--any-context", "--from-key", "pkcs11:token=tests;object=kek"],
            &["keys", "check"],
        ] {
            said.hear(rig.dir.run(args.iter().copied()));
        }
    }
    write_private(&rig.hsm.folder().join("pin"), "another-pin");
    said.hear(rig.dir.run(["decrypt", "a.twl", "-o", "d", "--any-context"]));
    assert!(!said.0.contains("another-pin"));
}

#[derive(Default)]
struct Said(String);

impl Said {
    fn hear(&mut self, ended: Ended) {
        self.0 += &ended.text();
        self.0 += &ended.stderr;
    }
}

impl Rig {
    /// Of the file `a.twl`, with the keys of the profile.
    fn secrets(&self) -> Vec<Secret> {
        self.secrets_with(&self.uri("kek"))
    }

    fn secrets_with(&self, customer: &str) -> Vec<Secret> {
        let mut command = self.dir.command();
        command.env("TWINLOCK_PROVIDER", &self.provider).env("TWINLOCK_CUSTOMER", customer);
        command.env("AWS_ENDPOINT_URL_KMS", self.proxy.url());
        secrets_of(&self.dir.work(), command)
    }
}

/// As bytes, in hexadecimal, in base 64, and as Rust prints a list of bytes.
fn spellings(secret: Secret) -> Vec<Secret> {
    let start = &secret.bytes[..15]; // whole groups of base 64
    let list = start.iter().fold(String::new(), |mut list, byte| {
        write!(list, "{byte}, ").unwrap();
        list
    });
    let texts = [hex::encode(start), hex::encode_upper(start), base64(start), list];
    let named = |text: &str| Secret { name: secret.name.clone(), bytes: text.as_bytes().to_vec() };
    let mut spellings: Vec<Secret> = texts.iter().map(|text| named(text)).collect();
    spellings.push(secret);
    spellings
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[(bits >> shift & 63) as usize]))
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

#[test]
fn every_spelling_of_a_planted_secret_is_found() {
    let secret = || Secret { name: "share".to_owned(), bytes: (100..132).collect() };
    let spellings = spellings(secret());
    for said in [
        format!("{:?}", secret().bytes),
        hex::encode(secret().bytes),
        "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM=".to_owned(),
    ] {
        assert_eq!(found(said.as_bytes(), &spellings), ["share"], "{said}");
    }
}
