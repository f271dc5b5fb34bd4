//! The program `twinlock` at desks without an HSM, with a key that the service
//! keeps: who opens a file, and what everybody else is told.

use std::path::PathBuf;

use super::client::Authority;
use super::issuer::{ALICE, Token};
use super::service::{Dke, ONLY, ORIGIN, key, reloaded};
use crate::support::cli::{Dir, Ended};
use crate::support::softhsm::{SoftHsm, uri_in, write_private};

const MALLORY: &str = "mallory@example.org";

/// What the key `Archive` is on the service's token.
const OBJECT: &str = "spare";

/// The service with a key for shares, which Alice may use, at an address that
/// its certificate is for.
struct Archive {
    dke: Dke,
    config: String,
    /// Of the public part, by the owner's own words.
    pin: String,
}

impl Archive {
    fn start() -> Self {
        let mut dke = Dke::prepared();
        dke.authority.write(&dke.dir.home(), "127.0.0.1", 1);
        let origin = format!("https://{}", dke.address);
        let shares = key("Archive", OBJECT, &format!("users = [\"{ALICE}\"]"))
            .replace("microsoft-label", "shares");
        let config = dke.config().replace(ORIGIN, &origin) + &shares;
        dke.write_config(&config);
        dke.run();
        dke.wait_until_ready();
        let pin = pin_of(&dke, OBJECT);
        Self { dke, config, pin }
    }

    fn uri(&self) -> String {
        format!("dke+https://{}/Archive", self.dke.address)
    }

    fn token_of(&self, user: &str) -> Token {
        Token::of(user).with("aud", format!("https://{}", self.dke.address))
    }

    /// Who trusts the service and has this token.
    fn desk_of(&self, token: &Token) -> Desk {
        let desk = Desk::new(self);
        desk.log_in(token);
        desk
    }

    fn authority(&self) -> PathBuf {
        self.dke.dir.home().join("ca.pem")
    }
}

/// As `twinlock keys export-public` says it, where the HSM is.
fn pin_of(dke: &Dke, object: &str) -> String {
    let uri = uri_in(dke.hsm.folder(), object);
    let file = dke.dir.home().join(format!("{object}.pem"));
    let args = ["--json", "keys", "export-public", &uri, "-o", file.to_str().unwrap()];
    let said = dke.dir.run(args).ok().json();
    format!("sha256:{}", said["spki_sha256"].as_str().unwrap())
}

/// A home of one person, with a profile of a provider key and the service's.
struct Desk {
    dir: Dir,
    provider: String,
    uri: String,
    pin: String,
    authority: PathBuf,
}

impl Desk {
    fn new(archive: &Archive) -> Self {
        let dir = Dir::new();
        let provider = dir.new_key("provider");
        let (uri, pin, authority) = (archive.uri(), archive.pin.clone(), archive.authority());
        let desk = Self { dir, provider, uri, pin, authority };
        desk.configure(&desk.token_file());
        desk
    }

    /// The profile, with this source of tokens.
    fn configure(&self, token: &str) {
        self.dir.write_config(&format!(
            "[profiles.desk]\nprovider = \"{}\"\ncustomer = \"{}\"\n[profiles.desk.dke]\n\
             pins = [\"{}\"]\nca_file = \"{}\"\n{token}\n",
            self.provider,
            self.uri,
            self.pin,
            self.authority.display()
        ));
    }

    fn token_file(&self) -> String {
        format!("token_file = \"{}\"", self.dir.home().join("token").display())
    }

    fn log_in(&self, token: &Token) {
        write_private(&self.dir.home().join("token"), &token.signed());
    }

    /// Takes the file `a.twl` from another desk, and the key of its provider.
    fn with_file_of(mut self, other: &Desk) -> Self {
        self.dir.write("a.twl", other.dir.read("a.twl"));
        self.provider.clone_from(&other.provider);
        self.configure(&self.token_file());
        self
    }

    fn run<const N: usize>(&self, args: [&str; N]) -> Ended {
        self.dir.run(args)
    }

    fn encrypt(&self) {
        self.dir.write("a", "secret");
        self.run(["encrypt", "a", "--force"]).ok();
    }

