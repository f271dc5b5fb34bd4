//! Each way in which KMS refuses or fails: the kind, the evidence, and how
//! often we asked.

use std::net::TcpListener;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::json;
use twinlock_keys::{HolderError, HolderErrorKind as Kind, KeyHolder as _, Share};
use twinlock_remote_keys::aws_kms::{AwsKmsKey, Options};

use super::rig::{REGION, Rig, context, kind, new_key, refusal, uri};
use crate::support::kms_proxy::{Fault, REQUEST_ID};

/// The error of an unwrap that meets `fault` each time it is sent.
async fn unwrap_meets(rig: &Rig, options: Options, fault: Fault) -> HolderError {
    let key = rig.key_with(options).await;
    let (_, wrapped) = rig.wrapped(&key).await;
    rig.proxy.inject("Decrypt", fault);
    refusal(key.unwrap_key(&wrapped, &context()).await)
}

#[tokio::test]
async fn a_refusal_keeps_its_kind_and_evidence_and_is_asked_for_once() {
    let refusals = [
        ("AccessDeniedException", Kind::Denied),
        ("ExpiredTokenException", Kind::Denied),
        ("InvalidSignatureException", Kind::Denied),
        ("UnrecognizedClientException", Kind::Denied),
        ("DisabledException", Kind::Disabled),
        ("KMSInvalidStateException", Kind::Disabled), // pending deletion
        ("IncorrectKeyException", Kind::InvalidCiphertext),
        ("InvalidCiphertextException", Kind::InvalidCiphertext),
        ("NotFoundException", Kind::NotFound),
        ("InvalidKeyUsageException", Kind::Misconfigured),
        ("ValidationException", Kind::Misconfigured),
        ("SomethingNewException", Kind::Failed),
    ];
    for (code, expected) in refusals {
        let rig = Rig::new();
        let error = unwrap_meets(&rig, rig.options(), Fault::refuse(code)).await;
        assert_eq!(error.kind(), expected, "{code}");
        let answer = error.answer().expect("KMS answered");
        assert_eq!((answer.code.as_str(), answer.request_id.as_deref()), (code, Some(REQUEST_ID)));
        assert_eq!(rig.proxy.count("Decrypt"), 1, "{code}");
        assert!(!error.kind().is_retryable());
    }
}

/// AWS's code is the same for all of them.
#[tokio::test]
async fn a_failure_of_an_external_key_store_is_told_by_its_sentence() {
    let passing = Kind::Unavailable { retry_after: None };
    let sentences = [
        (
            "AWS KMS rejected the request because the external key store proxy did not respond in time.",
            passing,
        ),
        ("AWS KMS cannot communicate with the external key store proxy.", passing),
        ("The external key store proxy is in an unhealthy state.", passing),
        (
            "The external key store proxy rejected the request due to a very high request rate.",
            passing,
        ),
        (
            "The external key store proxy rejected the request because the specified ciphertext or \
          additional authenticated data is corrupted, missing, or otherwise invalid.",
            Kind::InvalidCiphertext,
        ),
        ("The external key store proxy denied access to the operation.", Kind::Denied),
        (
            "The external key store proxy rejected the request because it could not find the external key.",
            Kind::NotFound,
        ),
        (
            "The external key store proxy rejected the request because the external key is not enabled \
          in the external key manager.",
            Kind::Disabled,
        ),
    ];
    for (sentence, expected) in sentences {
        let rig = Rig::new();
        let body = json!({ "__type": "KMSInvalidStateException", "message": sentence });
        let error = unwrap_meets(&rig, rig.options(), Fault::raw(400, body.to_string())).await;
        assert_eq!(error.kind(), expected, "{sentence}");
        let said = error.to_string().contains(sentence);
        assert_eq!(said, expected != Kind::InvalidCiphertext, "{error}");
        assert_eq!(rig.proxy.count("Decrypt"), 1, "{sentence}");
    }
}

