//! The usual AWS chain: environment, profiles, processes, web identity. Each
//! case runs this binary again, since an environment belongs to a process.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use twinlock_keys::KeyHolder as _;
use twinlock_remote_keys::aws_kms::{AwsKmsKey, Options};

use super::rig::{REGION, Rig, context, uri};
use crate::support::moto::moto;

const KEY: &str = "TWINLOCK_TEST_PROBE_KEY";

/// A round trip with the key named by the environment, and all else from the
/// chain; what came of it on stdout. It does so only for the tests below, which
/// run it in an environment of its own.
#[tokio::test]
async fn probe() {
    let Ok(key) = env::var(KEY) else { return };
    println!("\nprobe: {}", probed(&key).await);
}

async fn probed(key: &str) -> String {
    let share = twinlock_keys::Share::random().unwrap();
    let round_trip = async {
        let key = AwsKmsKey::connect(&uri(key), &Options::new()).await?;
        let wrapped = key.wrap_key(&share, &context()).await?;
        key.unwrap_key(&wrapped, &context()).await
    };
    match round_trip.await {
        Ok(opened) if opened.expose() == share.expose() => "opened".to_owned(),
        Ok(_) => "opened something else".to_owned(),
        Err(error) => format!("{:?}: {error}", error.kind()),
    }
}

/// Runs [`probe`] with nothing in its environment but `vars`.
fn probe_in(folder: &Path, key: &str, vars: &[(&str, &str)]) -> String {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "aws_kms::chain::probe", "--nocapture"])
        .env_clear()
        .env("HOME", folder)
        .env("PATH", env::var_os("PATH").unwrap())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env(KEY, key)
        .envs(vars.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("probe: "));
    line.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

fn alias(name: &str) -> &str {
    let key = moto().create_key(REGION, &json!({}));
    moto().call(REGION, "CreateAlias", &json!({ "AliasName": name, "TargetKeyId": key }));
    name
}

/// As whom the last call was signed.
fn signed_as(rig: &Rig) -> (String, String) {
    let call = rig.proxy.calls("Decrypt").pop().expect("it got so far");
    (call.access_key, call.region)
}

#[test]
fn the_environment_gives_keys_region_and_endpoint() {
    let rig = Rig::new();
    let vars = [
        ("AWS_ACCESS_KEY_ID", "AKIDENV"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", REGION),
        ("AWS_ENDPOINT_URL_KMS", &rig.proxy.url()),
    ];
    let outcome = probe_in(rig.folder.path(), alias("alias/chain-environment"), &vars);
    assert_eq!(outcome, "opened");
    assert_eq!(signed_as(&rig), ("AKIDENV".to_owned(), REGION.to_owned()));
}

#[test]
fn a_profile_gives_a_process_region_and_endpoint() {
    let rig = Rig::new();
    let answer = json!({ "Version": 1, "AccessKeyId": "AKIDPROC", "SecretAccessKey": "secret" });
    let answer_file = rig.folder.path().join("answer.json");
    fs::write(&answer_file, answer.to_string()).unwrap();
    let profile = format!(
        "[profile archive]\nregion = {REGION}\nendpoint_url = {}\ncredential_process = cat {}\n",
        rig.proxy.url(),
        answer_file.display()
    );
    let config = rig.folder.path().join("other-config");
    fs::write(&config, profile).unwrap();
    let vars = [("AWS_CONFIG_FILE", config.to_str().unwrap()), ("AWS_PROFILE", "archive")];
    let outcome = probe_in(rig.folder.path(), alias("alias/chain-process"), &vars);
    assert_eq!(outcome, "opened");
    assert_eq!(signed_as(&rig), ("AKIDPROC".to_owned(), REGION.to_owned()));
}

/// As pods get theirs: a token in a file, changed for keys at STS, which moto
/// plays too.
#[test]
fn a_web_identity_gives_keys() {
    let rig = Rig::new();
    let token = rig.folder.path().join("token");
    fs::write(&token, "header.claims.signature").unwrap();
    let vars = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/archive"),
        ("AWS_REGION", REGION),
        ("AWS_ENDPOINT_URL", &rig.proxy.url()),
    ];
    let outcome = probe_in(rig.folder.path(), alias("alias/chain-web-identity"), &vars);
    assert_eq!(outcome, "opened");
    assert!(signed_as(&rig).0.starts_with("ASIA"), "temporary keys: {:?}", signed_as(&rig));

    let down = [&vars[..], &[("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")]].concat();
    let outcome = probe_in(rig.folder.path(), "alias/chain-web-identity", &down);
    assert!(outcome.starts_with("Unavailable"), "{outcome}");
}

#[test]
fn no_credentials_anywhere_is_said() {
    let rig = Rig::new();
    let key = moto().create_key(REGION, &json!({}));
    let outcome = probe_in(rig.folder.path(), &key, &[("AWS_ENDPOINT_URL", &rig.proxy.url())]);
    assert!(outcome.starts_with("Misconfigured: found no AWS credentials"), "{outcome}");
    assert!(rig.proxy.all_calls().is_empty());
}

#[test]
fn no_region_anywhere_is_said() {
    let rig = Rig::new();
    let outcome = probe_in(rig.folder.path(), "alias/any", &[]);
    assert!(outcome.starts_with("Misconfigured: aws-kms://alias/any"), "{outcome}");
    assert!(outcome.contains("AWS_REGION"), "{outcome}");
}
