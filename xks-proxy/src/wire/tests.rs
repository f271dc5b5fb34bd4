use std::num::NonZeroU32;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ciphertext_metadata::CiphertextMetadata;
use crate::error::{ErrorName, XksError};

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn metadata() -> Value {
    json!({
        "awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
        "kmsKeyArn": "arn:aws:kms:us-east-2:123456789012:/key/1234abcd",
        "kmsOperation": "Encrypt",
        "kmsRequestId": "4112f4d6-db54-4af4-ae30-c55a22a8dfae",
    })
}

fn encrypt() -> Value {
    json!({
        "requestMetadata": metadata(),
        "additionalAuthenticatedData": "cHJvamVjdD1uaWxlLGRlcGFydG1lbnQ9bWFya2V0aW5n",
        "plaintext": "SGVsbG8gV29ybGQh",
        "encryptionAlgorithm": "AES_GCM",
        "ciphertextDataIntegrityValueAlgorithm": "SHA_256",
    })
}

fn decrypt() -> Value {
    json!({
        "requestMetadata": metadata(),
        "additionalAuthenticatedData": "cHJvamVjdD1uaWxlLGRlcGFydG1lbnQ9bWFya2V0aW5n",
        "encryptionAlgorithm": "AES_GCM",
        "ciphertext": "ghxkK1txeDNn3q8Y",
        "ciphertextMetadata": "a2V5X3ZlcnNpb249MQ==",
        "initializationVector": "HMrlRw85cAJUd5Ax",
        "authenticationTag": "vBxN2ncH1oEkR8WVXpmyYQ==",
    })
}

/// The body with a field changed; below `requestMetadata` if the name has a dot.
fn with(mut body: Value, field: &str, value: impl Into<Value>) -> Value {
    match field.split_once('.') {
        Some((outer, inner)) => body[outer][inner] = value.into(),
        None => body[field] = value.into(),
    }
    body
}

fn without(mut body: Value, field: &str) -> Value {
    let (object, name) = match field.split_once('.') {
        Some((outer, inner)) => (&mut body[outer], inner),
        None => (&mut body, field),
    };
    object.as_object_mut().unwrap().remove(name).unwrap();
    body
}

/// What a reader refuses a body with, if it does.
type Reader = fn(&[u8]) -> Option<XksError>;

/// The four of them, for what they share.
const READERS: [(&str, Reader); 4] = [
    ("encrypt", |body| EncryptRequest::parse(body).err()),
    ("decrypt", |body| DecryptRequest::parse(body).err()),
    ("metadata", |body| key_metadata(body).err()),
    ("health", |body| health_metadata(body).err()),
];

fn encrypt_refused(body: &Value) -> ErrorName {
    EncryptRequest::parse(body.to_string().as_bytes()).unwrap_err().name()
}

fn decrypt_refused(body: &Value) -> ErrorName {
    DecryptRequest::parse(body.to_string().as_bytes()).unwrap_err().name()
}

fn encrypts(body: &Value) -> bool {
    EncryptRequest::parse(body.to_string().as_bytes()).is_ok()
}

fn decrypts(body: &Value) -> bool {
    DecryptRequest::parse(body.to_string().as_bytes()).is_ok()
}

// === What is read ===

#[test]
fn an_encrypt_is_read() {
    let body = encrypt().to_string();
    let request = EncryptRequest::parse(body.as_bytes()).unwrap();
    assert_eq!(**request.plaintext, *b"Hello World!");
    assert_eq!(request.aad.as_bytes(), b"project=nile,department=marketing");
    assert!(request.wants_integrity_value);
    assert_eq!(serde_json::to_value(&request.metadata).unwrap(), metadata());
}

#[test]
fn a_decrypt_is_read() {
    let body = decrypt().to_string();
    let request = DecryptRequest::parse(body.as_bytes()).unwrap();
    assert_eq!(base64(&request.ciphertext), "ghxkK1txeDNn3q8Y");
    assert_eq!(request.ciphertext_metadata.as_bytes(), b"key_version=1");
    assert_eq!(base64(&request.iv), "HMrlRw85cAJUd5Ax");
    assert_eq!(base64(request.tag), "vBxN2ncH1oEkR8WVXpmyYQ==");
    assert_eq!(request.aad.as_bytes(), b"project=nile,department=marketing");
}

