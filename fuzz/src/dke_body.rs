use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use twinlock_dke::wire::{ALGORITHM, DecryptRequest, MAX_BODY_LEN, is_json, plaintext_body};

/// What is read is read again when somebody else writes it, and a plaintext comes
/// out of an answer as it went in.
pub fn dke_body(bytes: &[u8]) {
    if let Ok(request) = DecryptRequest::parse(bytes) {
        check_request(bytes, &request.ciphertext);
    }
    let body: Value = serde_json::from_slice(&plaintext_body(bytes)).expect("JSON");
    assert_eq!(body, json!({ "value": BASE64_STANDARD.encode(bytes) }));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = is_json(text);
    }
}

fn check_request(bytes: &[u8], ciphertext: &[u8]) {
    assert!(bytes.len() > MAX_BODY_LEN || ciphertext.len() < bytes.len());
    // Another reader of JSON agrees that there is one of each. (It does not take
    // numbers of any size nor any depth, which are skipped here.)
    let Ok(members) = serde_json::from_slice::<serde_json::Map<String, Value>>(bytes) else {
        return;
    };
    let named = |name: &str| {
        let mut found = members.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let (_, value) = found.next().expect("it is there");
        assert!(found.next().is_none(), "{name} is there twice");
        value.as_str().expect("a string").to_owned()
    };
    assert_eq!(named("alg"), ALGORITHM);
    let value: String = named("value").chars().filter(|it| !" \t\r\n".contains(*it)).collect();
    assert_eq!(BASE64_STANDARD.encode(ciphertext), value, "base64 has another spelling");
    let written = json!({ "alg": ALGORITHM, "value": value }).to_string();
    let again = DecryptRequest::parse(written.as_bytes()).expect("what is written is read");
    assert_eq!(again.ciphertext, ciphertext);
}
