//! The restore drill of `docs/recovery.md`: its commands, as they stand there,
//! with keys that are really gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::cli::{Dir, Ended, program, run};
use crate::support::softhsm::{SoftHsm, uri_of};

#[test]
fn the_drill_restores_what_was_encrypted() {
    let site = Site::new();
    site.dir.write("old", "older than the second keyslot");
    site.dir.run(["encrypt", "old"]).ok();
    site.follow("setup");
    site.follow("old-files");
    site.dir.write("drill.txt", "restore me");
    site.follow("drill-prepare");

    site.lose_token();
    site.lose_provider();
    site.lose_profile();
    let checked = site.follow("drill-check");
    assert_eq!(checked.text().matches("works").count(), 2, "{}", checked.text());
    let restored = site.follow("drill-restore");
    assert!(restored.text().contains("restored.txt: OK"), "{}", restored.text());
    assert_eq!(site.dir.read("restored.txt"), b"restore me");
    // The same for a file that had to be rewrapped.
    let keys = ["--provider", &site.recovery_provider, "--customer", &site.recovery_customer];
    site.dir.run(["verify", "old.twl"].into_iter().chain(keys)).ok();
}

#[test]
fn a_lost_token_is_replaced() {
    let site = Site::encrypted();
    site.lose_token();
    site.dir.run(["verify", "data.twl"]).ok(); // by the recovery keyslot of the profile
    site.follow("lost-token");
}

#[test]
fn a_lost_provider_key_is_replaced() {
    let site = Site::encrypted();
    site.lose_provider();
    site.follow("lost-provider");
}

#[test]
fn both_keys_are_replaced() {
    let site = Site::encrypted();
    site.lose_token();
    site.lose_provider();
    site.follow("lost-both");
}

/// The card is needed to restore, not to encrypt.
#[test]
fn a_card_in_a_safe_gives_its_public_key_only() {
    let site = Site::new();
    let card = uri_of(site.hsm.folder(), "safe", "rsa");
    site.dir.run(["keys", "create", "--type", "rsa-3072", &card]).ok();
    let export = ["--json", "keys", "export-public", "-o", "card.pem", &card];
    let exported = site.dir.run(export).ok().json();
    let public = exported["public_key_uri"].as_str().unwrap();
    let recovery = ["--recovery-provider", &site.recovery_provider, "--recovery-customer", public];
    site.dir.run(["init"].into_iter().chain(recovery)).ok();
    let checks = site.dir.run(["doctor", "--json"]).ok().json();
    let mut checks = checks["checks"].as_array().unwrap().iter();
    assert!(checks.any(|check| check["name"] == "public key" && check["state"] == "ok"));

    site.dir.write("data", "secret");
    let encrypted = site.dir.run(["encrypt", "data"]).ok();
    assert!(!encrypted.stderr.contains("one keyslot only"), "{}", encrypted.stderr);
    let proof = site.dir.run(["--json", "prove", "data.twl"]).ok().json();
    assert_eq!(
        (proof["keyslots_not_tried"].as_u64(), &proof["keyslots"][1]),
        (Some(1), &Value::Null)
    );
    site.lose_token();
    site.lose_provider();
    site.lose_profile();
    let with = |customer| ["--provider", &site.recovery_provider, "--customer", customer];
    site.dir.run(["verify", "data.twl"].into_iter().chain(with(public))).with(2);
    let restored = site.dir.run(["decrypt", "data.twl", "-o", "-"].into_iter().chain(with(&card)));
    assert_eq!(restored.ok().stdout, b"secret");
}

#[test]
fn without_a_second_keyslot_a_loss_is_for_good() {
    let site = Site::new();
    site.dir.write("data", "secret");
    let encrypted = site.dir.run(["encrypt", "data"]).ok();
    assert!(encrypted.stderr.contains("one keyslot only"), "{}", encrypted.stderr);
    site.lose_token();
    site.dir.run(["verify", "data.twl"]).with(4);
}

/// Two tokens, two provider keys, and a profile with the first of each.
struct Site {
    dir: Dir,
    hsm: SoftHsm,
    /// Of the first token.
    token: PathBuf,
    provider: String,
    recovery_provider: String,
    recovery_customer: String,
}

impl Site {
    fn new() -> Self {
        let hsm = SoftHsm::new();
        let mut dir = Dir::new();
        hsm.variables().into_iter().for_each(|(name, value)| dir.set(name, value));
        hsm.add_token("prod");
        let token =
            fs::read_dir(hsm.folder().join("tokens")).unwrap().next().unwrap().unwrap().path();
        ["safe", "new"].iter().for_each(|label| hsm.add_token(label));

        let customer = uri_of(hsm.folder(), "prod", "kek");
        let recovery_customer = uri_of(hsm.folder(), "safe", "kek");
        for uri in [&customer, &recovery_customer] {
            dir.run(["keys", "create", uri]).ok();
        }
        let [provider, recovery_provider] = ["provider", "recovery"].map(|name| dir.new_key(name));
        for (name, value) in [
            ("PROVIDER", provider.clone()),
            ("CUSTOMER", without_query(&customer)),
            ("NEW_PROVIDER", format!("file://{}/new.kek", dir.home().display())),
            ("NEW_CUSTOMER", uri_of(hsm.folder(), "new", "kek")),
            ("RECOVERY_PROVIDER", recovery_provider.clone()),
            ("RECOVERY_CUSTOMER", recovery_customer.clone()),
            ("TWINLOCK_PIN_FILE", hsm.folder().join("pin").display().to_string()),
        ] {
            dir.set(name, value);
        }
        dir.run(["init", "--provider", &provider, "--customer", &customer]).ok();
        Self { dir, hsm, token, provider, recovery_provider, recovery_customer }
    }

    /// The same with a file `data.twl` of two keyslots.
    fn encrypted() -> Self {
        let site = Self::new();
        site.follow("setup");
        site.dir.write("data", "secret");
        site.dir.run(["encrypt", "data"]).ok();
        site
    }

    /// Runs the commands that the page has under `name`.
    #[track_caller]
    fn follow(&self, name: &str) -> Ended {
        let mut shell = Command::new("sh");
        let program_folder = program().parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap();
        let folders = [program_folder].into_iter().chain(std::env::split_paths(&path));
        shell.args(["-euc", &commands(name)]).env_clear();
        shell.envs(self.dir.command().get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.env("PATH", std::env::join_paths(folders).unwrap()).current_dir(self.dir.work());
        run(shell, b"").ok()
    }

    fn lose_token(&self) {
        fs::remove_dir_all(&self.token).unwrap();
        let tokens = fs::read_dir(self.hsm.folder().join("tokens")).unwrap();
        assert_eq!(tokens.count(), 2);
    }

    fn lose_provider(&self) {
        fs::remove_file(Path::new(self.provider.strip_prefix("file://").unwrap())).unwrap();
    }

    fn lose_profile(&self) {
        fs::remove_file(self.dir.home().join(".config/twinlock/config.toml")).unwrap();
    }
}

fn without_query(uri: &str) -> String {
    uri.split('?').next().unwrap().to_owned()
}

/// The block of the page that is marked with `name`.
fn commands(name: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recovery.md");
    let page = fs::read_to_string(page).unwrap();
    let begin = format!("```sh {name}");
    let lines = page.lines().map(str::trim_start).skip_while(|line| *line != begin).skip(1);
    let block: Vec<&str> = lines.take_while(|line| *line != "```").collect();
    assert!(!block.is_empty(), "docs/recovery.md has no block {name:?}");
    block.join("\n")
}
