//! The program with a key in a DKE service, alone and beside one in a token.

use super::rig::{LISTED, NAME, Rig, UNLISTED};
use crate::support::cli::{Dir, Ended};
use crate::support::key_service::{CLIENT, RsaKey, SCOPE, ServedKey, token_number};
use crate::support::softhsm::{SoftHsm, uri_in, write_private};
use crate::support::terminal::OnTerminal;
use crate::support::tls::Authority;

/// A home of one person, who has no token of PKCS#11.
struct Person {
    dir: Dir,
    provider: String,
}

impl Person {
    fn new(rig: &Rig, token: &str) -> Self {
        Self::with_provider(rig, token, None)
    }

    /// One who shares the provider's key of another.
    fn with_provider(rig: &Rig, token: &str, provider: Option<&str>) -> Self {
        let dir = Dir::new();
        let provider = provider.map_or_else(|| dir.new_key("provider"), ToOwned::to_owned);
        let person = Self { dir, provider };
        person.configure(rig, &person.token_file(token), &[&RsaKey::of(1).pin]);
        person
    }

    fn token_file(&self, token: &str) -> String {
        let file = self.dir.home().join("token");
        write_private(&file, token);
        format!("token_file = \"{}\"", file.display())
    }

    fn configure(&self, rig: &Rig, token: &str, pins: &[&str]) {
        self.dir.write_config(&format!(
            "[profiles.desk]\nprovider = \"{}\"\ncustomer = \"{}\"\n[profiles.desk.dke]\n\
             pins = {pins:?}\nca_file = \"{}\"\n{token}\n",
            self.provider,
            rig.uri(),
            Authority::trusted().certificate().display()
        ));
    }

    fn run<const N: usize>(&self, args: [&str; N]) -> Ended {
        self.dir.run(args)
    }

    /// Takes the file from another person.
    fn take(&self, from: &Person, name: &str) {
        self.dir.write(name, from.dir.read(name));
    }
}

#[test]
fn a_file_opens_on_a_machine_without_a_token_for_a_listed_user_only() {
    let rig = Rig::new();
    let alice = Person::new(&rig, LISTED);
    alice.dir.write("a", "secret");
    alice.run(["encrypt", "a", "--context", "object=a"]).ok();

    let bob = Person::with_provider(&rig, LISTED, Some(&alice.provider));
    bob.take(&alice, "a.twl");
    let opened = bob.run(["decrypt", "a.twl", "-o", "-", "--context", "object=a"]).ok();
    assert_eq!(opened.stdout, b"secret");
    let proof = bob.run(["--json", "prove", "a.twl"]);
    assert_eq!(proof.json()["keyslots_not_tried"], 0, "{proof:?}");
    let ended = bob.run(["decrypt", "a.twl", "-o", "-", "--context", "object=b"]).with(3);
    assert!(ended.stderr.contains("context"), "{}", ended.stderr);

    let mallory = Person::with_provider(&rig, UNLISTED, Some(&alice.provider));
    mallory.take(&alice, "a.twl");
    let ended = mallory.run(["decrypt", "a.twl", "-o", "-", "--context", "object=a"]).with(4);
    assert!(ended.stderr.contains("you may not decrypt"), "{}", ended.stderr);
    assert!(!ended.stderr.contains(UNLISTED), "{}", ended.stderr);
}

#[test]
fn each_trouble_has_its_exit_code_and_advice() {
    let rig = Rig::new();
    let person = Person::new(&rig, LISTED);
    let pin = RsaKey::of(1).pin;
    person.dir.write("a", "secret");
    person.run(["encrypt", "a"]).ok();
    let decrypt = |code, words: &str| {
        let ended = person.run(["decrypt", "a.twl", "-o", "-"]).with(code);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    };
    decrypt(0, "");

    person.configure(&rig, &person.token_file("an-expired-token"), &[&pin]);
    decrypt(4, "log in again");
    person.configure(&rig, "token_file = \"/nowhere/token\"", &[&pin]);
    decrypt(2, "/nowhere/token");
    person.configure(&rig, "", &[&pin]);
    decrypt(2, "TWINLOCK_DKE_TOKEN");
    person.configure(&rig, "auth = \"login\"", &[&pin]);
    decrypt(2, "issuer");
    person.configure(&rig, &person.token_file(LISTED), &[&RsaKey::of(2).pin]);
    decrypt(0, "");
    let ended = person.run(["encrypt", "a", "-o", "b.twl"]).with(2);
    assert!(ended.stderr.contains("another public key"), "{}", ended.stderr);

    person.configure(&rig, &person.token_file(LISTED), &[&pin]);
    rig.service.change(NAME, |key| key.enabled = false);
    decrypt(4, "switched off");
    drop(rig);
    decrypt(5, "try again later");
}

