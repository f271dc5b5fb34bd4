//! As whom we call: the kinds of credentials, and what is wrong with some.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use twinlock_keys::{HolderErrorKind, KeyHolder as _, Share};
use twinlock_remote_keys::gcp_kms::{GcpKmsKey, Options};

use super::rig::{Rig, context, kind, refusal};
use crate::support::cloud_kms::account::{REFRESH_TOKEN, SUBJECT_TOKEN};
use crate::support::cloud_kms::refuse;
use crate::support::proxy::Fault;

#[tokio::test]
async fn a_user_gets_a_token_for_a_refresh_token() {
    let rig = Rig::new();
    let key = rig.key_with(rig.options_with(&rig.user(REFRESH_TOKEN))).await;
    let (_, wrapped) = rig.wrapped(&key).await;
    key.unwrap_key(&wrapped, &context()).await.unwrap();
    assert_eq!(rig.server.count("Token"), 1, "one token for both calls");
}

#[tokio::test]
async fn a_workload_of_somebody_elses_gets_a_token_for_theirs() {
    let rig = Rig::new();
    let key = rig.key_with(rig.options_with(&rig.workload(SUBJECT_TOKEN))).await;
    let (_, wrapped) = rig.wrapped(&key).await;
    key.unwrap_key(&wrapped, &context()).await.unwrap();
    assert_eq!(rig.server.count("Token"), 1);
}

#[tokio::test]
async fn credentials_that_were_revoked_are_a_denial() {
    for stale in ["refresh-stale", "subject-stale"] {
        let rig = Rig::new();
        let json = match stale.starts_with("refresh") {
            true => rig.user(stale),
            false => rig.workload(stale),
        };
        let key = rig.key_with(rig.options_with(&json)).await;
        let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
        assert_eq!(error.kind(), HolderErrorKind::Denied, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("gcloud auth"), "{text}");
        assert!(!text.contains(stale), "{text}");
        assert_eq!(rig.server.count("Encrypt"), 0);
    }
}

/// The SDK's own credentials never recover from this; ours are made anew.
#[tokio::test]
async fn work_resumes_when_the_credentials_are_good_again() {
    let rig = Rig::new();
    let key = rig.key_with(rig.options_with(&rig.user(REFRESH_TOKEN))).await;
    rig.server.inject_times(1, "Token", refuse(401, "UNAUTHENTICATED"));
    let result = key.wrap_key(&Share::random().unwrap(), &context()).await;
    assert_eq!(kind(result), HolderErrorKind::Denied);
    rig.wrapped(&key).await;
    assert_eq!(rig.server.count("Token"), 2);
}

#[tokio::test]
async fn a_server_of_tokens_that_hangs_costs_the_deadline() {
    let rig = Rig::new();
    let options = rig.options_with(&rig.user(REFRESH_TOKEN)).deadline(Duration::from_millis(300));
    let key = rig.key_with(options).await;
    rig.server.inject("Token", Fault::Delay(Duration::from_secs(600)));
    let result = key.wrap_key(&Share::random().unwrap(), &context()).await;
    assert_eq!(kind(result), HolderErrorKind::TimedOut);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_and_not_repeated() {
    let rig = Rig::new();
    let secret = "private-5ec4e7";
    let of = |json: Value| json.to_string();
    let files = [
        String::new(),
        secret.to_owned(),
        format!("{{\"private_key\": \"{secret}"),
        of(json!({})),
        of(json!([secret])),
        of(json!({ "type": "gdch_service_account", "private_key": secret })),
        of(json!({ "type": "service_account", "private_key": secret })),
        of(json!({ "type": "service_account", "private_key": [secret], "client_email": secret })),
        of(json!({ "type": "authorized_user", "refresh_token": { "x": secret } })),
        of(json!({ "type": "external_account", "token_url": secret })),
        of(json!({ "type": "impersonated_service_account", "delegates": secret })),
    ];
    for file in files {
        let path = rig.write("odd.json", &file);
        let options = rig.options().credentials_file(&path);
        let error = refusal(GcpKmsKey::connect(&rig.new_key(), &options).await);
        assert_eq!(error.kind(), HolderErrorKind::Misconfigured, "{file}: {error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("odd.json"), "{text}");
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn files_that_are_none_are_named() {
    let rig = Rig::new();
    let absent = rig.folder.path().join("absent.json");
    let folder = rig.folder.path().to_owned();
    let long = rig.write("long.json", &" ".repeat((1 << 20) + 1));
    for path in [absent, folder, long] {
        let options = rig.options().credentials_file(&path);
        let error = refusal(GcpKmsKey::connect(&rig.new_key(), &options).await);
        assert_eq!(error.kind(), HolderErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_key_that_signs_nothing_is_misconfigured() {
    let rig = Rig::new();
    let path = rig.folder.path().join("account.json");
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    json["private_key"] = json!("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let key = rig.key_with(rig.options_with(&json)).await;
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert_eq!(error.kind(), HolderErrorKind::Misconfigured, "{error}");
    assert_eq!(rig.server.count("Encrypt"), 0);
}

#[tokio::test]
async fn credentials_of_another_cloud_are_refused() {
    let rig = Rig::new();
    let mut json = rig.user(REFRESH_TOKEN);
    json["universe_domain"] = json!("cloud.example");
    let options = rig.options_with(&json);
    let error = refusal(GcpKmsKey::connect(&rig.new_key(), &options).await);
    assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
    assert!(error.to_string().contains("universe"), "{error}");
}

impl Rig {
    fn options_with(&self, credentials: &Value) -> Options {
        let path = self.write("credentials.json", &credentials.to_string());
        self.options().credentials_file(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// As `gcloud auth application-default login` writes it.
    fn user(&self, refresh_token: &str) -> Value {
        json!({
            "type": "authorized_user",
            "client_id": "gcloud",
            "client_secret": "none",
            "refresh_token": refresh_token,
            "token_uri": format!("{}/token", self.server.url()),
        })
    }

    /// As `gcloud iam workload-identity-pools create-cred-config` writes it.
    fn workload(&self, subject_token: &str) -> Value {
        let audience =
            "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q";
        json!({
            "type": "external_account",
            "audience": audience,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("{}/token", self.server.url()),
            "credential_source": { "file": self.write("subject", subject_token) },
        })
    }
}
