//! Groups of a directory, and groups and roles of tokens.

use serde_json::json;

use super::client::PublicKey;
use super::issuer::{ALICE, Token};
use super::service::{Dke, eventually, key};
use crate::support::slapd::{BASE, BIND_DN, PASSWORD, Slapd};
use crate::support::softhsm::write_private;

const ALICE_SID: &str = "S-1-5-21-1004336348-1177238915-682003330-1103";
const BOB_SID: &str = "S-1-5-21-1004336348-1177238915-682003330-1104";
const READERS_SID: &str = "S-1-5-21-1004336348-1177238915-682003330-2001";
const OTHERS_SID: &str = "S-1-5-21-1004336348-1177238915-682003330-2002";

/// Alice is in a group with a comma in its name, Bob in another.
fn directory(dke: &Dke) -> Slapd {
    let readers = format!("cn=Readers\\, of the archive,{BASE}");
    let others = format!("cn=Others,{BASE}");
    let group = |dn: &str, cn: &str, member: &str, sid: &str| {
        format!(
            "dn: {dn}\nobjectClass: groupOfNames\nobjectClass: securityPrincipal\ncn: {cn}\n\
             member: cn={member},{BASE}\nobjectSid: {sid}\n\n"
        )
    };
    let person = |cn: &str, sid: &str, group: &str| {
        format!(
            "dn: cn={cn},{BASE}\nobjectClass: person\nobjectClass: securityPrincipal\ncn: {cn}\n\
             sn: {cn}\nobjectSid: {sid}\nmemberOf: {group}\n\n"
        )
    };
    let entries = group(&readers, "Readers, of the archive", "Alice", READERS_SID)
        + &group(&others, "Others", "Bob", OTHERS_SID)
        + &person("Alice", ALICE_SID, &readers)
        + &person("Bob", BOB_SID, &others);
    Slapd::start(&entries, &dke.authority.issue("127.0.0.1", 7))
}

/// With the key `Grouped` for the readers.
fn started() -> (Dke, Slapd) {
    let mut dke = Dke::prepared();
    let slapd = directory(&dke);
    let home = dke.dir.home();
    write_private(&home.join("directory-password"), PASSWORD);
    let home = home.display();
    let ldap = format!(
        "[ldap]\nurl = \"{}\"\nbind_dn = \"{BIND_DN}\"\nbase = \"{BASE}\"\n\
         password = {{ file = \"{home}/directory-password\" }}\nca = \"{home}/ca.pem\"\n\n[[hsm]]",
        slapd.url()
    );
    let grouped = key("Grouped", "spare", &format!("ldap_groups = [\"{READERS_SID}\"]"));
    let config = dke.config().replacen("[[hsm]]", &ldap, 1) + &grouped;
    dke.write_config(&config);
    dke.run();
    dke.wait_until_ready();
    (dke, slapd)
}

fn with_sid(sid: &str) -> Token {
    Token::of("whoever@example.org").with("onprem_sid", sid)
}

#[test]
fn members_of_a_group_decrypt_and_nobody_else() {
    let (dke, _slapd) = started();
    let public = dke.public_key("Grouped");
    let ciphertext = public.encrypt(b"x");
    assert_eq!(dke.decrypt_with(&with_sid(ALICE_SID), &public, &ciphertext).plaintext(), b"x");
    let before = dke.decryptions();
    for sid in [
        BOB_SID,
        "S-1-5-21-1004336348-1177238915-682003330-9999",
        "S-1-5-21-*",
        "*",
        "",
        "S-1-5-21-1)(objectClass=*",
        &format!("{ALICE_SID})(cn=*"),
        &format!("{ALICE_SID}\0"),
        READERS_SID,
    ] {
        dke.decrypt_with(&with_sid(sid), &public, &ciphertext).with(403);
    }
    dke.decrypt(&public, &ciphertext).with(403); // her name is not what is listed
    dke.decrypt_with(&Token::of(ALICE).with("onprem_sid", json!(7)), &public, &ciphertext)
        .with(403);
    assert_eq!(dke.decryptions(), before);
}

