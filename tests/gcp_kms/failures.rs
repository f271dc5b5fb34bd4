//! Each way in which Google refuses or fails: the kind, the evidence, and how
//! often we asked.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use twinlock_keys::{HolderError, HolderErrorKind as Kind, KeyHolder as _, KeyUri, Share};
use twinlock_remote_keys::gcp_kms::{GcpKmsKey, Options};

use super::rig::{Rig, context, kind, refusal, uri};
use crate::support::cloud_kms::{Purpose, Refusal, VersionState, refuse};
use crate::support::proxy::{Fault, closed_address};

/// The error of an unwrap that meets `fault` each time it is sent.
async fn unwrap_meets(rig: &Rig, options: Options, fault: Fault) -> HolderError {
    let key = rig.key_with(options).await;
    let (_, wrapped) = rig.wrapped(&key).await;
    rig.server.inject("Decrypt", fault);
    refusal(key.unwrap_key(&wrapped, &context()).await)
}

#[tokio::test]
async fn a_refusal_keeps_its_kind_and_evidence_and_is_asked_for_once() {
    let refusals = [
        (403, "PERMISSION_DENIED", Kind::Denied),
        (401, "UNAUTHENTICATED", Kind::Denied),
        (404, "NOT_FOUND", Kind::NotFound),
        (400, "INVALID_ARGUMENT", Kind::InvalidCiphertext),
        (400, "FAILED_PRECONDITION", Kind::Misconfigured),
        (400, "OUT_OF_RANGE", Kind::Misconfigured),
        (501, "UNIMPLEMENTED", Kind::Misconfigured),
        (409, "SOMETHING_NEW", Kind::Failed),
    ];
    for (http, status, expected) in refusals {
        let rig = Rig::new();
        let error = unwrap_meets(&rig, rig.options(), refuse(http, status)).await;
        assert_eq!(error.kind(), expected, "{status}: {error}");
        let known = if status == "SOMETHING_NEW" { "UNKNOWN" } else { status };
        assert_eq!(error.answer().expect("Google answered").code, known);
        assert_eq!(rig.server.count("Decrypt"), 1, "{status}");
        assert!(!error.kind().is_retryable());
    }
}

#[tokio::test]
async fn a_complaint_about_encrypt_is_a_setting_and_not_quoted() {
    let rig = Rig::new();
    let key = rig.key().await;
    rig.server.inject("Encrypt", refuse(400, "INVALID_ARGUMENT"));
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(!error.to_string().contains("injected"), "{error}");
}

#[tokio::test]
async fn a_denial_says_to_which_key_and_which_permission_helps() {
    let rig = Rig::new();
    let error = unwrap_meets(&rig, rig.options(), refuse(403, "PERMISSION_DENIED")).await;
    let text = error.to_string();
    let key = rig.server.calls("Decrypt").remove(0).name;
    for part in ["useToDecrypt", &key, "injected PERMISSION_DENIED"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test]
async fn an_invalid_ciphertext_says_nothing_more() {
    let rig = Rig::new();
    let error = unwrap_meets(&rig, rig.options(), refuse(400, "INVALID_ARGUMENT")).await;
    assert!(!error.to_string().contains("injected"), "{error}");
}

#[tokio::test]
async fn a_version_that_is_off_is_disabled() {
    use VersionState::{DestroyScheduled, Destroyed, Disabled};
    for state in [Disabled, Destroyed, DestroyScheduled] {
        let rig = Rig::new();
        let uri = rig.new_key();
        let key = GcpKmsKey::connect(&uri, &rig.options()).await.unwrap();
        let (share, wrapped) = rig.wrapped(&key).await;
        rig.server.set_state(uri.key_name(), state);
        let wrap = refusal(key.wrap_key(&share, &context()).await);
        let unwrap = refusal(key.unwrap_key(&wrapped, &context()).await);
        for error in [wrap, unwrap] {
            assert_eq!(error.kind(), Kind::Disabled, "{state:?}: {error}");
            assert_eq!(error.answer().unwrap().code, "FAILED_PRECONDITION");
        }
        rig.server.set_state(uri.key_name(), VersionState::Enabled);
        key.unwrap_key(&wrapped, &context()).await.unwrap();
    }
}

#[tokio::test]
async fn an_api_that_is_off_is_not_a_key_that_is_off() {
    let rig = Rig::new();
    let message =
        "Google Cloud KMS API has not been used in this project before, or it is disabled.";
    let fault = Fault::from(Refusal::new(400, "FAILED_PRECONDITION", message));
    let error = unwrap_meets(&rig, rig.options(), fault).await;
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("has not been used"), "{error}");
}

#[tokio::test]
async fn a_key_that_is_absent_or_of_another_purpose_is_named() {
    let rig = Rig::new();
    let absent = uri("projects/blue/locations/europe-west3/keyRings/files/cryptoKeys/absent");
    let mac = uri(&rig.server.create_key(Purpose::Mac));
    for (uri, expected) in [(absent, Kind::NotFound), (mac, Kind::Misconfigured)] {
        let key = GcpKmsKey::connect(&uri, &rig.options()).await.unwrap();
        let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
        assert_eq!(error.kind(), expected, "{error}");
        let named = error.to_string();
        assert!(named.contains(uri.as_str()), "{named}");
    }
}

#[tokio::test]
async fn throttling_is_asked_again_and_then_unavailable() {
    let rig = Rig::new();
    let fault = refuse(429, "RESOURCE_EXHAUSTED");
    let options = rig.options().attempts(3).deadline(Duration::from_secs(5));
    let error = unwrap_meets(&rig, options, fault).await;
    assert_eq!(error.kind(), Kind::Unavailable { retry_after: None });
    assert_eq!(error.answer().unwrap().code, "RESOURCE_EXHAUSTED");
    assert_eq!(rig.server.count("Decrypt"), 3);
}

