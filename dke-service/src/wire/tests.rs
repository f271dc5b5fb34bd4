use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(body: &str) -> Result<Vec<u8>, RequestError> {
    DecryptRequest::parse(body.as_bytes()).map(|request| request.ciphertext)
}

#[test]
fn a_request_is_read() {
    let body = r#"{"alg":"RSA-OAEP-256","value":"AQIDBA=="}"#;
    assert_eq!(read(body), Ok(vec![1, 2, 3, 4]));
    assert_eq!(read(&format!(" \r\n{body}\n")), Ok(vec![1, 2, 3, 4]));
    assert_eq!(read(r#"{"value":"","alg":"RSA-OAEP-256"}"#), Ok(vec![]));
}

/// Case 33.
#[test]
fn names_have_any_case_and_unknown_members_are_skipped() {
    for body in [
        r#"{"ALG":"RSA-OAEP-256","Value":"AQ=="}"#,
        r#"{"Alg":"RSA-OAEP-256","VALUE":"AQ=="}"#,
        r#"{"\u0061lg":"RSA\u002dOAEP-256","value":"AQ\u003d="}"#,
        r#"{"kid":"https://h/k/1","alg":"RSA-OAEP-256","x":{"value":[1,{"alg":2}]},"value":"AQ=="}"#,
        r#"{"alg":"RSA-OAEP-256","value":"AQ==","alg ":"none","":null}"#,
    ] {
        assert_eq!(read(body), Ok(vec![1]), "{body}");
    }
}

#[test]
fn a_member_that_counts_stands_there_once() {
    for body in [
        r#"{"alg":"RSA-OAEP-256","alg":"RSA-OAEP-256","value":"AQ=="}"#,
        r#"{"alg":"RSA-OAEP-256","value":"AQ==","Value":"Ag=="}"#,
        r#"{"alg":null,"alg":"RSA-OAEP-256","value":"AQ=="}"#,
        r#"{"alg":"RSA-OAEP-256","value":"AQ==","VALUE":null}"#,
    ] {
        assert_eq!(read(body), Err(RequestError::Malformed), "{body}");
    }
}

/// Case 25.
#[test]
fn there_is_one_algorithm_in_one_spelling() {
    for alg in [
        "",
        "RSA-OAEP",
        "RSA1_5",
        "rsa-oaep-256",
        "RSA-OAEP-256 ",
        "RSA-OAEP-2560",
        "RS256",
        "RSA-OAEP-512",
        "none",
    ] {
        let body = json!({ "alg": alg, "value": "AQ==" }).to_string();
        assert_eq!(read(&body), Err(RequestError::Algorithm), "{alg}");
    }
    for body in [r#"{"value":"AQ=="}"#, r#"{"alg":null,"value":"AQ=="}"#, "{}"] {
        assert_eq!(read(body), Err(RequestError::Algorithm), "{body}");
    }
}

/// Case 26.
#[test]
fn without_a_value_there_is_no_request() {
    for body in [r#"{"alg":"RSA-OAEP-256"}"#, r#"{"alg":"RSA-OAEP-256","value":null}"#] {
        assert_eq!(read(body), Err(RequestError::NoValue), "{body}");
    }
}

/// Case 27.
#[test]
fn a_value_has_one_alphabet_and_its_padding() {
    for value in ["AQ", "AQ=", "AQ===", "A", "-_-_", "+/+", "AQ==AQ==", "AR==", "AQ\u{a0}==", "é"]
    {
        let body = json!({ "alg": "RSA-OAEP-256", "value": value }).to_string();
        assert_eq!(read(&body), Err(RequestError::NotBase64), "{value}");
    }
    assert_eq!(read(r#"{"alg":"RSA-OAEP-256","value":"+/+/"}"#), Ok(vec![251, 255, 191]));
}

/// Case 28.
#[test]
fn white_space_in_a_value_counts_for_nothing() {
    let body = r#"{"alg":"RSA-OAEP-256","value":" AQ\r\nID\tBA = =\n"}"#;
    assert_eq!(read(body), Ok(vec![1, 2, 3, 4]));
}

/// Case 31.
#[test]
fn what_is_no_object_of_strings_is_malformed() {
    let deep = format!("{{\"x\":{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for body in [
        "",
        " ",
        "null",
        "[]",
        "1",
        "\"{}\"",
        "{",
        "{}x",
        "{}{}",
        r#"["RSA-OAEP-256","AQ=="]"#,
        r#"{"alg":"RSA-OAEP-256","value":"AQ=="}}"#,
        r#"{"alg":"RSA-OAEP-256","value":"AQ==",}"#,
        r#"{"alg":"RSA-OAEP-256","value":["AQ=="]}"#,
        r#"{"alg":256,"value":"AQ=="}"#,
        r#"{"alg":"RSA-OAEP-256","value":"\ud800"}"#,
        r#"{"alg":"RSA-OAEP-256","value":"A	Q=="}"#,
        "\u{feff}{}",
        "{alg:1}",
        &deep,
    ] {
        assert_eq!(read(body), Err(RequestError::Malformed), "{body}");
    }
    let not_text = b"{\"x\":\"\xff\",\"alg\":\"RSA-OAEP-256\",\"value\":\"AQ==\"}";
    assert_eq!(DecryptRequest::parse(not_text).unwrap_err(), RequestError::Malformed);
}

#[test]
fn a_ciphertext_is_not_shown() {
    let request = DecryptRequest { ciphertext: vec![7; 256] };
    assert_eq!(format!("{request:?}"), "DecryptRequest(256 bytes)");
}

/// Case 32.
#[test]
fn json_is_known_by_its_content_type() {
    for json in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"; x=y",
        "application/json ; charset = utf-8",
        "application/json;",
    ] {
        assert!(is_json(json), "{json}");
    }
    for other in [
        "",
        "text/plain",
        "text/json",
        "application/jsonx",
        "application/json, text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "application/json; charset=iso-8859-1",
    ] {
        assert!(!is_json(other), "{other}");
    }
}

proptest! {
    #[test]
    fn what_another_writer_writes_is_read(ciphertext in prop::collection::vec(any::<u8>(), 0..600)) {
        let body = json!({ "alg": ALGORITHM, "value": BASE64_STANDARD.encode(&ciphertext) });
        prop_assert_eq!(read(&body.to_string()), Ok(ciphertext));
    }

    #[test]
    fn what_is_written_is_what_another_reader_reads(
        plaintext in prop::collection::vec(any::<u8>(), 0..1000),
    ) {
        let body: Value = serde_json::from_slice(&plaintext_body(&plaintext)).unwrap();
        prop_assert_eq!(body, json!({ "value": BASE64_STANDARD.encode(&plaintext) }));
    }

    #[test]
    fn nothing_at_random_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = DecryptRequest::parse(&body);
    }

    #[test]
    fn nothing_like_json_panics(body in r#"\{("(alg|Value|x)":("[A-Za-z0-9+/=\\"]{0,9}"|null|\[|1),?){0,4}\}?"#) {
        let _ = DecryptRequest::parse(body.as_bytes());
    }
}
