//! Policies that allow, deny, fail and never end.

use std::sync::Arc;

use serde_json::json;

use super::*;

fn policy(rules: &str) -> Policy {
    load(rules).unwrap()
}

fn load(rules: &str) -> Result<Policy, PolicyError> {
    Policy::load(&format!("package twinlock.xks\n{rules}\n"), "p.rego", "twinlock.xks")
}

fn rule_of(decision: Decision) -> String {
    assert!(!decision.allow && decision.error.is_none(), "{decision:?}");
    decision.rule.unwrap()
}

#[test]
fn only_true_allows() {
    let allowing = policy("allow if input.operation == \"Decrypt\"");
    assert_eq!(
        allowing.decide(&json!({"operation": "Decrypt"})),
        Decision { allow: true, rule: None, error: None }
    );
    for input in [json!({"operation": "Encrypt"}), json!({}), json!(null), json!([1])] {
        assert_eq!(rule_of(allowing.decide(&input)), "no `allow` was true");
    }
    for not_true in ["\"true\"", "1", "{true}", "[true]", "null", "false", "{\"a\": true}"] {
        let decision = policy(&format!("allow := {not_true}")).decide(&json!({}));
        assert!(!decision.allow, "allow := {not_true}: {decision:?}");
    }
}

#[test]
fn deny_goes_before_allow_and_is_named() {
    let named = policy(
        "allow := true
         deny contains \"not from our network\" if not input.vpc
         deny contains \"not at night\" if input.hour < 6",
    );
    assert!(named.decide(&json!({"vpc": "vpc-1", "hour": 12})).allow);
    assert_eq!(rule_of(named.decide(&json!({"hour": 12}))), "not from our network");
    let both = rule_of(named.decide(&json!({"hour": 3})));
    assert_eq!(both, "not at night; not from our network");

    let plain = policy("allow := true\ndeny if input.bad");
    assert!(plain.decide(&json!({"bad": false})).allow);
    assert_eq!(rule_of(plain.decide(&json!({"bad": true}))), "deny");
    let reasoned = policy("default allow := false\nreason := \"closed for now\"");
    assert_eq!(rule_of(reasoned.decide(&json!({}))), "closed for now");
    let long =
        policy("allow := false\nreason := concat(\"\", [\"x\" | some i in numbers.range(1, 300)])");
    assert_eq!(rule_of(long.decide(&json!({}))).len(), MAX_RULE_CHARS);
}

#[test]
fn a_policy_that_fails_denies() {
    for failing in [
        "allow if to_number(input.text) == 1",
        "allow := true if input.text\nallow := false if input.text",
        "allow := true\ndeny contains to_number(input.text)",
        "allow if http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"}).status_code == 200",
        "allow if net.lookup_ip_addr(\"localhost\")",
        "allow if opa.runtime().env.HOME",
    ] {
        let Ok(policy) = load(failing) else { continue }; // refused even earlier
        let decision = policy.decide(&json!({"text": "no number"}));
        assert!(!decision.allow, "{failing}: {decision:?}");
        assert!(decision.error.is_some(), "{failing}: {decision:?}");
        let error = decision.error.unwrap();
        assert!(error.starts_with("p.rego:") && error.contains(": error: "), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_policy_without_end_is_stopped_and_the_next_decision_is_well() {
    let endless = policy(
        "allow if not input.endless
         allow if {
             input.endless
             count([1 | some i in numbers.range(1, 100000); some j in numbers.range(1, 100000); i + j < 0]) > 0
         }",
    );
    for _ in 0..2 {
        let decision = endless.decide(&json!({"endless": true}));
        assert!(!decision.allow && decision.error.is_some(), "{decision:?}");
        assert!(endless.decide(&json!({})).allow, "the same engine is well");
    }
}

#[test]
fn what_is_no_policy_is_refused() {
    for (text, expected) in [
        ("package twinlock.xks\nallow if", "cannot be read"),
        ("", "cannot be read"),
        ("package other\nallow := true", "must begin with `package twinlock.xks`"),
        ("package twinlock.xks.more\nallow := true", "must begin with"),
        ("package twinlock.xks\nalow := true", "no rule `allow`"),
        ("package twinlock.xks\nallow.yes := true", "rules by themselves"),
    ] {
        let told = Policy::load(text, "p.rego", "twinlock.xks").unwrap_err().to_string();
        assert!(told.contains(expected), "{text}: {told}");
    }
    let long = format!("package twinlock.xks\nallow := true\n#{}", "\n#".repeat(MAX_POLICY_BYTES));
    assert!(matches!(Policy::load(&long, "p", "twinlock.xks"), Err(PolicyError::TooLong(_))));
}

#[test]
fn many_decide_at_once_each_on_its_own_input() {
    let policy =
        Arc::new(policy("allow if input.n % 2 == 0\ndeny contains \"three\" if input.n % 3 == 0"));
    std::thread::scope(|scope| {
        for start in 0..4 {
            let policy = Arc::clone(&policy);
            scope.spawn(move || {
                for n in start..start + 200 {
                    let expected = n % 2 == 0 && n % 3 != 0;
                    assert_eq!(policy.decide(&json!({"n": n})).allow, expected, "{n}");
                }
            });
        }
    });
}

#[test]
fn what_a_policy_prints_piles_up_nowhere() {
    let printing = policy("allow if print(\"hello\", input)");
    for _ in 0..3 {
        assert!(printing.decide(&json!({})).allow);
    }
    let mut engines = printing.engines.lock().unwrap();
    assert_eq!(engines.len(), 1);
    assert_eq!(engines[0].take_prints().unwrap(), [""; 0]);
}

#[test]
fn cases_pass_and_fail() {
    let folder = tempfile::tempdir().unwrap();
    let toml = folder.path().join("cases.toml");
    let json = folder.path().join("cases.json");
    std::fs::write(
        &toml,
        "[[case]]\nname = 'may'\ninput = { n = 1 }\nexpect = 'allow'\n\
         [[case]]\nname = 'may not'\ninput = { n = 2 }\nexpect = 'deny'\nrule = 'two'\n\
         [[case]]\nname = 'wrong rule'\ninput = { n = 2 }\nexpect = 'deny'\nrule = 'three'\n\
         [[case]]\nname = 'wrong'\ninput = { n = 2 }\nexpect = 'allow'\n",
    )
    .unwrap();
    let cases = r#"{"case": [{"name": "fails", "input": {"n": "x"}, "expect": "deny"}]}"#;
    std::fs::write(&json, cases).unwrap();
    let policy = policy(
        "allow if input.n == 1\ndeny contains \"two\" if input.n == 2\n\
         deny contains \"failed\" if to_number(input.n) == 7",
    );
    let passed = |path| -> Vec<bool> {
        Cases::read(path).unwrap().run(&policy).iter().map(|outcome| outcome.passed).collect()
    };
    assert_eq!(passed(&toml), [true, true, false, false]);
    assert_eq!(passed(&json), [false], "a policy that fails is no policy that denies");

    for (bad, path) in [("case = []", &toml), ("[[case]]\nname = 'x'\n", &toml), ("{}", &json)] {
        std::fs::write(path, bad).unwrap();
        assert!(Cases::read(path).is_err(), "{bad}");
    }
}
