//! Keys on tokens that are not, or not any more, what their labels say.

use std::net::TcpStream;

use super::client::{OAEP, PublicKey, openssl};
use super::issuer::{ALICE, Token};
use super::service::{Dke, eventually, key, reloaded};
use crate::support::cli::run;
use crate::support::softhsm::{TOKEN, module, uri_in, uri_of};

/// Whoever may write to a token could have files protected under a key of their own.
#[test]
fn another_key_under_the_label_of_one_is_not_used() {
    let with_late = |config: String| config + &key("Exchanged", "late", "users = [\"*\"]");
    let dke = with_key_that_comes_later();
    create(&dke, "late");
    let public = found(&dke);
    assert_eq!(dke.decrypt(&public, &public.encrypt(b"x")).plaintext(), b"x");

    dke.hsm.destroy_key("late");
    create(&dke, "late");
    let problem = r#"Exchanged:1: under the label \"late\" a has the public key "#;
    eventually("it is logged", || logged(&dke, "a key is not the one that it was"));
    eventually("it is counted", || dke.metric("twinlock_dke_key_problems") == Some(1.0));
    assert!(dke.get("/readyz").unwrap().starts_with("HTTP/1.1 200"), "others are served");
    assert_eq!(dke.public_key("Exchanged").modulus, public.modulus, "the one that it was");
    assert_decrypts(&dke, "Other");
    // Neither what was encrypted under the old one, which is gone, nor under the new one.
    for ciphertext in [public.encrypt(b"x"), encrypted_under(&dke, "late")] {
        for _ in 0..4 {
            dke.decrypt(&public, &ciphertext).refused(503, "unavailable");
        }
    }

    // It neither keeps anybody on a list nor is adopted by a reload.
    let for_bob =
        with_late(dke.config()).replace(&format!("users = [\"{ALICE}\"]"), "users = [\"bob@x\"]");
    reloaded(&dke, &for_bob);
    let other = dke.public_key("Other");
    dke.decrypt(&other, &other.encrypt(b"x")).with(403);
    assert_eq!(dke.public_key("Exchanged").modulus, public.modulus);

    // Which one it is now is for a person to say.
    let events = events(&dke);
    let pin = &events.split(problem).nth(1).unwrap()[..64];
    let pinned = format!("object = \"late\", spki_sha256 = \"{pin}\"");
    reloaded(&dke, &with_late(dke.config()).replace("object = \"late\"", &pinned));
    eventually("it is used", || {
        let answer = dke.ask("GET", "/Exchanged");
        answer.status == 200 && PublicKey::of(&answer.body).modulus != public.modulus
    });
    assert_decrypts(&dke, "Exchanged");
    eventually("nothing is wrong", || dke.metric("twinlock_dke_key_problems") == Some(0.0));
}

