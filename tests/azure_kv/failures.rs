//! Each way in which Azure refuses or fails: the kind, the evidence, and how
//! often we asked.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use twinlock_keys::{HolderError, HolderErrorKind as Kind, KeyHolder as _, Share};
use twinlock_remote_keys::azure_key_vault::{AzureKeyVaultKey, Options};

use super::rig::{Rig, answer, context, kind, refusal, refuse, uri};
use crate::support::key_vault::REQUEST_ID;
use crate::support::proxy::Fault;

/// The error of an unwrap that meets `fault` each time it is sent.
async fn unwrap_meets(rig: &Rig, options: Options, fault: Fault) -> HolderError {
    let key = rig.key_with(options).await;
    let (_, wrapped) = rig.wrapped(&key).await;
    rig.proxy.inject("unwrapKey", fault);
    refusal(key.unwrap_key(&wrapped, &context()).await)
}

/// The codes are those of "Azure Key Vault REST API error codes".
#[tokio::test]
async fn a_refusal_keeps_its_kind_and_evidence_and_is_asked_for_once() {
    let refusals = [
        (401, "Unauthorized", None, Kind::Denied),
        (403, "Forbidden", None, Kind::Denied),
        (403, "Forbidden", Some("AccessDenied"), Kind::Denied),
        (403, "Forbidden", Some("ForbiddenByConnection"), Kind::Denied),
        (403, "Forbidden", Some("ForbiddenByFirewall"), Kind::Denied),
        (403, "Forbidden", Some("ForbiddenByPolicy"), Kind::Denied),
        (403, "Forbidden", Some("ForbiddenByRbac"), Kind::Denied),
        (403, "Forbidden", Some("KeyOperationForbidden"), Kind::Denied),
        (403, "Forbidden", Some("KeyDisabled"), Kind::Disabled),
        (403, "Forbidden", Some("KeyExpired"), Kind::Disabled),
        (400, "BadParameter", None, Kind::InvalidCiphertext),
        (409, "Conflict", None, Kind::Misconfigured),
        (418, "Teapot", None, Kind::Failed),
    ];
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    for (number, (status, code, inner, expected)) in refusals.into_iter().enumerate() {
        rig.proxy.inject_times(1, "unwrapKey", refuse(status, code, inner));
        let error = refusal(key.unwrap_key(&wrapped, &context()).await);
        let code = inner.unwrap_or(code);
        assert_eq!(error.kind(), expected, "{status} {code}");
        let evidence = error.answer().expect("Azure answered");
        assert_eq!(evidence.code, code);
        assert_eq!(evidence.request_id.as_deref(), Some(REQUEST_ID));
        assert_eq!(rig.proxy.count("unwrapKey"), number + 1, "{code}");
        assert!(!error.kind().is_retryable());
    }
}

