use super::*;

/// A configuration that can be served: one token, one issuer, one key.
const GOOD: &str = r#"
public_url = "https://dke.example.org"

[listen]
address = "127.0.0.1:0"
plain_http = true

[[issuer]]
issuer = "https://sts.windows.net/tenant/"

[[hsm]]
name = "a"
token = "pkcs11:token=dke?module-path=/usr/lib/module.so"
pin = { file = "/run/pin" }

[[key]]
name = "Confidential"
purpose = "microsoft-label"
hsms = ["a"]
generations = [{ number = 1, id = "guid-1", object = "dke-1" }]
access = { users = ["alice@example.org"] }
"#;

fn read(text: &str) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::read(file.path()).map_err(|failure| failure.to_string())
}

/// What is wrong with the good one, changed like this.
#[track_caller]
fn problem(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    read(&GOOD.replacen(from, to, 1)).map(|_| ()).unwrap_err()
}

/// Each program has the settings; what it cannot do with them, it says.
#[test]
fn traces_are_refused_by_a_program_that_has_none() {
    let to = |endpoint| format!("[traces]\nendpoint = \"{endpoint}\"\n\n[[hsm]]");
    let good = GOOD.replacen("[[hsm]]", &to("http://127.0.0.1:4318/v1/traces"), 1);
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
fn what_is_not_said_has_a_default() {
    let config = read(GOOD).unwrap();
    assert_eq!(config.operations.address.to_string(), "127.0.0.1:9444");
    assert_eq!((config.deadline(), config.hedge_after_ms), (Duration::from_secs(5), None));
    assert_eq!(config.challenge, ChallengeSettings::default());
    let key = &config.key[0];
    assert_eq!(
        (key.state, key.cache_days, key.decrypts_per_second),
        (KeyState::Enabled, None, None)
    );
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let text = GOOD
        .replace(
            "dke.example.org\"",
            "dke.example.org:8443/ms_dke/\"\ndeadline_ms = 900\nhedge_after_ms = 50",
        )
        .replace("[[issuer]]", "[challenge]\nresource = \"api://dke\"\n\n[[issuer]]")
        .replace(
            "purpose = \"microsoft-label\"",
            "purpose = \"shares\"\nstate = \"disabled\"\ncache_days = 7\ndecrypts_per_second = 100",
        )
        .replace(
            "generations = [",
            "generations = [{ number = 7, id = \"B\", object = \"dke-7\" }, ",
        )
        .replace("pin = {", "sessions = 3\nallow_extractable = true\npin = {");
    let config = read(&text).unwrap();
    assert_eq!(config.public_url.to_string(), "https://dke.example.org:8443/ms_dke");
    let key = &config.key[0];
    assert_eq!((key.purpose, key.state), (Purpose::Shares, KeyState::Disabled));
    assert_eq!(key.generations.len(), 2);
    assert_eq!((config.hsm[0].sessions, config.hsm[0].allow_extractable), (Some(3), true));
}

#[test]
fn unknown_fields_are_refused_in_every_table() {
    for table in ["[listen]", "[[issuer]]", "[[hsm]]", "[[key]]"] {
        let told = problem(table, &format!("{table}\nfrobnicate = 1"));
        assert!(told.contains("frobnicate"), "{table}: {told}");
    }
    for (from, to) in [
        ("public_url", "frobnicate = 1\npublic_url"),
        ("{ number", "{ frobnicate = 1, number"),
        ("{ users", "{ frobnicate = 1, users"),
        ("[[issuer]]", "[challenge]\nfrobnicate = 1\n\n[[issuer]]"),
    ] {
        assert!(problem(from, to).contains("frobnicate"), "{to}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for (line, missing) in [
        ("public_url = \"https://dke.example.org\"\n", "public_url"),
        ("purpose = \"microsoft-label\"\n", "purpose"),
        ("access = { users = [\"alice@example.org\"] }\n", "access"),
        ("hsms = [\"a\"]\n", "hsms"),
    ] {
        assert!(problem(line, "").contains(missing), "{missing}");
    }
    let told = problem("hsms = [\"a\"]", "hsms = [\"b\"]");
    assert!(told.contains("there is no hsm \"b\""), "{told}");
    for (from, to) in [
        ("hsms = [\"a\"]", "hsms = []"),
        ("generations = [{ number = 1, id = \"guid-1\", object = \"dke-1\" }]", "generations = []"),
        ("object = \"dke-1\"", "object = \"\""),
        ("number = 1", "number = 0"),
    ] {
        problem(from, to);
    }
}

/// An authorizer that is not there is never another key's.
#[test]
fn a_key_that_nobody_may_use_is_refused() {
    let told = problem("{ users = [\"alice@example.org\"] }", "{}");
    assert!(told.contains("Confidential") && told.contains("access"), "{told}");
    problem("{ users = [\"alice@example.org\"] }", "{ users = [] }");
}

#[test]
fn several_issuers_count_where_it_is_said() {
    let two = "[[issuer]]\nissuer = \"https://partner.example\"\n\n[[issuer]]";
    let told = problem("[[issuer]]", two);
    assert!(told.contains("Confidential") && told.contains("access.issuers"), "{told}");
    let text = GOOD.replacen("[[issuer]]", two, 1);
    let with = |issuers: &str, ldap: &str| {
        let access = format!("access = {{ issuers = [{issuers}], ");
        let ldap = format!("[ldap]\nurl = \"ldaps://dc\"\nbase = \"o=x\"\n{ldap}\n[[hsm]]");
        read(&text.replace("access = { ", &access).replace("[[hsm]]", &ldap))
    };
    let (partner, other) = ("\"https://partner.example\"", "\"https://partner.example/\"");
    let ldap = format!("issuer = {partner}");
    assert!(with(partner, &ldap).is_ok());
    assert!(with("", &ldap).unwrap_err().contains("access.issuers has to say"));
    assert!(with(other, &ldap).unwrap_err().contains("of no [[issuer]]"));
    assert!(with(partner, "").unwrap_err().contains("ldap.issuer has to say"));
    assert!(with(partner, &format!("issuer = {other}")).unwrap_err().contains("ldap.issuer names"));
}

#[test]
fn every_file_that_it_names_is_watched() {
    let ldap = "[ldap]\nurl = \"ldaps://dc\"\nbase = \"o=x\"\nca = \"/ldap-ca\"\n\
                bind_dn = \"cn=x\"\npassword = { file = \"/password\" }\n\n[[hsm]]";
    let text = GOOD
        .replace("plain_http = true", "tls = { certificate = \"/chain\", key = \"/key\" }")
        .replace("[[hsm]]", ldap)
        .replace("[[issuer]]", "[[issuer]]\nca = \"/issuer-ca\"")
        .replace("access = { ", "access = { policy = \"/policy\", ");
    let mut files = read(&text).unwrap().files();
    files.sort();
    let all = ["/chain", "/issuer-ca", "/key", "/ldap-ca", "/password", "/policy"];
    assert_eq!(files, all.map(PathBuf::from));
}

/// Fact A6.
#[test]
fn clients_are_asked_for_no_certificate() {
    let tls = "tls = { certificate = \"/c\", key = \"/k\", client = { ca = \"/a\", subjects = [\"s\"] } }";
    let told = problem("plain_http = true", tls);
    assert!(told.contains("listen.tls.client"), "{told}");
}

#[test]
fn names_are_checked() {
    for (from, to) in [
        ("\"https://dke.example.org\"", "\"http://dke.example.org\""),
        ("\"https://dke.example.org\"", "\"https://dke.example.org/a?b\""),
        ("\"Confidential\"", "\"a/b\""),
        ("\"Confidential\"", "\"..\""),
        ("\"guid-1\"", "\"a.b\""),
        ("name = \"a\"", "name = \"a b\""),
        ("\"microsoft-label\"", "\"both\""),
        ("purpose", "cache_days = 0\npurpose"),
        ("purpose", "cache_days = 366\npurpose"),
        ("[listen]", "deadline_ms = 99\n[listen]"),
        ("[listen]", "challenge = { resource = \"a,b\" }\n[listen]"),
    ] {
        problem(from, to);
    }
    let told = problem("pkcs11:token=dke?", "pkcs11:token=dke;object=k?");
    assert!(told.contains("names a key"), "{told}");
}

#[test]
fn what_is_there_twice_is_refused() {
    let once = "[{ number = 1, id = \"guid-1\", object = \"dke-1\" }]";
    for (twice, what) in [
        (
            "[{ number = 1, id = \"x\", object = \"o\" }, { number = 1, id = \"y\", object = \"p\" }]",
            "1",
        ),
        (
            "[{ number = 1, id = \"x\", object = \"o\" }, { number = 2, id = \"x\", object = \"p\" }]",
            "x",
        ),
    ] {
        let told = problem(once, twice);
        assert!(told.contains("twice") && told.contains(what), "{told}");
    }
    assert!(problem("hsms = [\"a\"]", "hsms = [\"a\", \"a\"]").contains("twice"));
    let keys = GOOD.replace("guid-1", "guid-2").replace("dke-1", "dke-2");
    let second = &keys[keys.find("[[key]]").unwrap()..];
    assert!(read(&format!("{GOOD}{second}")).unwrap_err().contains("\"Confidential\""));
}

/// A key has one purpose: an object beneath two would decrypt what was encrypted
/// for either.
#[test]
fn two_keys_have_no_object_in_common() {
    let second = |object: &str| {
        let keys = GOOD.replace("Confidential", "Shares").replace("microsoft-label", "shares");
        let second = keys[keys.find("[[key]]").unwrap()..].replace("dke-1", object);
        read(&format!("{GOOD}{second}"))
    };
    assert!(second("dke-2").is_ok());
    let told = second("dke-1").unwrap_err();
    assert!(told.contains("Confidential:1") && told.contains("Shares:1"), "{told}");
    let both =
        "[{ number = 1, id = \"x\", object = \"o\" }, { number = 2, id = \"y\", object = \"o\" }]";
    problem("[{ number = 1, id = \"guid-1\", object = \"dke-1\" }]", both);
}

#[test]
fn no_complaint_quotes_a_secret() {
    let told = problem("pin = { file = \"/run/pin\" }", "pin = \"swordfish\"");
    assert!(!told.contains("swordfish"), "{told}");
}

#[test]
fn the_packaged_configuration_is_one() {
    let config = read(include_str!("../../packaging/config.toml")).unwrap();
    assert_eq!(config.key[0].name.as_str(), "Confidential");
}
