use proptest::prelude::*;

use super::*;

const ARN: &str = "arn:aws:kms:eu-west-1:111122223333";

#[test]
fn each_scheme_has_one_spelling() {
    let cases = [
        ("aws-kms://arn:aws:kms:eu-west-1:111122223333:key/0a-1b", None),
        ("aws-kms://alias/archive", None),
        ("azure-kv://Vault.Azure.net/keys/Kek-1", Some("azure-kv://vault.azure.net/keys/Kek-1")),
        ("gcp-kms://projects/p/locations/europe/keyRings/r/cryptoKeys/k", None),
        (
            "vault://Bao.example:8200/transit/keys/k",
            Some("vault://bao.example:8200/transit/keys/k"),
        ),
        ("dke+https://dke.example/label/Key", None),
        (
            "dke+https://DKE.Example:443/a~b/Key.1_x-Y",
            Some("dke+https://dke.example/a~b/Key.1_x-Y"),
        ),
        ("dke+https://dke.example:8443/Key", None),
        ("dke+https://dke.example:4430/Key", None),
        ("file:///tmp/my%20kek", None),
        ("file:///tmp/%6bek", Some("file:///tmp/kek")),
        ("pkcs11:object=k;token=T", Some("pkcs11:token=T;object=k")),
        ("pkcs11:token=T;object=%6b;type=secret-key;slot-id=3", Some("pkcs11:token=T;object=k")),
        ("pkcs11:token=T;id=%0a%FF", Some("pkcs11:token=T;id=%0A%FF")),
        (
            "pkcs11:serial=1;token=%C3%A9;object=a%3Bb",
            Some("pkcs11:token=%C3%A9;serial=1;object=a%3Bb"),
        ),
    ];
    for (text, canonical) in cases {
        let uri = KeyUri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(uri.as_str(), canonical.unwrap_or(text));
        assert_eq!(KeyUri::parse(uri.as_str()).as_ref(), Ok(&uri), "canonical is stable");
    }
}

#[test]
fn what_is_not_a_key_uri_is_refused() {
    let cases = [
        "",
        "pkcs11",
        "pkcs11:",
        "http://example.org/",
        "AWS-KMS://alias/a",
        "aws-kms://",
        "aws-kms://alias/",
        "aws-kms://alias/a b",
        "aws-kms://arn:aws:s3:::bucket",
        "aws-kms://arn:aws:kms:eu-west-1:1111:key/a",
        "aws-kms://arn:aws:kms:eu-west-1:111122223333:key/",
        "aws-kms://arn:aws:kms:eu-west-1:111122223333:key/A",
        "aws-kms://arn:aws:kms::111122223333:key/a",
        "azure-kv://vault/keys/k/v1",
        "azure-kv://vault/secrets/k",
        "azure-kv:///keys/k",
        "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
        "gcp-kms://projects//locations/l/keyRings/r/cryptoKeys/k",
        "vault://host:0/transit/keys/k",
        "vault://host:070/transit/keys/k",
        "vault://host/keys/k",
        "vault://user@host/transit/keys/k",
        "vault://host/../keys/k",
        "dke+https://host",
        "dke+https://host/",
        "dke+https://host/a//b",
        "dke+https://ho_st/a",
        "dke+https:///a",
        "dke+https://host:/a",
        "dke+https://host:65536/a",
        "dke+https://host:+443/a",
        "dke+https://host:443:443/a",
        "dke+https://user@host/a",
        "dke+https://user:password@host/a",
        "dke+https://[::1]/a",
        "dke+https://host/a/",
        "dke+https://host/../a",
        "dke+https://host/a/..",
        "dke+https://host/a%2fb",
        "dke+https://host/a~b",
        "dke+https://host/a b",
        "dke+https://host/\u{e9}",
        "dke+http://host/a",
        "DKE+https://host/a",
        "dke+https:/host/a",
        "file://kek",
        "file:///",
        "file:///a//b",
        "file:///a/../b",
        "file:///a/",
        "file:///a%",
        "file:///%00",
        "pkcs11:token=T",
        "pkcs11:object=k",
        "pkcs11:token=T;object=k;object=l",
        "pkcs11:token=T;object=",
        "pkcs11:token=T;object=k;x-vendor=1",
        "pkcs11:token=T;object=%zz",
        "pkcs11:token=T;object=%ff",
        "pkcs11:token=T;id=",
        "pkcs11:token=T;object=k;type=cert",
        "pkcs11:token=T;object=k;slot-id=-1",
        "pkcs11:token=T;object=a b",
        "pkcs11:token=T;object=k;pin-value=1234",
        "pkcs11:token=é;object=k",
    ];
    for text in cases {
        assert!(KeyUri::parse(text).is_err(), "{text} was taken");
    }
}

