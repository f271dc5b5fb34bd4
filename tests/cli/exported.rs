//! RSA keys in a token: their public part encrypts where the token is not.

use std::fs;

use crate::support::cli::Dir;
use crate::support::key_service::openssl;
use crate::support::softhsm::{SoftHsm, uri_in};

#[test]
fn an_rsa_key_in_a_token_does_what_an_aes_key_does() {
    let rig = Rig::new();
    let list = rig.dir.run(["--json", "keys", "list", &rig.customer]).ok().json();
    let key = &list["tokens"][0]["keys"][0];
    assert_eq!((&key["bits"], &key["kind"]), (&3072.into(), &"RSA private key".into()), "{list}");
    assert_eq!((&key["sensitive"], &key["extractable"]), (&true.into(), &false.into()));
    assert_eq!((&key["decrypt"], &key["problem"]), (&true.into(), &().into()));

    rig.dir.write("a", "secret");
    rig.run(&["encrypt", "a", "--context", "object=a"]).ok();
    let inspected = rig.dir.run(["--json", "inspect", "a.twl"]).ok().json();
    let share = &inspected["keyslots"][0]["customer"];
    assert_eq!((&share["algorithm"], &share["wrapped_len"]), (&2.into(), &384.into()));
    let opened = rig.run(&["decrypt", "a.twl", "-o", "-", "--context", "object=a"]).ok();
    assert_eq!(opened.stdout, b"secret");
    rig.run(&["decrypt", "a.twl", "-o", "-", "--context", "object=b"]).with(3);
    rig.run(&["verify", "a.twl", "--any-context"]).ok();
    rig.run(&["prove", "a.twl"]).ok();

    let aes = uri_in(rig.hsm.folder(), "aes");
    rig.dir.run(["keys", "create", &aes]).ok();
    rig.run(&["rewrap", "a.twl", "--any-context", "--to-customer", &aes]).ok();
    rig.run(&["decrypt", "a.twl", "-o", "-", "--any-context"]).with(4);
}