#[test]
fn a_directory_that_is_down_is_told_as_transient_and_others_are_served() {
    let (dke, mut slapd) = started();
    let [grouped, other] = ["Grouped", "Other"].map(|name| dke.public_key(name));
    let ciphertext = grouped.encrypt(b"x");
    slapd.stop();
    let answer = dke.decrypt_with(&with_sid(ALICE_SID), &grouped, &ciphertext).with(503);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert_eq!(dke.decrypt(&other, &other.encrypt(b"x")).plaintext(), b"x");
    slapd.run();
    eventually("it is asked again", || {
        dke.decrypt_with(&with_sid(ALICE_SID), &grouped, &ciphertext).status == 200
    });
}

#[test]
fn roles_and_groups_of_tokens_are_compared_to_the_letter() {
    let access = "roles = [\"Archive.Read\"], groups = [\"7f3b9d2e-0000-4000-8000-000000000001\"]";
    let dke = Dke::with(|config| config + &key("Roles", "spare", access));
    let public = dke.public_key("Roles");
    let ciphertext = public.encrypt(b"x");
    let status = |claim: &str, value| may(&dke, &public, &ciphertext, claim, value);
    for (claim, value, expected) in [
        ("roles", json!(["Other", "Archive.Read"]), 200),
        ("roles", json!("Archive.Read"), 200),
        ("groups", json!(["7f3b9d2e-0000-4000-8000-000000000001"]), 200),
        ("roles", json!(["archive.read"]), 403),
        ("roles", json!(["Archive.Read "]), 403),
        ("roles", json!([["Archive.Read"]]), 403),
        ("roles", json!({ "Archive.Read": true }), 403),
        ("groups", json!(["Archive.Read"]), 403),
        ("roles", json!(["7f3b9d2e-0000-4000-8000-000000000001"]), 403),
        ("wids", json!(["Archive.Read"]), 403),
    ] {
        assert_eq!(status(claim, value.clone()), expected, "{claim} {value}");
    }
    dke.decrypt(&public, &ciphertext).with(403);
}

fn may(
    dke: &Dke,
    public: &PublicKey,
    ciphertext: &[u8],
    claim: &str,
    value: serde_json::Value,
) -> u16 {
    dke.decrypt_with(&Token::of(ALICE).with(claim, value), public, ciphertext).status
}

const POLICY: &str = r#"
package twinlock.dke

default allow := false

allow if input.key == "Ruled"
"#;

/// Both have to agree where there are both.
#[test]
fn a_policy_decides_besides_the_lists() {
    let mut dke = Dke::prepared();
    let file = dke.dir.home().join("policy.rego");
    std::fs::write(&file, POLICY).unwrap();
    let policy = format!("policy = \"{}\"", file.display());
    let listed = format!("users = [\"{ALICE}\"], {policy}");
    let config = dke.config().replace("name = \"Other\"", "name = \"Unruled\"");
    let only_users = format!("access = {{ users = [\"{ALICE}\"] }}");
    // The first with one list alone is that key.
    let config = config.replacen(&only_users, &format!("access = {{ {listed} }}"), 1);
    dke.write_config(&(config + &key("Ruled", "spare", &listed)));
    dke.run();
    dke.wait_until_ready();
    let [ruled, unruled] = ["Ruled", "Unruled"].map(|name| dke.public_key(name));
    assert_eq!(dke.decrypt(&ruled, &ruled.encrypt(b"x")).plaintext(), b"x");
    dke.decrypt(&unruled, &unruled.encrypt(b"x")).with(403);
    let mallory = Token::of("mallory@example.org");
    dke.decrypt_with(&mallory, &ruled, &ruled.encrypt(b"x")).with(403);
}
