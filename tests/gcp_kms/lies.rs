//! A server that lies, or a wire that alters: the holder finds it out.

use serde_json::{Value, json};
use twinlock_keys::{HolderErrorKind, KeyHolder as _, Share};

use super::rig::{Rig, context, refusal};
use crate::support::cloud_kms::{crc32c, cut};
use crate::support::proxy::{Fault, Trap};

type Lie = fn(&mut Value);

/// Lies that look like damage on the way: worth another try.
const DAMAGED_ENCRYPT: &[Lie] = &[
    |answer| answer["ciphertextCrc32c"] = json!("1"),
    |answer| answer["ciphertextCrc32c"] = json!("4294967296"),
    |answer| answer["ciphertextCrc32c"] = json!("-1"),
    |answer| answer["ciphertext"] = json!("AAAA"),
    |answer| answer["verifiedPlaintextCrc32c"] = json!(false),
    |answer| answer["verifiedAdditionalAuthenticatedDataCrc32c"] = json!(false),
    |answer| without(answer, "ciphertextCrc32c"),
    |answer| without(answer, "verifiedPlaintextCrc32c"),
    |answer| without(answer, "verifiedAdditionalAuthenticatedDataCrc32c"),
];

const DAMAGED_DECRYPT: &[Lie] = &[
    |answer| answer["plaintextCrc32c"] = json!("1"),
    |answer| answer["plaintext"] = json!("AAAA"),
    |answer| without(answer, "plaintextCrc32c"),
    |answer| without(answer, "plaintext"),
];

/// Lies that another try does not mend.
const FALSE_ENCRYPT: &[Lie] = &[
    |answer| answer["name"] = json!(""),
    |answer| rename(answer, |name| name.replace("/key-1/", "/key-2/")),
    |answer| rename(answer, |name| name.replace("projects/blue", "projects/red")),
    |answer| rename(answer, |name| format!("{name}/cryptoKeyVersions/1")),
    |answer| rename(answer, |name| format!("{name}\u{1b}[31m")),
    |answer| rename(answer, |name| name.replace("/cryptoKeyVersions/1", "")),
    |answer| without(answer, "name"),
    |answer| {
        answer["ciphertext"] = json!("");
        answer["ciphertextCrc32c"] = json!("0");
    },
    |answer| {
        // 6147 zero bytes: more than a header carries
        let long = [0; 6147];
        answer["ciphertext"] = json!("AAAA".repeat(2049));
        answer["ciphertextCrc32c"] = json!(crc32c(&long).to_string());
    },
];

#[tokio::test]
async fn damage_is_asked_for_again() {
    let rig = Rig::new();
    let key = rig.key_with(rig.options().attempts(2)).await;
    for (number, lie) in DAMAGED_ENCRYPT.iter().enumerate() {
        rig.server.inject_times(1, "Encrypt", Fault::Edit(*lie));
        rig.wrapped(&key).await;
        assert_eq!(rig.server.count("Encrypt"), 2 * (number + 1), "lie {number}");
    }
    let (share, wrapped) = rig.wrapped(&key).await;
    for (number, lie) in DAMAGED_DECRYPT.iter().enumerate() {
        rig.server.inject_times(1, "Decrypt", Fault::Edit(*lie));
        let opened = key.unwrap_key(&wrapped, &context()).await.unwrap();
        assert_eq!(opened.expose(), share.expose());
        assert_eq!(rig.server.count("Decrypt"), 2 * (number + 1), "lie {number}");
    }
}

#[tokio::test]
async fn damage_that_stays_is_an_error() {
    for (operation, lies) in [("Encrypt", DAMAGED_ENCRYPT), ("Decrypt", DAMAGED_DECRYPT)] {
        for (number, lie) in lies.iter().enumerate() {
            let rig = Rig::new();
            let key = rig.key_with(rig.options().attempts(2)).await;
            let (share, wrapped) = rig.wrapped(&key).await;
            rig.server.inject(operation, Fault::Edit(*lie));
            let error = match operation {
                "Encrypt" => refusal(key.wrap_key(&share, &context()).await),
                _ => refusal(key.unwrap_key(&wrapped, &context()).await),
            };
            assert_eq!(error.kind(), HolderErrorKind::Failed, "{operation} {number}: {error}");
            assert!(error.to_string().contains("checksum"), "{error}");
            let honest = usize::from(operation == "Encrypt");
            assert_eq!(rig.server.count(operation) - honest, 2, "{operation} {number}");
        }
    }
}

#[tokio::test]
async fn an_answer_for_another_key_or_without_a_ciphertext_is_an_error_at_once() {
    for (number, lie) in FALSE_ENCRYPT.iter().enumerate() {
        let rig = Rig::new();
        let key = rig.key().await;
        rig.server.inject("Encrypt", Fault::Edit(*lie));
        let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
        assert_eq!(error.kind(), HolderErrorKind::Failed, "lie {number}: {error}");
        assert_eq!(rig.server.count("Encrypt"), 1, "lie {number}");
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

#[tokio::test]
async fn a_plaintext_that_is_no_share_is_refused() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    // 3 and 33 zero bytes, with their true checksums
    let lies: [Lie; 2] = [
        |answer| {
            answer["plaintext"] = json!("AAAA");
            answer["plaintextCrc32c"] = json!(crc32c(&[0; 3]).to_string());
        },
        |answer| {
            answer["plaintext"] = json!("A".repeat(44));
            answer["plaintextCrc32c"] = json!(crc32c(&[0; 33]).to_string());
        },
    ];
    for lie in lies {
        rig.server.inject_times(1, "Decrypt", Fault::Edit(lie));
        let error = refusal(key.unwrap_key(&wrapped, &context()).await);
        assert_eq!(error.kind(), HolderErrorKind::InvalidCiphertext, "{error}");
        assert_eq!(error.answer().unwrap().code, "200");
    }
}

#[tokio::test]
async fn what_is_not_google_fails_and_is_not_repeated() {
    let garbage = [
        cut(),
        Fault::answer(200, &[], "<html>please log in</html>"),
        Fault::answer(200, &[], ""),
        Fault::answer(200, &[], "[]"),
        Fault::answer(200, &[], "{\"plaintext\": 5}"),
        Fault::answer(403, &[], "<html>blocked</html>"),
        Fault::answer(404, &[], ""),
    ];
    for fault in garbage {
        let rig = Rig::new();
        let key = rig.key().await;
        let (_, wrapped) = rig.wrapped(&key).await;
        rig.server.inject("Decrypt", fault.clone());
        let error = refusal(key.unwrap_key(&wrapped, &context()).await);
        assert_eq!(error.kind(), HolderErrorKind::Failed, "{fault:?}: {error}");
        assert!(error.to_string().contains("endpoint"), "{error}");
        assert_eq!(rig.server.count("Decrypt"), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (rig, trap) = (Rig::new(), Trap::new());
    let key = rig.key().await;
    let location = format!("http://{}/v1/", trap.address);
    for status in [301, 302, 307, 308] {
        let redirect = Fault::answer(status, &[("location", &location)], "");
        rig.server.inject_times(1, "Encrypt", redirect);
        let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
        assert_eq!(error.kind(), HolderErrorKind::Failed, "{status}: {error}");
    }
    assert_eq!((trap.arrivals(), rig.server.count("Encrypt")), (0, 4));
}

fn without(answer: &mut Value, field: &str) {
    answer.as_object_mut().unwrap().remove(field);
}

fn rename(answer: &mut Value, rename: fn(&str) -> String) {
    answer["name"] = json!(rename(answer["name"].as_str().unwrap()));
}
