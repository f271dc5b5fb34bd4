//! Who is let in by which list, and what of it a policy sees.

use std::fs;
use std::io::Write as _;

use serde_json::{Value, json};

use super::*;

/// Of a token with these claims.
pub(super) fn caller(claims: Value) -> Caller {
    let Value::Object(claims) = claims else { panic!("claims are an object") };
    Caller::new(Arc::from("https://issuer.example/"), claims)
}

fn listing(users: &[&str]) -> AccessSettings {
    AccessSettings {
        users: users.iter().map(|&user| user.to_owned()).collect(),
        user_claims: upn(),
        ..AccessSettings::default()
    }
}

async fn decide(settings: &AccessSettings, claims: Value) -> Decision {
    let access = Access::new(settings, None).unwrap();
    match access.decide(&caller(claims), "Secret", "g-1").await {
        Decision::Allowed { by, .. } => allowed(by),
        other => other,
    }
}

fn allowed(by: &'static str) -> Decision {
    Decision::Allowed { by, matched: None }
}

fn reason(decision: Decision) -> String {
    match decision {
        Decision::Denied { why } => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn users_are_found_by_the_first_claim_that_counts() {
    let mut settings = listing(&[" Alice@Example.org ", "*@partner.example"]);
    for upn in ["alice@example.org", "ALICE@EXAMPLE.ORG", "bob@partner.example"] {
        assert_eq!(decide(&settings, json!({"upn": upn})).await, allowed("user"), "{upn}");
    }
    for claims in [
        json!({"upn": "eve@example.org"}),
        json!({"upn": ""}),
        json!({"upn": " alice@example.org"}),
        json!({"upn": "alice@example.org\u{a0}"}),
        json!({"upn": ["alice@example.org"]}),
        json!({"upn": null}),
        json!({"upn": "a".repeat(5000)}),
        json!({"email": "alice@example.org"}),
        json!({"preferred_username": "alice@example.org"}),
        json!({}),
    ] {
        reason(decide(&settings, claims).await);
    }
    settings.user_claims = vec!["upn".to_owned(), "email".to_owned()];
    let listed = json!({"email": "alice@example.org"});
    assert_eq!(decide(&settings, listed).await, allowed("user"));
    // Which claim comes first in the token does not matter.
    reason(decide(&settings, json!({"email": "alice@example.org", "upn": "eve@x"})).await);
    reason(decide(&settings, json!({"email": "alice@example.org", "upn": 1})).await);
}

#[tokio::test]
async fn an_address_that_was_not_verified_is_nobodys() {
    let settings = AccessSettings { user_claims: vec!["email".to_owned()], ..listing(&["*"]) };
    let told = |name: &str, value: Value| json!({"email": "alice@example.org", name: value});
    for value in [json!(false), json!("false"), json!("False"), json!(0), json!("0")] {
        reason(decide(&settings, told("email_verified", value.clone())).await);
        reason(decide(&settings, told("xms_edov", value)).await);
    }
    for value in [json!(true), json!("true"), json!(1), json!(null)] {
        assert_eq!(decide(&settings, told("email_verified", value)).await, allowed("user"));
    }
}

/// What one issuer says of somebody is nothing that another has said.
#[tokio::test]
async fn only_issuers_that_count_for_the_key_are_believed() {
    let lists = || AccessSettings {
        roles: vec!["Reader".to_owned()],
        groups: vec!["AAAA-1".to_owned()],
        ..listing(&["alice@example.org"])
    };
    let (_file, policy) = with_policy("allow if true", &[]);
    for settings in [lists(), policy] {
        for claims in [
            json!({"upn": "alice@example.org"}),
            json!({"upn": "", "roles": ["Reader"], "groups": ["AAAA-1"]}),
        ] {
            let of = |issuer: &str| AccessSettings {
                issuers: vec![issuer.to_owned()],
                ..settings.clone()
            };
            let ours = decide(&of("https://issuer.example/"), claims.clone()).await;
            assert!(matches!(ours, Decision::Allowed { .. }), "{ours:?}");
            for other in ["https://issuer.example", "https://other.example/", ""] {
                let why = reason(decide(&of(other), claims.clone()).await);
                assert!(why.contains("issuer"), "{why}");
            }
        }
    }
}

#[tokio::test]
async fn roles_and_groups() {
    let settings = AccessSettings {
        roles: vec!["Reader".to_owned()],
        groups: vec!["AAAA-1".to_owned()],
        ..listing(&["alice@example.org"])
    };
    for (claims, by) in [
        (json!({"roles": ["x", "Reader"]}), "role"),
        (json!({"roles": "Reader"}), "role"),
        (json!({"groups": ["aaaa-1"]}), "group"),
        (json!({"groups": "AAAA-1"}), "group"),
        (json!({"upn": "alice@example.org", "roles": ["Reader"]}), "user"),
    ] {
        assert_eq!(decide(&settings, claims).await, allowed(by));
    }
    for claims in [
        json!({"roles": ["reader"]}),
        json!({"roles": "Reader Writer"}),
        json!({"roles": [["Reader"]]}),
        json!({"roles": {"Reader": true}}),
        json!({"groups": ["AAAA-12", 1, null]}),
        json!({"groups": []}),
        json!({"role": "Reader"}),
    ] {
        reason(decide(&settings, claims).await);
    }
}

#[tokio::test]
async fn groups_that_are_not_in_the_token_are_told_apart() {
    let mut settings = listing(&["alice@example.org"]);
    settings.groups = vec!["AAAA-1".to_owned()];
    for claims in [
        json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {}}),
        json!({"hasgroups": true}),
    ] {
        let why = reason(decide(&settings, claims).await);
        assert!(why.contains("too many"), "{why}");
    }
    let listed = json!({"upn": "alice@example.org", "hasgroups": true});
    assert_eq!(decide(&settings, listed).await, allowed("user"));
}

