use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

type Environment<'a> = HashMap<&'a str, OsString>;

fn read(
    source: &PinSource,
    uri: &str,
    environment: &Environment<'_>,
) -> Result<String, Pkcs11Error> {
    let uri = Pkcs11Uri::parse_any(uri).unwrap();
    let pin = source.read_with(&uri, &|name| environment.get(name).cloned())?;
    Ok(pin.expose_secret().to_owned())
}

fn refused(source: &PinSource, uri: &str, environment: &Environment<'_>) -> String {
    let error = read(source, uri, environment).expect_err("it should be refused");
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    error.to_string()
}

/// A folder with one PIN file.
fn pin_file(name: &str, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn from_bytes(content: &[u8]) -> Result<String, Pkcs11Error> {
    let (_folder, path) = pin_file("pin", content);
    read(&PinSource::default().with_file(path), "pkcs11:token=t", &Environment::new())
}

#[test]
fn the_sources_are_asked_in_their_order() {
    let (_folder, in_uri) = pin_file("pin", b"uri");
    let (_folder_2, named) = pin_file("pin", b"file");
    let (_folder_3, in_variable) = pin_file("pin", b"variable-file");
    let (_folder_4, credential) = pin_file("twinlock-pin", b"credential");
    let mut environment = Environment::from([
        ("TWINLOCK_PIN", "variable".into()),
        ("TWINLOCK_PIN_FILE", in_variable.into()),
        ("CREDENTIALS_DIRECTORY", credential.parent().unwrap().into()),
    ]);
    let with_source = format!("pkcs11:token=t?pin-source=file:{}", in_uri.display());
    let source = PinSource::given("given".into()).with_file(&named);
    assert_eq!(read(&source, &with_source, &environment).unwrap(), "given");
    let source = PinSource::default().with_file(&named);
    assert_eq!(read(&source, &with_source, &environment).unwrap(), "uri");
    let value = "pkcs11:token=t?pin-value=in-the-open";
    assert_eq!(read(&source, value, &environment).unwrap(), "in-the-open");
    let uri = "pkcs11:token=t";
    assert_eq!(read(&source, uri, &environment).unwrap(), "file");
    let source = PinSource::default();
    assert_eq!(read(&source, uri, &environment).unwrap(), "variable");
    environment.remove("TWINLOCK_PIN");
    assert_eq!(read(&source, uri, &environment).unwrap(), "variable-file");
    environment.remove("TWINLOCK_PIN_FILE");
    assert_eq!(read(&source, uri, &environment).unwrap(), "credential");
    environment.remove("CREDENTIALS_DIRECTORY");
    let message = refused(&source, uri, &environment);
    assert!(message.contains("pin-source") && message.contains("TWINLOCK_PIN_FILE"), "{message}");
}

#[test]
fn a_pin_source_is_a_path_with_or_without_file() {
    let (_folder, path) = pin_file("pin", b"1234");
    for prefix in ["", "file:", "file://"] {
        let uri = format!("pkcs11:token=t?pin-source={prefix}{}", path.display());
        assert_eq!(read(&PinSource::default(), &uri, &Environment::new()).unwrap(), "1234");
    }
}

#[test]
fn a_command_behind_pin_source_is_refused_with_the_reason() {
    let uri = "pkcs11:token=t?pin-source=%7Ccat%20/etc/pin";
    let message = refused(&PinSource::default(), uri, &Environment::new());
    assert!(message.contains("starts no programs"), "{message}");
}

#[test]
fn addresses_and_nothing_are_no_pin_sources() {
    for source in ["https://example.com/pin", "file:"] {
        let uri = format!("pkcs11:token=t?pin-source={source}");
        refused(&PinSource::default(), &uri, &Environment::new());
    }
}

#[test]
fn a_uri_with_two_pins_is_refused() {
    let uri = "pkcs11:token=t?pin-source=/run/pin&pin-value=1234";
    let message = refused(&PinSource::default(), uri, &Environment::new());
    assert!(!message.contains("1234"), "{message}");
}

#[test]
fn one_trailing_line_break_is_not_part_of_the_pin() {
    for content in ["1234", "1234\n", "1234\r\n"] {
        assert_eq!(from_bytes(content.as_bytes()).unwrap(), "1234");
    }
    assert_eq!(from_bytes(b" 12 34 \n").unwrap(), " 12 34 ", "spaces are");
    assert_eq!(from_bytes("pässword\n".as_bytes()).unwrap(), "pässword");
}

#[test]
fn files_that_cannot_hold_a_pin_are_refused() {
    for content in [&b""[..], b"\n", b"1234\n\n", b"12\n34", b"12\0", b"\xff\xfe12"] {
        assert!(from_bytes(content).is_err(), "{content:?}");
    }
}

#[test]
fn a_pin_has_at_most_256_bytes() {
    let longest = "7".repeat(256);
    assert_eq!(from_bytes(format!("{longest}\r\n").as_bytes()).unwrap(), longest);
    assert!(from_bytes(format!("{longest}7").as_bytes()).is_err());
    assert!(from_bytes(&[b'7'; 100_000]).is_err());
}

#[test]
fn a_source_that_is_named_but_missing_is_an_error_not_a_reason_to_go_on() {
    let environment = Environment::from([("TWINLOCK_PIN", "1234".into())]);
    let uri = "pkcs11:token=t?pin-source=/no/such/file";
    assert!(refused(&PinSource::default(), uri, &environment).contains("/no/such/file"));
    let source = PinSource::default().with_file("/no/such/file");
    refused(&source, "pkcs11:token=t", &environment);
    let environment = Environment::from([("TWINLOCK_PIN_FILE", "/no/such/file".into())]);
    refused(&PinSource::default(), "pkcs11:token=t", &environment);
}

#[test]
fn an_empty_variable_is_an_error_too() {
    let environment = Environment::from([("TWINLOCK_PIN", "".into())]);
    let message = refused(&PinSource::default(), "pkcs11:token=t", &environment);
    assert!(message.contains("TWINLOCK_PIN is empty"), "{message}");
}

#[test]
fn a_credentials_directory_without_our_credential_is_none_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::from([("CREDENTIALS_DIRECTORY", folder.path().into())]);
    assert!(refused(&PinSource::default(), "pkcs11:token=t", &environment).contains("no source"));
}

#[test]
fn debug_shows_sources_and_no_pin() {
    let source = PinSource::given("geheim".into()).with_file("/run/pin").with_prompt();
    let shown = format!("{source:?} {:?}", crate::TokenOptions::default().with_pin(source.clone()));
    assert!(shown.contains("/run/pin") && !shown.contains("geheim"), "{shown}");
}

proptest! {
    #[test]
    fn a_bad_file_never_shows_in_the_error(content in "[a-z]{300,400}") {
        let error = from_bytes(content.as_bytes()).unwrap_err();
        let shown = format!("{error} {error:?}");
        prop_assert!(!shown.contains(&content[..32]));
    }

    #[test]
    fn every_line_that_can_be_a_pin_is_read_as_it_is(pin in "[^\n\r\0]{1,60}") {
        prop_assert_eq!(from_bytes(format!("{pin}\n").as_bytes()).unwrap(), pin);
    }
}
