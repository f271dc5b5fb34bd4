//! The program with keys in Vault and in a token.

use serde_json::json;

use crate::support::cli::Dir;
use crate::support::openbao::{ROOT, openbao, unique};
use crate::support::softhsm::{SoftHsm, uri_in, write_private};
use crate::support::tls::Authority;

struct Rig {
    dir: Dir,
    hsm: SoftHsm,
    /// Where the program finds the server by TLS.
    authority: String,
}

impl Rig {
    fn new() -> Self {
        let hsm = SoftHsm::with_token();
        let mut dir = Dir::new();
        for (name, value) in hsm.variables() {
            dir.set(name, value);
        }
        let authority = format!("127.0.0.1:{}", openbao().tls_address.port());
        let rig = Self { dir, hsm, authority };
        rig.dir.run(["keys", "create", &rig.customer()]).ok();
        rig
    }

    fn customer(&self) -> String {
        uri_in(self.hsm.folder(), "kek")
    }

    fn uri(&self, name: &str) -> String {
        format!("vault://{}/transit/keys/{name}", self.authority)
    }

    fn write_profile(&self, name: &str, vault: &str) {
        let (provider, customer) = (self.uri(name), self.customer());
        let ca = Authority::trusted().certificate();
        self.dir.write_config(&format!(
            "profile = \"v\"\n[profiles.v]\nprovider = \"{provider}\"\ncustomer = \"{customer}\"\n\
             [profiles.v.vault]\nca_file = \"{}\"\n{vault}\n",
            ca.display()
        ));
    }
}

#[test]
fn vault_and_a_token_open_together_and_prove_it() {
    let mut rig = Rig::new();
    let name = unique("archive");
    rig.write_profile(&name, "");
    rig.dir.set("VAULT_TOKEN", ROOT);
    let uri = rig.uri(&name);
    let created = rig.dir.run(["--json", "keys", "create", &uri]).ok().json();
    assert_eq!(created["uri"], uri);

    let dir = &rig.dir;
    dir.write("a", "secret");
    dir.run(["encrypt", "a", "--context", "object=a"]).ok();
    let opened = dir.run(["decrypt", "a.twl", "-o", "-", "--context", "object=a"]).ok();
    assert_eq!(opened.stdout, b"secret");
    let proof = dir.run(["--json", "prove", "a.twl"]).ok().json();
    assert_eq!(proof["proves"], true, "{proof}");

    let checked = dir.run(["--json", "keys", "check", &uri]).ok().json();
    assert_eq!(checked["keys"][0]["vault"]["type"], "aes256-gcm96", "{checked}");
    let text = dir.run(["keys", "check", &uri]).ok();
    assert!(text.text().contains("version 1, aes256-gcm96"), "{text:?}");
}

#[test]
fn a_rotated_key_opens_old_files_and_stands_in_new_ones() {
    let mut rig = Rig::new();
    let name = openbao().create_key(&json!({}));
    rig.write_profile(&name, "");
    rig.dir.set("VAULT_TOKEN", ROOT);
    let dir = &rig.dir;
    let version = |file: &str| {
        let seen = dir.run(["--json", "inspect", file]).ok().json();
        seen["keyslots"][0]["provider"]["key_version"].clone()
    };
    dir.write("old", "old secret");
    dir.run(["encrypt", "old"]).ok();
    openbao().call("POST", &format!("transit/keys/{name}/rotate"), &json!({}));
    dir.write("new", "new secret");
    dir.run(["encrypt", "new"]).ok();
    assert_eq!((version("old.twl"), version("new.twl")), (json!("1"), json!("2")));
    for (file, secret) in [("old.twl", "old secret"), ("new.twl", "new secret")] {
        assert_eq!(dir.run(["decrypt", file, "-o", "-"]).ok().text(), secret);
    }

    // What the provider switches off, the program says with the code of its own.
    let settings = json!({ "min_decryption_version": 2 });
    openbao().call("POST", &format!("transit/keys/{name}/config"), &settings);
    let ended = dir.run(["decrypt", "old.twl", "-o", "-"]).with(4);
    assert!(ended.stderr.contains("min_decryption_version"), "{}", ended.stderr);
    dir.run(["decrypt", "new.twl", "-o", "-"]).ok();
}