#[test]
fn a_key_for_nobody_is_refused() {
    let access = |settings: AccessSettings| Access::new(&settings, None).err();
    assert!(access(listing(&[])).unwrap().contains("nobody"));
    assert!(access(listing(&["a", " "])).is_some());
    assert!(access(AccessSettings { user_claims: vec![], ..listing(&["a"]) }).is_some());
    assert!(access(AccessSettings { roles: vec![" ".to_owned()], ..listing(&["a"]) }).is_some());
    let groups =
        AccessSettings { ldap_groups: vec!["S-1-5-32-544".parse().unwrap()], ..listing(&[]) };
    assert!(access(groups).unwrap().contains("[ldap]"));
    assert!(serde_json::from_str::<AccessSettings>(r#"{"users": ["a"], "user": []}"#).is_err());
    assert!(
        serde_json::from_str::<AccessSettings>(r#"{"ldap_groups": ["S-1-5-32)(a=*"]}"#).is_err()
    );
    let read: AccessSettings = serde_json::from_str(r#"{"users": ["a"]}"#).unwrap();
    assert_eq!(read, listing(&["a"]));
}

// === Policies ===

fn with_policy(rules: &str, users: &[&str]) -> (tempfile::NamedTempFile, AccessSettings) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "package {PACKAGE}\n{rules}").unwrap();
    let policy = Some(file.path().to_owned());
    (file, AccessSettings { policy, ..listing(users) })
}

#[tokio::test]
async fn a_policy_sees_who_asks_for_what() {
    let rules = r#"
        allow if {
            input.key == "Secret"
            input.generation == "g-1"
            input.user == "alice@example.org"
            input.oid == "o-1"
            input.tenant == "t-1"
            input.issuer == "https://issuer.example/"
            input.client == "office"
            input.claims.amr[_] == "mfa"
            input.time > 1700000000
        }"#;
    let (_file, settings) = with_policy(rules, &[]);
    let good = json!({"upn": "alice@example.org", "oid": "o-1", "tid": "t-1", "appid": "office", "amr": ["pwd", "mfa"]});
    assert_eq!(decide(&settings, good.clone()).await, allowed("policy"));
    let mut other = good;
    other["amr"] = json!(["pwd"]);
    assert!(reason(decide(&settings, other).await).contains("no `allow` was true"));
}

#[tokio::test]
async fn lists_and_policy_both_have_to_allow() {
    let rules = "allow if true\ndeny contains \"not at night\" if input.claims.night";
    let (_file, settings) = with_policy(rules, &["alice@example.org"]);
    let alice = json!({"upn": "alice@example.org"});
    assert_eq!(decide(&settings, alice).await, allowed("user"));
    reason(decide(&settings, json!({"upn": "eve@example.org"})).await);
    let at_night = json!({"upn": "alice@example.org", "night": true});
    assert_eq!(reason(decide(&settings, at_night).await), "policy: not at night");
}

#[tokio::test]
async fn a_policy_that_cannot_decide_denies_nobody() {
    let rules = "allow if {
        count([1 | some i in numbers.range(1, 100000); some j in numbers.range(1, 100000); i + j < 0]) > 0
    }";
    let (_file, settings) = with_policy(rules, &["*"]);
    let alice = json!({"upn": "alice", "oid": "o", "tid": "t", "appid": "a"});
    let decision = decide(&settings, alice).await;
    assert!(matches!(decision, Decision::Unavailable(_)), "{decision:?}");
}

/// The token is the reason, and it stays as it is however often it comes.
#[tokio::test]
async fn a_policy_that_fails_for_want_of_a_name_denies() {
    let (_file, settings) = with_policy("allow if endswith(input.user, \"@example.org\")", &[]);
    reason(decide(&settings, json!({"oid": "o"})).await);
    reason(decide(&settings, json!({"upn": "eve@example.net"})).await);
    assert_eq!(decide(&settings, json!({"upn": "a@example.org"})).await, allowed("policy"));
}

#[tokio::test]
async fn what_of_the_token_matched_is_told() {
    let settings = AccessSettings {
        roles: vec!["Reader".to_owned()],
        groups: vec!["AAAA-1".to_owned()],
        user_claims: vec!["upn".to_owned(), "email".to_owned()],
        ..listing(&["*@example.org"])
    };
    let access = Access::new(&settings, None).unwrap();
    for (claims, claim, value) in [
        (json!({"email": "Alice@example.org"}), "email", "Alice@example.org"),
        (json!({"roles": ["x", "Reader"]}), "roles", "Reader"),
        (json!({"groups": ["aaaa-1", "x"]}), "groups", "aaaa-1"),
    ] {
        let decision = access.decide(&caller(claims), "k", "g").await;
        let Decision::Allowed { matched: Some(matched), .. } = decision else {
            panic!("{decision:?}")
        };
        assert_eq!((&*matched.claim, &*matched.value), (claim, value));
    }
}

#[test]
fn a_policy_that_is_none_is_refused() {
    let (file, settings) = with_policy("deny if true", &["*"]);
    assert!(Access::new(&settings, None).err().unwrap().contains("allow"));
    fs::write(file.path(), "package twinlock.xks\nallow if true").unwrap();
    assert!(Access::new(&settings, None).err().unwrap().contains(PACKAGE));
    drop(file);
    assert!(Access::new(&settings, None).err().unwrap().contains("cannot read the policy"));
}