#[test]
fn optional_fields_may_be_absent_or_null() {
    for field in ["additionalAuthenticatedData", "ciphertextDataIntegrityValueAlgorithm"] {
        assert!(encrypts(&without(encrypt(), field)), "{field}");
        assert!(encrypts(&with(encrypt(), field, Value::Null)), "{field}");
    }
    for field in ["additionalAuthenticatedData", "ciphertextMetadata"] {
        assert!(decrypts(&without(decrypt(), field)), "{field}");
        assert!(decrypts(&with(decrypt(), field, Value::Null)), "{field}");
    }
    let body = without(encrypt(), "ciphertextDataIntegrityValueAlgorithm").to_string();
    assert!(!EncryptRequest::parse(body.as_bytes()).unwrap().wants_integrity_value);
    let body = without(without(decrypt(), "ciphertextMetadata"), "additionalAuthenticatedData");
    let body = body.to_string();
    let request = DecryptRequest::parse(body.as_bytes()).unwrap();
    assert_eq!(request.ciphertext_metadata, CiphertextMetadata::default());
    assert_eq!(request.aad, crate::aad::Aad::absent());
}

/// Section "GetKeyMetadata": the KMS key may be there or not.
#[test]
fn the_metadata_of_each_operation_is_read() {
    let create = json!({"requestMetadata": {
        "awsPrincipalArn": "AWS Internal", "kmsOperation": "CreateKey", "kmsRequestId": "",
    }});
    let create = create.to_string();
    let read = key_metadata(create.as_bytes()).unwrap();
    assert_eq!(read.aws_principal_arn.as_deref(), Some("AWS Internal"));
    assert_eq!(read.kms_key_arn, None);
    assert_eq!((&*read.kms_operation, &*read.kms_request_id), ("CreateKey", ""));
    let describe = json!({ "requestMetadata": metadata() }).to_string();
    assert!(key_metadata(describe.as_bytes()).unwrap().kms_key_arn.is_some());
    let health = json!({"requestMetadata": {
        "kmsOperation": "KmsHealthCheck", "kmsRequestId": "no UUID \u{1f511}",
    }});
    let health = health.to_string();
    assert_eq!(health_metadata(health.as_bytes()).unwrap().kms_request_id, "no UUID \u{1f511}");
}

#[test]
fn every_metadata_field_is_read() {
    let mut all = metadata();
    for field in ["awsSourceVpc", "awsSourceVpce", "kmsViaService"] {
        all[field] = json!(format!("the {field}"));
    }
    let body = with(encrypt(), "requestMetadata", all.clone()).to_string();
    let request = EncryptRequest::parse(body.as_bytes()).unwrap();
    assert_eq!(serde_json::to_value(&request.metadata).unwrap(), all);
}

#[test]
fn any_operation_of_kms_and_any_request_id_pass() {
    for text in ["BulkEncrypt", "", "\"\\\n\u{0}", "\u{e9}", &"x".repeat(9000)] {
        for field in ["requestMetadata.kmsOperation", "requestMetadata.kmsRequestId"] {
            assert!(encrypts(&with(encrypt(), field, text)), "{field}");
            assert!(decrypts(&with(decrypt(), field, text)), "{field}");
        }
    }
}

#[test]
fn unknown_fields_pass() {
    let nested = json!({"a": [{"b": [null, 1.5e300, "\u{0}", true]}]});
    for field in ["sourceIdentity", "requestMetadata.kmsRecipientAttestationPCR0"] {
        assert!(encrypts(&with(encrypt(), field, nested.clone())), "{field}");
        assert!(decrypts(&with(decrypt(), field, nested.clone())), "{field}");
    }
}

