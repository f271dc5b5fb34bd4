//! Who may decrypt: tokens that are none, and people who may not.

use serde_json::json;

use super::client::Answer;
use super::issuer::{ALICE, ISSUER, Token, first_key, other_key};
use super::service::{
    Dke, HOST, NEW, ONLY, ORIGIN, confidential, decrypt_body, decrypt_request, eventually, key,
    post,
};
use crate::support::http::Message;

const BODY_SHOWS_NOTHING: usize = 300;

/// 401 with a challenge that says why, and nothing of the token.
#[track_caller]
fn is_invalid(what: &str, answer: &Answer, token: &str) {
    assert_eq!(answer.status, 401, "{what}: {answer:?}");
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.contains("error=\"invalid_token\""), "{what}: {challenge}");
    assert_has_resource(challenge);
    // The tester splits it at commas.
    for part in challenge.split_once(' ').unwrap().1.split(',') {
        let value = part.trim().split_once('=').unwrap().1;
        assert!(value.starts_with('"') && value.ends_with('"') && value.len() > 2, "{challenge}");
        assert!(!value[1..value.len() - 1].contains('"'), "{challenge}");
    }
    assert!(answer.text.len() < BODY_SHOWS_NOTHING, "{}", answer.text);
    for part in token.split('.').filter(|part| part.len() > 10) {
        assert!(!format!("{answer:?}").contains(part), "{what}");
    }
}

#[track_caller]
fn assert_has_resource(challenge: &str) {
    assert!(challenge.starts_with("Bearer "), "{challenge}");
    for part in [
        format!("resource=\"{ORIGIN}\""),
        "authorization=\"https://login.windows.net/common/oauth2/authorize\"".to_owned(),
        format!("realm=\"{ORIGIN}\""),
    ] {
        assert!(challenge.contains(&part), "{challenge}");
    }
}

#[test]
fn who_shows_no_token_is_challenged_without_an_error() {
    let dke = Dke::start();
    let before = dke.decryptions();
    let body = decrypt_body(&[1; 384]).to_string();
    for authorization in [None, Some("Basic YTpi"), Some("Bearer "), Some("Bearer"), Some("")] {
        let head = format!("POST {} HTTP/1.1", confidential(NEW));
        let mut request = Message::new(
            &head,
            &[("host", HOST), ("content-type", "application/json")],
            body.as_bytes(),
        );
        request.headers.extend(authorization.map(|it| ("authorization".to_owned(), it.to_owned())));
        let answer = dke.send(&request).with(401);
        let challenge = answer.header("www-authenticate").unwrap();
        assert_has_resource(challenge);
        assert!(!challenge.contains("error"), "{authorization:?}: {challenge}");
        assert_eq!(answer.header("resource"), Some(ORIGIN));
        assert_eq!(
            answer.header("authorization"),
            Some("https://login.windows.net/common/oauth2/authorize")
        );
    }
    assert_eq!(dke.decryptions(), before);
    assert!(dke.issuer.asked_for_keys() <= 1, "nothing made it ask");
}

#[test]
fn the_challenge_is_what_is_configured() {
    let challenge = "[challenge]\nauthorization = \"https://login.example/authorize\"\n\
                     resource = \"https://resource.example\"\n\n[[issuer]]";
    let dke = Dke::with(|config| config.replacen("[[issuer]]", challenge, 1));
    let answer = dke.ask("POST", &confidential(NEW)).with(401);
    assert_eq!(answer.header("resource"), Some("https://resource.example"));
    let header = answer.header("www-authenticate").unwrap();
    assert!(header.contains("authorization=\"https://login.example/authorize\""), "{header}");
    assert!(header.contains("realm=\"https://resource.example\""), "{header}");
}

#[test]
fn a_good_token_of_a_listed_user_decrypts() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    assert_eq!(dke.decrypt(&public, &public.encrypt(b"x")).plaintext(), b"x");
}

/// Entra ID lists up to 200 groups.
#[test]
fn a_token_with_many_groups_is_taken() {
    let dke = Dke::start();
    let groups: Vec<_> =
        (0..200).map(|number| format!("7f3b9d2e-0000-4000-8000-{number:012}")).collect();
    let token = Token::of(ALICE).with("groups", groups).signed();
    assert!(token.len() > 10_000, "{}", token.len());
    assert_eq!(dke.try_token(&token).status, 200);
}