#[tokio::test]
async fn a_denial_says_to_which_key_and_which_permission_helps() {
    for (operation, permission) in
        [("get", "keys/get"), ("wrapKey", "keys/wrapKey"), ("unwrapKey", "keys/unwrapKey")]
    {
        let rig = Rig::new();
        let key = rig.key().await;
        let (_, wrapped) = rig.wrapped(&key).await;
        rig.vault.deny(operation);
        let error = match operation {
            "unwrapKey" => refusal(key.unwrap_key(&wrapped, &context()).await),
            _ => refusal(rig.key().await.wrap_key(&Share::random().unwrap(), &context()).await),
        };
        assert_eq!(error.kind(), Kind::Denied);
        let text = error.to_string();
        for part in [permission, key.uri().as_str(), "appid=", "ForbiddenByPolicy", REQUEST_ID] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

/// Azure's words about the input of `wrapKey` could repeat it.
#[tokio::test]
async fn a_complaint_about_the_share_is_not_quoted() {
    let rig = Rig::new();
    let key = rig.key().await;
    rig.proxy.inject("wrapKey", refuse(400, "BadParameter", None));
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(!error.to_string().contains("injected"), "{error}");
}

#[tokio::test]
async fn an_invalid_ciphertext_says_nothing_more() {
    let rig = Rig::new();
    let error = unwrap_meets(&rig, rig.options(), refuse(400, "BadParameter", None)).await;
    assert!(!error.to_string().contains("injected"), "{error}");
}

#[tokio::test]
async fn throttling_is_asked_again_and_then_unavailable() {
    let rig = Rig::new();
    let throttled = answer(429, &[("retry-after", "1")], "{}");
    let error = unwrap_meets(&rig, rig.options().attempts(3), throttled).await;
    let retry_after = Some(Duration::from_secs(1));
    assert_eq!(error.kind(), Kind::Unavailable { retry_after });
    assert_eq!(rig.proxy.count("unwrapKey"), 3);
}

/// Sleeping through the deadline would turn the reason into a timeout.
#[tokio::test]
async fn a_wait_beyond_the_deadline_is_passed_on_at_once() {
    for (header, wait) in [
        (("retry-after", "60"), Duration::from_secs(60)),
        (("retry-after-ms", "60500"), Duration::from_millis(60_500)),
        (("x-ms-retry-after-ms", "60500"), Duration::from_millis(60_500)),
        (("retry-after", "9999999"), Duration::from_secs(3600)),
    ] {
        let rig = Rig::new();
        let error = unwrap_meets(&rig, rig.options(), answer(429, &[header], "")).await;
        assert_eq!(error.kind(), Kind::Unavailable { retry_after: Some(wait) });
        assert_eq!(rig.proxy.count("unwrapKey"), 1);
    }
}

#[tokio::test]
async fn a_failure_that_passes_is_not_noticed() {
    let rig = Rig::new();
    let key = rig.key_with(rig.options().deadline(Duration::from_secs(5))).await;
    rig.wrapped(&key).await;
    let passing = [
        answer(429, &[], ""),
        refuse(500, "InternalServerError", None),
        answer(503, &[("retry-after", "0")], ""),
        Fault::Drop,
    ];
    for (number, fault) in passing.into_iter().enumerate() {
        rig.proxy.inject_times(1, "wrapKey", fault);
        rig.wrapped(&key).await;
        assert_eq!(rig.proxy.count("wrapKey"), 1 + 2 * (number + 1));
    }
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_unavailable() {
    let failing = [
        refuse(500, "InternalServerError", None),
        answer(502, &[], "<html>bad gateway</html>"),
        answer(503, &[], ""),
        answer(408, &[], ""),
        Fault::Drop,
    ];
    for fault in failing {
        let rig = Rig::new();
        let options = rig.options().attempts(2).deadline(Duration::from_secs(5));
        let error = unwrap_meets(&rig, options, fault.clone()).await;
        assert_eq!(error.kind(), Kind::Unavailable { retry_after: None }, "{fault:?}: {error}");
        assert_eq!(rig.proxy.count("unwrapKey"), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn an_attempt_that_hangs_leaves_time_for_another() {
    let rig = Rig::new();
    let key = rig.key_with(rig.options().deadline(Duration::from_secs(6))).await;
    rig.proxy.inject_times(1, "wrapKey", Fault::Delay(Duration::from_secs(600)));
    rig.wrapped(&key).await;
    assert_eq!(rig.proxy.count("wrapKey"), 2);
}

#[tokio::test]
async fn what_is_not_a_vault_fails() {
    let garbage = [
        answer(200, &[], "<html>please log in</html>"),
        answer(200, &[], ""),
        answer(200, &[], "[]"),
        answer(403, &[], "<html>blocked</html>"),
        answer(404, &[], ""),
        answer(302, &[("location", "https://evil.example/")], ""),
    ];
    for fault in garbage {
        let rig = Rig::new();
        let error = unwrap_meets(&rig, rig.options(), fault.clone()).await;
        assert_eq!(error.kind(), Kind::Failed, "{fault:?}: {error}");
        assert!(error.to_string().contains("check"), "{error}");
        assert_eq!(rig.proxy.count("unwrapKey"), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_share_is_not_sent_in_the_clear() {
    let rig = Rig::new();
    let options = rig.options().endpoint(format!("http://{}", rig.vault.address()));
    let error = refusal(AzureKeyVaultKey::connect(&rig.uri(), &options).await);
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("https://"), "{error}");
    let options = rig.options().authority(format!("http://{}", rig.vault.address()));
    assert_eq!(kind(AzureKeyVaultKey::connect(&rig.uri(), &options).await), Kind::Misconfigured);
}

#[tokio::test]
async fn certificates_that_are_none_are_named() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let (absent, empty) = (folder.path().join("absent.pem"), folder.path().join("empty.pem"));
    std::fs::write(&empty, "no certificate").unwrap();
    for path in [absent, empty] {
        let options = rig.options().ca_file(&path);
        let error = refusal(AzureKeyVaultKey::connect(&rig.uri(), &options).await);
        assert_eq!(error.kind(), Kind::Misconfigured);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let rig = Rig::new();
    let (uri, options) = (uri(rig.host, "kek"), rig.options());
    let connect = pin!(AzureKeyVaultKey::connect(&uri, &options));
    let Poll::Ready(result) = connect.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it has nothing to wait for");
    };
    let error = refusal(result);
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("tokio"), "{error}");
}