#[test]
fn escapes_in_strings_are_read() {
    let body = encrypt().to_string().replace("SGVsbG8gV29ybGQh", r"SGVsbG8\u0067V2\u0039ybGQh");
    let request = EncryptRequest::parse(body.as_bytes()).unwrap();
    assert_eq!(**request.plaintext, *b"Hello World!");
    let body = decrypt().to_string().replace("\"AES_GCM\"", r#""\u0041ES_GCM""#);
    assert!(DecryptRequest::parse(body.as_bytes()).is_ok());
    let body = encrypt().to_string().replace("SGVsbG8gV29ybGQh", r"\/\/\/\/");
    assert_eq!(**EncryptRequest::parse(body.as_bytes()).unwrap().plaintext, [0xff; 3]);
}

#[test]
fn plain_strings_are_pieces_of_the_body() {
    let body = encrypt().to_string();
    let request = EncryptRequest::parse(body.as_bytes()).unwrap();
    let principal = request.metadata.aws_principal_arn.unwrap();
    assert!(matches!(principal, std::borrow::Cow::Borrowed(_)));
}

// === Sizes ===

#[test]
fn data_has_4300_bytes_at_the_most() {
    for len in [0, 1, 2, 3, 4298, 4299, 4300] {
        let data = base64(vec![7; len]);
        assert!(encrypts(&with(encrypt(), "plaintext", &*data)), "{len}");
        assert!(decrypts(&with(decrypt(), "ciphertext", &*data)), "{len}");
    }
    for len in [4301, 4302, 4303, 40_000] {
        let data = base64(vec![7; len]);
        let plaintext = with(encrypt(), "plaintext", &*data);
        assert_eq!(encrypt_refused(&plaintext), ErrorName::UnsupportedOperation, "{len}");
        let ciphertext = with(decrypt(), "ciphertext", &*data);
        assert_eq!(decrypt_refused(&ciphertext), ErrorName::UnsupportedOperation, "{len}");
    }
}

#[test]
fn aad_has_8192_bytes_at_the_most() {
    let field = "additionalAuthenticatedData";
    for len in [0, 8191, 8192] {
        let aad = base64(vec![7; len]);
        assert!(encrypts(&with(encrypt(), field, &*aad)), "{len}");
        assert!(decrypts(&with(decrypt(), field, &*aad)), "{len}");
    }
    for len in [8193, 8194, 8195, 48_000] {
        let aad = base64(vec![7; len]);
        let unsupported = ErrorName::UnsupportedOperation;
        assert_eq!(encrypt_refused(&with(encrypt(), field, &*aad)), unsupported, "{len}");
        assert_eq!(decrypt_refused(&with(decrypt(), field, &*aad)), unsupported, "{len}");
    }
}

#[test]
fn arns_have_2048_characters_at_the_most() {
    for field in ["requestMetadata.awsPrincipalArn", "requestMetadata.kmsKeyArn"] {
        for longest in ["a".repeat(2048), "\u{e9}".repeat(2048)] {
            assert!(encrypts(&with(encrypt(), field, longest)), "{field}");
        }
        let long = "a".repeat(2049);
        let unsupported = ErrorName::UnsupportedOperation;
        assert_eq!(encrypt_refused(&with(encrypt(), field, &*long)), unsupported);
        assert_eq!(decrypt_refused(&with(decrypt(), field, long)), unsupported);
    }
}

#[test]
fn the_largest_request_fits_into_the_body() {
    let mut body = decrypt();
    for (field, len) in [("ciphertext", 4300), ("additionalAuthenticatedData", 8192)] {
        body[field] = json!(base64(vec![7; len]));
    }
    for field in ["awsPrincipalArn", "kmsKeyArn"] {
        body["requestMetadata"][field] = json!("a".repeat(2048));
    }
    assert!(decrypts(&body));
    assert!(body.to_string().len() * 2 < MAX_BODY_LEN);
}

#[test]
fn metadata_has_20_bytes_iv_12_or_16_and_tag_16() {
    for (field, right, wrong) in [
        ("ciphertextMetadata", &[0, 1, 20][..], &[21, 22, 255, 256, 9000][..]),
        ("initializationVector", &[12, 16], &[0, 1, 11, 13, 15, 17, 9000]),
        ("authenticationTag", &[16], &[0, 4, 12, 15, 17, 32, 9000]),
    ] {
        for len in right {
            assert!(decrypts(&with(decrypt(), field, base64(vec![7; *len]))), "{field} {len}");
        }
        for len in wrong {
            let body = with(decrypt(), field, base64(vec![7; *len]));
            assert_eq!(decrypt_refused(&body), ErrorName::InvalidCiphertext, "{field} {len}");
        }
    }
}

// === What is refused ===

#[test]
fn a_missing_required_field_of_an_encrypt_is_a_validation_error() {
    for field in ["plaintext", "encryptionAlgorithm", "requestMetadata"] {
        assert_eq!(encrypt_refused(&without(encrypt(), field)), ErrorName::Validation, "{field}");
        let null = with(encrypt(), field, Value::Null);
        assert_eq!(encrypt_refused(&null), ErrorName::Validation, "{field}");
    }
}

/// Section "Error codes": what is missing of a ciphertext is its fault.
#[test]
fn a_missing_part_of_a_ciphertext_is_an_invalid_ciphertext() {
    for field in ["ciphertext", "initializationVector", "authenticationTag"] {
        let name = ErrorName::InvalidCiphertext;
        assert_eq!(decrypt_refused(&without(decrypt(), field)), name, "{field}");
        assert_eq!(decrypt_refused(&with(decrypt(), field, Value::Null)), name, "{field}");
    }
    for field in ["encryptionAlgorithm", "requestMetadata"] {
        assert_eq!(decrypt_refused(&without(decrypt(), field)), ErrorName::Validation, "{field}");
    }
}

#[test]
fn each_operation_requires_its_metadata() {
    let whole = json!({ "requestMetadata": metadata() });
    for (field, readers) in [
        ("requestMetadata", &["encrypt", "decrypt", "metadata", "health"][..]),
        ("requestMetadata.kmsOperation", &["encrypt", "decrypt", "metadata", "health"]),
        ("requestMetadata.kmsRequestId", &["encrypt", "decrypt", "metadata", "health"]),
        ("requestMetadata.awsPrincipalArn", &["encrypt", "decrypt", "metadata"]),
        ("requestMetadata.kmsKeyArn", &["encrypt", "decrypt"]),
    ] {
        for (reader, read) in READERS {
            let whole = match reader {
                "encrypt" => encrypt(),
                "decrypt" => decrypt(),
                _ => whole.clone(),
            };
            let refused = read(without(whole, field).to_string().as_bytes());
            let expected = readers.contains(&reader).then_some(ErrorName::Validation);
            assert_eq!(refused.map(|error| error.name()), expected, "{reader} {field}");
        }
    }
    for (reader, read) in READERS {
        for body in ["{}", r#"{"requestMetadata":{}}"#, r#"{"requestMetadata":null}"#] {
            let refused = read(body.as_bytes()).unwrap();
            assert_eq!(refused.name(), ErrorName::Validation, "{reader} {body}");
        }
    }
}

#[test]
fn other_algorithms_are_validation_errors() {
    for other in ["AES_CBC", "aes_gcm", "AES_GCM ", ""] {
        let field = "encryptionAlgorithm";
        assert_eq!(encrypt_refused(&with(encrypt(), field, other)), ErrorName::Validation);
        assert_eq!(decrypt_refused(&with(decrypt(), field, other)), ErrorName::Validation);
    }
    for other in ["SHA_512", "sha_256", ""] {
        let field = "ciphertextDataIntegrityValueAlgorithm";
        assert_eq!(encrypt_refused(&with(encrypt(), field, other)), ErrorName::Validation);
    }
}

/// RFC 4648 section 4: the standard alphabet, padded, the last bits zero.
const NOT_BASE64: [&str; 14] = [
    "A",
    "AA",
    "AAA",
    "AA=",
    "AAA==",
    "=AAA",
    "AAAA=",
    "AA==AAAA",
    "AAAB=",
    "AB==",
    "AA_-",
    "AAA\n",
    " AAAA",
    "\u{e9}AAA",
];

#[test]
fn base64_has_one_spelling() {
    for text in NOT_BASE64 {
        for field in ["plaintext", "additionalAuthenticatedData"] {
            let body = with(encrypt(), field, text);
            assert_eq!(encrypt_refused(&body), ErrorName::Validation, "{field} {text}");
        }
        for field in [
            "ciphertext",
            "ciphertextMetadata",
            "initializationVector",
            "authenticationTag",
            "additionalAuthenticatedData",
        ] {
            let body = with(decrypt(), field, text);
            assert_eq!(decrypt_refused(&body), ErrorName::InvalidCiphertext, "{field} {text}");
        }
    }
}

#[test]
fn a_body_is_one_object_of_the_right_types() {
    let encrypt = encrypt().to_string();
    let deep = |open: &str, close: &str| {
        let (open, close) = (open.repeat(30_000), close.repeat(30_000));
        format!(r#"{{"requestMetadata":{open}{close}}}"#)
    };
    for body in [
        "",
        " ",
        "null",
        "1",
        "\"\"",
        "[]",
        "{",
        "{}{}",
        "{\"requestMetadata\":",
        &encrypt[..encrypt.len() - 1],
        &format!("{encrypt},"),
        &format!("[{encrypt}]"),
        &format!("\u{feff}{encrypt}"),
        r#"{"requestMetadata":[null,null,null,null,"Encrypt","id",null]}"#,
        r#"{"requestMetadata":"x"}"#,
        r#"{"requestMetadata":{"kmsRequestId":1}}"#,
        r#"{"requestMetadata":{"kmsRequestId":{}}}"#,
        r#"{"requestMetadata":{"kmsRequestId":"\ud800"}}"#,
        "{\"requestMetadata\":{\"kmsRequestId\":\"a\nb\"}}",
        r#"{'requestMetadata':{}}"#,
        r#"{"requestMetadata":{},}"#,
        &deep("[", "]"),
        &deep("{\"a\":", "}"),
    ] {
        for (reader, read) in READERS {
            let refused = read(body.as_bytes()).map(|error| error.name());
            assert_eq!(refused, Some(ErrorName::Validation), "{reader} {body:.60}");
        }
    }
}

/// Nesting costs a byte a level and no stack.
#[test]
fn deep_unknown_fields_pass() {
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let body = encrypt().to_string().replacen('{', &format!("{{\"unknown\":{deep},"), 1);
    assert!(EncryptRequest::parse(body.as_bytes()).is_ok());
    let open = encrypt().to_string().replacen('{', &"{\"unknown\":[".repeat(20_000), 1);
    assert!(EncryptRequest::parse(open.as_bytes()).is_err());
}

#[test]
fn a_known_field_stands_once() {
    for field in ["plaintext", "encryptionAlgorithm", "additionalAuthenticatedData"] {
        let again = format!("{{\"{field}\":null,");
        let body = encrypt().to_string().replacen('{', &again, 1);
        let refused = EncryptRequest::parse(body.as_bytes()).unwrap_err();
        assert_eq!(refused.name(), ErrorName::Validation, "{field}");
    }
    for field in ["ciphertext", "ciphertextMetadata", "initializationVector", "authenticationTag"] {
        let again = format!("{{\"{field}\":\"\",");
        let body = decrypt().to_string().replacen('{', &again, 1);
        let refused = DecryptRequest::parse(body.as_bytes()).unwrap_err();
        assert_eq!(refused.name(), ErrorName::Validation, "{field}");
    }
    for (reader, read) in READERS {
        let twice =
            r#"{"requestMetadata":{"kmsOperation":"a","kmsRequestId":"b"},"requestMetadata":{}}"#;
        assert_eq!(read(twice.as_bytes()).unwrap().name(), ErrorName::Validation, "{reader}");
        let id =
            r#"{"requestMetadata":{"kmsRequestId":"a","kmsOperation":"b","kmsRequestId":"a"}}"#;
        assert_eq!(read(id.as_bytes()).unwrap().name(), ErrorName::Validation, "{reader}");
    }
}

#[test]
fn a_body_is_utf8_everywhere() {
    for field in ["unknown", "kmsViaService"] {
        let mut body = encrypt().to_string().into_bytes();
        let wrong = format!("{{\"{field}\":\"?\",").replace('?', "\u{1}").into_bytes();
        let wrong = wrong.into_iter().map(|byte| if byte == 1 { 0xff } else { byte });
        body.splice(..1, wrong);
        let refused = EncryptRequest::parse(&body).unwrap_err();
        assert_eq!(refused.message(), "The body is not UTF-8.");
    }
}

// === What is logged ===

#[test]
fn the_request_id_is_read_from_what_was_refused() {
    let broken = with(decrypt(), "ciphertext", "!").to_string();
    let id = request_id(broken.as_bytes());
    assert_eq!(id.as_deref(), Some("4112f4d6-db54-4af4-ae30-c55a22a8dfae"));
    for none in ["", "{}", r#"{"requestMetadata":{}}"#, &encrypt().to_string()[1..]] {
        assert_eq!(request_id(none.as_bytes()), None);
    }
}

#[test]
fn debug_and_errors_hold_no_data() {
    let body = encrypt().to_string();
    let request = EncryptRequest::parse(body.as_bytes()).unwrap();
    let printed = format!("{request:?}");
    assert!(printed.contains("plaintext_len: 12"), "{printed}");
    for data in ["Hello", "SGVsbG8", "project", "72, 101"] {
        assert!(!printed.contains(data), "{data} in {printed}");
    }
    let body = decrypt().to_string();
    let printed = format!("{:?}", DecryptRequest::parse(body.as_bytes()).unwrap());
    for data in ["ghxk", "130, 28", "HMrl", "28, 202", "project", "vBxN"] {
        assert!(!printed.contains(data), "{data} in {printed}");
    }
    let broken = encrypt().to_string().replace("\"SGVsbG8gV29ybGQh\"", "[\"SGVsbG8gV29ybGQh\"]");
    let error = EncryptRequest::parse(broken.as_bytes()).unwrap_err();
    assert!(!error.to_string().contains("SGVs"), "{error}");
    let broken = with(encrypt(), "plaintext", "SGVsbG8gV29ybGQ").to_string();
    let error = EncryptRequest::parse(broken.as_bytes()).unwrap_err();
    assert!(!error.to_string().contains("SGVs"), "{error}");
}

// === Responses ===

#[test]
fn an_encrypt_response_is_one_line() {
    let response = EncryptResponse {
        ciphertext: b"\x82\x1cd+[qx3g\xde\xaf\x18",
        ciphertext_metadata: CiphertextMetadata::parse(b"key_version=1").unwrap(),
        iv: &[1; 12],
        tag: &[2; 16],
        integrity_value: Some([3; 32]),
    };
    let body = String::from_utf8(response.body()).unwrap();
    assert!(!body.contains('\n'));
    let expected = json!({
        "authenticationTag": base64([2; 16]),
        "ciphertext": "ghxkK1txeDNn3q8Y",
        "ciphertextDataIntegrityValue": base64([3; 32]),
        "ciphertextMetadata": "a2V5X3ZlcnNpb249MQ==",
        "initializationVector": base64([1; 12]),
    });
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    assert!(body.starts_with(r#"{"authenticationTag":""#) && body.ends_with("\"}"), "{body}");
}

#[test]
fn an_encrypt_response_leaves_out_what_it_has_not() {
    let response = EncryptResponse {
        ciphertext: b"",
        ciphertext_metadata: CiphertextMetadata::default(),
        iv: &[1; 16],
        tag: &[2; 16],
        integrity_value: None,
    };
    let body: Value = serde_json::from_slice(&response.body()).unwrap();
    let fields: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["authenticationTag", "ciphertext", "initializationVector"]);
}

#[test]
fn a_decrypt_response_is_one_line_in_one_allocation() {
    let body = DecryptResponse { plaintext: b"Hello World!" }.body();
    assert_eq!(**body, *br#"{"plaintext":"SGVsbG8gV29ybGQh"}"#);
    for len in [0, 1, 2, 3, 4300] {
        let body = DecryptResponse { plaintext: &vec![7; len] }.body();
        assert_eq!(body.capacity(), body.len(), "{len}");
    }
}

#[test]
fn key_metadata_are_those_of_an_aes_256_key() {
    let response = KeyMetadataResponse { encrypts: true, decrypts: true, enabled: true };
    assert_eq!(
        String::from_utf8(response.body()).unwrap(),
        r#"{"keySpec":"AES_256","keyUsage":["ENCRYPT","DECRYPT"],"keyStatus":"ENABLED"}"#
    );
    let response = KeyMetadataResponse { encrypts: false, decrypts: true, enabled: false };
    assert_eq!(
        String::from_utf8(response.body()).unwrap(),
        r#"{"keySpec":"AES_256","keyUsage":["DECRYPT"],"keyStatus":"DISABLED"}"#
    );
}

fn ekm(id: &str, health_status: HealthStatus) -> Ekm {
    Ekm { id: id.to_owned(), model: "SoftHSM v2 2.6".to_owned(), health_status }
}

#[test]
fn a_health_response_is_one_line() {
    let fleet = vec![
        ekm("a", HealthStatus::Active),
        ekm("b", HealthStatus::Degraded),
        ekm("\"\n", HealthStatus::Unavailable),
    ];
    let response = HealthResponse {
        xks_proxy_fleet_size: NonZeroU32::MIN,
        xks_proxy_vendor: "Twinlock".to_owned(),
        xks_proxy_model: "twinlock-xks 0.1.0".to_owned(),
        ekm_vendor: "SoftHSM".to_owned(),
        ekm_fleet_details: EkmFleet::new(fleet).unwrap(),
    };
    let expected = concat!(
        r#"{"xksProxyFleetSize":1,"xksProxyVendor":"Twinlock","#,
        r#""xksProxyModel":"twinlock-xks 0.1.0","ekmVendor":"SoftHSM","ekmFleetDetails":["#,
        r#"{"id":"a","model":"SoftHSM v2 2.6","healthStatus":"ACTIVE"},"#,
        r#"{"id":"b","model":"SoftHSM v2 2.6","healthStatus":"DEGRADED"},"#,
        r#"{"id":"\"\n","model":"SoftHSM v2 2.6","healthStatus":"UNAVAILABLE"}]}"#,
    );
    assert_eq!(String::from_utf8(response.body()).unwrap(), expected);
}

#[test]
fn a_fleet_has_one_to_ten_key_managers_with_ids_of_their_own() {
    let fleet = |len: usize| -> Vec<_> {
        (0..len).map(|number| ekm(&number.to_string(), HealthStatus::Active)).collect()
    };
    assert_eq!(EkmFleet::new(fleet(0)), Err(EkmFleetError::Size));
    assert_eq!(EkmFleet::new(fleet(11)), Err(EkmFleetError::Size));
    assert!(EkmFleet::new(fleet(1)).is_ok() && EkmFleet::new(fleet(10)).is_ok());
    let same = vec![ekm("a", HealthStatus::Active), ekm("a", HealthStatus::Degraded)];
    assert_eq!(EkmFleet::new(same), Err(EkmFleetError::RepeatedId));
}

// === Anything ===

fn some_bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..=max)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        plaintext in some_bytes(200),
        aad in proptest::option::of(some_bytes(200)),
        principal in any::<String>(),
        id in any::<String>(),
    ) {
        let mut body = with(encrypt(), "plaintext", base64(&plaintext));
        body["additionalAuthenticatedData"] = json!(aad.as_ref().map(base64));
        body = with(body, "requestMetadata.awsPrincipalArn", &*principal);
        let body = with(body, "requestMetadata.kmsRequestId", &*id).to_string();
        let request = EncryptRequest::parse(body.as_bytes()).unwrap();
        prop_assert_eq!(&**request.plaintext, &plaintext);
        prop_assert_eq!(request.aad.as_bytes(), aad.as_deref().unwrap_or_default());
        prop_assert_eq!(request.metadata.aws_principal_arn.as_deref(), Some(&*principal));
        prop_assert_eq!(&request.metadata.kms_request_id, &id);
    }

    #[test]
    fn what_encrypt_returns_decrypt_reads(
        ciphertext in some_bytes(4300),
        note in some_bytes(20),
        iv in prop_oneof![Just(vec![1; 12]), Just(vec![1; 16])],
        tag in any::<[u8; 16]>(),
    ) {
        let ciphertext_metadata = CiphertextMetadata::parse(&note).unwrap();
        let integrity_value = None;
        let response =
            EncryptResponse { ciphertext: &ciphertext, ciphertext_metadata, iv: &iv, tag: &tag, integrity_value };
        let mut body: Value = serde_json::from_slice(&response.body()).unwrap();
        body["requestMetadata"] = metadata();
        body["encryptionAlgorithm"] = json!("AES_GCM");
        let body = body.to_string();
        let request = DecryptRequest::parse(body.as_bytes()).unwrap();
        prop_assert_eq!(request.ciphertext, ciphertext);
        prop_assert_eq!(request.ciphertext_metadata, ciphertext_metadata);
        prop_assert_eq!((request.iv, request.tag), (iv, tag));
    }

    #[test]
    fn no_cut_or_changed_body_makes_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for body in [encrypt(), decrypt()] {
            let mut bytes = body.to_string().into_bytes();
            let at = at.index(bytes.len());
            for (reader, read) in READERS {
                prop_assert!(read(&bytes[..at]).is_some(), "{reader} took a part");
            }
            bytes[at] = byte;
            for (_, read) in READERS {
                let _ = read(&bytes);
            }
        }
    }
}