#[test]
fn a_command_for_a_token_sees_no_secret_of_ours() {
    let rig = Rig::new();
    let mut person = Person::new(&rig, LISTED);
    for secret in ["TWINLOCK_PIN", "TWINLOCK_DKE_TOKEN", "TWINLOCK_DKE_CLIENT_SECRET"] {
        person.dir.set(secret, "a-secret");
    }
    person.dir.set("UNSUSPICIOUS", "seen");
    let (file, seen) = (person.dir.home().join("token"), person.dir.home().join("seen"));
    let script = format!("env > {}; cat {}", seen.display(), file.display());
    let words = format!("token_command = [\"sh\", \"-c\", \"{script}\"]");
    person.configure(&rig, &words, &[&RsaKey::of(1).pin]);
    person.dir.write("a", "secret");
    person.run(["encrypt", "a"]).ok();
    assert_eq!(person.run(["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains("UNSUSPICIOUS=seen") && !seen.contains("a-secret"), "{seen}");
}

#[test]
fn init_trusts_a_public_key_only_if_somebody_does() {
    let rig = Rig::new();
    let dir = Dir::new();
    let token = dir.home().join("token");
    write_private(&token, LISTED);
    let ca = Authority::trusted().certificate();
    let init = |more: &[&str]| {
        let (uri, ca, token) = (rig.uri(), ca.to_str().unwrap(), token.to_str().unwrap());
        let base = ["init", "--dev-provider", "--customer", &uri, "--ca-file", ca, "--token-file"];
        dir.run(base.into_iter().chain([token]).chain(more.iter().copied()))
    };
    let pin = RsaKey::of(1).pin;
    let ended = init(&[]).with(2);
    assert!(ended.stderr.contains(&pin), "it is shown: {}", ended.stderr);
    let ended = init(&["--pin", &RsaKey::of(2).pin]).with(2);
    assert!(ended.stderr.contains("not the one of --pin"), "{}", ended.stderr);
    init(&["--pin", "sha256:00"]).with(2);
    assert!(!dir.home().join(".config/twinlock/config.toml").exists(), "nothing was written");

    let ended = init(&["--pin", &pin]).ok();
    assert!(ended.text().contains("works"), "{}", ended.text());
    dir.write("a", "secret");
    dir.run(["encrypt", "a"]).ok();
    assert_eq!(dir.run(["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");

    let checked = dir.run(["--json", "keys", "check"]).ok().json();
    let key = &checked["keys"][1];
    assert_eq!(key["dke"]["version"], "0a1b", "{checked}");
    assert_eq!(format!("sha256:{}", key["spki_sha256"].as_str().unwrap()), pin);
    let seen = dir.run(["--json", "doctor"]).json();
    let of_key = |name: &str| {
        let checks = seen["checks"].as_array().unwrap();
        let fits = |check: &&serde_json::Value| {
            check["name"] == name && check["key"] == rig.uri().as_str()
        };
        checks.iter().find(fits).unwrap_or_else(|| panic!("{seen}"))["state"].clone()
    };
    assert_eq!((of_key("public key"), of_key("round trip")), ("ok".into(), "ok".into()));
    let shown = dir.run(["config", "show"]).ok();
    assert!(shown.text().contains(&pin), "{}", shown.text());
}

/// A new home, and `init` there with a key of the service and no pin.
fn init_without_pin(rig: &Rig) -> (Dir, Vec<String>) {
    let dir = Dir::new();
    let token = dir.home().join("token");
    write_private(&token, LISTED);
    let (uri, ca) = (rig.uri(), Authority::trusted().certificate());
    let (ca, token) = (ca.to_str().unwrap(), token.to_str().unwrap());
    let words = ["init", "--dev-provider", "--customer", &uri, "--ca-file", ca, "--token-file"];
    let args = words.into_iter().chain([token]).map(str::to_owned).collect();
    (dir, args)
}

fn config_in(dir: &Dir) -> Option<String> {
    std::fs::read_to_string(dir.home().join(".config/twinlock/config.toml")).ok()
}

#[test]
fn init_trusts_what_somebody_at_the_terminal_says_yes_to() {
    let rig = Rig::new();
    let (dir, args) = init_without_pin(&rig);
    let mut command = dir.command();
    command.args(args);
    let mut init = OnTerminal::run(command);
    init.wait_for("Type yes to trust it:");
    assert_eq!(config_in(&dir), None, "nothing is written before the answer");
    init.type_in("yes\n");
    let ended = init.end().ok();
    let pin = RsaKey::of(1).pin;
    for shown in [&rig.uri(), &pin, "Ask the key's owner"] {
        assert!(ended.stderr.contains(shown), "{}", ended.stderr);
    }
    assert!(ended.text().contains("works"), "{}", ended.text());
    assert!(config_in(&dir).unwrap().contains(&pin));
    dir.write("a", "secret");
    dir.run(["encrypt", "a"]).ok();
    assert_eq!(dir.run(["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");
}

#[test]
fn init_takes_nothing_but_yes_for_a_yes() {
    const END: &str = "\x04"; // as Ctrl-D types it
    let rig = Rig::new();
    for answer in ["no\n", "y\n", "YES\n", "yes, I think\n", "\n", END] {
        let (dir, args) = init_without_pin(&rig);
        let mut command = dir.command();
        command.args(args);
        let mut init = OnTerminal::run(command);
        init.wait_for("Type yes to trust it:");
        init.type_in(answer);
        let ended = init.end().with(2);
        assert!(ended.stderr.contains("was not confirmed"), "{answer:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("no profile was written"), "{answer:?}: {}", ended.stderr);
        assert_eq!(config_in(&dir), None, "{answer:?}");
    }
    assert_eq!(rig.proxy.count("decrypt"), 0);
}

#[test]
fn init_takes_no_yes_that_nobody_typed() {
    let rig = Rig::new();
    let (dir, args) = init_without_pin(&rig);
    let ended = dir.run_with(args.iter().map(String::as_str), b"yes\n").with(2);
    let said = &ended.stderr;
    assert!(said.contains("no terminal") && said.contains("--pin"), "{said}");
    assert!(said.contains(&RsaKey::of(1).pin), "it is shown: {said}");
    assert_eq!(config_in(&dir), None);
}

#[test]
fn a_person_logs_in_with_the_program() {
    let rig = Rig::new();
    rig.service.change(NAME, |key| _ = key.tokens.insert(token_number(1)));
    let dir = Dir::new();
    let (uri, pin, issuer) = (rig.uri(), RsaKey::of(1).pin, rig.proxy.url());
    let ca = Authority::trusted().certificate();
    let mut args = vec!["init", "--dev-provider", "--customer", &uri, "--pin", &pin];
    args.extend(["--ca-file", ca.to_str().unwrap(), "--issuer", &issuer]);
    args.extend(["--client-id", CLIENT, "--scope", SCOPE]);
    let ended = dir.run(args).ok();
    assert!(ended.text().contains("twinlock login"), "{}", ended.text());
    dir.write("a", "secret");
    let ended = dir.run(["encrypt", "a"]).with(2);
    assert!(ended.stderr.contains("twinlock login"), "{}", ended.stderr);

    let ended = dir.run(["login"]).ok();
    assert!(ended.stderr.contains("WDJB-MJHT"), "{}", ended.stderr);
    assert!(ended.stderr.contains("https://issuer.example/device"), "{}", ended.stderr);
    dir.run(["encrypt", "a"]).ok();
    assert_eq!(dir.run(["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");

    assert_eq!(dir.run(["--json", "logout"]).ok().json()["removed"], true);
    assert_eq!(dir.run(["--json", "logout"]).ok().json()["removed"], false);
    dir.run(["decrypt", "a.twl", "-o", "-"]).with(2);
}

#[test]
fn keyslots_of_a_token_and_of_a_service_each_open() {
    let rig = Rig::new();
    let hsm = SoftHsm::with_token();
    let mut alice = Person::new(&rig, LISTED);
    for (name, value) in hsm.variables() {
        alice.dir.set(name, value);
    }
    let token = uri_in(hsm.folder(), "kek");
    alice.run(["keys", "create", &token]).ok();
    alice.dir.write("a", "secret");
    let keyslot = format!("{},{token}", alice.provider);
    alice.run(["encrypt", "a", "--keyslot", &keyslot]).ok();

    // The one has the token alone, and the other the service alone.
    let at_desk = Person::with_provider(&rig, LISTED, Some(&alice.provider));
    at_desk.take(&alice, "a.twl");
    assert_eq!(at_desk.run(["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");
    let calls = rig.proxy.count("decrypt");
    let args = ["decrypt", "a.twl", "-o", "-", "--customer", &token];
    assert_eq!(alice.run(args).ok().stdout, b"secret");
    assert_eq!(rig.proxy.count("decrypt"), calls, "the service was not asked");

    // Whoever the service refuses opens it by the token, which comes second.
    let mut both = Person::with_provider(&rig, UNLISTED, Some(&alice.provider));
    for (name, value) in hsm.variables() {
        both.dir.set(name, value);
    }
    both.take(&alice, "a.twl");
    let args = ["decrypt", "a.twl", "-o", "-", "--keyslot", &keyslot];
    assert_eq!(both.run(args).ok().stdout, b"secret");
}

#[test]
fn a_key_of_another_service_is_not_sent_the_token_of_this_one() {
    let rig = Rig::new();
    let other = Rig::new();
    other.service.serve("Other", ServedKey::new("1", RsaKey::of(1)).for_token(LISTED));
    let person = Person::new(&rig, LISTED);
    let uri = other.uri();
    let keyslot = format!("{},{uri}", person.provider);
    let runs: [&[&str]; 4] = [
        &["keys", "check", &uri],
        &["encrypt", "a", "--customer", &uri],
        &["encrypt", "a", "--keyslot", &keyslot],
        &["decrypt", "a", "-o", "-", "--customer", &uri],
    ];
    person.dir.write("a", "secret");
    for args in runs {
        let ended = person.dir.run(args.iter().copied()).with(2);
        assert!(ended.stderr.contains("two DKE services"), "{args:?}: {}", ended.stderr);
    }
    assert_eq!(other.proxy.calls().len(), 0);
}

#[test]
fn a_key_of_a_service_is_made_by_whoever_runs_it() {
    let rig = Rig::new();
    let ended = Person::new(&rig, LISTED).run(["keys", "create", &rig.uri()]).with(2);
    assert!(ended.stderr.contains("where the service is"), "{}", ended.stderr);
}
