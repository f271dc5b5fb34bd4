//! As whom we call: what is asked of Entra ID, and what becomes of its
//! answers.

use std::time::Duration;

use twinlock_keys::{HolderError, HolderErrorKind as Kind, KeyHolder as _, Share};
use twinlock_remote_keys::azure_key_vault::{AzureKeyVaultKey, Credential, Options};

use super::rig::{Rig, answer, context, principal, refusal};
use crate::support::proxy::{Fault, Proxy, Trap, closed_address};
use crate::support::tls::Authority;

async fn wrap_with(rig: &Rig, options: Options) -> HolderError {
    let key = rig.key_with(options).await;
    refusal(key.wrap_key(&Share::random().unwrap(), &context()).await)
}

/// The challenge of the vault names another audience and another authority.
#[tokio::test]
async fn a_challenge_chooses_nothing() {
    let trap = Trap::new();
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    let challenge = format!(
        "Bearer authorization=\"https://{}/evil\", resource=\"https://evil.example\"",
        trap.address
    );
    rig.proxy.inject("unwrapKey", answer(401, &[("www-authenticate", &challenge)], "{}"));
    for _ in 0..2 {
        let error = refusal(key.unwrap_key(&wrapped, &context()).await);
        assert_eq!(error.kind(), Kind::Denied);
    }
    assert_eq!((rig.proxy.count("unwrapKey"), trap.arrivals()), (2, 0));
    for request in rig.requests("token") {
        let body = String::from_utf8(request.body).unwrap();
        assert!(body.contains("scope=https%3A%2F%2Fvault.azure.net%2F.default"));
    }
}

/// Nothing goes to a vault but with a token.
#[tokio::test]
async fn a_vault_is_never_asked_for_a_challenge() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    key.unwrap_key(&wrapped, &context()).await.unwrap();
    let calls = rig.proxy.calls();
    let to_vault: Vec<_> = calls.iter().filter(|(operation, _)| operation != "token").collect();
    assert_eq!(to_vault.len(), 3);
    assert!(to_vault.iter().all(|(_, request)| request.header("authorization").is_some()));
}

#[tokio::test]
async fn a_wrong_secret_is_denied_and_not_repeated() {
    let rig = Rig::new();
    let secret = "wrong secret";
    let error = wrap_with(&rig, rig.options().credential(principal(secret))).await;
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(error.answer().unwrap().code, "AADSTS7000215");
    assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    assert_eq!(rig.operations(), ["token"]);
}

#[tokio::test]
async fn a_token_of_another_time_is_denied() {
    for seconds in [-7200, 7200] {
        let rig = Rig::new();
        rig.vault.turn_clock(seconds);
        let error = wrap_with(&rig, rig.options()).await;
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.to_string().contains("clock"), "{error}");
    }
}

#[tokio::test]
async fn an_authority_that_fails_is_unavailable() {
    let wait = |seconds| Kind::Unavailable { retry_after: seconds };
    for (fault, expected) in [
        (answer(500, &[], "<html>"), wait(None)),
        (answer(503, &[("retry-after", "40")], ""), wait(Some(Duration::from_secs(40)))),
        (answer(429, &[("retry-after", "40")], "{}"), wait(Some(Duration::from_secs(40)))),
        (Fault::Drop, wait(None)),
    ] {
        let rig = Rig::new();
        rig.proxy.inject("token", fault);
        let error = wrap_with(&rig, rig.options().attempts(1)).await;
        assert_eq!(error.kind(), expected, "{error}");
        assert_eq!(rig.operations(), ["token"]);
    }
}

#[tokio::test]
async fn an_authority_that_passes_is_asked_again() {
    let rig = Rig::new();
    rig.proxy.inject_times(1, "token", answer(503, &[], ""));
    let key = rig.key_with(rig.options().deadline(Duration::from_secs(5))).await;
    rig.wrapped(&key).await;
    assert_eq!(rig.proxy.count("token"), 2);
}

#[tokio::test]
async fn an_authority_that_is_down_is_unavailable() {
    let rig = Rig::new();
    let nowhere = format!("https://{}", closed_address());
    let error = wrap_with(&rig, rig.options().authority(nowhere).attempts(1)).await;
    assert_eq!(error.kind(), Kind::Unavailable { retry_after: None });
}

#[tokio::test]
async fn an_authority_that_nobody_trusts_gets_no_secret() {
    let rig = Rig::new();
    let tls = Authority::unknown().server();
    let stranger = Proxy::with_tls(rig.vault.address(), crate::support::key_vault::operation, tls);
    let error = wrap_with(&rig, rig.options().authority(stranger.url())).await;
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(stranger.calls().is_empty());
}

#[tokio::test]
async fn an_authority_is_not_left_for_another() {
    let trap = Trap::new();
    let rig = Rig::new();
    let to = format!("https://{}/", trap.address);
    rig.proxy.inject("token", answer(307, &[("location", &to)], ""));
    let error = wrap_with(&rig, rig.options()).await;
    assert_eq!(error.kind(), Kind::Failed, "{error}");
    assert_eq!(trap.arrivals(), 0);
}

#[tokio::test]
async fn what_is_no_authority_fails() {
    for body in ["<html>please log in</html>", "", "{\"access_token\":7}"] {
        let rig = Rig::new();
        rig.proxy.inject("token", answer(200, &[], body));
        let error = wrap_with(&rig, rig.options()).await;
        assert_eq!(error.kind(), Kind::Failed, "{body}: {error}");
        assert_eq!(rig.operations(), ["token"]);
    }
}

#[tokio::test]
async fn what_a_credential_lacks_is_named() {
    let rig = Rig::new();
    let options = rig.options().credential(Credential::Environment);
    let error = refusal(AzureKeyVaultKey::connect(&rig.uri(), &options).await);
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("AZURE_"), "{error}");
}
