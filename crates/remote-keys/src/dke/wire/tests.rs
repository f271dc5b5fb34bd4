use proptest::prelude::*;
use serde_json::json;

use super::*;

const KID: &str = "https://dke.example/Archive/0a1b";

fn answer(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut answer = json!({
        "key": { "kty": "RSA", "n": "3q2+7w==", "e": 65537, "alg": "RS256", "kid": KID },
        "cache": { "exp": "2020-11-21T21:15:55" },
    });
    change(&mut answer);
    answer.to_string().into_bytes()
}

#[test]
fn a_key_is_read_as_services_write_it() {
    let expected = Parsed {
        modulus: vec![0xde, 0xad, 0xbe, 0xef],
        exponent: 65537,
        version: "0a1b".to_owned(),
        expires: Some(1_605_993_355), // by `date -u -d 2020-11-21T21:15:55 +%s`
    };
    assert_eq!(published(&answer(|_| ())), Some(expected));
}

#[test]
fn what_is_optional_may_be_missing_and_what_is_unknown_is_passed_over() {
    let without_cache = published(&answer(|it| _ = it.as_object_mut().unwrap().remove("cache")));
    assert_eq!(without_cache.unwrap().expires, None);
    assert_eq!(published(&answer(|it| it["cache"] = json!({}))).unwrap().expires, None);
    assert_eq!(published(&answer(|it| it["cache"] = json!(null))).unwrap().expires, None);
    assert!(published(&answer(|it| it["key"]["use"] = json!("enc"))).is_some());
    assert!(published(&answer(|it| it["key"]["alg"] = json!(null))).is_some());
    assert!(published(&answer(|it| it["key"]["alg"] = json!("RSA-OAEP-256"))).is_some());
}

#[test]
fn what_is_not_of_the_protocol_is_refused() {
    for (name, value) in [
        ("kty", json!("EC")),
        ("kty", json!("rsa")),
        ("kty", json!(null)),
        ("n", json!("3q2-7w==")), // base64url, as JOSE has it
        ("n", json!("3q2+7w")),   // without padding
        ("n", json!("3q2+7w==\n")),
        ("n", json!(3)),
        ("e", json!("AQAB")),
        ("e", json!(65537.5)),
        ("e", json!(-3)),
        ("alg", json!("RSA1_5")),
        ("kid", json!("0a1b")),
        ("kid", json!(7)),
    ] {
        assert_eq!(
            published(&answer(|it| it["key"][name] = value.clone())),
            None,
            "{name} {value}"
        );
    }
    let whole = String::from_utf8(answer(|_| ())).unwrap();
    let twice = whole.replace("\"e\":65537", "\"e\":3,\"e\":65537");
    assert_ne!(twice, whole);
    for text in ["", "{}", "[]", "null", "<html>", &twice, &whole[..whole.len() - 1]] {
        assert_eq!(published(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn only_the_last_part_of_what_a_service_calls_its_key_is_taken() {
    assert_eq!(version_of(KID), Some("0a1b"));
    assert_eq!(version_of("https://other.example:8443/x/y/Archive/A-1"), Some("A-1"));
    let longest = "a".repeat(64);
    assert_eq!(version_of(&format!("https://h/k/{longest}")), Some(&*longest));
    let long = format!("https://h/k/{}", "a".repeat(65));
    for kid in [
        "",
        "0a1b",
        "http://h/k/0a1b",
        "https://h/0a1b",
        "https:///k/0a1b",
        "https://h/k/",
        "https://h/k/0a1b/",
        "https://h/k/0a1b?x=y",
        "https://h/k/0a1b#x",
        "https://h/k?/0a1b",
        "https://u@h/k/0a1b",
        "https://h/k/..",
        "https://h/k/%2e",
        "https://h/k/a_b",
        "https://h/k/a\\b",
        "https://h/k /0a1b",
        "https://h/k\n/0a1b",
        "https://h/\u{e9}/0a1b",
        &long,
    ] {
        assert_eq!(version_of(kid), None, "{kid}");
    }
}

#[test]
fn times_are_utc_without_saying_so() {
    for (text, seconds) in [
        ("1970-01-01T00:00:00", 0),
        ("2000-02-29T12:00:00", 951_825_600),
        ("2100-03-01T00:00:00Z", 4_107_542_400),
        ("9999-12-31T23:59:59", 253_402_300_799),
    ] {
        assert_eq!(seconds_of(text), Some(seconds), "{text}");
    }
    for text in [
        "",
        "2020-11-21",
        "2020-11-21 21:15:55",
        "2020-11-21T21:15:55.5",
        "2020-11-21T21:15:55+01:00",
        "2020-11-21T21:15",
        "2020-11-21T21:15:60",
        "2020-11-21T24:00:00",
        "2020-13-21T21:15:55",
        "2020-00-21T21:15:55",
        "2021-02-29T21:15:55",
        "2020-11-00T21:15:55",
        "1969-12-31T23:59:59",
        "20-11-21T21:15:55",
        "2020-11-21-01T21:15:55",
        "+020-11-21T21:15:55",
    ] {
        assert_eq!(seconds_of(text), None, "{text}");
    }
}

#[test]
fn a_request_is_the_documented_one() {
    let body = decrypt_request(&[0xfb, 0xff]);
    assert_eq!(body, br#"{"alg":"RSA-OAEP-256","value":"+/8="}"#);
}

#[test]
fn a_plaintext_is_standard_base64_and_nothing_else() {
    let bytes = |text: &str| plaintext(text.as_bytes()).map(|bytes| bytes.to_vec());
    assert_eq!(bytes(r#"{"value":"+/8="}"#), Some(vec![0xfb, 0xff]));
    for text in [
        "",
        "{}",
        r#"{"value":null}"#,
        r#"{"value":"-_8="}"#,
        r#"{"value":"+/8"}"#,
        r#"{"value":"+/8=","value":"+/8="}"#,
        r#"{"Value":"+/8="}"#,
    ] {
        assert_eq!(bytes(text), None, "{text}");
    }
}

#[test]
fn an_error_is_known_by_its_name() {
    assert!(is_error(br#"{"error":"key_disabled","message":"no"}"#, "key_disabled"));
    for body in ["", "{}", "key_disabled", r#"{"error":"forbidden"}"#, r#"{"error":null}"#] {
        assert!(!is_error(body.as_bytes(), "key_disabled"), "{body}");
    }
}

proptest! {
    #[test]
    fn no_answer_panics(body in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,60}") {
        published(&body);
        plaintext(&body);
        seconds_of(&text);
        version_of(&text);
    }

    #[test]
    fn every_time_is_later_than_the_one_before(seconds in 0u64..253_402_300_799) {
        let (days, rest) = (seconds / 86400, seconds % 86400);
        let (mut year, mut left) = (1970, days);
        while left >= 365 + u64::from(is_leap(year)) {
            left -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        let mut month = 1;
        while left >= days_in(year, month) {
            left -= days_in(year, month);
            month += 1;
        }
        let text = format!(
            "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}",
            left + 1, rest / 3600, rest / 60 % 60, rest % 60
        );
        prop_assert_eq!(seconds_of(&text), Some(seconds));
    }
}
