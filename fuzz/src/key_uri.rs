use twinlock::KeySelector;
use twinlock_keys::{KeyUri, Pkcs11Uri};

/// Whatever parses has one spelling, and a PIN that stands in a URI gets into
/// no message.
pub fn key_uri(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    check_spelling(text);
    check_selector(text);
    check_pkcs11(text);
    check_pin(text);
}

fn check_spelling(text: &str) {
    let uri = match KeyUri::parse(text) {
        Ok(uri) => uri,
        Err(error) => return drop(format!("{error} {error:?}")),
    };
    assert!(uri.as_str().len() <= 1024);
    assert!(!uri.as_str().contains(['?', '#']), "no query in a name");
    assert!(uri.as_str().bytes().all(|byte| byte.is_ascii_graphic()), "nothing to escape");
    assert_eq!(KeyUri::parse(uri.as_str()).as_ref(), Ok(&uri), "the canonical spelling is stable");
    assert!(uri.same_key(&uri));
    assert!(uri.as_str().ends_with(uri.key_name()));
    let _ = (uri.file_path(), uri.is_alias(), uri.scheme());
}

/// `URI@VERSION`: of some key, with or without a version.
fn check_selector(text: &str) {
    match text.parse::<KeySelector>() {
        Ok(selector) => drop(format!("{selector:?}")),
        Err(error) => drop(format!("{error} {error:?}")),
    }
}

fn check_pkcs11(text: &str) {
    let Ok(uri) = Pkcs11Uri::parse_any(text) else { return };
    let profile = uri.profile_uri();
    let again = Pkcs11Uri::parse_any(&profile).expect("what we write we read");
    assert_eq!(again.profile_uri(), profile);
    assert_eq!(again.key_uri(), uri.key_uri());
    assert_eq!(
        (again.module_path(), again.pin_source(), again.slot_id(), again.pin_value()),
        (uri.module_path(), uri.pin_source(), uri.slot_id(), None)
    );
}

/// Stands for the PIN. It gets nowhere by accident, but for a fuzzer that reads
/// it in the program.
const PIN: &str = "correct-horse-battery-staple";

/// Wherever the fuzzer writes `PIN`, there is a real one. If it ends up as the
/// PIN and as nothing else, nothing that can be printed has it.
fn check_pin(text: &str) {
    if text.matches("PIN").count() != 1 || text.contains(PIN) {
        return;
    }
    let text = text.replace("PIN", PIN);
    match Pkcs11Uri::parse_any(&text) {
        Ok(uri) if uri.pin_value().is_some_and(|pin| pin.contains(PIN)) => {
            check_hidden(&format!("{uri:?} {} {}", uri.profile_uri(), uri.key_uri()));
        }
        Ok(_) => {}
        Err(error) => check_hidden(&format!("{error} {error:?}")),
    }
    for error in [KeyUri::parse(&text).err(), Pkcs11Uri::parse(&text).err()].into_iter().flatten() {
        check_hidden(&format!("{error} {error:?}"));
    }
}

fn check_hidden(printed: &str) {
    assert!(!printed.contains(PIN), "the PIN is in {printed:?}");
}
