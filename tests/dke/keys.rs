//! Public keys and their addresses, as anybody may ask for them.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use twinlock_service::log::Timestamp;

use super::client::Answer;
use super::issuer::{ALICE, Token};
use super::service::{
    Dke, HOST, NEW, OLD, ONLY, ORIGIN, confidential, decrypt_request, key, path_of, reloaded,
};
use crate::support::http::Message;

/// What Microsoft's `key_store_tester.ps1` does, step by step.
#[test]
fn the_sequence_of_the_tester_passes() {
    let dke = Dke::start();
    let url = format!("{ORIGIN}/Confidential");
    assert!(url.starts_with("https"));
    let answer = dke.ask("GET", "/Confidential").ok();
    let key = &answer.body["key"];
    for (field, is_right) in [
        ("kty", key["kty"] == "RSA"),
        ("n", key["n"].is_string()),
        ("e", key["e"].is_u64()),
        ("alg", key["alg"] == "RS256"),
        ("kid", key["kid"].is_string()),
    ] {
        assert!(is_right, "{field}: {key}");
    }
    let kid = key["kid"].as_str().unwrap();
    let head = format!("POST {} HTTP/1.1", path_of(kid));
    let answer = dke.send(&Message::new(&head, &[("host", HOST)], b"")).with(401);
    let challenge = answer.header("www-authenticate").unwrap();
    let (scheme, parts) = challenge.split_once(' ').unwrap();
    assert!(scheme.eq_ignore_ascii_case("bearer"), "{challenge}");
    let parts: Vec<_> = parts
        .split(',')
        .map(|part| {
            let (name, value) = part.trim().split_once('=').unwrap();
            (name, value.strip_prefix('"').unwrap().strip_suffix('"').unwrap())
        })
        .collect();
    let part = |name: &str| parts.iter().find(|(it, _)| *it == name).unwrap().1;
    assert!(part("authorization").starts_with("https://"), "{challenge}");
    assert!(!part("realm").is_empty(), "{challenge}");
    let (resource, host) = (part("resource"), kid.split('/').nth(2).unwrap());
    assert_eq!(resource.strip_prefix("https://").unwrap().trim_end_matches('/'), host);
}

/// Facts that no other JWK has, and that clients rely on.
#[test]
fn a_public_key_has_the_form_that_clients_read() {
    let dke = Dke::start();
    let answer = dke.ask("GET", "/Small").ok();
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&answer.body), ["key"], "no `cache` without `cache_days`");
    assert_eq!(fields(&answer.body["key"]), ["alg", "e", "kid", "kty", "n"]);
    let key = &answer.body["key"];
    assert_eq!(key["e"], json!(65537), "a number");
    assert_eq!(key["kid"], format!("{ORIGIN}/Small/{ONLY}"));
    let modulus = key["n"].as_str().unwrap();
    assert_eq!(modulus.len(), 344, "256 bytes in padded base64, without a leading zero");
    assert!(!modulus.contains(['-', '_']), "of the standard alphabet");
    // In the order of the reference, for whoever reads it with less than a parser.
    let order =
        ["\"kty\"", "\"n\"", "\"e\"", "\"alg\"", "\"kid\""].map(|name| answer.text.find(name));
    assert!(order.is_sorted() && order[0].is_some(), "{}", answer.text);
}

/// `+` and `/` are in one of some keys, and no client takes `-` and `_` for them.
#[test]
fn every_modulus_is_in_the_standard_alphabet() {
    let dke = Dke::start();
    for (name, len) in [("Confidential", 384), ("Other", 384), ("Small", 256), ("Large", 512)] {
        let public = dke.public_key(name);
        assert_eq!(public.modulus.len(), len);
        assert!(public.modulus[0] >= 0x80, "as long as it says");
    }
}

#[test]
fn the_newest_generation_is_served_wherever_the_file_has_it() {
    let dke = Dke::start();
    let newest = |dke: &Dke| dke.public_key("Confidential").id;
    assert_eq!(newest(&dke), format!("{ORIGIN}/Confidential/{NEW}"));
    let swapped = dke
        .config()
        .replace("number = 2", "number = 0")
        .replace("number = 1, id = \"0", "number = 2, id = \"0")
        .replace("number = 0", "number = 1");
    reloaded(&dke, &swapped);
    assert_eq!(newest(&dke), format!("{ORIGIN}/Confidential/{OLD}"));
}

