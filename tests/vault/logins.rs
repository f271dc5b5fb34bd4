//! Tokens: how they are obtained, how often, and what becomes of one that is
//! refused.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use twinlock_keys::{HolderErrorKind as Kind, KeyHolder as _, Share};
use twinlock_remote_keys::vault_transit::{Auth, Credential};

use super::rig::{Rig, assert_opens, context, refusal, wrapped};
use crate::support::kubernetes::Kubernetes;
use crate::support::openbao::{openbao, unique};

/// A role of an AppRole method of its own.
struct AppRole {
    mount: String,
    role_id: String,
    secret_id: String,
}

impl AppRole {
    /// `more` of what `auth/approle/role/<name>` takes.
    fn new(rig: &Rig, more: &Value) -> Self {
        let (server, mount) = (openbao(), unique("approle"));
        server.call("POST", &format!("sys/auth/{mount}"), &json!({ "type": "approle" }));
        let role = format!("auth/{mount}/role/tests");
        let mut ask = json!({ "token_policies": [server.policy(&rig.policy())] });
        ask.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.call("POST", &role, &ask);
        let text = |answer: Value, what: &str| answer["data"][what].as_str().unwrap().to_owned();
        let role_id = text(server.call("GET", &format!("{role}/role-id"), &json!({})), "role_id");
        let secret_id =
            text(server.call("POST", &format!("{role}/secret-id"), &json!({})), "secret_id");
        Self { mount, role_id, secret_id }
    }

    fn auth(&self) -> Auth {
        self.auth_with(Credential::Value(self.secret_id.as_str().into()))
    }

    fn auth_with(&self, secret_id: Credential) -> Auth {
        Auth::AppRole { mount: self.mount.clone(), role_id: self.role_id.clone(), secret_id }
    }
}

#[tokio::test]
async fn an_approle_logs_in_once() {
    let rig = Rig::new();
    let role = AppRole::new(&rig, &json!({}));
    let key = rig.key_with(&rig.options().auth(role.auth()));
    for _ in 0..3 {
        let (share, wrapped) = wrapped(&key).await;
        assert_opens(&key, &share, &wrapped).await;
    }
    assert_eq!(rig.proxy.count("login"), 1);
}

#[tokio::test]
async fn calls_at_the_same_time_share_a_login() {
    let rig = Rig::new();
    let role = AppRole::new(&rig, &json!({}));
    let key = rig.key_with(&rig.options().auth(role.auth()));
    let share = Share::random().unwrap();
    let context = context();
    let calls = (0..8).map(|_| key.wrap_key(&share, &context));
    for result in futures_util::future::join_all(calls).await {
        result.unwrap();
    }
    assert_eq!(rig.proxy.count("login"), 1);
}

#[tokio::test]
async fn a_token_is_replaced_before_its_lease_is_over() {
    let rig = Rig::new();
    let role = AppRole::new(&rig, &json!({ "token_ttl": "10s", "token_max_ttl": "10s" }));
    let key = rig.key_with(&rig.options().auth(role.auth()));
    let (share, wrapped) = wrapped(&key).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    let before = rig.proxy.count("decrypt");
    assert_opens(&key, &share, &wrapped).await;
    assert_eq!(rig.proxy.count("login"), 2);
    assert_eq!(rig.proxy.count("decrypt"), before + 1, "no call was made with the old one");
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let rig = Rig::new();
    // Each login's token is good for two calls: the first wrap takes one to
    // look at the key.
    let role = AppRole::new(&rig, &json!({ "token_num_uses": 2 }));
    let key = rig.key_with(&rig.options().auth(role.auth()));
    let (share, wrapped) = wrapped(&key).await;
    assert_opens(&key, &share, &wrapped).await;
    assert_eq!(rig.proxy.count("login"), 2);
}

#[tokio::test]
async fn a_denial_is_not_asked_for_again_and_again() {
    let rig = Rig::new();
    let role = AppRole::new(&Rig::new(), &json!({})); // whose policy is for another key
    let key = rig.key_with(&rig.options().attempts(5).auth(role.auth()));
    for _ in 0..2 {
        let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        assert!(error.to_string().contains("policy lacks"), "{error}");
    }
    let (logins, calls) = (rig.proxy.count("login"), rig.proxy.count("encrypt"));
    assert_eq!((logins, calls), (1, 2), "a token this young is not over");
}

/// The login that fails says nothing of the call that was refused.
#[tokio::test]
async fn a_denial_is_told_where_no_other_token_is_to_be_had() {
    let rig = Rig::new();
    // Its policy is for another key.
    let role = AppRole::new(&Rig::new(), &json!({ "token_num_uses": 2, "secret_id_num_uses": 1 }));
    let key = rig.key_with(&rig.options().auth(role.auth()));
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert!(error.to_string().contains("encrypt with"), "{error}");
    assert_eq!((rig.proxy.count("login"), rig.proxy.count("encrypt")), (2, 1));
}

