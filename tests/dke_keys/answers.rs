//! What a service says, and what is made of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use twinlock_keys::{HolderErrorKind as Kind, KeyUri};
use twinlock_remote_keys::dke::DkeKey;

use super::rig::{LISTED, NAME, Rig, UNLISTED, context, run, unwrap, wrap};
use crate::support::key_service::{REQUEST_ID, RsaKey, ServedKey};
use crate::support::proxy::{Fault, Trap};

#[test]
fn a_share_comes_back_with_what_the_service_said() {
    use twinlock_keys::KeyHolder as _;
    run(async {
        let rig = Rig::new();
        let key = rig.listed();
        let wrapped = wrap(&key).await.unwrap();
        assert_eq!((wrapped.bytes().len(), wrapped.key_version()), (256, Some("0a1b")));
        let share = key.unwrap_key(&wrapped, &context()).await.unwrap();
        assert_eq!(share.expose(), &[7; 32]);
        let answer = share.answer().unwrap();
        assert_eq!((&*answer.code, answer.request_id.as_deref()), ("200", Some(REQUEST_ID)));
    });
}

#[test]
fn what_is_published_is_described_without_pin_or_token() {
    run(async {
        let rig = Rig::new();
        let uri = KeyUri::parse(&rig.uri()).unwrap();
        let facts = DkeKey::describe(&uri, &rig.unpinned("no token")).await.unwrap();
        assert_eq!((&*facts.version, facts.bits), ("0a1b", 2048));
        assert_eq!(facts.pin.to_string(), RsaKey::of(1).pin, "as openssl has it");
        let (_, request) = rig.proxy.calls().pop().unwrap();
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.first_line, format!("GET /{NAME} HTTP/1.1"));
    });
}

#[test]
fn a_key_that_is_not_pinned_wraps_nothing() {
    run(async {
        let rig = Rig::new();
        let error = wrap(&rig.key(&rig.unpinned(LISTED))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Misconfigured);
        assert!(error.to_string().contains(&RsaKey::of(1).pin), "what to compare: {error}");

        let other = rig.unpinned(LISTED).pin(RsaKey::of(2).pin.parse().unwrap());
        let error = wrap(&rig.key(&other)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Misconfigured);
        assert!(error.to_string().contains("another public key"), "{error}");

        // What was wrapped before is opened: each share carries its check.
        let wrapped = wrap(&rig.listed()).await.unwrap();
        assert_eq!(unwrap(&rig.key(&other), &wrapped).await.unwrap(), [7; 32]);
    });
}

#[test]
fn a_rotated_key_opens_what_it_wrapped_and_needs_its_new_pin_to_wrap() {
    run(async {
        let rig = Rig::new();
        let old = wrap(&rig.listed()).await.unwrap();
        let rotate = |key: &mut ServedKey| key.versions.insert(0, ("2c3d".into(), RsaKey::of(2)));
        rig.service.change(NAME, rotate);

        let error = wrap(&rig.listed()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Misconfigured, "{error}");
        let both = rig.options(LISTED).pin(RsaKey::of(2).pin.parse().unwrap());
        let key = rig.key(&both);
        let new = wrap(&key).await.unwrap();
        assert_eq!(new.key_version(), Some("2c3d"));
        for wrapped in [&old, &new] {
            assert_eq!(unwrap(&key, wrapped).await.unwrap(), [7; 32]);
        }
    });
}

#[test]
fn a_version_that_is_gone_opens_nothing_and_says_so() {
    run(async {
        let rig = Rig::new();
        let wrapped = wrap(&rig.listed()).await.unwrap();
        rig.service.change(NAME, |key| key.versions = vec![("2c3d".into(), RsaKey::of(2))]);
        let error = unwrap(&rig.listed(), &wrapped).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidCiphertext);
        assert!(error.to_string().contains("no longer has the version"), "{error}");
    });
}

#[test]
fn a_key_is_kept_for_as_long_as_the_service_says() {
    run(async {
        let rig = Rig::new();
        for (expires, times) in [
            (Some("2999-01-01T00:00:00"), 1),
            (Some("2001-01-01T00:00:00"), 3),
            (Some("whenever"), 3),
            (None, 3),
        ] {
            rig.service.change(NAME, |key| key.expires = expires.map(ToOwned::to_owned));
            let (key, before) = (rig.listed(), rig.proxy.count("key"));
            for _ in 0..3 {
                wrap(&key).await.unwrap();
            }
            assert_eq!(rig.proxy.count("key") - before, times, "{expires:?}");
        }
    });
}