#[test]
fn a_query_is_tolerated_and_never_part_of_the_address() {
    let dke = Dke::start();
    let plain = dke.ask("GET", "/Small").ok().text;
    for query in ["?protocol-version=1.0", "?", "?a=b&c", "?api-version=1&x=%2f..%00"] {
        assert_eq!(dke.ask("GET", &format!("/Small{query}")).ok().text, plain, "{query}");
    }
    let public = dke.public_key("Small");
    let path = format!("{}?protocol-version=1.0", path_of(&public.id));
    let request = decrypt_request(&Token::of(ALICE).signed(), &path, &public.encrypt(b"x"));
    assert_eq!(dke.send(&request).plaintext(), b"x");
}

/// A trailing slash in a label's address must not end in an address that
/// decrypts nothing.
#[test]
fn a_slash_at_the_end_gives_the_same_address() {
    let dke = Dke::start();
    for path in ["/Small/", "//Small", "//Small//"] {
        assert_eq!(dke.ask("GET", path).ok().text, dke.ask("GET", "/Small").ok().text, "{path}");
    }
}

#[test]
fn a_key_that_is_not_there_is_told_in_a_few_words() {
    let dke = Dke::start();
    let answers: Vec<_> =
        ["/Nobody", "/confidential", "/CONFIDENTIAL", "/health", "/%43onfidential"]
            .into_iter()
            .map(|path| dke.ask("GET", path).refused(400, "unknown_key"))
            .collect();
    for answer in &answers {
        refused_without_a_word_too_many(answer);
        assert_eq!(answer.seen(), answers[0].seen());
    }
}

#[track_caller]
fn refused_without_a_word_too_many(answer: &Answer) {
    assert!(matches!(answer.status, 400 | 404), "{answer:?}");
    assert!(answer.text.len() < 300, "{}", answer.text);
    for leak in ["Exception", "panic", "src/", ".rs", "   at ", "/home", "/tmp", "toml"] {
        assert!(!answer.text.contains(leak), "{}", answer.text);
    }
}

#[test]
fn there_are_two_routes_and_no_more() {
    let dke = Dke::start();
    let before = dke.decryptions();
    let id = format!("/Confidential/{NEW}");
    for (method, path, status) in [
        ("GET", "/", 404),
        ("POST", "/", 404),
        ("GET", &confidential(NEW), 405),
        ("PUT", &confidential(NEW), 405),
        ("OPTIONS", &confidential(NEW), 405),
        ("POST", "/Confidential", 405),
        ("PUT", "/Confidential", 405),
        ("DELETE", "/Confidential", 405),
        ("OPTIONS", "/Confidential", 405),
        ("TRACE", "/Confidential", 405),
        ("GET", "/Confidential/x", 404),
        ("GET", &id, 404),
        ("POST", &id, 404),
        ("POST", &format!("{id}/encrypt"), 404),
        ("POST", &format!("{id}/decrypt/more"), 404),
        ("GET", "/./Confidential", 404),
        ("GET", "/../Confidential", 404),
        // Names of keys like others: the operations' pages are on another listener.
        ("GET", "/metrics", 400),
        ("GET", "/readyz", 400),
        ("GET", "/livez", 400),
        ("GET", "/favicon.ico", 400),
    ] {
        let answer = dke.ask(method, path);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {path}");
    }
    // A HEAD has no body to read, so it is not read as the others are.
    assert!(head_of(&dke, "HEAD /Confidential").contains(" 405 "));
    assert_eq!(dke.decryptions(), before);
}

