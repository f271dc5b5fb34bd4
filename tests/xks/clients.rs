//! Clients of AWS KMS that know nothing of all this.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};

use super::rig::{Rig, eventually, store_request};
use crate::support::cli::Ended;
use crate::support::python;

#[test]
fn boto3_makes_a_key_store_and_uses_its_keys() {
    let rig = Rig::start();
    let made = rig.script("boto3_client.py", &[&store_request().to_string()]);
    for operation in ["CreateCustomKeyStore", "ConnectCustomKeyStore", "CreateKey"] {
        assert_ok(&rig.cloud.calls_of_the_proxy(operation), operation);
    }
    for operation in ["Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncrypt"]
    {
        let calls = rig.cloud.calls_of_the_proxy(operation);
        assert_ok(&calls, operation);
        let metadata = &calls[0]["request"]["requestMetadata"];
        assert_eq!(metadata["awsPrincipalArn"], "arn:aws:iam::111122223333:user/AKIDTESTS");
        assert_eq!(metadata["kmsKeyArn"], made["key"]);
    }
    // With the wrong context it was the token that refused.
    let decrypts = rig.cloud.calls_of_the_proxy("Decrypt");
    let refused = decrypts.iter().filter(|call| call["status"] == 400);
    let refused: Vec<_> = refused.map(|call| call["response"].as_str().unwrap()).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains("InvalidCiphertextException"), "{refused:?}");
}

/// The commands of the quickstart, and of AWS's own guide.
#[test]
fn the_aws_cli_makes_a_key_store_and_uses_its_keys() {
    let rig = Rig::start();
    let store =
        aws(&rig, &["create-custom-key-store", "--cli-input-json", &store_request().to_string()]);
    let store = store["CustomKeyStoreId"].as_str().unwrap();
    aws(&rig, &["connect-custom-key-store", "--custom-key-store-id", store]);
    while aws(&rig, &["describe-custom-key-stores"])["CustomKeyStores"][0]["ConnectionState"]
        == "CONNECTING"
    {}
    let on = ["--origin", "EXTERNAL_KEY_STORE", "--custom-key-store-id", store];
    let key = aws(&rig, &[&["create-key", "--xks-key-id", "external-key-1"], &on[..]].concat());
    let key = key["KeyMetadata"]["Arn"].as_str().unwrap();

    let context = ["--encryption-context", "object=report.md,tenant=blue"];
    let generate = ["generate-data-key", "--key-id", key, "--key-spec", "AES_256"];
    let made = aws(&rig, &[&generate[..], &context].concat());
    rig.dir.write("blob", BASE64.decode(made["CiphertextBlob"].as_str().unwrap()).unwrap());
    let decrypt = ["decrypt", "--ciphertext-blob", "fileb://blob"];
    let opened = aws(&rig, &[&decrypt[..], &context].concat());
    assert_eq!((&opened["Plaintext"], &opened["KeyId"]), (&made["Plaintext"], &json!(key)));

    let other = ["--encryption-context", "object=report.md,tenant=red"];
    let refused = run_aws(&rig, &[&decrypt[..], &other].concat());
    assert!(refused.stderr.contains("KMSInvalidStateException"), "{}", refused.stderr);
    assert!(refused.stderr.contains("external key store proxy"), "{}", refused.stderr);
    assert!(refused.stdout.is_empty());
}

#[test]
fn the_aws_encryption_sdk_encrypts_and_decrypts() {
    let (rig, store) = Rig::connected();
    let key = rig.create_key(&store, "external-key-1");
    let other = rig.create_key(&store, "external-key-2");
    let done = rig.script("encryption_sdk.py", &[&key, &other]);
    assert_eq!(done["opened"], true, "{done}");
    assert!(done["refused"].as_array().unwrap().iter().all(Value::is_string), "{done}");
    assert_ok(&rig.cloud.calls_of_the_proxy("GenerateDataKey"), "GenerateDataKey");
    assert_ok(&rig.cloud.calls_of_the_proxy("Encrypt"), "Encrypt");
    let decrypts = rig.cloud.calls_of_the_proxy("Decrypt");
    let statuses: Vec<_> = decrypts.iter().map(|call| call["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 200, 400, 400], "with an altered context, the token refuses");
}

/// A provider whose key lies in an HSM of the customer, and the customer's other
/// key: three keys on a file's way.
#[test]
fn our_own_program_has_such_a_key_as_its_provider() {
    let (mut rig, store) = Rig::connected();
    let provider = format!("aws-kms://{}", rig.create_key(&store, "external-key-1"));
    let customer = rig.uri("kek");
    rig.variables().into_iter().for_each(|(name, value)| rig.dir.set(name, value));
    rig.dir.run(["keys", "create", &customer]).ok();
    let keys = ["--provider", &provider, "--customer", &customer];
    let run = |rig: &Rig, args: &[&'static str]| {
        rig.dir.run(args.iter().copied().chain(keys).collect::<Vec<_>>())
    };
    rig.dir.write("report.md", "secret");
    run(&rig, &["encrypt", "report.md", "--context", "object=report.md"]).ok();
    let decrypt = ["decrypt", "report.md.twl", "-o", "-", "--context", "object=report.md"];
    assert_eq!(run(&rig, &decrypt).ok().stdout, b"secret");
    let proof = run(&rig, &["--json", "prove", "report.md.twl"]).ok().json();
    assert_eq!(proof["proves"], true, "{proof}");

    // What the program gives to AWS, the proxy authenticates.
    let calls = rig.cloud.calls_of_the_proxy("Encrypt");
    assert_ok(&calls, "Encrypt");
    assert!(calls[0]["request"]["additionalAuthenticatedData"].is_string());
    let id = &calls[0]["request"]["requestMetadata"]["kmsRequestId"];
    eventually("the proxy has recorded the call", || {
        let records = rig.recorded();
        records.iter().any(|r| r["key"] == "external-key-1" && &r["kms_request_id"] == id)
    });

    // A proxy that is gone is worth a retry, and the key is not called disabled.
    rig.stop_proxy();
    let refused = run(&rig, &decrypt).with(5);
    assert!(refused.stderr.contains("external key store proxy"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("disabled"), "{}", refused.stderr);
}

fn aws(rig: &Rig, args: &[&str]) -> Value {
    let ended = run_aws(rig, args).ok();
    serde_json::from_slice(&ended.stdout).unwrap_or_default()
}

fn run_aws(rig: &Rig, args: &[&str]) -> Ended {
    let program = python().with_file_name("aws");
    let args: Vec<_> = ["kms", "--output", "json"].iter().chain(args).copied().collect();
    rig.client(program, &args)
}

#[track_caller]
fn assert_ok(calls: &[Value], operation: &str) {
    assert!(calls.iter().any(|call| call["status"] == 200), "{operation}: {calls:?}");
}