#[tokio::test]
async fn a_key_is_looked_at_with_another_token_if_the_first_is_over() {
    let rig = Rig::with_key(&json!({ "type": "rsa-2048" }));
    let read = format!("path \"transit/keys/{}\" {{ capabilities = [\"read\"] }}\n", rig.name);
    let token = || openbao().token(&(rig.policy() + &read), &json!({}));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let first = token();
    fs::write(&file, &first).unwrap();
    let auth = Auth::Token(Credential::File(file.clone()));
    let key = rig.key_with(&rig.options().auth(auth));
    let wrap = async || refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert!(wrap().await.to_string().contains("rsa-2048"));
    openbao().call("POST", "auth/token/revoke", &json!({ "token": first }));
    fs::write(&file, token()).unwrap();
    let error = wrap().await;
    assert!(error.to_string().contains("rsa-2048"), "it was looked at: {error}");
    assert_eq!(rig.proxy.count("encrypt"), 0);
}

#[tokio::test]
async fn a_secret_id_that_is_wrong_is_denied_and_told_nowhere() {
    let rig = Rig::new();
    let role = AppRole::new(&rig, &json!({}));
    let wrong = Credential::Value("11111111-2222-3333-4444-555555555555".into());
    let key = rig.key_with(&rig.options().auth(role.auth_with(wrong)));
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert!(error.to_string().contains("secret id"), "{error}");
    assert!(!format!("{error:?}").contains("11111111"), "{error:?}");
    let again = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert_eq!(again.to_string(), error.to_string());
    assert_eq!(rig.proxy.count("login"), 1, "it would be refused again");
}

#[tokio::test]
async fn a_login_that_is_not_mounted_is_misconfigured() {
    let rig = Rig::new();
    let role = AppRole { mount: unique("absent"), ..AppRole::new(&rig, &json!({})) };
    let key = rig.key_with(&rig.options().auth(role.auth()));
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    // Without a mount there is nobody to say so: the server denies it.
    assert!(matches!(error.kind(), Kind::Misconfigured | Kind::Denied), "{error}");
}

#[tokio::test]
async fn a_secret_id_comes_from_a_file_which_is_read_at_each_login() {
    let rig = Rig::new();
    let role = AppRole::new(&rig, &json!({ "token_num_uses": 2 }));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret-id");
    fs::write(&file, format!("{}\n", role.secret_id)).unwrap();
    let key = rig.key_with(&rig.options().auth(role.auth_with(Credential::File(file.clone()))));
    let (share, wrapped) = wrapped(&key).await;
    fs::write(&file, "wrong").unwrap();
    let error = refusal(key.unwrap_key(&wrapped, &context()).await);
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    fs::write(&file, &role.secret_id).unwrap();
    assert_opens(&key, &share, &wrapped).await;
}

/// As an agent's sink does it.
#[tokio::test]
async fn a_token_in_a_file_may_change() {
    let rig = Rig::new();
    let token = || openbao().token(&rig.policy(), &json!({}));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let first = token();
    fs::write(&file, &first).unwrap();
    let auth = Auth::Token(Credential::File(file.clone()));
    let key = rig.key_with(&rig.options().auth(auth));
    let (share, wrapped) = wrapped(&key).await;
    openbao().call("POST", "auth/token/revoke", &json!({ "token": first }));
    let error = refusal(key.unwrap_key(&wrapped, &context()).await);
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert_eq!(rig.proxy.count("decrypt"), 1, "the same token is not tried again");
    fs::write(&file, token()).unwrap();
    assert_opens(&key, &share, &wrapped).await;
}

#[tokio::test]
async fn a_service_account_logs_in_with_its_jwt() {
    let rig = Rig::new();
    let cluster = Kubernetes::start();
    let mount = unique("kubernetes");
    let server = openbao();
    server.call("POST", &format!("sys/auth/{mount}"), &json!({ "type": "kubernetes" }));
    server.call("POST", &format!("auth/{mount}/config"), &cluster.configuration());
    let role = json!({
        "bound_service_account_names": [Kubernetes::ACCOUNT],
        "bound_service_account_namespaces": [Kubernetes::NAMESPACE],
        "token_policies": [server.policy(&rig.policy())],
    });
    server.call("POST", &format!("auth/{mount}/role/archive"), &role);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwt");
    let auth = |role: &str| Auth::Kubernetes {
        mount: mount.clone(),
        role: role.to_owned(),
        jwt: Credential::File(file.clone()),
    };
    fs::write(&file, cluster.jwt()).unwrap();
    let key = rig.key_with(&rig.options().auth(auth("archive")));
    let (share, wrapped) = wrapped(&key).await;
    assert_opens(&key, &share, &wrapped).await;
    assert_eq!((rig.proxy.count("login"), cluster.reviews()), (1, 1));

    let other = rig.key_with(&rig.options().auth(auth("other")));
    let error = refusal(other.unwrap_key(&wrapped, &context()).await);
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    fs::write(&file, cluster.forged_jwt()).unwrap();
    let forged = rig.key_with(&rig.options().auth(auth("archive")));
    let error = refusal(forged.unwrap_key(&wrapped, &context()).await);
    assert_eq!(error.kind(), Kind::Denied, "{error}");
}
