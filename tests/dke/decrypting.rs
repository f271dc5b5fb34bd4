//! Decrypting, and everything that does not decrypt.

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD, Engine as _};
use proptest::prelude::{ProptestConfig, any};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::client::{Answer, OAEP, PublicKey};
use super::issuer::{ALICE, Token};
use super::service::{
    Dke, HOST, NEW, OLD, ONLY, ORIGIN, confidential, decrypt_body, decrypt_request, key, path_of,
};
use crate::support::http::Message;

#[test]
fn what_openssl_encrypted_decrypts_whatever_its_length() {
    let dke = Dke::start();
    for (name, longest) in [("Small", 190), ("Confidential", 318), ("Large", 446)] {
        let public = dke.public_key(name);
        for len in [0, 1, 16, 32, 44, longest] {
            let plaintext: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
            let ciphertext = public.encrypt(&plaintext);
            assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), plaintext, "{name} {len}");
        }
    }
}

/// What Office has in its files: a header of 12 bytes, and a key.
#[test]
fn a_plaintext_is_opaque() {
    let dke = Dke::start();
    let public = dke.public_key("Small");
    let plaintext = [&hex::decode("2c00ffff2000100002100000").unwrap()[..], &[0; 32]].concat();
    assert_eq!(dke.decrypt(&public, &public.encrypt(&plaintext)).plaintext(), plaintext);
}

/// Whatever else somebody encrypted under the public key.
#[test]
fn a_key_for_shares_decrypts_to_32_bytes_and_nothing_else() {
    let dke = Dke::with(|config| {
        let shares = key("Archive", "spare", &format!("users = [\"{ALICE}\"]"));
        config + &shares.replace("microsoft-label", "shares")
    });
    let public = dke.public_key("Archive");
    assert_eq!(dke.decrypt(&public, &public.encrypt(&[7; 32])).plaintext(), [7; 32]);
    for len in [0, 31, 33, 44] {
        let ciphertext = public.encrypt(&vec![7; len]);
        dke.decrypt(&public, &ciphertext).refused(400, "invalid_ciphertext");
    }
}

#[test]
fn a_key_decrypts_so_many_times_in_a_second() {
    let rated = "decrypts_per_second = 1\ngenerations";
    let dke = Dke::with(|config| {
        let spare = key("Rated", "spare", &format!("users = [\"{ALICE}\"]"));
        config + &spare.replace("generations", rated)
    });
    let public = dke.public_key("Rated");
    let ciphertext = public.encrypt(b"x");
    let answers: Vec<_> = (0..20).map(|_| dke.decrypt(&public, &ciphertext)).collect();
    assert_eq!(answers[0].status, 200);
    let refused = answers.into_iter().find(|answer| answer.status != 200).unwrap();
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let _ = refused.refused(429, "busy");
    // Neither its public key nor another key counts.
    dke.public_key("Rated");
    let other = dke.public_key("Other");
    assert_eq!(dke.decrypt(&other, &other.encrypt(b"y")).plaintext(), b"y");
}

#[test]
fn any_plaintext_comes_back() {
    let dke = Dke::start();
    let public = dke.public_key("Small");
    let mut runner = TestRunner::new(ProptestConfig { cases: 24, ..ProptestConfig::default() });
    let plaintexts = proptest::collection::vec(any::<u8>(), 0..=190);
    let comes_back = |plaintext: Vec<u8>| {
        let ciphertext = public.encrypt(&plaintext);
        assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), plaintext);
        Ok(())
    };
    runner.run(&plaintexts, comes_back).unwrap();
}

#[test]
fn an_answer_has_the_form_that_clients_read() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let answer = dke.decrypt(&public, &public.encrypt(&[0xfb; 44])).ok();
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.body, json!({ "value": BASE64_STANDARD.encode([0xfb; 44]) }));
    // Nobody between the service and the client keeps it.
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[test]
fn every_generation_decrypts_its_own() {
    let dke = Dke::start();
    let new = dke.public_key("Confidential");
    let swap = dke.config().replace("number = 1, id = \"0", "number = 3, id = \"0");
    super::service::reloaded(&dke, &swap);
    let old = dke.public_key("Confidential");
    assert!(old.id.ends_with(OLD) && new.id.ends_with(NEW));
    super::service::reloaded(&dke, &dke.config());
    for public in [&new, &old] {
        assert_eq!(dke.decrypt(public, &public.encrypt(b"x")).plaintext(), b"x");
    }
    dke.decrypt(&old, &new.encrypt(b"x")).with(400);
    dke.decrypt(&new, &old.encrypt(b"x")).with(400);
}

// === Requests that say something else ===

