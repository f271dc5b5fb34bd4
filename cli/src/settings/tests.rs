use std::ffi::OsString;
use std::path::PathBuf;

use super::*;
use crate::exit::Kind;

const CONFIG: &str = r#"
profile = "one"

[profiles.one]
provider = "file:///one/p"
customer = "pkcs11:token=one;object=k?module-path=/m.so&pin-source=file:/pin"

[[profiles.one.keyslot]]
provider = "file:///one/p2"
customer = "file:///one/c2"

[[profiles.one.moved]]
from = "pkcs11:token=old;object=k"
to = "pkcs11:token=one;object=k"

[profiles.two]
provider = "file:///two/p"
customer = "file:///two/c"

deadline_seconds = 3

[profiles.two.aws]
region = "eu-central-1"
"#;

struct Setup {
    _folder: tempfile::TempDir,
    common: CommonArgs,
    keys: KeyArgs,
    variables: Vec<(&'static str, &'static str)>,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let config: PathBuf = folder.path().join("config.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let common =
        CommonArgs { json: false, quiet: false, verbose: 0, config: Some(config), profile: None };
    Setup { _folder: folder, common, keys: KeyArgs::default(), variables: Vec::new() }
}

impl Setup {
    fn resolve(&self) -> Result<Settings, Failure> {
        let environment = |name: &str| {
            let found = self.variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Settings::resolve(&self.common, &self.keys, &environment)
    }

    fn pairs(&self) -> Vec<(String, String)> {
        let pairs = self.resolve().unwrap().pairs;
        pairs.iter().map(|p| (p.provider.to_string(), p.customer.to_string())).collect()
    }
}

fn file_pair(provider: &str, customer: &str) -> (String, String) {
    (format!("file://{provider}"), format!("file://{customer}"))
}

#[test]
fn the_files_own_choice_counts_when_nobody_names_a_profile() {
    let setup = setup();
    let first = ("file:///one/p".to_owned(), "pkcs11:token=one;object=k".to_owned());
    assert_eq!(setup.pairs(), [first, file_pair("/one/p2", "/one/c2")]);
    assert_eq!(setup.resolve().unwrap().moved.len(), 1);
}

#[test]
fn a_profile_by_flag_goes_before_one_by_variable() {
    let mut setup = setup();
    setup.variables = vec![("TWINLOCK_PROFILE", "two")];
    assert_eq!(setup.pairs(), [file_pair("/two/p", "/two/c")]);
    let access = setup.resolve().unwrap().access;
    assert_eq!(access.aws.region.as_deref(), Some("eu-central-1"));
    assert_eq!(access.deadline, Some(Duration::from_secs(3)));
    setup.common.profile = Some("one".to_owned());
    assert_eq!(setup.pairs().len(), 2);
}

#[test]
fn flags_go_before_variables_before_the_profile() {
    let mut setup = setup();
    setup.common.profile = Some("two".to_owned());
    setup.variables =
        vec![("TWINLOCK_PROVIDER", "file:///env/p"), ("TWINLOCK_CUSTOMER", "file:///env/c")];
    assert_eq!(setup.pairs(), [file_pair("/env/p", "/env/c")]);
    setup.keys.provider = Some("file:///flag/p".to_owned());
    assert_eq!(setup.pairs(), [file_pair("/flag/p", "/env/c")]);
    setup.variables = vec![("TWINLOCK_CUSTOMER", "")];
    assert_eq!(setup.pairs(), [file_pair("/flag/p", "/two/c")]);
}

#[test]
fn a_profiles_keyslots_belong_to_its_own_pair() {
    let mut setup = setup();
    setup.keys.customer = Some("file:///flag/c".to_owned());
    assert_eq!(setup.pairs(), [file_pair("/one/p", "/flag/c")]);
}

#[test]
fn keyslots_by_flag_replace_those_of_the_profile() {
    let mut setup = setup();
    setup.keys.keyslots = vec!["file:///k/p,file:///k/c".to_owned()];
    assert_eq!(setup.pairs()[1..], [file_pair("/k/p", "/k/c")]);
}

#[test]
fn a_key_is_needed_if_every_keyslot_has_it() {
    let mut setup = setup();
    let needed = |setup: &Setup| {
        let settings = setup.resolve().unwrap();
        settings.needed_keys().iter().map(|key| key.to_string()).collect::<Vec<_>>()
    };
    setup.common.profile = Some("two".to_owned());
    assert_eq!(needed(&setup), ["file:///two/p", "file:///two/c"]);
    setup.keys.keyslots = vec!["file:///two/p,file:///other/c".to_owned()];
    assert_eq!(needed(&setup), ["file:///two/p"]);
    setup.keys.keyslots = vec!["file:///other/p,file:///other/c".to_owned()];
    assert_eq!(needed(&setup), [""; 0]);
}

#[test]
fn keyslots_alone_are_enough() {
    let mut setup = setup();
    std::fs::write(setup.common.config.as_ref().unwrap(), "").unwrap();
    setup.keys.keyslots = vec!["file:///k/p,file:///k/c".to_owned()];
    assert_eq!(setup.pairs(), [file_pair("/k/p", "/k/c")]);
}

#[test]
fn a_missing_profile_names_those_that_there_are() {
    let mut setup = setup();
    setup.common.profile = Some("three".to_owned());
    let failure = setup.resolve().unwrap_err();
    assert_eq!(failure.kind, Kind::Misconfigured);
    assert_eq!(failure.hint.as_deref(), Some("there are: one, two"));
}

#[test]
fn a_key_of_the_other_side_is_refused_with_its_origin() {
    let mut setup = setup();
    setup.keys.provider = Some("pkcs11:token=t;object=o".to_owned());
    let failure = setup.resolve().unwrap_err();
    assert_eq!(failure.kind, Kind::Usage);
    assert_eq!(failure.message, "--provider: pkcs11 keys cannot be the provider key");
}

#[test]
fn a_key_of_a_service_is_the_customers() {
    let mut setup = setup();
    setup.variables = vec![("TWINLOCK_CUSTOMER", "dke+https://Host:443/k")];
    assert_eq!(setup.pairs()[0].1, "dke+https://host/k");
    setup.variables = vec![("TWINLOCK_PROVIDER", "dke+https://host/k")];
    let failure = setup.resolve().unwrap_err();
    assert_eq!(failure.kind.code(), 2);
    assert!(
        failure.message.starts_with("TWINLOCK_PROVIDER: dke+https keys cannot be"),
        "{failure:?}"
    );
}

#[test]
fn keys_in_two_dke_services_are_refused() {
    let service = |authority| format!("dke+https://{authority}/k");
    let dke = "[profiles.one.dke]\nca_file = \"/ca.pem\"\n";
    let keys = format!("provider = \"file:///p\"\ncustomer = \"{}\"\n", service("a.example:8443"));
    let mut setup = setup_with(&format!("{keys}{dke}"));
    assert!(setup.resolve().is_ok());
    setup.keys.keyslots = vec![format!("file:///p,{}", service("A.example:8443"))];
    assert!(setup.resolve().is_ok(), "the same one");
    setup.keys.keyslots = vec![format!("file:///p,{}", service("b.example"))];
    let failure = setup.resolve().unwrap_err();
    assert_eq!(failure.kind, Kind::Misconfigured, "{failure:?}");
    for words in ["two DKE services", "a.example:8443", "b.example"] {
        assert!(failure.message.contains(words), "{failure:?}");
    }
    let other = KeySpec::parse(&service("b.example")).unwrap();
    assert!(access_to(&other, &setup.common, &|_| None).is_err());

    // Without such settings there is nothing that is for one of them.
    let setup = setup_with(&keys);
    assert!(access_to(&other, &setup.common, &|_| None).is_ok());
}

#[test]
fn a_pin_in_a_uri_is_never_repeated() {
    let mut setup = setup();
    for uri in ["pkcs11:token=t;object=o;pin-value=1234", "pkcs11:object=o?pin-value=1234", "x1234"]
    {
        setup.keys.customer = Some(uri.to_owned());
        let failure = setup.resolve().unwrap_err();
        assert!(!format!("{failure:?}").contains("1234"), "{failure:?}");
    }
    setup.keys.customer = None;
    setup.keys.keyslots = vec!["file:///p,pkcs11x?pin-value=1234".to_owned()];
    let failure = setup.resolve().unwrap_err();
    assert_eq!(failure.kind, Kind::Usage);
    assert!(!format!("{failure:?}").contains("1234"), "{failure:?}");
}

#[test]
fn without_any_key_the_way_out_is_named() {
    let setup = setup();
    std::fs::write(setup.common.config.as_ref().unwrap(), "").unwrap();
    let failure = setup.resolve().unwrap_err();
    assert_eq!(failure.kind, Kind::Usage);
    assert!(failure.hint.unwrap().contains("twinlock init"));
}

#[test]
fn without_a_chosen_profile_those_that_there_are_are_named() {
    let setup = setup();
    let unchosen = CONFIG.replacen("profile = \"one\"", "", 1);
    std::fs::write(setup.common.config.as_ref().unwrap(), unchosen).unwrap();
    let hint = setup.resolve().unwrap_err().hint.unwrap();
    assert!(hint.ends_with("choose a profile with --profile; there are: one, two"), "{hint}");
}

#[test]
fn a_lone_profile_needs_nobody_to_choose_it() {
    let setup = setup();
    let lone = "[profiles.any]\nprovider = \"file:///p\"\ncustomer = \"file:///c\"\n";
    std::fs::write(setup.common.config.as_ref().unwrap(), lone).unwrap();
    assert_eq!(setup.pairs(), [file_pair("/p", "/c")]);
}

#[test]
fn an_incomplete_profile_is_named() {
    let setup = setup();
    let incomplete = "profile = \"one\"\n[profiles.one]\nprovider = \"file:///p\"\n";
    std::fs::write(setup.common.config.as_ref().unwrap(), incomplete).unwrap();
    let message = setup.resolve().unwrap_err().message;
    assert!(message.starts_with("no customer key is given, and profile \"one\" in "), "{message}");
}

#[test]
fn a_name_as_aws_shows_it_lacks_a_scheme() {
    let mut setup = setup();
    for name in ["arn:aws:kms:eu-central-1:111122223333:key/1", "alias/archive"] {
        setup.keys.provider = Some(name.to_owned());
        let hint = setup.resolve().unwrap_err().hint.unwrap();
        assert_eq!(hint, "write aws-kms:// before an ARN or alias of AWS KMS");
    }
}

/// With the profile `one` and these lines in it.
fn setup_with(profile: &str) -> Setup {
    let setup = setup();
    let config = setup.common.config.as_ref().unwrap();
    std::fs::write(config, format!("[profiles.one]\n{profile}")).unwrap();
    setup
}

fn vault(authority: &str) -> String {
    format!("vault://{authority}/transit/keys/k")
}

#[track_caller]
fn assert_two_vaults<T: fmt::Debug>(result: Result<T, Failure>) {
    let failure = result.unwrap_err();
    assert_eq!(failure.kind, Kind::Misconfigured, "{failure:?}");
    assert!(failure.message.contains("a.example:8200"), "{failure:?}");
    assert!(failure.message.contains("b.example"), "{failure:?}");
    assert!(failure.hint.is_some(), "{failure:?}");
}

#[test]
fn keys_in_two_vaults_are_refused() {
    let mut setup = setup();
    let keyslots = |one: &str, other: &str| {
        let pair = |authority| format!("{},file:///c", vault(authority));
        vec![pair(one), pair(other)]
    };
    setup.keys.keyslots = keyslots("a.example:8200", "b.example");
    setup.common.profile = Some("two".to_owned());
    setup.keys.provider = Some("file:///p".to_owned());
    setup.keys.customer = Some("file:///c".to_owned());
    assert_two_vaults(setup.resolve());
    for same in [("a.example", "A.example:443"), ("a.example:8200", "a.example:8200")] {
        setup.keys.keyslots = keyslots(same.0, same.1);
        assert!(setup.resolve().is_ok(), "{same:?}");
    }
}

#[test]
fn a_profiles_settings_for_vault_are_for_its_own() {
    let keys = format!("provider = \"{}\"\ncustomer = \"file:///c\"\n", vault("a.example:8200"));
    let address = "[profiles.one.vault]\naddress = \"https://a.example\"\n";
    let mut setup = setup_with(&format!("{keys}{address}"));
    assert!(setup.resolve().is_ok());
    let other = KeySpec::parse(&vault("b.example")).unwrap();
    let own = KeySpec::parse(&vault("a.example:8200")).unwrap();
    assert_two_vaults(access_to(&other, &setup.common, &|_| None));
    assert!(access_to(&own, &setup.common, &|_| None).is_ok());
    setup.keys.provider = Some(vault("b.example"));
    assert_two_vaults(setup.resolve());

    // Without such settings there is nothing that is for one of them.
    let setup = setup_with(&keys);
    assert!(access_to(&other, &setup.common, &|_| None).is_ok());
}