#[tokio::test]
async fn wrapping_and_resolving_are_refused_alike() {
    let rig = Rig::new();
    let key = rig.key().await;
    rig.proxy.inject("Encrypt", Fault::refuse("AccessDeniedException"));
    rig.proxy.inject("DescribeKey", Fault::refuse("AccessDeniedException"));
    let wrap = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    let options = rig.options().region(REGION);
    let resolve = refusal(AwsKmsKey::connect(&uri("alias/any"), &options).await);
    for (error, permission) in [(wrap, "kms:Encrypt"), (resolve, "kms:DescribeKey")] {
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.to_string().contains(permission), "{error}");
    }
    assert_eq!((rig.proxy.count("Encrypt"), rig.proxy.count("DescribeKey")), (1, 1));
}

#[tokio::test]
async fn a_denial_says_to_which_key_and_which_permission_helps() {
    let rig = Rig::new();
    let error = unwrap_meets(&rig, rig.options(), Fault::refuse("AccessDeniedException")).await;
    let text = error.to_string();
    let key = rig.proxy.calls("Decrypt").remove(0).body["KeyId"].as_str().unwrap().to_owned();
    for part in ["kms:Decrypt", &key, "injected AccessDeniedException", REQUEST_ID] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// AWS's words about the input of `Encrypt` could repeat it.
#[tokio::test]
async fn a_complaint_about_the_share_is_not_quoted() {
    let rig = Rig::new();
    let key = rig.key().await;
    rig.proxy.inject("Encrypt", Fault::refuse("ValidationException"));
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(!error.to_string().contains("injected"), "{error}");
}

#[tokio::test]
async fn an_invalid_ciphertext_says_nothing_more() {
    let rig = Rig::new();
    let fault = Fault::refuse("InvalidCiphertextException");
    let error = unwrap_meets(&rig, rig.options(), fault).await;
    assert!(!error.to_string().contains("injected"), "{error}");
}

#[tokio::test]
async fn throttling_is_asked_again_and_then_unavailable() {
    let rig = Rig::new();
    let headers = &[("retry-after", "7")];
    let fault = Fault::Refuse { status: 400, code: "ThrottlingException", headers };
    let options = rig.options().attempts(3).deadline(Duration::from_secs(5));
    let error = unwrap_meets(&rig, options, fault).await;
    let retry_after = Some(Duration::from_secs(7));
    assert_eq!(error.kind(), Kind::Unavailable { retry_after });
    assert_eq!(error.answer().unwrap().code, "ThrottlingException");
    assert_eq!(rig.proxy.count("Decrypt"), 3);
}

#[tokio::test]
async fn a_wait_in_milliseconds_is_passed_on() {
    let rig = Rig::new();
    let headers = &[("x-amz-retry-after", "1500")];
    let fault = Fault::Refuse { status: 400, code: "ThrottlingException", headers };
    let error = unwrap_meets(&rig, rig.options().attempts(1), fault).await;
    let retry_after = Some(Duration::from_millis(1500));
    assert_eq!(error.kind(), Kind::Unavailable { retry_after });
}

#[tokio::test]
async fn a_failure_that_passes_is_not_noticed() {
    let rig = Rig::new();
    let passing = [
        Fault::refuse("ThrottlingException"),
        Fault::Refuse { status: 500, code: "KMSInternalException", headers: &[] },
        Fault::raw(503, ""),
        Fault::Drop,
    ];
    let key = rig.key_with(rig.options().deadline(Duration::from_secs(5))).await;
    for (number, fault) in passing.into_iter().enumerate() {
        rig.proxy.inject_times(1, "Encrypt", fault);
        rig.wrapped(&key).await;
        assert_eq!(rig.proxy.count("Encrypt"), 2 * (number + 1));
    }
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_unavailable() {
    let failing = [
        Fault::Refuse { status: 500, code: "KMSInternalException", headers: &[] },
        Fault::Refuse { status: 500, code: "KeyUnavailableException", headers: &[] },
        Fault::raw(500, ""),
        Fault::raw(502, "<html>bad gateway</html>"),
        Fault::Drop,
    ];
    for fault in failing {
        let rig = Rig::new();
        let options = rig.options().attempts(2).deadline(Duration::from_secs(5));
        let error = unwrap_meets(&rig, options, fault.clone()).await;
        assert_eq!(error.kind(), Kind::Unavailable { retry_after: None }, "{fault:?}: {error}");
        assert_eq!(rig.proxy.count("Decrypt"), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_unavailable() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rig = Rig::new();
    let options = rig.options().endpoint(format!("http://{closed}")).attempts(1);
    let key = rig.key_with(options).await;
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert_eq!(error.kind(), Kind::Unavailable { retry_after: None });
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn what_is_slow_past_the_deadline_times_out() {
    for attempts in [1, 2] {
        let rig = Rig::new();
        let options = rig.options().attempts(attempts).deadline(Duration::from_millis(300));
        let key = rig.key_with(options).await;
        rig.proxy.inject("Encrypt", Fault::Delay(Duration::from_secs(600)));
        let result = key.wrap_key(&Share::random().unwrap(), &context()).await;
        assert_eq!(kind(result), Kind::TimedOut);
    }
}

#[tokio::test]
async fn an_attempt_that_hangs_leaves_time_for_another() {
    let rig = Rig::new();
    let key = rig.key_with(rig.options().deadline(Duration::from_secs(6))).await;
    rig.proxy.inject_times(1, "Encrypt", Fault::Delay(Duration::from_secs(600)));
    rig.wrapped(&key).await;
    assert_eq!(rig.proxy.count("Encrypt"), 2);
}

#[tokio::test]
async fn what_is_not_kms_fails() {
    let garbage = [
        Fault::raw(200, "<html>please log in</html>"),
        Fault::raw(200, ""),
        Fault::raw(403, "<html>blocked</html>"),
        Fault::raw(302, ""),
    ];
    for fault in garbage {
        let rig = Rig::new();
        let error = unwrap_meets(&rig, rig.options(), fault.clone()).await;
        assert_eq!(error.kind(), Kind::Failed, "{fault:?}: {error}");
        assert!(error.to_string().contains("endpoint"), "{error}");
        assert_eq!(rig.proxy.count("Decrypt"), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_share_is_not_sent_in_the_clear() {
    let rig = Rig::new();
    // 192.0.2.0/24 is for documentation: nobody answers there.
    let key = rig.key_with(rig.options().endpoint("http://192.0.2.1:5000")).await;
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("https://"), "{error}");
}

#[tokio::test]
async fn missing_credentials_are_named() {
    let rig = Rig::new();
    let key = rig.key_with(rig.options().profile("absent")).await;
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("AWS_PROFILE"), "{error}");
    assert!(error.to_string().contains("absent"), "{error}");
    assert!(rig.proxy.all_calls().is_empty());
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_misconfigured() {
    let rig = Rig::new();
    let key = rig.key_with(rig.options().endpoint("not a url")).await;
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert_eq!(error.kind(), Kind::Misconfigured, "{error}");
    assert!(error.to_string().contains("AWS_ENDPOINT_URL_KMS"), "{error}");
}

#[tokio::test]
async fn other_schemes_are_refused() {
    let rig = Rig::new();
    let file = "file:///tmp/kek".parse().unwrap();
    let result = AwsKmsKey::connect(&file, &rig.options()).await;
    assert_eq!(kind(result), Kind::Misconfigured);
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let rig = Rig::new();
    let (uri, options) = (new_key(), rig.options());
    let connect = pin!(AwsKmsKey::connect(&uri, &options));
    let Poll::Ready(result) = connect.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it has nothing to wait for");
    };
    let error = refusal(result);
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("tokio"), "{error}");
}