#[test]
fn a_profile_says_how_to_log_in() {
    let rig = Rig::new();
    let (server, mount) = (openbao(), unique("approle"));
    let name = server.create_key(&json!({}));
    server.call("POST", &format!("sys/auth/{mount}"), &json!({ "type": "approle" }));
    let policy = format!(
        "path \"transit/encrypt/{name}\" {{ capabilities = [\"update\"] }}\n\
         path \"transit/decrypt/{name}\" {{ capabilities = [\"update\"] }}\n"
    );
    let role = format!("auth/{mount}/role/cli");
    server.call("POST", &role, &json!({ "token_policies": [server.policy(&policy)] }));
    let role_id = server.call("GET", &format!("{role}/role-id"), &json!({}));
    let secret_id = server.call("POST", &format!("{role}/secret-id"), &json!({}));
    let file = rig.dir.home().join("secret-id");
    write_private(&file, secret_id["data"]["secret_id"].as_str().unwrap());
    let login = |file: &str| {
        format!(
            "auth = \"approle\"\nauth_mount = \"{mount}\"\nrole_id = {}\nsecret_id_file = \"{file}\"",
            role_id["data"]["role_id"]
        )
    };
    rig.write_profile(&name, &login(file.to_str().unwrap()));
    rig.dir.write("a", "secret");
    rig.dir.run(["encrypt", "a"]).ok();
    assert_eq!(rig.dir.run(["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");
    // The policy does not let it read the key, and that is fine.
    rig.dir.run(["keys", "check"]).ok();

    rig.write_profile(&name, &login("/nowhere/secret-id"));
    let ended = rig.dir.run(["decrypt", "a.twl", "-o", "-"]).with(2);
    assert!(ended.stderr.contains("/nowhere/secret-id"), "{}", ended.stderr);
    rig.write_profile(&name, "auth = \"approle\"");
    let ended = rig.dir.run(["decrypt", "a.twl", "-o", "-"]).with(2);
    assert!(ended.stderr.contains("role_id"), "{}", ended.stderr);
    rig.write_profile(&name, "");
    let ended = rig.dir.run(["decrypt", "a.twl", "-o", "-"]).with(2);
    assert!(ended.stderr.contains("VAULT_TOKEN"), "{}", ended.stderr);
}

#[test]
fn the_environment_may_say_that_this_machine_speaks_plain_http() {
    let mut rig = Rig::new();
    rig.authority = openbao().address.to_string();
    let uri = rig.uri(&openbao().create_key(&json!({})));
    rig.dir.set("VAULT_TOKEN", ROOT);
    let ended = rig.dir.run(["keys", "check", &uri]).with(2);
    assert!(ended.stderr.contains("speaks no TLS"), "{}", ended.stderr);
    rig.dir.set("VAULT_ADDR", format!("http://{}", openbao().address));
    rig.dir.run(["keys", "check", &uri]).ok();
    // Only for the place that the URI names: nobody else is told our token.
    rig.dir.set("BAO_ADDR", format!("http://{}", openbao().tls_address));
    rig.dir.run(["keys", "check", &uri]).with(2);
}

#[test]
fn a_key_in_another_vault_is_asked_of_no_server() {
    let rig = Rig::new();
    rig.write_profile(&unique("archive"), "");
    let other = "vault://other.example:8200/transit/keys/k";
    let (own, customer) = (rig.uri("k"), rig.customer());
    let keyslot = format!("{other},{customer}");
    let runs: [&[&str]; 6] = [
        &["keys", "check", other],
        &["keys", "create", other],
        &["encrypt", "a", "--provider", other],
        &["rewrap", "a.twl", "--to-provider", other],
        &["rewrap", "a.twl", "--add-keyslot", &keyslot],
        &[
            "--profile=new",
            "init",
            "--provider",
            &own,
            "--customer",
            &customer,
            "--recovery-provider",
            other,
            "--recovery-customer",
            "file:///nowhere",
        ],
    ];
    for args in runs {
        let ended = rig.dir.run(args.iter().copied()).with(2);
        for words in [&rig.authority, "other.example:8200", "two Vaults"] {
            assert!(ended.stderr.contains(words), "{args:?}: {}", ended.stderr);
        }
    }
}