#[test]
fn what_is_no_token_is_invalid() {
    let dke = Dke::start();
    let before = dke.decryptions();
    let good = Token::of(ALICE).signed();
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    for (what, token) in [
        ("a word", "garbage".to_owned()),
        ("dots", "..".to_owned()),
        ("two parts", format!("{header}.{claims}")),
        ("four parts", format!("{good}.x")),
        ("no signature", format!("{header}.{claims}.")),
        ("no claims", format!("{header}..{signature}")),
        ("base64 with padding", format!("{header}=.{claims}=.{signature}=")),
        ("claims that are no JSON", format!("{header}.bm9uZQ.{signature}")),
        ("a signature cut short", good[..good.len() - 4].to_owned()),
        ("a signature with more behind", format!("{good}AAAA")),
        ("10 KiB", "x".repeat(10 << 10)),
    ] {
        is_invalid(what, &dke.try_token(&token), &token);
    }
    assert_eq!(dke.decryptions(), before);
    assert!(!dke.said().contains("panicked"), "{}", dke.said());
}

#[test]
fn a_token_that_the_issuer_did_not_sign_is_invalid() {
    let dke = Dke::start();
    let before = dke.decryptions();
    let alice = || Token::of(ALICE);
    let good = alice().signed();
    let other_claims = alice().with("upn", "bob@partner.example").signed();
    let parts: Vec<_> = good.split('.').collect();
    let spliced = format!("{}.{}.{}", parts[0], other_claims.split('.').nth(1).unwrap(), parts[2]);
    let mut flipped = good.clone().into_bytes();
    let at = flipped.len() - 20;
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    for (what, token) in [
        ("none", alice().unsigned()),
        ("None", alice().with_header("alg", "None").signed()),
        ("a MAC with the public key", alice().with_a_mac()),
        ("RS512 in the header", alice().with_header("alg", "RS512").signed()),
        ("PS256 in the header", alice().with_header("alg", "PS256").signed()),
        ("no alg", alice().with_header("alg", json!(null)).signed()),
        ("another's key", alice().forged_by(other_key()).signed()),
        ("another's key, by its name", alice().by(other_key()).signed()),
        ("its own key inside", {
            let jwk = json!({ "kty": "RSA", "e": "AQAB", "n": "AQAB" });
            alice().forged_by(other_key()).with_header("jwk", jwk).signed()
        }),
        ("a key from elsewhere", {
            let url = "https://evil.example/keys";
            alice().forged_by(other_key()).with_header("jku", url).signed()
        }),
        ("claims of another token", spliced),
        ("a bit of the signature", String::from_utf8(flipped).unwrap()),
        ("critical extensions", alice().with_header("crit", json!(["exp"])).signed()),
    ] {
        is_invalid(what, &dke.try_token(&token), &token);
    }
    assert_eq!(dke.decryptions(), before);
}

#[test]
fn a_token_for_somebody_else_or_of_somebody_else_is_invalid() {
    let dke = Dke::start();
    let before = dke.decryptions();
    let alice = || Token::of(ALICE);
    let v2 = format!("https://login.microsoftonline.com/{}/v2.0", super::issuer::TENANT);
    for (what, token) in [
        ("another audience", alice().with("aud", "https://other.test")),
        ("Azure RMS's audience", alice().with("aud", "https://aadrm.com")),
        ("a longer audience", alice().with("aud", format!("{ORIGIN}.evil.example"))),
        ("another scheme", alice().with("aud", ORIGIN.replace("https", "http"))),
        ("another audience's case", alice().with("aud", ORIGIN.to_uppercase())),
        ("no audience", alice().without("aud")),
        ("an empty list of audiences", alice().with("aud", json!([]))),
        ("an audience that is a number", alice().with("aud", 7)),
        ("another issuer", alice().with("iss", "https://evil.example/")),
        ("v2 that is not configured", alice().with("iss", v2)),
        ("the issuer without its slash", alice().with("iss", ISSUER.trim_end_matches('/'))),
        ("no issuer", alice().without("iss")),
        ("another tenant", alice().with("tid", "00000000-0000-0000-0000-000000000000")),
        ("no tenant", alice().without("tid")),
    ] {
        let token = token.signed();
        is_invalid(what, &dke.try_token(&token), &token);
    }
    assert_eq!(dke.decryptions(), before);
    let among = alice().with("aud", json!(["https://other.test", ORIGIN])).signed();
    assert_eq!(dke.try_token(&among).status, 200);
    let with_slash = alice().with("aud", format!("{ORIGIN}/")).signed();
    assert_eq!(dke.try_token(&with_slash).status, 200);
}