#[test]
fn a_machine_without_a_token_encrypts_for_the_one_that_has_it() {
    let rig = Rig::new();
    let customer = rig.export("key.pem");
    let elsewhere = Dir::new(); // no module, no token, no PIN
    elsewhere.write("a", "secret");
    let with = ["--provider", &rig.provider, "--customer", &customer];
    let encrypted = elsewhere.run(["encrypt", "a"].into_iter().chain(with)).ok();
    let warnings = encrypted.stderr.matches("not read back").count();
    assert_eq!(warnings, 1, "{}", encrypted.stderr);
    let envelope = elsewhere.read("a.twl");
    let header = String::from_utf8_lossy(&envelope).into_owned();
    assert!(header.contains("pkcs11:token=tests;object=kek"));
    assert!(!header.contains("public-key") && !header.contains("spki"));

    rig.dir.write("a.twl", &envelope);
    assert_eq!(rig.run(&["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");

    let refused = elsewhere.run(["decrypt", "a.twl", "-o", "-"].into_iter().chain(with)).with(2);
    assert!(refused.stderr.contains("only the public key"), "{}", refused.stderr);
    let check = elsewhere.run(["--json", "keys", "check", &customer]).ok().json();
    assert!(check["keys"][0]["unwrap_ms"].is_null(), "{check}");
    let text = elsewhere.run(["keys", "check", &customer]).ok().text();
    assert!(text.contains("only a public key"), "{text}");
}

#[test]
fn a_machine_without_a_token_cannot_confirm_what_a_folder_has() {
    let rig = Rig::new();
    let customer = rig.export("key.pem");
    let elsewhere = Dir::new();
    fs::create_dir(elsewhere.path("data")).unwrap();
    elsewhere.write("data/a", "secret");
    let encrypt = ["encrypt", "-r", "data", "-o", "enc"].into_iter();
    let encrypt = encrypt.chain(["--provider", &rig.provider, "--customer", &customer]);
    elsewhere.run(encrypt.clone()).ok();
    let before = elsewhere.read("enc/a.twl");
    let again = elsewhere.run(encrypt.clone().chain(["--resume"])).with(2);
    for what in ["cannot be confirmed", "only the public key", "--force"] {
        assert!(again.stderr.contains(what), "{what}: {}", again.stderr);
    }
    assert!(!again.stderr.contains("remove it"), "{}", again.stderr);
    assert_eq!(elsewhere.read("enc/a.twl"), before);
    elsewhere.run(encrypt.chain(["--force"])).ok();
}

#[test]
fn a_machine_without_a_token_encrypts_a_tree_for_the_one_that_has_it() {
    let rig = Rig::new();
    let customer = rig.export("key.pem");
    let elsewhere = Dir::new(); // no module, no token, no PIN
    fs::create_dir(elsewhere.path("data")).unwrap();
    elsewhere.write("data/a", "secret");
    elsewhere.write("data/b", "secret");
    let with = ["--provider", &rig.provider, "--customer", &customer];
    let encrypted = elsewhere.run(["encrypt", "-r", "data", "-o", "enc"].into_iter().chain(with));
    let warnings = encrypted.ok().stderr.matches("not read back").count();
    assert_eq!(warnings, 1, "one pair for both");

    rig.dir.write("b.twl", elsewhere.read("enc/b.twl"));
    assert_eq!(rig.run(&["decrypt", "b.twl", "-o", "-"]).ok().stdout, b"secret");
}

#[test]
fn an_exported_key_takes_the_place_of_another_where_its_token_is_not() {
    let rig = Rig::new();
    let exported = rig.export("key.pem");
    let elsewhere = Dir::new(); // no module, no token, no PIN
    let old = elsewhere.new_key("old");
    let with = ["--provider", &rig.provider, "--customer", &old];
    fs::create_dir(elsewhere.path("enc")).unwrap();
    elsewhere.write("a", "secret");
    for name in ["enc/a.twl", "b.twl"] {
        elsewhere.run(["encrypt", "a", "-o", name].into_iter().chain(with)).ok();
    }
    for args in [["rewrap", "b.twl"].as_slice(), &["rewrap", "-r", "enc"]] {
        let new = ["--from-key", &old, "--to-customer", &exported];
        let ended = elsewhere.run(args.iter().copied().chain(with).chain(new)).ok();
        assert_eq!(ended.stderr.matches("not read back").count(), 1, "{}", ended.stderr);
    }
    for name in ["enc/a.twl", "b.twl"] {
        elsewhere.run(["decrypt", name, "-o", "-"].into_iter().chain(with)).with(4);
        rig.dir.write("moved.twl", elsewhere.read(name));
        assert_eq!(rig.run(&["decrypt", "moved.twl", "-o", "-"]).ok().stdout, b"secret");
    }
}

#[test]
fn both_ways_to_the_key_wrap_without_the_token_and_unwrap_with_it() {
    let rig = Rig::new();
    let exported = rig.export("key.pem");
    let query = exported.split_once('?').unwrap().1;
    let both = format!("{}&{query}", rig.customer);
    let with = ["--provider", &rig.provider, "--customer", &both];
    rig.dir.write("a", "secret");
    let encrypted = rig.dir.run(["encrypt", "a"].into_iter().chain(with)).ok();
    assert!(!encrypted.stderr.contains("not read back"), "{}", encrypted.stderr);
    let opened = rig.dir.run(["decrypt", "a.twl", "-o", "-"].into_iter().chain(with)).ok();
    assert_eq!(opened.stdout, b"secret");

    // Its token is away: what cannot be read back is refused, unless that is wanted.
    let mut away = Dir::new();
    away.set("SOFTHSM2_CONF", SoftHsm::new().folder().join("token.conf"));
    away.write("a", "secret");
    let encrypt = ["encrypt", "a"].into_iter().chain(with);
    assert_ne!(away.run(encrypt.clone()).code, Some(0));
    assert_eq!(away.names(), ["a"]);
    away.run(encrypt.chain(["--no-read-back"])).ok();
    rig.dir.write("a.twl", away.read("a.twl"));
    assert_eq!(rig.run(&["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");
}

#[test]
fn an_exchanged_key_encrypts_nothing() {
    let rig = Rig::new();
    let customer = rig.export("key.pem");
    let impostor = uri_in(rig.hsm.folder(), "impostor");
    rig.dir.run(["keys", "create", "--type", "rsa-3072", &impostor]).ok();
    rig.dir.write("a", "secret");
    let without_pin = customer.split_once("&spki").unwrap().0.to_owned();
    let export = ["keys", "export-public", "-o", "key.pem", "--force", impostor.as_str()];
    rig.dir.run(export).ok();
    for (customer, reason) in [(customer, "exchanged"), (without_pin, "spki-sha256")] {
        let with = ["--provider", &rig.provider, "--customer", &customer];
        let ended = rig.dir.run(["encrypt", "a"].into_iter().chain(with)).with(2);
        assert!(ended.stderr.contains(reason), "{}", ended.stderr);
    }
    assert_eq!(rig.dir.names(), ["a", "key.pem"]);
}

#[test]
fn a_public_key_goes_to_stdout_and_what_is_said_of_it_does_not() {
    let rig = Rig::new();
    let ended = rig.dir.run(["keys", "export-public", &rig.customer]).ok();
    let pem = ended.text();
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{pem}");
    assert!(pem.ends_with("-----END PUBLIC KEY-----\n"), "{pem}");
    assert!(ended.stderr.contains("?public-key=file:/path/key.pem&spki-sha256="));
    let report = rig.dir.run(["--json", "keys", "export-public", &rig.customer]).ok();
    assert_eq!(report.text(), pem);
    let report = report.json();
    assert_eq!((&report["bits"], &report["output"]), (&3072.into(), &"-".into()), "{report}");
    let check = rig.dir.run(["--json", "keys", "check", &rig.customer]).ok().json();
    assert_eq!(check["keys"][0]["spki_sha256"], report["spki_sha256"]);
}

#[test]
fn what_has_no_public_part_or_no_place_for_it_is_refused() {
    let rig = Rig::new();
    let aes = uri_in(rig.hsm.folder(), "aes");
    rig.dir.run(["keys", "create", "--type", "aes-256", &aes]).ok();
    let refused = rig.dir.run(["keys", "export-public", &aes]).with(2);
    assert!(refused.stderr.contains("rsa-3072"), "{}", refused.stderr);
    assert!(refused.stdout.is_empty());
    rig.dir.run(["keys", "export-public", &rig.provider]).with(2);
    rig.dir.write("key.pem", "kept");
    rig.dir.run(["keys", "export-public", "-o", "key.pem", &rig.customer]).with(1);
    assert_eq!(rig.dir.read("key.pem"), b"kept");
    for (key_type, uri) in [("rsa-3072", "file:///kek"), ("rsa-1024", &*rig.customer)] {
        rig.dir.run(["keys", "create", "--type", key_type, uri]).with(2);
    }
    assert!(!fs::exists("/kek").unwrap());
}

#[test]
fn a_private_key_that_exists_is_put_into_a_token() {
    let rig = Rig::new();
    let pem = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], b"");
    let der = openssl(&["rsa", "-traditional", "-outform", "DER"], &pem);
    rig.dir.write("key.der", &der);
    let [from_file, from_stdin] = ["a", "b"].map(|label| uri_in(rig.hsm.folder(), label));
    rig.dir.run(["keys", "create", "--from", "key.der", &from_file]).ok();
    rig.dir.run_with(["keys", "create", "--from", "-", &from_stdin], &der).ok();
    for uri in [&from_file, &from_stdin] {
        let public = rig.dir.run(["keys", "export-public", uri]).ok().stdout;
        assert_eq!(public, openssl(&["rsa", "-pubout"], &pem));
        rig.dir.run(["keys", "check", uri]).ok();
    }
    rig.dir.write("secret", "secret");
    let both = ["--provider", &rig.provider, "--customer", &from_file];
    rig.dir.run(["encrypt", "secret"].into_iter().chain(both)).ok();
    let opened = rig.dir.run(["decrypt", "secret.twl", "-o", "-"].into_iter().chain(both)).ok();
    assert_eq!(opened.stdout, b"secret");
}

#[test]
fn what_is_no_private_key_or_has_no_place_is_refused() {
    let rig = Rig::new();
    let pem = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], b"");
    let small = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], b"");
    let of = |pem: &[u8]| openssl(&["rsa", "-traditional", "-outform", "DER"], pem);
    let good = of(&pem);
    let new = uri_in(rig.hsm.folder(), "new");
    let create =
        |key: &[u8], uri: &str| rig.dir.run_with(["keys", "create", "--from", "-", uri], key);
    for (what, key) in [
        ("nothing", Vec::new()),
        ("PEM", pem.clone()),
        ("PKCS #8", openssl(&["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"], &pem)),
        ("a public key", openssl(&["rsa", "-pubout", "-outform", "DER"], &pem)),
        ("cut short", good[..good.len() - 1].to_vec()),
        ("longer", [&good[..], b"x"].concat()),
        ("a flipped bit", [&good[..100], &[good[100] ^ 1], &good[101..]].concat()),
        ("1024 bits", of(&small)),
    ] {
        let refused = create(&key, &new).with(2);
        assert!(refused.stderr.contains("no RSA private key"), "{what}: {}", refused.stderr);
    }
    let refused = create(&vec![0x30; 1 << 20], &new).with(2);
    assert!(refused.stderr.contains("too long"), "{}", refused.stderr);
    let refused = create(&good, "file:///kek").with(2);
    assert!(refused.stderr.contains("pkcs11:"), "{}", refused.stderr);
    assert!(!fs::exists("/kek").unwrap());
    rig.dir.run(["keys", "create", "--from", "nowhere.der", &new]).with(1);
    rig.dir.write("key.der", &good);
    rig.dir.run(["keys", "create", "--from", "key.der", "--type", "rsa-3072", &new]).with(2);
    rig.dir.run(["keys", "check", &new]).with(4);
    // A label that is taken stays what it was.
    let before = rig.dir.run(["keys", "export-public", &rig.customer]).ok().stdout;
    assert_ne!(create(&good, &rig.customer).code, Some(0));
    assert_eq!(rig.dir.run(["keys", "export-public", &rig.customer]).ok().stdout, before);
}

/// A token with an RSA key, and a provider's key in a file.
struct Rig {
    dir: Dir,
    hsm: SoftHsm,
    provider: String,
    customer: String,
}

impl Rig {
    fn new() -> Self {
        let hsm = SoftHsm::with_token();
        let mut dir = Dir::new();
        hsm.variables().into_iter().for_each(|(name, value)| dir.set(name, value));
        let (provider, customer) = (dir.new_key("provider"), uri_in(hsm.folder(), "kek"));
        dir.run(["keys", "create", "--type", "rsa-3072", &customer]).ok();
        Self { dir, hsm, provider, customer }
    }

    /// Runs it with both keys.
    fn run(&self, args: &[&str]) -> crate::support::cli::Ended {
        let with = ["--provider", &self.provider, "--customer", &self.customer];
        self.dir.run(args.iter().copied().chain(with))
    }

    /// Writes the public key to a file, and returns the URI that names it.
    fn export(&self, name: &str) -> String {
        let export = ["--json", "keys", "export-public", &self.customer, "-o", name];
        let report = self.dir.run(export).ok().json();
        report["public_key_uri"].as_str().unwrap().to_owned()
    }
}
