use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use twinlock_xks::error::XksError;
use twinlock_xks::wire::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, RequestMetadata,
    health_metadata, key_metadata, request_id,
};

/// What is read keeps the limits, and is read again when somebody else writes
/// it. What is refused gets an answer that KMS can read.
pub fn xks_body(bytes: &[u8]) {
    match EncryptRequest::parse(bytes) {
        Ok(request) => check_encrypt(bytes, &request),
        Err(error) => check_error(&error),
    }
    match DecryptRequest::parse(bytes) {
        Ok(request) => check_decrypt(bytes, &request),
        Err(error) => check_error(&error),
    }
    for read in [key_metadata, health_metadata] {
        match read(bytes) {
            Ok(metadata) => check_metadata(bytes, &metadata),
            Err(error) => check_error(&error),
        }
    }
}

fn check_encrypt(bytes: &[u8], request: &EncryptRequest<'_>) {
    check_metadata(bytes, &request.metadata);
    assert!(request.metadata.aws_principal_arn.is_some() && request.metadata.kms_key_arn.is_some());
    assert!(request.plaintext.len() <= 4300 && request.aad.as_bytes().len() <= 8192);
    let written = json!({
        "requestMetadata": request.metadata,
        "plaintext": BASE64_STANDARD.encode(&*request.plaintext),
        "additionalAuthenticatedData": BASE64_STANDARD.encode(request.aad.as_bytes()),
        "encryptionAlgorithm": "AES_GCM",
        "ciphertextDataIntegrityValueAlgorithm": request.wants_integrity_value.then_some("SHA_256"),
    })
    .to_string();
    let again = EncryptRequest::parse(written.as_bytes()).expect("what is written is read");
    assert_eq!(again.metadata, request.metadata);
    assert_eq!(again.plaintext, request.plaintext);
    assert_eq!(again.aad.as_bytes(), request.aad.as_bytes());
    assert_eq!(again.wants_integrity_value, request.wants_integrity_value);
    check_plaintext(&request.plaintext);
}

fn check_plaintext(plaintext: &[u8]) {
    let body = DecryptResponse { plaintext }.body();
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body, json!({ "plaintext": BASE64_STANDARD.encode(plaintext) }));
}

fn check_decrypt(bytes: &[u8], request: &DecryptRequest<'_>) {
    check_metadata(bytes, &request.metadata);
    assert!(request.ciphertext.len() <= 4300 && request.aad.as_bytes().len() <= 8192);
    assert!(matches!(request.iv.len(), 12 | 16));
    let response = EncryptResponse {
        ciphertext: &request.ciphertext,
        ciphertext_metadata: request.ciphertext_metadata,
        iv: &request.iv,
        tag: &request.tag,
        integrity_value: None,
    };
    let mut written: Value = serde_json::from_slice(&response.body()).expect("JSON");
    written["requestMetadata"] = json!(request.metadata);
    written["encryptionAlgorithm"] = json!("AES_GCM");
    let written = written.to_string();
    let again = DecryptRequest::parse(written.as_bytes()).expect("what is written is read");
    assert_eq!(again.metadata, request.metadata);
    assert_eq!((again.ciphertext, again.iv), (request.ciphertext.clone(), request.iv.clone()));
    assert_eq!(again.ciphertext_metadata, request.ciphertext_metadata);
    assert_eq!(again.tag, request.tag);
}

fn check_metadata(bytes: &[u8], metadata: &RequestMetadata<'_>) {
    assert_eq!(request_id(bytes).as_ref(), Some(&metadata.kms_request_id));
    for arn in [&metadata.aws_principal_arn, &metadata.kms_key_arn].into_iter().flatten() {
        assert!(arn.chars().count() <= 2048);
    }
}

fn check_error(error: &XksError) {
    assert!(error.message().len() < 512);
    assert!(error.message().bytes().all(|byte| matches!(byte, b' '..=b'~')));
    let body: Value = serde_json::from_slice(&error.body()).expect("JSON");
    assert_eq!(body["errorName"], error.name().as_str());
    assert_eq!(body["errorMessage"], error.message());
}