/// Five minutes are given, for clocks that differ.
#[test]
fn a_token_is_valid_from_its_begin_to_its_end() {
    let dke = Dke::start();
    let before = dke.decryptions();
    let alice = || Token::of(ALICE);
    for (what, token) in [
        ("expired", alice().at("exp", -301 - 60)),
        ("expired long ago", alice().with("exp", 1)),
        ("not valid yet", alice().at("nbf", 300 + 60)),
        ("without an end", alice().without("exp")),
        ("with a text as its end", alice().with("exp", "4102444800")),
        ("with an end beyond all time", alice().with("exp", -1)),
    ] {
        let token = token.signed();
        is_invalid(what, &dke.try_token(&token), &token);
    }
    assert_eq!(dke.decryptions(), before);
    for token in [alice().at("exp", -240), alice().at("nbf", 240), alice().without("nbf")] {
        assert_eq!(dke.try_token(&token.signed()).status, 200);
    }
}

#[test]
fn a_token_without_the_scope_is_no_use() {
    let dke = Dke::start();
    for token in [
        Token::of(ALICE).with("scp", "openid profile"),
        Token::of(ALICE).with("scp", "user_impersonation2"),
        Token::of(ALICE).without("scp"),
    ] {
        let token = token.signed();
        is_invalid("another scope", &dke.try_token(&token), &token);
    }
    let among = Token::of(ALICE).with("scp", "openid user_impersonation profile");
    assert_eq!(dke.try_token(&among.signed()).status, 200);
}

#[test]
fn only_listed_clients_may_carry_tokens_where_a_list_is_given() {
    let clients = format!("clients = [\"{}\"]\nca = ", super::issuer::OFFICE);
    let dke = Dke::with(|config| config.replacen("ca = ", &clients, 1));
    assert_eq!(dke.try_token(&Token::of(ALICE).signed()).status, 200);
    for token in
        [Token::of(ALICE).with("appid", "somebody-else"), Token::of(ALICE).without("appid")]
    {
        let token = token.signed();
        is_invalid("another client", &dke.try_token(&token), &token);
    }
    let v2 = Token::of(ALICE).without("appid").with("azp", super::issuer::OFFICE);
    assert_eq!(dke.try_token(&v2.signed()).status, 200, "as v2.0 calls it");
}

#[test]
fn tokens_of_version_2_are_taken_where_their_issuer_is_configured() {
    let dke = Dke::prepared();
    let v2 = format!("https://login.microsoftonline.com/{}/v2.0", super::issuer::TENANT);
    let issuer = super::issuer::Issuer::named(&dke.authority, &v2);
    let config = dke.config().replacen(
        "[[hsm]]",
        &format!(
            "[[issuer]]\nissuer = \"{v2}\"\nmetadata = \"{}\"\naudiences = [\"b1946ac9\"]\n\
             ca = \"{}/ca.pem\"\n\n[[hsm]]",
            issuer.metadata_url(),
            dke.dir.home().display()
        ),
        1,
    );
    // Of this issuer's, too, for one of the keys.
    let both = format!("access = {{ issuers = [\"{ISSUER}\", \"{v2}\"], ");
    let first = format!("access = {{ issuers = [\"{ISSUER}\"], ");
    let config =
        config.replacen("access = { ", &both, 1).replace("access = { users", &(first + "users"));
    let mut dke = dke;
    dke.write_config(&config);
    dke.run();
    dke.wait_until_ready();
    let token = Token::of(ALICE).with("iss", v2).with("aud", "b1946ac9").with("ver", "2.0");
    assert_eq!(dke.try_token(&token.signed()).status, 200);
    // One issuer's audience is none of another's.
    assert_eq!(dke.try_token(&token.clone().with("aud", ORIGIN).signed()).status, 401);
    assert_eq!(dke.try_token(&token.clone().with("iss", ISSUER).signed()).status, 401);
    // Its alice is not the one that another key knows, whatever else it claims.
    let other = dke.public_key("Other");
    let ciphertext = other.encrypt(b"x");
    dke.decrypt_with(&token, &other, &ciphertext).with(403);
    assert_eq!(dke.decrypt(&other, &ciphertext).plaintext(), b"x");
}