#[test]
fn whoever_may_not_decrypt_is_told_so() {
    run(async {
        let rig = Rig::new();
        let wrapped = wrap(&rig.listed()).await.unwrap();
        let error = unwrap(&rig.key(&rig.options(UNLISTED)), &wrapped).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert_eq!(error.answer().unwrap().code, "403");
        assert!(error.to_string().contains(&rig.uri()), "{error}");
        assert!(!format!("{error:?}").contains(UNLISTED), "{error:?}");

        rig.service.change(NAME, |key| key.enabled = false);
        let error = unwrap(&rig.listed(), &wrapped).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        assert!(error.to_string().contains("switched off"), "{error}");
        assert_eq!(wrap(&rig.listed()).await.unwrap_err().kind(), Kind::NotFound);

        // Our own service says which of the two it is.
        let says = Fault::answer(403, &[], r#"{"error":"key_disabled","message":"off"}"#);
        rig.proxy.inject("decrypt", says);
        assert_eq!(unwrap(&rig.listed(), &wrapped).await.unwrap_err().kind(), Kind::Disabled);
    });
}

#[test]
fn a_token_that_is_not_known_is_denied_without_being_shown() {
    run(async {
        let rig = Rig::new();
        let wrapped = wrap(&rig.listed()).await.unwrap();
        let error =
            unwrap(&rig.key(&rig.options("token-nobody-knows")), &wrapped).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.to_string().contains("twinlock login"), "{error}");
        assert!(!format!("{error:?}").contains("token-nobody-knows"), "{error:?}");
        assert_eq!(rig.proxy.count("decrypt"), 1, "the same token is not sent again");
    });
}

#[test]
fn only_our_own_host_is_ever_asked() {
    run(async {
        let rig = Rig::new();
        let trap = Trap::new();
        let wrapped = wrap(&rig.listed()).await.unwrap();
        // The service says that its key is elsewhere, and that tokens are.
        let elsewhere = |body: &mut serde_json::Value| {
            body["key"]["kid"] = json!("https://127.0.0.2:1/x/Other/0a1b");
        };
        rig.proxy.inject("key", Fault::Edit(elsewhere));
        let key = rig.listed();
        let again = wrap(&key).await.unwrap();
        assert_eq!(again.key_version(), Some("0a1b"));
        assert_eq!(unwrap(&key, &again).await.unwrap(), [7; 32]);
        let (_, request) = rig.proxy.calls().pop().unwrap();
        assert_eq!(request.first_line, format!("POST /{NAME}/0a1b/decrypt HTTP/1.1"));

        for status in [301, 302, 303, 307, 308] {
            let location = format!("http://{}/", trap.address);
            for operation in ["key", "decrypt"] {
                rig.proxy.inject(operation, Fault::answer(status, &[("location", &location)], ""));
            }
            let error = wrap(&rig.listed()).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Failed, "{error}");
            let error = unwrap(&key, &wrapped).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Failed, "{error}");
        }
        assert_eq!(trap.arrivals(), 0);
    });
}

#[test]
fn a_published_key_that_is_too_weak_is_refused() {
    run(async {
        let rig = Rig::new();
        for (weak, reason) in
            [(RsaKey::new(1024, 65537), "1024 bits"), (RsaKey::new(2048, 3), "exponent")]
        {
            let options = rig.unpinned(LISTED).pin(weak.pin.parse().unwrap());
            rig.service.change(NAME, |key| key.versions = vec![("0a1b".into(), weak)]);
            let error = wrap(&rig.key(&options)).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Misconfigured);
            assert!(error.to_string().contains(reason), "{error}");
        }
    });
}

#[test]
fn odd_answers_are_not_those_of_a_service() {
    run(async {
        let rig = Rig::new();
        let wrapped = wrap(&rig.listed()).await.unwrap();
        let value = |bytes: &[u8]| json!({ "value": BASE64.encode(bytes) }).to_string();
        let long = format!("{{\"value\":\"{}\"}}", "A".repeat(65 * 1024));
        let deep = "[".repeat(60 * 1024);
        for body in
            ["", "{}", "null", "{\"value\":7}", "{\"value\":\"-_-_\"}", "\u{0}", &long, &deep]
        {
            rig.proxy.inject("decrypt", Fault::answer(200, &[], body));
            let error = unwrap(&rig.listed(), &wrapped).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Failed, "{}: {error}", &body[..body.len().min(40)]);
            rig.proxy.inject("key", Fault::answer(200, &[], body));
            let error = wrap(&rig.listed()).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Failed, "{error}");
        }
        // A plaintext that is no share: it was never one of ours.
        for body in [value(b""), value(&[7; 31]), value(&[7; 33]), value(&[7; 44])] {
            rig.proxy.inject("decrypt", Fault::answer(200, &[], body));
            rig.proxy.inject("key", Fault::Alter(|_| ()));
            let error = unwrap(&rig.listed(), &wrapped).await.unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidCiphertext, "{error}");
        }
    });
}

#[test]
fn a_version_from_a_header_stays_in_its_place() {
    use twinlock_keys::{ShareAlgorithm, WrappedShare};
    run(async {
        let rig = Rig::new();
        let good = wrap(&rig.listed()).await.unwrap();
        let long = "a".repeat(65);
        for version in ["", "..", "a/b", "a?b", "0a1b/../x", "%2e", "a b", &long] {
            let share = WrappedShare::new(ShareAlgorithm::RsaOaepSha256, good.bytes().to_vec());
            let error = unwrap(&rig.listed(), &share.with_key_version(version)).await.unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidCiphertext, "{version}");
        }
        let without = WrappedShare::new(ShareAlgorithm::RsaOaepSha256, good.bytes().to_vec());
        let error = unwrap(&rig.listed(), &without).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidCiphertext);
        assert_eq!(rig.proxy.count("decrypt"), 0, "nobody was asked");
    });
}