/// What the other one has is what it was, and is enough.
#[test]
fn a_key_exchanged_on_one_of_two_hsms_is_decrypted_with_on_the_other() {
    let dke = with_key_on_two_hsms();
    let public = dke.public_key("Exchanged");
    assert_eq!(dke.decrypt(&public, &public.encrypt(b"x")).plaintext(), b"x");

    dke.hsm.destroy_key("late");
    create(&dke, "late");
    let seen = "under the label \\\"late\\\" a has the public key ";
    eventually("it is logged", || logged(&dke, seen));
    eventually("it is counted", || dke.metric("twinlock_dke_key_problems") == Some(1.0));
    assert!(dke.get("/readyz").unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(dke.public_key("Exchanged").modulus, public.modulus);
    for _ in 0..8 {
        assert_eq!(dke.decrypt(&public, &public.encrypt(b"x")).plaintext(), b"x");
    }
    let under_new = encrypted_under(&dke, "late");
    dke.decrypt(&public, &under_new).refused(400, "invalid_ciphertext");
    let by: Vec<_> = dke.recorded(10).iter().map(|record| record["hsm"].to_string()).collect();
    assert!(by[1..].iter().all(|hsm| hsm == "\"b\""), "{by:?}");
}

/// What a token has from the start can be as wrong as what it has later.
#[test]
fn a_key_that_is_not_the_one_of_the_configuration_is_refused() {
    let dke = Dke::prepared();
    dke.write_config(&dke.config());
    let said = run(dke.command("check-config"), b"").ok().text();
    let pin_of = |name: &str| {
        let line = said.lines().find(|line| line.contains(name)).unwrap();
        line.split("spki_sha256 ").nth(1).unwrap()[..64].to_owned()
    };
    let (pin, other) = (pin_of("Confidential:2"), pin_of("Other:1"));
    let with_pin = |pin: &str| {
        let pinned = format!("object = \"dke-2026\", spki_sha256 = \"{pin}\"");
        dke.write_config(&dke.config().replace("object = \"dke-2026\"", &pinned));
        run(dke.command("check-config"), b"")
    };
    with_pin(&pin).ok();
    with_pin(&pin.to_uppercase()).ok();
    let refused = with_pin(&other).with(1);
    assert!(refused.text().contains("under the label \"dke-2026\""), "{}", refused.text());
    for malformed in [&pin[1..], "", "zz", &format!("{pin}00"), &format!("g{}", &pin[1..])] {
        assert_ne!(with_pin(malformed).code, Some(0), "{malformed}");
    }
}

/// What no instance can serve takes it out of the load balancer, and not sooner.
#[test]
fn a_service_without_any_key_that_is_its_own_is_not_ready() {
    let mut dke = Dke::prepared();
    create(&dke, "late");
    let config = dke.config();
    let others = config.find("[[key]]").expect("a configuration with keys");
    dke.write_config(&(config[..others].to_owned() + &key("Exchanged", "late", "users = [\"*\"]")));
    dke.run();
    eventually("it is ready", || dke.get("/readyz").is_ok_and(|page| page.contains(" 200 ")));
    dke.hsm.destroy_key("late");
    create(&dke, "late");
    eventually("it is not ready", || dke.get("/readyz").unwrap().contains(" 503 "));
    eventually("it says why", || dke.get("/readyz").unwrap().contains("under the label"));
}

/// It would have two lists of who may use it. Whoever may write to the token could
/// otherwise stop all of the service by a copy of one key.
#[test]
fn two_names_of_one_key_are_not_served_and_all_others_are() {
    let dke = with_key_that_comes_later();
    let small = dke.public_key("Small");
    let ciphertext = small.encrypt(b"x");
    dke.hsm.copy_key("rsa-2048", "late");
    eventually("they are not served", || dke.ask("GET", "/Small").status == 503);
    dke.ask("GET", "/Exchanged").refused(503, "unavailable");
    dke.decrypt(&small, &ciphertext).refused(503, "unavailable");
    // Who may not use it learns no more than that.
    dke.decrypt_with(&Token::of("mallory@x"), &small, &ciphertext).refused(403, "forbidden");
    assert_decrypts(&dke, "Other");
    assert_decrypts(&dke, "Confidential");
    eventually("it is logged", || logged(&dke, "a key is not served"));
    eventually("it is ready", || dke.get("/readyz").unwrap().starts_with("HTTP/1.1 200"));
    eventually("it is counted", || dke.metric("twinlock_dke_key_problems") == Some(2.0));

    // Nor does it keep anybody on a list, or get served after a reload.
    let config = dke.config() + &key("Exchanged", "late", "users = [\"*\"]");
    reloaded(&dke, &config.replace(&format!("users = [\"{ALICE}\"]"), "users = [\"bob@x\"]"));
    let other = dke.public_key("Other");
    dke.decrypt(&other, &other.encrypt(b"x")).with(403);
    dke.ask("GET", "/Small").refused(503, "unavailable");

    dke.hsm.destroy_key("late");
    reloaded(&dke, &dke.config());
    eventually("it is served again", || dke.ask("GET", "/Small").status == 200);
    assert_eq!(dke.decrypt(&small, &ciphertext).plaintext(), b"x");
}

/// `Exchanged`, whose object no token has yet.
fn with_key_that_comes_later() -> Dke {
    let mut dke = Dke::prepared();
    dke.write_config(&(dke.config() + &key("Exchanged", "late", "users = [\"*\"]")));
    dke.run();
    // Not until it is ready: whether a token has its keys is told by any one of them.
    eventually("it listens", || TcpStream::connect(dke.address).is_ok());
    dke
}

/// `Exchanged`, whose object is the same key on two tokens: `a`, which can be made to
/// fail, and `b`.
pub(super) fn with_key_on_two_hsms() -> Dke {
    let mut dke = Dke::prepared();
    dke.hsm.add_token("second");
    let pem = openssl(&dke.dir.work(), &["genrsa", "3072"], b"");
    let der = openssl(&dke.dir.work(), &["rsa", "-traditional", "-outform", "DER"], &pem);
    for token in [TOKEN, "second"] {
        let uri = uri_of(dke.hsm.folder(), token, "late");
        dke.dir.run_with(["keys", "create", "--from", "-", &uri], &der).ok();
    }
    let second = format!(
        "[[hsm]]\nname = \"b\"\ntoken = \"pkcs11:token=second?module-path={}\"\n\
         pin = {{ file = \"{}/pin\" }}\nsessions = 2\n\n[[key]]",
        module().display(),
        dke.dir.home().display()
    );
    let exchanged = key("Exchanged", "late", &format!("users = [\"{ALICE}\"]"));
    let on_both = exchanged.replace("hsms = [\"a\"]", "hsms = [\"a\", \"b\"]");
    let config = dke.config().replacen("[[key]]", &second, 1) + &on_both;
    dke.write_config(&format!("hedge_after_ms = 50\n{config}"));
    dke.run();
    dke.wait_until_ready();
    dke
}

fn found(dke: &Dke) -> PublicKey {
    eventually("it is found", || dke.ask("GET", "/Exchanged").status == 200);
    dke.public_key("Exchanged")
}

fn create(dke: &Dke, label: &str) {
    dke.dir.run(["keys", "create", "--type", "rsa-3072", &uri_in(dke.hsm.folder(), label)]).ok();
}

/// What whoever put that key on the token can have decrypted.
fn encrypted_under(dke: &Dke, label: &str) -> Vec<u8> {
    let export = dke.dir.run(["keys", "export-public", &uri_in(dke.hsm.folder(), label)]);
    dke.dir.write("late.pem", export.ok().stdout);
    let encrypt = ["pkeyutl", "-encrypt", "-pubin", "-inkey", "late.pem"];
    let options = OAEP.iter().flat_map(|option| ["-pkeyopt", option]);
    let arguments: Vec<_> = encrypt.into_iter().chain(options).collect();
    openssl(&dke.dir.work(), &arguments, b"x")
}

#[track_caller]
fn assert_decrypts(dke: &Dke, name: &str) {
    let public = dke.public_key(name);
    assert_eq!(dke.decrypt(&public, &public.encrypt(b"y")).plaintext(), b"y");
}

fn logged(dke: &Dke, message: &str) -> bool {
    events(dke).contains(message)
}

fn events(dke: &Dke) -> String {
    std::fs::read_to_string(dke.dir.home().join("events.jsonl")).unwrap()
}