/// One look at the keys for each such token would be a weapon against the issuer.
#[test]
fn keys_of_an_unknown_id_are_looked_for_and_not_without_end() {
    let dke = Dke::start();
    dke.try_token(&Token::of(ALICE).signed());
    let before = dke.issuer.asked();
    for number in 0..60 {
        let token = Token::of(ALICE).with_header("kid", format!("unknown-{number}")).signed();
        is_invalid("an unknown key", &dke.try_token(&token), &token);
    }
    let asked = dke.issuer.asked() - before;
    assert!(asked <= 10, "{asked} requests of 60 bad tokens");
    assert_eq!(dke.try_token(&Token::of(ALICE).signed()).status, 200, "others are served");
}

#[test]
fn keys_are_exchanged_while_it_runs() {
    let dke = Dke::start();
    let new = Token::of(ALICE).by(other_key()).signed();
    assert_eq!(dke.try_token(&Token::of(ALICE).signed()).status, 200);
    is_invalid("a key that is not published", &dke.try_token(&new), &new);
    dke.issuer.publish(&[first_key(), other_key()]);
    eventually("the new key is found", || dke.try_token(&new).status == 200);
    assert_eq!(dke.try_token(&Token::of(ALICE).signed()).status, 200, "so is the old one");
}

// === People ===

#[test]
fn who_is_not_listed_is_denied_and_sees_nothing() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    let before = dke.decryptions();
    for user in [
        "mallory@example.org",
        "alice@example.org.evil.example",
        "xalice@example.org",
        "alice@example.or",
        "",
        "*",
        "bob@partner.example.evil.example",
        "bob@xpartner.example",
    ] {
        let answer = dke.decrypt_with(&Token::of(user), &public, &ciphertext);
        let answer = answer.refused(403, "forbidden");
        assert!(answer.text.len() < BODY_SHOWS_NOTHING, "{}", answer.text);
        assert!(!answer.text.contains("example"), "{}", answer.text);
    }
    assert_eq!(dke.decryptions(), before);
}

#[test]
fn users_are_compared_without_case_and_by_pattern() {
    let users = "users = [\" Alice@Example.org \", \"*@partner.example\", \"user?@example.net\"]";
    let dke = Dke::with(|config| config + &key("Patterns", "spare", users));
    let public = dke.public_key("Patterns");
    let ciphertext = public.encrypt(b"x");
    for user in
        ["alice@example.org", "ALICE@EXAMPLE.ORG", "bob@partner.example", "User1@Example.net"]
    {
        assert_eq!(dke.decrypt_with(&Token::of(user), &public, &ciphertext).plaintext(), b"x");
    }
    for user in ["user12@example.net", "user@example.net", "bob@partner.example.org"] {
        dke.decrypt_with(&Token::of(user), &public, &ciphertext).with(403);
    }
}

/// `email` is what many can set for themselves.
#[test]
fn an_email_counts_only_where_the_key_says_so() {
    let by_email = format!("users = [\"{ALICE}\"], user_claims = [\"upn\", \"email\"]");
    let dke = Dke::with(|config| config + &key("Mail", "spare", &by_email));
    let [plain, mail] = ["Other", "Mail"].map(|name| dke.public_key(name));
    let only_mail = Token::of(ALICE).without("upn").with("email", ALICE);
    dke.decrypt_with(&only_mail, &plain, &plain.encrypt(b"x")).with(403);
    assert_eq!(dke.decrypt_with(&only_mail, &mail, &mail.encrypt(b"x")).plaintext(), b"x");
}