    #[track_caller]
    fn opens(&self) {
        assert_eq!(self.run(["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");
    }

    /// Decrypting ends with this code and kind, and words that help; nothing is
    /// written, and no token shown.
    #[track_caller]
    fn is_refused(&self, code: i32, kind: &str, words: &[&str]) {
        self.fails(["decrypt", "a.twl", "-o", "refused"], code, kind, words);
        assert!(!self.dir.path("refused").exists());
    }

    #[track_caller]
    fn fails<const N: usize>(&self, args: [&str; N], code: i32, kind: &str, words: &[&str]) {
        let ended = self.run(args).with(code);
        for word in words {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
        if let Ok(token) = std::fs::read_to_string(self.dir.home().join("token")) {
            assert!(!ended.stderr.contains(&token), "{}", ended.stderr);
        }
        let args: Vec<_> = ["--json"].into_iter().chain(args).collect();
        let said = self.dir.run(args).with(code).json();
        assert_eq!(said["error"]["kind"], kind, "{said}");
    }
}

#[test]
fn a_file_opens_at_another_desk_for_a_listed_user_only() {
    let archive = Archive::start();
    let alice = archive.desk_of(&archive.token_of(ALICE));
    alice.encrypt();
    alice.opens();
    archive.desk_of(&archive.token_of(ALICE)).with_file_of(&alice).opens();
    assert_eq!(archive.dke.recorded(3).len(), 3, "one is what was read back");

    let mallory = archive.desk_of(&archive.token_of(MALLORY)).with_file_of(&alice);
    mallory.is_refused(4, "denied", &[&archive.uri(), "you may not decrypt", "ask whoever keeps"]);
    let record = archive.dke.recorded(5).pop().unwrap();
    assert_eq!((&record["user"], &record["outcome"]), (&MALLORY.into(), &"forbidden".into()));
    // Whoever may not decrypt may encrypt, if nothing is read back.
    mallory.dir.write("b", "theirs");
    mallory.fails(["encrypt", "b"], 4, "denied", &["--no-read-back"]);
    mallory.run(["encrypt", "b", "--no-read-back"]).ok();
}

#[test]
fn a_token_that_is_no_good_is_named_as_what_it_is() {
    let archive = Archive::start();
    let desk = archive.desk_of(&archive.token_of(ALICE));
    desk.encrypt();
    let uri = archive.uri();
    let words = [uri.as_str(), "did not accept the token", "twinlock login", "audience", "clock"];
    for bad in [
        archive.token_of(ALICE).at("exp", -3600),
        archive.token_of(ALICE).at("nbf", 3600),
        Token::of(ALICE), // for another service
        archive.token_of(ALICE).forged_by(super::issuer::other_key()),
    ] {
        desk.log_in(&bad);
        desk.is_refused(4, "denied", &words);
    }
    std::fs::remove_file(desk.dir.home().join("token")).unwrap();
    desk.is_refused(2, "misconfigured", &["cannot read the token", "/token", "No such file"]);
    desk.configure("");
    desk.is_refused(2, "misconfigured", &["TWINLOCK_DKE_TOKEN", "set it"]);
}

#[test]
fn a_command_that_prints_no_token_is_named_with_what_it_did() {
    let archive = Archive::start();
    let desk = archive.desk_of(&archive.token_of(ALICE));
    desk.encrypt();
    let token = desk.dir.home().join("token");
    let prints = |script: &str| {
        let script = script.replace("TOKEN", token.to_str().unwrap()).replace('\\', "\\\\");
        desk.configure(&format!("token_command = [\"sh\", \"-c\", \"{script}\"]"));
    };
    prints("cat TOKEN");
    desk.opens();
    for (script, printed) in [
        ("true", "sh, printed nothing"),
        ("cat TOKEN TOKEN TOKEN /dev/zero", "sh, printed more than 16384 bytes"),
        ("cat TOKEN; printf '\\377'", "sh, printed something else than one line"),
        ("cat TOKEN; echo; echo and more", "sh, printed something else than one line"),
    ] {
        prints(script);
        desk.is_refused(2, "misconfigured", &[printed, "run it by hand", "token_command"]);
    }
    prints("cat TOKEN; exit 7");
    desk.is_refused(4, "denied", &["sh, failed", "exit status: 7", "run it by hand"]);
    desk.configure("token_command = [\"/nowhere/get-token\"]");
    desk.is_refused(2, "misconfigured", &["/nowhere/get-token", "No such file"]);
}

#[test]
fn a_key_that_is_switched_off_opens_nothing_until_it_is_on_again() {
    let archive = Archive::start();
    let desk = archive.desk_of(&archive.token_of(ALICE));
    desk.encrypt();
    let off = archive.config.replace("\"Archive\"", "\"Archive\"\nstate = \"disabled\"");
    reloaded(&archive.dke, &off);
    let uri = archive.uri();
    desk.is_refused(4, "key-disabled", &[&uri, "switched off", "ask whoever keeps it"]);
    let encrypt = ["encrypt", "a", "-o", "b.twl"];
    desk.fails(encrypt, 4, "key-not-found", &[&uri, "knows no", "switched off"]);
    reloaded(&archive.dke, &archive.config);
    desk.opens();
}

#[test]
fn another_public_key_wraps_nothing_and_what_was_wrapped_opens() {
    let archive = Archive::start();
    let mut desk = archive.desk_of(&archive.token_of(ALICE));
    desk.encrypt();
    desk.pin = pin_of(&archive.dke, "other");
    desk.configure(&desk.token_file());
    desk.opens();
    let encrypt = ["encrypt", "a", "-o", "b.twl"];
    let words = [archive.uri(), archive.pin.clone(), "rotated".into(), "nothing was".into()];
    desk.fails(encrypt, 2, "misconfigured", &words.each_ref().map(String::as_str));
    assert!(!desk.dir.path("b.twl").exists());

    // A rotation: the old version stays, and the new one has to be trusted first.
    desk.pin.clone_from(&archive.pin);
    desk.configure(&desk.token_file());
    let only = format!("number = 1, id = \"{ONLY}\", object = \"{OBJECT}\"");
    let newer = format!("{only} }}, {{ number = 2, id = \"second\", object = \"new\"");
    let new_key = uri_in(archive.dke.hsm.folder(), "new");
    archive.dke.dir.run(["keys", "create", "--type", "rsa-3072", &new_key]).ok();
    reloaded(&archive.dke, &archive.config.replace(&only, &newer));
    desk.opens();
    let pin = pin_of(&archive.dke, "new");
    desk.fails(encrypt, 2, "misconfigured", &["version second", &pin, "rotated"]);
    desk.pin = pin;
    desk.configure(&desk.token_file());
    desk.encrypt();
    desk.opens();
}

#[test]
fn a_service_that_is_not_there_or_not_trusted_opens_nothing() {
    let mut archive = Archive::start();
    let mut desk = archive.desk_of(&archive.token_of(ALICE));
    desk.encrypt();
    let unknown = desk.dir.home().join("unknown.pem");
    std::fs::write(&unknown, Authority::new().pem()).unwrap();
    desk.authority = unknown;
    desk.configure(&desk.token_file());
    let (uri, calls) = (archive.uri(), archive.dke.recorded(1).len());
    desk.is_refused(2, "misconfigured", &[&uri, "not trusted", "ca_file", "peer certificate"]);
    assert_eq!(archive.dke.recorded(1).len(), calls, "the token was not sent");

    desk.authority = archive.authority();
    desk.configure(&desk.token_file());
    desk.opens();
    archive.dke.stop();
    desk.is_refused(5, "unavailable", &[&uri, "could not reach the service", "try again later"]);
}

#[test]
fn keyslots_of_an_attached_hsm_and_of_the_service_each_open_alone() {
    let mut archive = Archive::start();
    let hsm = SoftHsm::with_token();
    let mut desk = archive.desk_of(&archive.token_of(ALICE));
    hsm.variables().into_iter().for_each(|(name, value)| desk.dir.set(name, value));
    let attached = uri_in(hsm.folder(), "kek");
    desk.run(["keys", "create", &attached]).ok();
    desk.dir.write("a", "secret");
    let keyslot = format!("{},{attached}", desk.provider);
    desk.run(["encrypt", "a", "--keyslot", &keyslot]).ok();

    // A desk without the HSM has the service alone.
    archive.desk_of(&archive.token_of(ALICE)).with_file_of(&desk).opens();
    // And with the HSM, the service may be gone, whether or not it is asked first.
    archive.dke.stop();
    let alone = ["decrypt", "a.twl", "-o", "-", "--customer", &attached];
    assert_eq!(desk.run(alone).ok().stdout, b"secret");
    let either = ["decrypt", "a.twl", "-o", "-", "--keyslot", &keyslot];
    assert_eq!(desk.run(either).ok().stdout, b"secret");
    desk.is_refused(5, "unavailable", &[&archive.uri()]);
}