#[tokio::test]
async fn googles_wait_is_kept_if_there_is_time_and_passed_on_if_not() {
    let throttled = |delay| {
        let refusal = Refusal::new(429, "RESOURCE_EXHAUSTED", "slow down").retry_after(delay);
        Fault::from(refusal)
    };
    let rig = Rig::new();
    let error = unwrap_meets(&rig, rig.options(), throttled("47.5s")).await;
    let retry_after = Some(Duration::from_millis(47_500));
    assert_eq!(error.kind(), Kind::Unavailable { retry_after });
    assert_eq!(rig.server.count("Decrypt"), 1, "there is no time to wait for that");

    let key = rig.key().await;
    rig.server.inject_times(1, "Encrypt", throttled("0.020s"));
    rig.wrapped(&key).await;

    let rig = Rig::new();
    let error = unwrap_meets(&rig, rig.options(), throttled("999999s")).await;
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(error.kind(), Kind::Unavailable { retry_after: hour });
}

#[tokio::test]
async fn a_wait_in_a_header_is_passed_on() {
    let rig = Rig::new();
    let fault = Fault::answer(503, &[("retry-after", "70")], "busy");
    let error = unwrap_meets(&rig, rig.options(), fault).await;
    let retry_after = Some(Duration::from_secs(70));
    assert_eq!(error.kind(), Kind::Unavailable { retry_after });
    assert_eq!(error.answer().unwrap().code, "HTTP 503");
}

#[tokio::test]
async fn a_failure_that_passes_is_not_noticed() {
    let rig = Rig::new();
    let passing = [
        refuse(429, "RESOURCE_EXHAUSTED"),
        refuse(500, "INTERNAL"),
        refuse(503, "UNAVAILABLE"),
        refuse(504, "DEADLINE_EXCEEDED"),
        Fault::answer(502, &[], "<html>bad gateway</html>"),
        Fault::Drop,
        // An accident on the way there, which Google finds.
        Fault::from(Refusal::new(
            400,
            "INVALID_ARGUMENT",
            "The checksum in field plaintext_crc32c did not match the data in field plaintext.",
        )),
    ];
    let key = rig.key_with(rig.options().deadline(Duration::from_secs(10))).await;
    for (number, fault) in passing.into_iter().enumerate() {
        rig.server.inject_times(1, "Encrypt", fault);
        rig.wrapped(&key).await;
        assert_eq!(rig.server.count("Encrypt"), 2 * (number + 1));
    }
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_unavailable() {
    let failing = [
        refuse(500, "INTERNAL"),
        refuse(503, "UNAVAILABLE"),
        refuse(409, "ABORTED"),
        Fault::answer(500, &[], ""),
        Fault::Drop,
    ];
    for fault in failing {
        let rig = Rig::new();
        let options = rig.options().attempts(2).deadline(Duration::from_secs(5));
        let error = unwrap_meets(&rig, options, fault.clone()).await;
        assert_eq!(error.kind(), Kind::Unavailable { retry_after: None }, "{fault:?}: {error}");
        assert_eq!(rig.server.count("Decrypt"), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_unavailable() {
    let rig = Rig::new();
    let options = rig.options().endpoint(format!("http://{}", closed_address())).attempts(1);
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
        rig.server.inject("Encrypt", Fault::Delay(Duration::from_secs(600)));
        let result = key.wrap_key(&Share::random().unwrap(), &context()).await;
        assert_eq!(kind(result), Kind::TimedOut);
    }
}

#[tokio::test]
async fn an_attempt_that_hangs_leaves_time_for_another() {
    let rig = Rig::new();
    let key = rig.key_with(rig.options().deadline(Duration::from_secs(6))).await;
    rig.server.inject_times(1, "Encrypt", Fault::Delay(Duration::from_secs(600)));
    rig.wrapped(&key).await;
    assert_eq!(rig.server.count("Encrypt"), 2);
}

#[tokio::test]
async fn clocks_that_are_apart_are_a_denial_that_names_them() {
    for ahead in [-7200, 7200] {
        let rig = Rig::new();
        rig.server.set_clock_ahead(ahead);
        let key = rig.key().await;
        let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.to_string().contains("clock"), "{error}");
        assert_eq!(rig.server.count("Encrypt"), 1);
    }
}

#[tokio::test]
async fn a_share_is_not_sent_in_the_clear() {
    let rig = Rig::new();
    let urls = ["http://192.0.2.1:5000", "http://kms.example", "not a url", "", "ftp://localhost"];
    for url in urls {
        let result = GcpKmsKey::connect(&rig.new_key(), &rig.options().endpoint(url)).await;
        let error = refusal(result);
        assert_eq!(error.kind(), Kind::Misconfigured, "{url}");
        assert!(error.to_string().contains("https://"), "{error}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_misconfigured() {
    let rig = Rig::new();
    let options = rig.options().endpoint("https://not a url");
    let result = GcpKmsKey::connect(&rig.new_key(), &options).await;
    assert_eq!(kind(result), Kind::Misconfigured);
}

#[tokio::test]
async fn other_schemes_are_refused() {
    let rig = Rig::new();
    let file = "file:///tmp/kek".parse().unwrap();
    let result = GcpKmsKey::connect(&file, &rig.options()).await;
    assert_eq!(kind(result), Kind::Misconfigured);
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let rig = Rig::new();
    let (uri, options): (KeyUri, Options) = (rig.new_key(), rig.options());
    let connect = pin!(GcpKmsKey::connect(&uri, &options));
    let Poll::Ready(result) = connect.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it has nothing to wait for");
    };
    let error = refusal(result);
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("tokio"), "{error}");
}