/// The sample takes whichever the token has first. Here the key says which counts,
/// and another is no second chance.
#[test]
fn the_first_claim_of_the_key_that_a_token_has_decides() {
    let access = |claims: &str| format!("users = [\"{ALICE}\"], user_claims = {claims}");
    let dke = Dke::with(|config| {
        let by_name = access("[\"upn\", \"email\"]");
        let config = config.replace(&format!("users = [\"{ALICE}\"] "), &(by_name + " "));
        config + &key("ByMail", "spare", &access("[\"email\", \"upn\"]"))
    });
    let token = |email: &str, upn: &str| Token::of(upn).with("email", email);
    let mallory = "mallory@example.org";
    for (name, email, upn, may) in [
        ("ByMail", mallory, ALICE, false),
        ("ByMail", ALICE, mallory, true),
        ("Other", mallory, ALICE, true),
        ("Other", ALICE, mallory, false),
    ] {
        let public = dke.public_key(name);
        let answer = dke.decrypt_with(&token(email, upn), &public, &public.encrypt(b"x"));
        match may {
            true => assert_eq!(answer.plaintext(), b"x", "{name}: {email}, {upn}"),
            false => drop(answer.refused(403, "forbidden")),
        }
    }
    // What the issuer does not vouch for is as if it were not there.
    let unverified = token(mallory, ALICE).with("email_verified", false);
    let public = dke.public_key("ByMail");
    assert_eq!(dke.decrypt_with(&unverified, &public, &public.encrypt(b"x")).plaintext(), b"x");
}

#[test]
fn a_token_of_no_user_is_denied() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let app = Token::of(ALICE).without("upn").without("unique_name").with("idtyp", "app");
    dke.decrypt_with(&app, &public, &public.encrypt(b"x")).refused(403, "forbidden");
    // Claims that are not text are nobody.
    for upn in [json!(null), json!(7), json!([ALICE]), json!({ "upn": ALICE })] {
        let token = Token::of(ALICE).with("upn", upn);
        dke.decrypt_with(&token, &public, &public.encrypt(b"x")).refused(403, "forbidden");
    }
}

/// Who may not use a key learns nothing of what is wrong with the rest.
#[test]
fn who_may_not_is_told_before_the_body_is_looked_at() {
    let dke = Dke::start();
    let mallory = Token::of("mallory@example.org").signed();
    let path = confidential(NEW);
    let answers: Vec<_> = [
        decrypt_body(&[1; 384]).to_string(),
        json!({ "alg": "RSA1_5", "value": "AAAA" }).to_string(),
        json!({ "alg": "RSA-OAEP-256", "value": "no base64!" }).to_string(),
        json!({}).to_string(),
        "no json".to_owned(),
        String::new(),
    ]
    .iter()
    .map(|body| dke.send(&post(&mallory, &path, body.as_bytes())).refused(403, "forbidden"))
    .map(|answer| answer.seen())
    .collect();
    assert!(answers.iter().all(|answer| answer == &answers[0]));
    // And a token that is none, before anything else is.
    let garbage = dke.send(&post("garbage", &path, b"no json")).with(401);
    is_invalid("a word", &garbage, "garbage");
}

/// Neither the name nor the id says which of them does not exist.
#[test]
fn what_does_not_exist_is_refused_in_one_way() {
    let dke = Dke::start();
    let token = Token::of(ALICE).signed();
    let answers: Vec<_> = [
        confidential("00000000-0000-0000-0000-000000000000"),
        confidential(ONLY),
        format!("/Nobody/{NEW}/decrypt"),
        "/Nobody/nothing/decrypt".to_owned(),
        format!("/Other/{NEW}/decrypt"),
    ]
    .iter()
    .map(|path| dke.send(&decrypt_request(&token, path, &[1; 384])))
    .collect();
    for answer in &answers {
        let _ = answer.clone().refused(400, "unknown_key");
        assert_eq!(answer.seen(), answers[0].seen());
    }
    // Nor does anybody learn it without a token.
    for path in [confidential("x"), format!("/Nobody/{NEW}/decrypt"), confidential(NEW)] {
        assert_eq!(dke.ask("POST", &path).status, 401, "{path}");
    }
}
