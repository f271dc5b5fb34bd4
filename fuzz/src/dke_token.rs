use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::Value;
use twinlock_dke::token::{MAX_TOKEN_LEN, Token};

/// What is taken apart makes the same again, and the issuer that is read before a
/// signature is verified is the one that is read after it: of the text itself, and
/// of a token whose header is the first line and whose claims are the others.
pub fn dke_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    check(text);
    let (header, claims) = text.split_once('\n').unwrap_or((r#"{"alg":"RS256"}"#, text));
    let encoded = |part: &str| BASE64_URL_SAFE_NO_PAD.encode(part);
    check(&format!("{}.{}.AAAA", encoded(header), encoded(claims)));
}

fn check(text: &str) {
    let Ok(token) = Token::parse(text) else { return };
    assert!(text.len() <= MAX_TOKEN_LEN);
    assert_eq!(format!("{}.{}", token.message, token.signature), text);
    let Ok(claims) = token.claims() else { return };
    assert_eq!(claims.get("iss").and_then(Value::as_str), token.issuer.as_deref());
}