#[test]
fn a_name_takes_no_query() {
    for text in [
        "pkcs11:token=T;object=k?pin-value=1234",
        "file:///kek?x=1",
        "vault://h/t/keys/k#1",
        "dke+https://h/k?protocol-version=1.0",
        "dke+https://h/k#1",
    ] {
        assert_eq!(KeyUri::parse(text), Err(KeyUriError::HasQuery), "{text}");
    }
}

#[test]
fn no_error_and_no_debug_output_repeats_a_pin() {
    let uri = Pkcs11Uri::parse("pkcs11:token=T;object=k?pin-value=s3cret").unwrap();
    assert_eq!(uri.pin_value(), Some("s3cret"));
    assert!(!format!("{uri:?}").contains("s3cret"));
    for text in ["pkcs11:token=T?pin-value=s3cret", "pkcs11:token=T;object=k;pin-value=s3cret"] {
        let error = Pkcs11Uri::parse(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}

#[test]
fn query_attributes_are_read() {
    let text =
        "pkcs11:token=T;object=k;slot-id=12?module-path=%2Fusr%2Flib%2Fx.so&pin-source=file:%2Fpin";
    let uri = Pkcs11Uri::parse(text).unwrap();
    assert_eq!(uri.slot_id(), Some(12));
    assert_eq!(uri.module_path(), Some("/usr/lib/x.so"));
    assert_eq!(uri.pin_source(), Some("file:/pin"));
}

#[test]
fn a_public_key_and_its_pin_are_read_and_stay_out_of_the_name() {
    let pin = "0123456789abcdefABCDEF0123456789".repeat(2);
    let uri = format!("pkcs11:token=T;object=k?public-key=file:/a%20b.pem&spki-sha256={pin}");
    let uri = Pkcs11Uri::parse(&uri).unwrap();
    assert_eq!(uri.public_key(), Some("file:/a b.pem"));
    assert_eq!(uri.spki_sha256().unwrap()[..4], [0x01, 0x23, 0x45, 0x67]);
    assert_eq!(uri.key_uri().as_str(), "pkcs11:token=T;object=k");
    assert_eq!(Pkcs11Uri::parse(&uri.profile_uri()), Ok(uri));
}

#[test]
fn a_pin_of_a_public_key_has_64_digits() {
    for pin in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"%C3%A9".repeat(32)] {
        let uri = format!("pkcs11:token=T;object=k?public-key=/k.pem&spki-sha256={pin}");
        assert!(Pkcs11Uri::parse(&uri).is_err(), "{pin}");
    }
    let before = format!("pkcs11:token=T;object=k;spki-sha256={}", "0".repeat(64));
    assert!(Pkcs11Uri::parse(&before).is_err());
}

#[test]
fn a_profile_keeps_a_slot_that_stands_alone() {
    let uri = Pkcs11Uri::parse_any("pkcs11:slot-id=3?module-path=/m.so").unwrap();
    assert_eq!(uri.profile_uri(), "pkcs11:slot-id=3?module-path=/m.so");
    assert_eq!(Pkcs11Uri::parse_any(&uri.profile_uri()), Ok(uri));
}

#[test]
fn what_is_too_long_once_it_is_escaped_is_refused() {
    let uri = |slashes: usize| format!("pkcs11:token={}", "/".repeat(slashes));
    assert!(Pkcs11Uri::parse_any(&uri(1300)).is_ok());
    let refused = Pkcs11Uri::parse_any(&uri(1400));
    assert_eq!(refused, Err(KeyUriError::TooLong { len: "pkcs11:token=".len() + 3 * 1400 }));
}

#[test]
fn the_name_of_a_key_of_a_service_is_bounded_and_keeps_its_case() {
    let uri = |name: &str| KeyUri::parse(&format!("dke+https://host/{name}"));
    let longest = "K".repeat(64);
    assert_eq!(uri(&longest).unwrap().key_name(), format!("host/{longest}"));
    assert!(uri(&"K".repeat(65)).is_err());
    assert_ne!(uri("Key"), uri("key"));
}

#[test]
fn length_is_bounded() {
    let path = |len: usize| format!("file:///{}", "a".repeat(len - "file:///".len()));
    assert!(KeyUri::parse(&path(1024)).is_ok());
    assert_eq!(KeyUri::parse(&path(1025)), Err(KeyUriError::TooLong { len: 1025 }));
    // Escaping makes it longer than what was read.
    let label = "+".repeat(400);
    let text = format!("pkcs11:token=T;object={label}");
    assert!(matches!(KeyUri::parse(&text), Err(KeyUriError::TooLong { .. })));
}

#[test]
fn multi_region_keys_match_across_regions() {
    let parse = |text: &str| KeyUri::parse(text).unwrap();
    let mrk = parse("aws-kms://arn:aws:kms:eu-west-1:111122223333:key/mrk-1");
    assert!(mrk.same_key(&parse("aws-kms://arn:aws:kms:us-east-1:111122223333:key/mrk-1")));
    assert!(!mrk.same_key(&parse("aws-kms://arn:aws:kms:us-east-1:444455556666:key/mrk-1")));
    assert!(!mrk.same_key(&parse("aws-kms://arn:aws:kms:us-east-1:111122223333:key/mrk-2")));
    let single = parse("aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1");
    assert!(!single.same_key(&parse("aws-kms://arn:aws:kms:us-east-1:111122223333:key/1")));
}

#[test]
fn aliases_are_told_apart_from_keys() {
    for (name, alias) in [("key/1", false), ("alias/a", true)] {
        let uri = KeyUri::parse(&format!("aws-kms://{ARN}:{name}")).unwrap();
        assert_eq!(uri.is_alias(), alias, "{name}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics_and_what_parses_is_stable(text in "(pkcs11:|file://|vault://|aws-kms://|dke\\+https://)?.{0,80}") {
        if let Ok(uri) = KeyUri::parse(&text) {
            prop_assert_eq!(KeyUri::parse(uri.as_str()), Ok(uri));
        }
    }

    #[test]
    fn any_label_survives(token in "[^\\x00]{1,32}", object in "[^\\x00]{1,32}", path in "/[^\\x00]{1,20}") {
        let uri = Pkcs11Uri::of_key(token, object).with_module_path(&path).with_pin_source(&path);
        let uri = uri.with_public_key(path, [0xA5; 32]);
        prop_assert_eq!(Pkcs11Uri::parse(&uri.profile_uri()), Ok(uri.clone()));
        let name = uri.key_uri();
        prop_assert_eq!(Pkcs11Uri::parse(name.as_str()).map(|uri| uri.key_uri()), Ok(name));
    }

    #[test]
    fn any_id_survives(id in prop::collection::vec(any::<u8>(), 1..20)) {
        let escaped: String = id.iter().map(|byte| format!("%{byte:02x}")).collect();
        let uri = Pkcs11Uri::parse(&format!("pkcs11:token=T;id={escaped}")).unwrap();
        prop_assert_eq!(uri.id(), Some(id.as_slice()));
        prop_assert_eq!(Pkcs11Uri::parse(uri.key_uri().as_str()), Ok(uri));
    }

    #[test]
    fn any_path_survives(parts in prop::collection::vec("[^/\\x00]{1,12}", 1..5)) {
        prop_assume!(parts.iter().all(|part| part != "." && part != ".."));
        let path = format!("/{}", parts.join("/"));
        let uri = KeyUri::parse(&format!("file://{}", percent::encode(path.as_bytes(), b"/"))).unwrap();
        prop_assert_eq!(uri.file_path(), Some(std::path::PathBuf::from(path)));
    }
}
