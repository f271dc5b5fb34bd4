use super::*;

const ID: &str = "AAAAAAAAAAAAAAAAAAAA";
const OTHER_ID: &str = "BBBBBBBBBBBBBBBBBBBB";

/// A configuration that can be served: one token, one key store, one key.
fn good() -> String {
    format!(
        r#"
[listen]
address = "127.0.0.1:0"
plain_http = true

[[hsm]]
name = "a"
token = "pkcs11:token=xks?module-path=/usr/lib/module.so"
pin = {{ file = "/run/pin" }}
health_key = "health"

[[key_store]]
path = "/one"
regions = ["eu-central-1"]

[[key_store.credential]]
access_key_id = "{ID}"
secret_access_key = {{ file = "/run/secret" }}

[[key_store.key]]
id = "k"
hsms = ["a"]
generations = [{{ number = 1, object = "key-1" }}]
"#
    )
}

fn read(text: &str) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::read(file.path()).map_err(|failure| failure.to_string())
}

/// What is wrong with the good one, changed like this.
fn problem(from: &str, to: &str) -> String {
    let text = good();
    assert!(text.contains(from), "{from}");
    read(&text.replacen(from, to, 1)).map(|_| ()).unwrap_err()
}

#[test]
fn what_is_not_said_has_a_default() {
    let config = read(&good()).unwrap();
    let store = &config.key_store[0];
    assert_eq!(config.operations.address.to_string(), "127.0.0.1:9443");
    assert_eq!((config.fleet_size.get(), store.deadline()), (1, Duration::from_millis(200)));
    assert_eq!((store.aad, store.key[0].state), (AadForm::Specification, KeyState::Enabled));
    assert!(store.policy.is_none() && store.requests_per_second.is_none());
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let text = good()
        .replace("path = \"/one\"", "path = \"/one\"\naad = \"sha-256\"\nrequests_per_second = 1800\n\
                  deadline_ms = 150\nhedge_after_ms = 20\npolicy = { file = \"/p.rego\", dry_run = true }")
        .replace("id = \"k\"", "id = \"k\"\nstate = \"decrypt-only\"")
        .replace("object = \"key-1\" }", "object = \"key-1\", foreign_metadata = \"djE=\" }");
    let config = read(&text).unwrap();
    let store = &config.key_store[0];
    assert_eq!((store.aad, store.key[0].state), (AadForm::Sha256, KeyState::DecryptOnly));
    let foreign = store.key[0].generations[0].foreign_metadata.unwrap();
    assert_eq!(foreign.0.as_bytes(), b"v1");
    assert!(store.policy.as_ref().unwrap().dry_run);
}

/// Each program has the settings; what it cannot do with them, it says.
#[test]
fn traces_are_refused_by_a_program_that_has_none() {
    let to = |endpoint| format!("[traces]\nendpoint = \"{endpoint}\"\n\n[[hsm]]");
    let good = good().replacen("[[hsm]]", &to("http://127.0.0.1:4318/v1/traces"), 1);
    match (read(&good), cfg!(feature = "opentelemetry")) {
        (Ok(config), true) => assert_eq!(config.traces.unwrap().ratio, 1.0),
        (Err(problem), false) => {
            assert!(problem.contains("--features opentelemetry"), "{problem}");
        }
        (other, _) => panic!("{other:?}"),
    }
    problem("[[hsm]]", &to("https://collector"));
}

#[test]
fn every_file_that_it_names_is_watched() {
    let text =
        good().replace("path = \"/one\"", "path = \"/one\"\npolicy = { file = \"/p.rego\" }");
    let files = read(&text).unwrap().files();
    assert_eq!(files, [PathBuf::from("/run/secret"), PathBuf::from("/p.rego")]);
}

#[test]
fn unknown_fields_are_refused_in_every_table() {
    for table in
        ["[listen]", "[[hsm]]", "[[key_store]]", "[[key_store.credential]]", "[[key_store.key]]"]
    {
        let told = problem(table, &format!("{table}\nfrobnicate = 1"));
        assert!(told.contains("frobnicate"), "{table}: {told}");
    }
    assert!(problem("object = ", "x = 1, object = ").contains('x'));
}

#[test]
fn what_refers_to_nothing_is_refused() {
    assert!(problem("hsms = [\"a\"]", "hsms = [\"b\"]").contains("there is no hsm \"b\""));
    for (from, to) in [
        ("hsms = [\"a\"]", "hsms = []"),
        ("generations = [{ number = 1, object = \"key-1\" }]", "generations = []"),
        ("regions = [\"eu-central-1\"]", "regions = []"),
        ("object = \"key-1\"", "object = \"\""),
        ("health_key = \"health\"", "health_key = \"\""),
    ] {
        problem(from, to);
    }
}

#[test]
fn what_is_there_twice_is_refused() {
    let twice = "generations = [{ number = 1, object = \"x\" }, { number = 1, object = \"y\" }]";
    let once = "generations = [{ number = 1, object = \"key-1\" }]";
    assert!(problem(once, twice).contains("generation: 1 is there twice"));
    assert!(problem("hsms = [\"a\"]", "hsms = [\"a\", \"a\"]").contains("twice"));
}

#[test]
fn a_name_that_is_none_is_refused() {
    for (from, to) in [
        ("path = \"/one\"", "path = \"/one/\""),
        ("id = \"k\"", "id = \"a/b\""),
        ("name = \"a\"", "name = \"\""),
        ("name = \"a\"", "name = \"a b\""),
        ("\"eu-central-1\"", "\"EU\""),
        (ID, "short"),
        ("number = 1", "number = 0"),
        ("number = 1", "number = 4294967296"),
    ] {
        problem(from, to);
    }
}

#[test]
fn a_deadline_beyond_what_kms_waits_by_far_is_a_mistake() {
    for deadline in ["0", "9", "10001", "-1"] {
        problem("path = \"/one\"", &format!("path = \"/one\"\ndeadline_ms = {deadline}"));
    }
}

/// Two key stores with one credential, or one object beneath two keys, would not
/// be isolated.
#[test]
fn key_stores_share_no_credential_and_no_object() {
    let second = |id: &str, object: &str| {
        let store = good();
        let at = store.find("[[key_store]]").unwrap();
        let second = store[at..].replace("/one", "/two").replace(ID, id).replace("key-1", object);
        read(&format!("{store}\n{second}"))
    };
    assert!(second(OTHER_ID, "key-2").is_ok());
    assert!(second(ID, "key-2").unwrap_err().contains("access_key_id"));
    let told = second(OTHER_ID, "key-1").unwrap_err();
    assert!(told.contains("/one:k:1") && told.contains("/two:k:1"), "{told}");
    assert!(second(OTHER_ID, "health").unwrap_err().contains("health"));
}

#[test]
fn a_token_s_uri_names_no_key() {
    let told = problem("pkcs11:token=xks?", "pkcs11:token=xks;object=k?");
    assert!(told.contains("names a key"), "{told}");
}

#[test]
fn no_complaint_quotes_a_secret() {
    for line in ["secret_access_key = { file = \"/run/secret\" }", "pin = { file = \"/run/pin\" }"]
    {
        let name = line.split(' ').next().unwrap();
        let told = problem(line, &format!("{name} = \"swordfish\""));
        assert!(!told.contains("swordfish"), "{told}");
    }
}