#[test]
fn only_one_algorithm_is_taken() {
    let dke = Dke::start();
    let before = dke.decryptions();
    let value = BASE64_STANDARD.encode(dke.public_key("Confidential").encrypt(b"x"));
    for alg in [
        json!(null),
        json!("RSA-OAEP"),
        json!("RSA1_5"),
        json!("rsa-oaep-256"),
        json!("RSA-OAEP-256 "),
        json!("RS256"),
        json!(""),
        json!(256),
        json!(["RSA-OAEP-256"]),
    ] {
        is_bad(&dke.post(json!({ "alg": alg, "value": value }).to_string().as_bytes()));
    }
    is_bad(&dke.post(json!({ "value": value }).to_string().as_bytes()));
    assert_eq!(dke.decryptions(), before);
}

#[test]
fn a_value_that_is_no_ciphertext_is_refused() {
    let dke = Dke::start();
    let before = dke.decryptions();
    let public = dke.public_key("Confidential");
    let bytes = loop {
        // With a character in it that the two alphabets do not share.
        let bytes = public.encrypt(b"x");
        if BASE64_STANDARD.encode(&bytes).contains(['+', '/']) {
            break bytes;
        }
    };
    let shorter = &bytes[..383]; // which has one character of padding
    let mut not_canonical = BASE64_STANDARD.encode(&bytes[..382]);
    not_canonical.truncate(not_canonical.len() - 2);
    not_canonical.push_str("/=");
    for value in [
        json!(null),
        json!(7),
        json!({}),
        json!([1, 2]),
        json!("not base64!"),
        json!("\u{1F980}"),
        json!(BASE64_URL_SAFE.encode(&bytes)),
        json!(BASE64_URL_SAFE_NO_PAD.encode(shorter)),
        json!(BASE64_STANDARD.encode(&bytes).replace('A', "=")),
        json!(not_canonical),
        json!(format!("{}\0", BASE64_STANDARD.encode(&bytes))),
    ] {
        is_bad(&dke.post(json!({ "alg": "RSA-OAEP-256", "value": value }).to_string().as_bytes()));
    }
    is_bad(&dke.post(br#"{"alg":"RSA-OAEP-256"}"#));
    assert_eq!(dke.decryptions(), before);
}

/// .NET's base64 has them, and so does what clients make with it.
#[test]
fn white_space_in_a_value_is_skipped() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let value = BASE64_STANDARD.encode(public.encrypt(b"x"));
    for between in ["\r\n", "\n", " ", "\t"] {
        let lines: Vec<_> =
            value.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let body = json!({ "alg": "RSA-OAEP-256", "value": lines.join(between) + between });
        assert_eq!(dke.post(body.to_string().as_bytes()).plaintext(), b"x", "{between:?}");
    }
}

#[test]
fn a_body_that_is_no_request_is_refused() {
    let dke = Dke::start();
    let before = dke.decryptions();
    let good = decrypt_body(&[1; 384]).to_string();
    let deep = "[".repeat(4000) + &"]".repeat(4000);
    let bodies: [&[u8]; 13] = [
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b"\"RSA-OAEP-256\"",
        b"{\"alg\":\"RSA-OAEP-256\",\"value\":\"\xff\xfe\"}",
        b"\xef\xbb\xbf{}",
        deep.as_bytes(),
        &good.as_bytes()[..good.len() - 1],
        b"{\"alg\":\"RSA-OAEP-256\",\"value\":\"AAAA\",\"value\":\"AAAA\"}",
        b"alg=RSA-OAEP-256&value=AAAA",
        b"{\"alg\":\"RSA-OAEP-256\",\"value\":\"AAAA\"}{}",
    ];
    for body in bodies {
        is_bad(&dke.post(body));
    }
    assert_eq!(dke.decryptions(), before);
    assert!(!dke.said().contains("panicked"), "{}", dke.said());
}

#[test]
fn only_json_is_read() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let good =
        decrypt_request(&Token::of(ALICE).signed(), &path_of(&public.id), &public.encrypt(b"x"));
    let with = |content_type: Option<&str>| {
        let mut request = good.clone();
        request.headers.retain(|(name, _)| name != "content-type");
        let header = content_type.map(|it| ("content-type".to_owned(), it.to_owned()));
        request.headers.extend(header);
        dke.send(&request)
    };
    for other in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonx"),
        Some("text/json-not"),
        Some(""),
    ] {
        let _ = with(other).refused(415, "unsupported_media_type");
    }
    for json in
        ["application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"]
    {
        assert_eq!(with(Some(json)).plaintext(), b"x", "{json}");
    }
}

