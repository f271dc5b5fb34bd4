//! Which keys are used.

use std::fs;

use crate::support::cli::Dir;

#[test]
fn flags_go_before_variables_before_the_profile() {
    let mut dir = Dir::with_keys();
    dir.write("a", "secret");
    let [by_variable, by_flag] = ["v", "f"].map(|name| dir.new_key(name));
    let customer_of = |args: &[&'static str], dir: &Dir| {
        dir.run([&["encrypt", "a", "--force"], args].concat()).ok();
        let facts = dir.run(["inspect", "--json", "a.twl"]).ok().json();
        facts["keyslots"][0]["customer"]["uri"].as_str().unwrap().to_owned()
    };
    let by_flag: &'static str = by_flag.leak();
    assert!(customer_of(&[], &dir).ends_with("/customer.kek"));
    dir.set("TWINLOCK_CUSTOMER", &by_variable);
    assert_eq!(customer_of(&[], &dir), by_variable);
    assert_eq!(customer_of(&["--customer", by_flag], &dir), by_flag);
    dir.set("TWINLOCK_CUSTOMER", "");
    assert!(customer_of(&[], &dir).ends_with("/customer.kek"), "empty counts as not set");
}

#[test]
fn a_profile_is_chosen_by_flag_variable_and_file() {
    let mut dir = Dir::new();
    let keys = ["one", "two", "three", "customer"].map(|name| dir.new_key(name));
    let profile = |name: &str, provider: &str| {
        format!("[profiles.{name}]\nprovider = \"{provider}\"\ncustomer = \"{}\"\n", keys[3])
    };
    let profiles: String =
        ["one", "two", "three"].iter().zip(&keys).map(|(name, key)| profile(name, key)).collect();
    dir.write_config(&format!("profile = \"one\"\n{profiles}"));
    dir.write("a", "secret");
    let provider_of = |args: &[&'static str], dir: &Dir| {
        dir.run([&["encrypt", "a", "--force"], args].concat()).ok();
        let facts = dir.run(["inspect", "--json", "a.twl"]).ok().json();
        facts["keyslots"][0]["provider"]["uri"].as_str().unwrap().to_owned()
    };
    assert_eq!(provider_of(&[], &dir), keys[0]);
    dir.set("TWINLOCK_PROFILE", "two");
    assert_eq!(provider_of(&[], &dir), keys[1]);
    assert_eq!(provider_of(&["--profile", "three"], &dir), keys[2]);
    dir.run(["encrypt", "a", "--force", "--profile", "four"]).with(2);

    let other = dir.path("other.toml");
    fs::write(&other, profile("two", &keys[2])).unwrap();
    dir.set("TWINLOCK_CONFIG", &other);
    assert_eq!(provider_of(&[], &dir), keys[2]);
}

#[test]
fn the_settings_that_count_are_shown_with_their_origin() {
    let mut dir = Dir::with_keys();
    dir.set("TWINLOCK_CUSTOMER", "pkcs11:token=t;object=o?pin-value=8642&module-path=/m");
    dir.set("TWINLOCK_PIN", "97531");
    let shown = dir.run(["config", "show", "--origin", "--provider", "file:///f"]).ok().text();
    let line = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("configuration").ends_with("config.toml  (default)"), "{shown}");
    assert!(line("profile").ends_with("default  (the file's own choice)"), "{shown}");
    assert!(line("provider").ends_with("file:///f  (--provider)"), "{shown}");
    assert!(line("customer").ends_with("&module-path=/m  (TWINLOCK_CUSTOMER)"), "{shown}");
    assert!(line("pin ").ends_with("…  (TWINLOCK_PIN)"), "{shown}");
    assert!(!shown.contains("8642") && !shown.contains("97531"), "{shown}");
    let json = dir.run(["config", "show", "--json"]).ok().json();
    assert_eq!(json["settings"][0]["origin"]["line"], 3, "{json}");
    // What those words would make of nothing is shown too.
    let nothing = Dir::new().run(["config", "show"]).ok().text();
    assert!(nothing.contains("config.toml, which does not exist"), "{nothing}");
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    let refused = |args: &[&'static str]| {
        let ended = dir.run([&["encrypt", "a"], args].concat()).with(2);
        assert_eq!(dir.names(), ["a"]);
        ended.stderr
    };
    let missing = dir.run(["encrypt", "a", "--provider", "file:///no/such/kek"]).with(4);
    assert!(missing.stderr.contains("/no/such/kek"), "{}", missing.stderr);
    assert!(refused(&["--provider", "ftp://key"]).contains("--provider"));
    assert!(refused(&["--provider", "pkcs11:token=t;object=k"]).contains("provider"));
    assert!(refused(&["--config", "missing.toml"]).contains("missing.toml"));
    let customer: &'static str = format!("file://{}/customer.kek", dir.home().display()).leak();
    assert!(refused(&["--provider", customer]).contains("customer"), "one key for both");

    dir.write_config("profile = \"default\"\n[profiles.default]\nprovidr = \"x\"\n");
    let said = refused(&[]);
    assert!(said.contains("providr") && said.contains("config.toml"), "{said}");
    dir.write_config("");
    assert!(refused(&[]).contains("twinlock init"), "what to do about it");
}

#[test]
fn a_key_that_moved_opens_old_files() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    dir.run(["encrypt", "a"]).ok();
    let at = |name: &str| format!("{}/{name}.kek", dir.home().display());
    fs::rename(at("customer"), at("renamed")).unwrap();
    let config = format!(
        "profile = \"default\"\n[profiles.default]\nprovider = \"file://{}\"\ncustomer = \"file://{}\"\n",
        at("provider"),
        at("renamed")
    );
    dir.write_config(&config);
    dir.run(["verify", "a.twl"]).with(4);
    let moved = format!(
        "[[profiles.default.moved]]\nfrom = \"file://{}\"\nto = \"file://{}\"\n",
        at("customer"),
        at("renamed")
    );
    dir.write_config(&format!("{config}{moved}"));
    dir.run(["verify", "a.twl"]).ok();
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    let key = dir.home().join("customer.kek");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let ended = dir.run(["encrypt", "a"]).with(2);
    assert!(ended.stderr.contains("chmod 600"), "{}", ended.stderr);
    assert_eq!(dir.names(), ["a"]);
}

#[cfg(not(feature = "gcp-kms"))]
#[test]
fn a_provider_that_is_not_built_in_says_how_to_build_it_in() {
    let dir = Dir::with_keys();
    dir.write("a", "secret");
    let key = "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k";
    let customer = dir.new_key("other");
    let ended = dir.run(["encrypt", "a", "--provider", key, "--customer", &customer]).with(2);
    assert!(ended.stderr.contains("--features gcp-kms"), "{}", ended.stderr);
    assert_eq!(dir.names(), ["a"]);
}
