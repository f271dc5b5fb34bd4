//! Real holders: SoftHSM and a KMS.

use std::fs;
use std::net::TcpListener;

use serde_json::json;

use crate::support::cli::{Dir, Ended};
use crate::support::kms_proxy::{Fault, KmsProxy};
use crate::support::moto::moto;
use crate::support::p11_fault::CountedModule;
use crate::support::softhsm::{self, PIN, SoftHsm, write_private};

const REGION: &str = "eu-central-1";

#[test]
fn init_makes_what_is_missing_and_a_second_one_loses_nothing() {
    let hsm = SoftHsm::new();
    let dir = Rig::bare(&hsm);
    let init = ["init", "--dev-provider", "--softhsm"];
    let first = dir.run(["--json"].into_iter().chain(init)).ok().json();
    assert!(!first["created"].as_array().unwrap().is_empty(), "{first}");
    dir.write("a", "secret");
    dir.run(["encrypt", "a"]).ok();

    let config = dir.home().join(".config/twinlock/config.toml");
    let before = fs::read(&config).unwrap();
    assert!(dir.run(init).with(1).stderr.contains("--force"));
    assert_eq!(fs::read(&config).unwrap(), before);
    // A token is never made anew over one that has keys.
    let ended = dir.run(init.into_iter().chain(["--force"])).with(1);
    assert!(ended.stderr.contains("use what there is"), "{}", ended.stderr);
    assert_eq!(dir.run(["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");
    assert_no_secret_is_readable(&dir);
}

#[test]
fn init_writes_a_second_keyslot_at_once_or_later() {
    let dir = Dir::new();
    let [provider, customer, rp, rc, third] =
        ["p", "c", "rp", "rc", "third"].map(|name| dir.new_key(name));
    let recovery = ["--recovery-provider", &rp, "--recovery-customer", &rc];
    let keys = ["init", "--provider", &provider, "--customer", &customer];
    let report = dir.run(keys.iter().copied().chain(["--json"]).chain(recovery)).ok().json();
    assert_eq!(report["recovery"]["customer"], rc, "{report}");
    assert_eq!(report["keys"].as_array().unwrap().len(), 4, "all were tried: {report}");

    let later = dir.run(["init", "--json", "--recovery-customer", &third]).ok().json();
    assert_eq!(later["recovery"]["provider"], provider, "{later}");
    dir.write("a", "secret");
    let encrypted = dir.run(["--json", "encrypt", "a"]).ok();
    assert_eq!(encrypted.json()["keyslots"].as_array().unwrap().len(), 3);
    assert!(!encrypted.stderr.contains("one keyslot only"), "{}", encrypted.stderr);
    // Each of them opens the file alone.
    for pair in [[&provider, &customer], [&rp, &rc], [&provider, &third]] {
        let keys = ["--provider", pair[0], "--customer", pair[1]];
        dir.run(["verify", "a.twl"].into_iter().chain(keys)).ok();
    }
    let same = ["init", "--recovery-customer", &provider];
    assert!(dir.run(same).with(2).stderr.contains("the same key"));
}

/// `script` gives it a terminal and types what stands on stdin.
#[test]
fn init_offers_a_second_keyslot_where_somebody_can_answer() {
    let dir = Dir::new();
    let [provider, customer, recovery] = ["p", "c", "rc"].map(|name| dir.new_key(name));
    let mut command = std::process::Command::new("script");
    let program = dir.command();
    command.args(["-qec", &format!("{} init", program.get_program().display()), "/dev/null"]);
    command.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(dir.work());
    // A word that is no key is asked for again, and no answer means the same provider.
    let typed = format!("{provider}\n{customer}\nnonsense\n{recovery}\n\n");
    let said = crate::support::cli::run(command, typed.as_bytes()).ok().text();
    assert!(said.contains("with a keyslot for recovery"), "{said}");
    let shown = dir.run(["config", "show"]).ok().text();
    let line = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("keyslot.0.customer").ends_with(&recovery), "{shown}");
    assert!(line("keyslot.0.provider").ends_with(&provider), "{shown}");
}

#[test]
fn a_lone_keyslot_is_warned_of_once_with_the_remedy() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    let ended = dir.run(["encrypt", "a", "--json"]).ok();
    let lines: Vec<_> = ended.stderr.lines().filter(|l| l.contains("one keyslot only")).collect();
    let [warning] = lines.as_slice() else { panic!("once: {}", ended.stderr) };
    for word in ["provider.kek", "customer.kek", "twinlock init --recovery-customer"] {
        assert!(warning.contains(word), "{warning}");
    }
    assert_eq!(ended.json()["needed_keys"].as_array().unwrap().len(), 2);
    assert_eq!(dir.run(["encrypt", "a", "--force", "-q"]).ok().stderr, "");
}