#[test]
fn what_clients_may_add_one_day_is_tolerated() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let value = BASE64_STANDARD.encode(public.encrypt(b"x"));
    for body in [
        json!({ "alg": "RSA-OAEP-256", "value": value, "kid": "x", "more": { "deep": [1, null] } }),
        json!({ "ALG": "RSA-OAEP-256", "Value": value }),
        json!({ "Alg": "RSA-OAEP-256", "VALUE": value }),
    ] {
        assert_eq!(dke.post(body.to_string().as_bytes()).plaintext(), b"x", "{body}");
    }
}

#[test]
fn a_body_of_more_than_16_kib_is_not_read() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let good = decrypt_body(&public.encrypt(b"x")).to_string();
    // White space after it is part of it.
    let of_length = |len: usize| dke.post(format!("{good:len$}").as_bytes());
    assert_eq!(of_length(16 << 10).plaintext(), b"x");
    let before = dke.decryptions();
    for len in [(16 << 10) + 1, 17 << 10] {
        let _ = of_length(len).refused(413, "too_large");
    }
    assert_eq!(dke.decryptions(), before);
}

/// What is wrong with the request, and not with the ciphertext in it.
#[track_caller]
fn is_bad(answer: &Answer) {
    let _ = answer.clone().refused(400, "invalid_request");
    assert!(answer.text.len() < 300, "{}", answer.text);
    for leak in ["line", "column", "serde", "Exception", "src/", "base64 error"] {
        assert!(!answer.text.contains(leak), "{}", answer.text);
    }
}

// === Ciphertexts that do not decrypt ===

/// Every kind of them there is, each with its name. They are of the right length
/// unless they say otherwise.
pub(super) fn bad_ciphertexts(
    public: &PublicKey,
    other: &PublicKey,
) -> Vec<(&'static str, Vec<u8>)> {
    let len = public.modulus.len();
    let good = public.encrypt(b"plaintext");
    let flipped = |at: usize, bit: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= bit;
        bytes
    };
    let with = |options: &[&str]| public.encrypt_with(options, b"plaintext");
    let sha1 = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha1", "rsa_mgf1_md:sha1"];
    let mgf1 = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha1"];
    let label: Vec<_> = OAEP.iter().copied().chain(["rsa_oaep_label:6c6162656c"]).collect();
    let raw = |first: u8, rest: u8| {
        let mut padded = vec![rest; len];
        padded[0] = first;
        public.encrypt_with(&["rsa_padding_mode:none"], &padded)
    };
    let mut longer = good.clone();
    longer.push(0);
    let leading_zero = [&[0][..], &good].concat();
    vec![
        ("noise", vec![0x5a; len]),
        ("zeros", vec![0; len]),
        ("one", [&vec![0; len - 1][..], &[1]].concat()),
        ("the modulus", public.modulus.clone()),
        ("more than the modulus", vec![0xff; len]),
        ("its first bit flipped", flipped(0, 0x01)),
        ("its last bit flipped", flipped(len - 1, 0x01)),
        ("a bit of its middle flipped", flipped(len / 2, 0x10)),
        ("PKCS#1 v1.5", with(&["rsa_padding_mode:pkcs1"])),
        ("OAEP with SHA-1", with(&sha1)),
        ("OAEP with MGF1 of SHA-1", with(&mgf1)),
        ("OAEP with a label", with(&label)),
        ("no padding", raw(0, 0x01)),
        ("a first byte that is not 0 (Manger)", raw(1, 0x01)),
        ("one byte more", longer),
        ("one byte less", good[..len - 1].to_vec()),
        ("a zero before it", leading_zero),
        ("half of it", good[..len / 2].to_vec()),
        ("nothing", Vec::new()),
        ("twice", [&good[..], &good].concat()),
        ("of another key", {
            let mut bytes = other.encrypt(b"plaintext");
            bytes[0] &= 0x3f; // less than any modulus of that length
            bytes
        }),
    ]
}

/// One answer, by status, body and headers; one sort of record; nothing in the
/// log of events; and the token is not thought ill.
#[test]
fn a_ciphertext_that_does_not_decrypt_is_refused_in_one_way() {
    let dke = Dke::start();
    let [public, other] = ["Confidential", "Other"].map(|name| dke.public_key(name));
    let said = dke.said().len();
    let bad = bad_ciphertexts(&public, &other);
    let mut seen = Vec::new();
    for (what, ciphertext) in &bad {
        let answer = dke.decrypt(&public, ciphertext).refused(400, "invalid_ciphertext");
        seen.push((what, answer.seen()));
    }
    for (what, answer) in &seen {
        assert_eq!(answer, &seen[0].1, "{what}");
    }
    let records = dke.recorded(bad.len());
    let alike = |record: &Value| {
        let mut record = record.clone();
        for field in ["time", "queue_us", "hsm_us", "total_us"] {
            record.as_object_mut().unwrap().remove(field);
        }
        record
    };
    for (record, (what, _)) in records.iter().zip(&bad) {
        assert_eq!(alike(record), alike(&records[0]), "{what}");
    }
    assert_eq!(dke.said().len(), said, "{}", &dke.said()[said..]);
    assert_eq!(dke.decrypt(&public, &public.encrypt(b"x")).plaintext(), b"x");
    assert!(dke.get("/readyz").unwrap().contains(" 200 "));
}