fn head_of(dke: &Dke, request: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut connection = super::client::connect(dke.address, HOST, dke.authority.client()).unwrap();
    let text = format!("{request} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    connection.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn decrypt_is_spelled_in_any_case_and_names_are_not() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let (ciphertext, token) = (public.encrypt(b"x"), Token::of(ALICE).signed());
    for spelling in ["decrypt", "Decrypt", "DECRYPT", "dEcRyPt"] {
        let path = format!("/Confidential/{NEW}/{spelling}");
        assert_eq!(dke.send(&decrypt_request(&token, &path, &ciphertext)).plaintext(), b"x");
    }
    for path in [confidential(&NEW.to_uppercase()), confidential(NEW).replace("Conf", "conf")] {
        let answer = dke.send(&decrypt_request(&token, &path, &ciphertext));
        refused_without_a_word_too_many(&answer.refused(400, "unknown_key"));
    }
}

/// Whole days, UTC, without `Z` and without fractions.
#[test]
fn the_cache_expires_after_the_days_that_are_configured() {
    let dke = Dke::with(|config| config.replace("cache_days = 1", "cache_days = 30"));
    let in_30_days = || second(SystemTime::now() + Duration::from_secs(30 * 86_400));
    let before = in_30_days();
    let answer = dke.ask("GET", "/Confidential").ok();
    let expires = answer.body["cache"]["exp"].as_str().unwrap();
    assert_eq!(answer.body["cache"].as_object().unwrap().len(), 1);
    assert_eq!(expires.len(), "2020-11-21T21:15:55".len(), "{expires}");
    assert!((before.as_str()..=in_30_days().as_str()).contains(&expires), "{expires}");
    let order = ["\"key\"", "\"cache\""].map(|name| answer.text.find(name));
    assert!(order.is_sorted(), "{}", answer.text);
}

fn second(time: SystemTime) -> String {
    Timestamp(time).to_string()[..19].to_owned()
}

/// Behind a proxy that serves other things, too.
#[test]
fn a_path_in_the_public_address_is_part_of_both_routes() {
    let public = format!("public_url = \"{ORIGIN}/ms_dke/v1\"");
    let dke = Dke::with(|config| config.replace(&format!("public_url = \"{ORIGIN}\""), &public));
    for outside in ["/Small", "/ms_dke/Small", "/ms_dke/v1", "/ms_dke/v1x/Small"] {
        refused_without_a_word_too_many(&dke.ask("GET", outside));
    }
    let small = dke.public_key("ms_dke/v1/Small");
    assert_eq!(small.id, format!("{ORIGIN}/ms_dke/v1/Small/{ONLY}"));
    assert_eq!(dke.decrypt(&small, &small.encrypt(b"x")).plaintext(), b"x");
}

/// The reference builds addresses of what clients send, which is wrong behind a
/// proxy and whatever somebody likes elsewhere.
#[test]
fn the_address_of_a_key_is_the_configured_one_whatever_a_client_says() {
    let dke = Dke::start();
    let headers = [
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "host=evil.example;proto=http"),
    ];
    let answer = dke.send(&Message::new("GET /Small HTTP/1.1", &headers, b""));
    assert!(!answer.text.contains("evil"), "{}", answer.text);
    if answer.status == 200 {
        assert_eq!(answer.body["key"]["kid"], format!("{ORIGIN}/Small/{ONLY}"));
    }
}

#[test]
fn a_disabled_key_is_not_served_and_decrypts_nothing_until_it_is_enabled() {
    let dke = Dke::start();
    let public = dke.public_key("Other");
    let ciphertext = public.encrypt(b"x");
    let disabled =
        dke.config().replace("name = \"Other\"", "name = \"Other\"\nstate = \"disabled\"");
    reloaded(&dke, &disabled);
    let before = dke.decryptions();
    // As one that is not there.
    let unknown = dke.ask("GET", "/Nobody").refused(400, "unknown_key");
    assert_eq!(dke.ask("GET", "/Other").seen(), unknown.seen());
    dke.decrypt(&public, &ciphertext).refused(403, "key_disabled");
    // Who may not use it does not learn that it is disabled.
    let mallory = Token::of("mallory@example.org");
    dke.decrypt_with(&mallory, &public, &ciphertext).refused(403, "forbidden");
    assert_eq!(dke.decryptions(), before);
    reloaded(&dke, &dke.config());
    assert_eq!(dke.public_key("Other").modulus, public.modulus);
    assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), b"x");
}

#[test]
fn a_key_is_rotated_and_what_its_retired_generation_encrypted_decrypts() {
    let one = "generations = [{ number = 1, id = \"first\", object = \"dke-2025\" }]";
    let two = "generations = [{ number = 1, id = \"first\", object = \"dke-2025\" }, \
               { number = 2, id = \"second\", object = \"dke-2026\" }]";
    let rotating = key("Rotating", "dke-2025", &format!("users = [\"{ALICE}\"]"));
    let rotating = rotating.replace(
        &format!("generations = [{{ number = 1, id = \"{ONLY}\", object = \"dke-2025\" }}]"),
        one,
    );
    let without_confidential = |config: String| {
        let from = config.find("[[key]]").unwrap();
        config[..from].to_owned()
    };
    let dke = Dke::with(|config| without_confidential(config) + &rotating);
    let old = dke.public_key("Rotating");
    let ciphertext = old.encrypt(b"old");
    reloaded(&dke, &(without_confidential(dke.config()) + &rotating.replace(one, two)));
    let new = dke.public_key("Rotating");
    assert_eq!(new.id, format!("{ORIGIN}/Rotating/second"));
    assert_eq!(dke.decrypt(&old, &ciphertext).plaintext(), b"old");
    assert_eq!(dke.decrypt(&new, &new.encrypt(b"new")).plaintext(), b"new");
    // A generation decrypts its own.
    dke.decrypt(&new, &ciphertext).with(400);
}