#[test]
fn what_encrypts_many_or_anew_warns_of_a_lone_keyslot_too() {
    let dir = Dir::with_keys();
    fs::create_dir(dir.path("data")).unwrap();
    dir.write("data/a", "secret");
    dir.write("data/b", "secret");
    for args in [["encrypt", "-r", "data", "-o", "enc"].as_slice(), &["reencrypt", "enc/a.twl"]] {
        let ended = dir.run(args.iter().copied()).ok();
        assert_eq!(ended.stderr.matches("one keyslot only").count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn a_keyslot_for_recovery_is_tried_before_it_is_written_and_written_once() {
    let dir = Dir::with_keys();
    let config = dir.home().join(".config/twinlock/config.toml");
    let before = fs::read_to_string(&config).unwrap();
    let missing = format!("file://{}/missing.kek", dir.home().display());
    let ended = dir.run(["init", "--recovery-customer", &missing]).with(4);
    assert!(ended.stderr.contains("is as it was"), "{}", ended.stderr);
    let own = format!("file://{}/customer.kek", dir.home().display());
    let ended = dir.run(["init", "--recovery-customer", &own]).with(2);
    assert!(ended.stderr.contains("those of the profile"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&config).unwrap(), before);

    let other = dir.new_key("recovery");
    for _ in 0..2 {
        dir.run(["init", "--recovery-customer", &other]).ok();
    }
    assert_eq!(fs::read_to_string(&config).unwrap().matches("recovery.kek").count(), 1);
    // The provider's key is still the one that every keyslot needs.
    dir.write("a", "secret");
    let ended = dir.run(["encrypt", "a"]).ok();
    assert!(ended.stderr.contains("every keyslot needs the same"), "{}", ended.stderr);
}

#[test]
fn init_asks_nothing_where_nobody_can_answer() {
    let dir = Dir::new();
    let ended = dir.run(["init"]).with(2);
    assert!(ended.stderr.contains("--provider"), "{}", ended.stderr);
    assert!(!dir.home().join(".config/twinlock/config.toml").exists());
}

#[test]
fn a_token_and_a_kms_open_together_and_prove_it() {
    let rig = Rig::new();
    let dir = &rig.dir;
    dir.write("a", "secret");
    dir.run(["encrypt", "a", "--context", "object=a"]).ok();
    assert_eq!(
        dir.run(["decrypt", "a.twl", "-o", "-", "--context", "object=a"]).ok().stdout,
        b"secret"
    );
    dir.run(["verify", "a.twl", "--any-context"]).ok();
    dir.run(["keys", "check"]).ok();

    let proof = dir.run(["--json", "prove", "a.twl"]).ok().json();
    assert_eq!(proof["proves"], true, "{proof}");
    let attempts = &proof["keyslots"][0]["attempts"];
    let opened: Vec<_> = attempts.as_array().unwrap().iter().map(|a| &a["opened"]).collect();
    assert_eq!(opened, [false, false, true]);
    let call = |attempt: usize, call: usize| &attempts[attempt]["calls"][call];
    assert_eq!(call(0, 1)["code"], "InvalidCiphertextException");
    assert!(call(0, 0)["request_id"].is_string(), "{proof}");
    assert!(call(1, 0)["code"].as_str().unwrap().starts_with("CKR_"), "{proof}");
    assert!(dir.run(["prove", "a.twl"]).ok().text().contains("Neither key alone"));
}

#[test]
fn a_key_in_a_token_that_was_rewrapped_away_no_longer_opens() {
    let rig = Rig::new();
    let (dir, new) = (&rig.dir, rig.uri("second"));
    dir.run(["keys", "create", &new]).ok();
    dir.write("a", "secret");
    dir.run(["encrypt", "a"]).ok();
    let old_copy = dir.read("a.twl");
    let report = dir.run(["--json", "rewrap", "a.twl", "--to-customer", &new]).ok().json();
    assert_eq!(report["changed"], true, "{report}");
    assert_eq!(report["revokes"], false, "{report}");
    dir.run(["decrypt", "a.twl", "-o", "-"]).with(4);
    let with_new = ["--customer", new.as_str()];
    let opened = dir.run(["decrypt", "a.twl", "-o", "-"].into_iter().chain(with_new)).ok();
    assert_eq!(opened.stdout, b"secret");
    let proof = dir.run(["--json", "prove", "a.twl"].into_iter().chain(with_new)).ok().json();
    assert_eq!(proof["proves"], true, "{proof}");
    // Rewrap is not revocation.
    dir.write("a.twl", old_copy);
    assert_eq!(dir.run(["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");
}

#[test]
fn a_key_in_a_token_that_was_left_behind_opens_no_new_file() {
    let rig = Rig::new();
    let (dir, new) = (&rig.dir, rig.uri("second"));
    dir.run(["keys", "create", &new]).ok();
    dir.write("a", "secret");
    dir.run(["encrypt", "a"]).ok();
    let before = dir.run(["--json", "inspect", "a.twl"]).ok().json();
    let keys = &before["keyslots"][0];
    let uri = |side: &str| keys[side]["uri"].as_str().unwrap().to_owned();
    let from = format!("{},{}", uri("provider"), rig.uri("kek"));
    let args = ["--json", "reencrypt", "a.twl", "--customer", &new, "--from-keyslot", &from];
    let report = dir.run(args).ok().json();
    assert_eq!(report["old_envelope_id"], before["envelope_id"], "{report}");
    dir.run(["decrypt", "a.twl", "-o", "-"]).with(4);
    let with_new = ["--customer", new.as_str()];
    let opened = dir.run(["decrypt", "a.twl", "-o", "-"].into_iter().chain(with_new)).ok();
    assert_eq!(opened.stdout, b"secret");
    let proof = dir.run(["--json", "prove", "a.twl"].into_iter().chain(with_new)).ok().json();
    assert_eq!((&proof["proves"], &proof["generation"]), (&true.into(), &0.into()), "{proof}");
}

#[test]
fn proof_of_keys_in_files_is_none() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    dir.run(["encrypt", "a"]).ok();
    let proof = dir.run(["--json", "prove", "a.twl"]).ok().json();
    assert_eq!(proof["proves"], false);
    assert!(dir.run(["prove", "a.twl"]).ok().text().contains("proves nothing"));
}

#[test]
fn a_proof_counts_the_keyslots_that_it_left_out() {
    let rig = Rig::new();
    rig.dir.write("a", "secret");
    let kek = |name| format!("file://{}/{name}", rig.dir.home().display());
    let (provider, customer) = (kek("p.kek"), kek("c.kek"));
    rig.dir.run(["keys", "create", &provider]).ok();
    rig.dir.run(["keys", "create", &customer]).ok();
    let keyslot = format!("{provider},{customer}");
    rig.dir.run(["encrypt", "a", "--keyslot", &keyslot]).ok();
    let proof = rig.dir.run(["--json", "prove", "a.twl"]).ok().json();
    assert_eq!((&proof["proves"], &proof["keyslots_not_tried"]), (&false.into(), &1.into()));
    assert!(proof["verdict"].as_str().unwrap().contains("was not tried"), "{proof}");
}

#[test]
fn a_caller_who_may_only_encrypt_and_decrypt_has_a_key_that_works() {
    let rig = Rig::new();
    rig.proxy.inject("DescribeKey", Fault::refuse("AccessDeniedException"));
    let report = rig.dir.run(["--json", "keys", "check"]).ok().json();
    assert!(report["keys"][0]["aws_kms"].is_null(), "{report}");
}

#[test]
fn a_holder_that_cannot_be_asked_proves_nothing() {
    let rig = Rig::new();
    rig.dir.write("a", "secret");
    rig.dir.run(["encrypt", "a"]).ok();
    rig.proxy.inject("Decrypt", Fault::refuse("AccessDeniedException"));
    let ended = rig.dir.run(["--json", "prove", "a.twl"]).with(1);
    assert_eq!(ended.json()["proves"], false);
}

#[test]
fn what_a_holder_says_decides_the_exit_code() {
    for (fault, code, kind) in [
        ("AccessDeniedException", 4, "denied"),
        ("DisabledException", 4, "key-disabled"),
        ("NotFoundException", 4, "key-not-found"),
        ("KMSInternalException", 5, "unavailable"),
        ("InvalidCiphertextException", 3, "tampered"),
    ] {
        let rig = Rig::new();
        rig.dir.write("a", "secret");
        rig.dir.run(["encrypt", "a"]).ok();
        rig.proxy.inject("Decrypt", Fault::refuse(fault));
        let ended = rig.dir.run(["--json", "decrypt", "a.twl", "-o", "b"]).with(code);
        assert_eq!(ended.json()["error"]["kind"], kind, "{fault}");
        assert_eq!(rig.dir.names(), ["a", "a.twl"]);
    }
}

#[test]
fn a_kms_that_is_gone_is_worth_a_retry() {
    let mut rig = Rig::new();
    rig.dir.write("a", "secret");
    rig.dir.run(["encrypt", "a"]).ok();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    rig.set_endpoint(&format!("http://{nobody}"));
    let ended = rig.dir.run(["decrypt", "a.twl", "-o", "b"]).with(5);
    assert!(ended.stderr.contains("aws-kms://"), "{}", ended.stderr);
}

#[test]
fn a_token_that_is_not_there_or_does_not_let_us_in_is_4() {
    let mut rig = Rig::new();
    rig.dir.write("a", "secret");
    rig.dir.run(["encrypt", "a"]).ok();
    write_private(&rig.hsm.folder().join("pin"), "wrong-one");
    let ended = rig.dir.run(["decrypt", "a.twl", "-o", "b"]).with(4);
    assert!(!ended.stderr.contains("wrong-one"), "{}", ended.stderr);
    let elsewhere = SoftHsm::new();
    elsewhere.variables().into_iter().for_each(|(name, value)| rig.dir.set(name, value));
    rig.dir.run(["decrypt", "a.twl", "-o", "b"]).with(4);
}

#[test]
fn a_pin_is_never_said() {
    let mut rig = Rig::new();
    rig.dir.write("a", "secret");
    let mut said = String::new();
    for pin_by_variable in [false, true] {
        if pin_by_variable {
            rig.dir.set("TWINLOCK_PIN", PIN);
        }
        for verb in [
            &["encrypt", "a", "--force"][..],
            &["decrypt", "a.twl", "-o", "b", "--force"],
            &["inspect", "a.twl"],
            &["prove", "a.twl"],
            &["keys", "list"],
            &["keys", "check"],
        ] {
            for more in [&["-vv"][..], &["-vvv"], &["--json"]] {
                let ended = rig.dir.run(verb.iter().chain(more).copied()).ok();
                said += &(ended.text() + &ended.stderr);
            }
        }
    }
    assert!(!said.contains(PIN));
    assert!(!String::from_utf8_lossy(&rig.dir.read("a.twl")).contains(PIN));
}

#[test]
fn a_header_has_neither_modules_nor_pin_files() {
    let rig = Rig::new();
    rig.dir.write("a", "secret");
    rig.dir.run(["encrypt", "a"]).ok();
    let header = String::from_utf8_lossy(&rig.dir.read("a.twl")).into_owned();
    assert!(header.contains("pkcs11:token=tests;object=kek"));
    for local in ["module-path", "pin-source", "softhsm", "127.0.0.1"] {
        assert!(!header.contains(local), "{local}");
    }
}

#[test]
fn keys_are_created_listed_and_checked() {
    let rig = Rig::new();
    let uri = rig.uri("second");
    rig.dir.run(["keys", "create", &uri]).ok();
    let again = rig.dir.run(["keys", "create", &uri]);
    assert_ne!(again.code, Some(0), "a key of that name exists");
    let list = rig.dir.run(["--json", "keys", "list"]).ok().json();
    let keys = list["tokens"][0]["keys"].as_array().unwrap();
    let labels: Vec<_> = keys.iter().map(|key| key["label"].as_str().unwrap()).collect();
    assert_eq!(labels.len(), 2, "{list}");
    assert!(keys.iter().all(|key| key["sensitive"] == true && key["extractable"] == false));
    rig.dir.run(["keys", "check", &uri]).ok();
    rig.dir.run(["keys", "check", &rig.uri("third")]).with(4);
}

/// Each call is a way to the token and back, which may be far.
#[test]
fn a_run_logs_in_once_and_looks_its_key_up_once() {
    let (rig, token) = Rig::counted();
    rig.dir.write("a", "secret");
    for (run, args) in [["encrypt", "a"], ["verify", "a.twl"]].into_iter().enumerate() {
        let before = ["C_Login", "C_FindObjectsInit"].map(|name| token.count(name));
        rig.dir.run(args).ok();
        let now = ["C_Login", "C_FindObjectsInit"].map(|name| token.count(name));
        assert_eq!(now, before.map(|count| count + 1), "run {run}");
    }
}

/// A folder with a token's key and a KMS's key in its profile.
pub(crate) struct Rig {
    pub(crate) dir: Dir,
    pub(crate) hsm: SoftHsm,
    pub(crate) proxy: KmsProxy,
    pub(crate) provider: String,
}

impl Rig {
    /// The same with a module that counts calls in front of the token.
    pub(crate) fn counted() -> (Self, CountedModule) {
        let mut rig = Self::new();
        let module = softhsm::module();
        let counted = CountedModule::before(&module, &mut rig.dir);
        let customer = CountedModule::uri(&rig.uri("kek"), &module);
        rig.dir.set("TWINLOCK_CUSTOMER", customer);
        (rig, counted)
    }

    pub(crate) fn new() -> Self {
        let hsm = SoftHsm::with_token();
        let mut dir = Self::bare(&hsm);
        let credentials = dir.home().join("credentials");
        write_private(
            &credentials,
            "[default]\naws_access_key_id = A\naws_secret_access_key = s\n",
        );
        dir.set("AWS_SHARED_CREDENTIALS_FILE", credentials);
        let proxy = KmsProxy::before(moto().address);
        let provider = format!("aws-kms://{}", moto().create_key(REGION, &json!({})));
        let mut rig = Self { dir, hsm, proxy, provider };
        rig.set_endpoint(&rig.proxy.url());
        let created: Ended = rig.dir.run(["keys", "create", &rig.uri("kek")]);
        created.ok();
        rig
    }

    /// The program finds the module's tokens, and no profile.
    fn bare(hsm: &SoftHsm) -> Dir {
        let mut dir = Dir::new();
        hsm.variables().into_iter().for_each(|(name, value)| dir.set(name, value));
        dir
    }

    pub(crate) fn uri(&self, label: &str) -> String {
        crate::support::softhsm::uri_in(self.hsm.folder(), label)
    }

    pub(crate) fn set_endpoint(&mut self, url: &str) {
        self.dir.write_config(&format!(
            "profile = \"default\"\n[profiles.default]\nprovider = \"{}\"\ncustomer = \"{}\"\n\
             [profiles.default.aws]\nendpoint = \"{url}\"\n",
            self.provider,
            self.uri("kek"),
        ));
    }
}

/// Files with keys and PINs are their owner's alone.
fn assert_no_secret_is_readable(dir: &Dir) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = dir.home().join(".config/twinlock");
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", entry.path().display());
    }
}