/// Neither does a token's own word on it reach anybody: SoftHSM says
/// `CKR_GENERAL_ERROR`, others something else.
#[test]
fn whatever_a_token_calls_a_bad_ciphertext_the_answer_is_the_same() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let usual = dke.decrypt(&public, &[0x5a; 384]).with(400).seen();
    for code in ["CKR_ENCRYPTED_DATA_INVALID", "CKR_ENCRYPTED_DATA_LEN_RANGE"] {
        dke.faults(&format!("C_Decrypt return {code} times 1"));
        let answer = dke.decrypt(&public, &[0x5a; 384]);
        assert_eq!(answer.seen(), usual, "{code}");
    }
    dke.faults("");
    assert_eq!(dke.decrypt(&public, &public.encrypt(b"x")).plaintext(), b"x");
}

#[test]
fn bad_ciphertexts_do_not_make_a_token_look_ill() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    for _ in 0..30 {
        let _ = dke.decrypt(&public, &[0x5a; 384]).with(400);
    }
    assert_eq!(dke.decrypt(&public, &public.encrypt(b"x")).plaintext(), b"x");
    assert!(dke.get("/readyz").unwrap().contains(" 200 "));
}

// === Records ===

#[test]
fn a_record_says_who_had_what_decrypted_and_nothing_of_the_data() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let plaintext = b"a very secret plaintext";
    let ciphertext = public.encrypt(plaintext);
    let token = Token::of(ALICE).signed();
    dke.send(&decrypt_request(&token, &confidential(NEW), &ciphertext)).ok();
    let record = &dke.recorded(1)[0];
    for (field, value) in [
        ("operation", json!("Decrypt")),
        ("key", json!("Confidential")),
        ("purpose", json!("microsoft-label")),
        ("generation", json!(2)),
        ("issuer", json!(super::issuer::ISSUER)),
        ("tenant", json!(super::issuer::TENANT)),
        ("user", json!(ALICE)),
        ("oid", json!(super::issuer::OBJECT)),
        ("sub", json!(super::issuer::SUBJECT)),
        ("client", json!(super::issuer::OFFICE)),
        ("allowed_by", json!("user")),
        ("allowed_claim", json!("upn")),
        ("allowed_value", json!(ALICE)),
        ("outcome", json!("ok")),
        ("status", json!(200)),
        ("hsm", json!("a")),
    ] {
        assert_eq!(record[field], value, "{field}: {record}");
    }
    let all = record.to_string() + &dke.said();
    let secrets = [
        BASE64_STANDARD.encode(plaintext),
        String::from_utf8(plaintext.to_vec()).unwrap(),
        BASE64_STANDARD.encode(&ciphertext),
        token.clone(),
        token.rsplit('.').next().unwrap().to_owned(),
        crate::support::softhsm::PIN.to_owned(),
    ];
    for secret in secrets {
        assert!(!all.contains(&secret), "{secret}");
    }
}

#[test]
fn who_was_denied_is_recorded_too() {
    let dke = Dke::start();
    dke.try_token(&Token::of("mallory@example.org").signed()).with(403);
    let record = dke.recorded(1).remove(0);
    assert!(record.to_string().contains("mallory@example.org"), "{record}");
    assert_eq!(record["status"], 403, "{record}");
    assert_ne!(record["outcome"], "ok", "{record}");
}

/// A line of the log is one record, whatever a token says that its user is.
#[test]
fn a_record_is_one_line_whatever_a_claim_has_in_it() {
    let dke = Dke::start();
    let user = format!("a\nb\u{2028}\u{202e}\"{}\u{7f}{}", '\\', "x".repeat(2000));
    dke.try_token(&Token::of(&user).signed()).with(403);
    let records = dke.recorded(1);
    assert_eq!(records.len(), 1);
    assert!(records[0].to_string().len() < 4096, "it is cut short");
}

/// Plain HTTP on the listener's port gets nobody anywhere.
#[test]
fn http_without_tls_is_not_served() {
    let dke = Dke::start();
    let request = Message::new("GET /Small HTTP/1.1", &[("host", HOST)], b"");
    let answer = crate::support::http::exchange(dke.address, &request);
    let status = answer.map(|answer| answer.first_line).unwrap_or_default();
    assert!(!status.contains(" 200"), "{status}");
    assert_eq!(dke.ask("GET", "/Small").ok().body["key"]["kid"], format!("{ORIGIN}/Small/{ONLY}"));
}
