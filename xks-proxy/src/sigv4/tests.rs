//! Signed by `aws-sigv4`, judged by us and by `scratchstack-aws-signature`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::Index;
use scratchstack_aws_signature as oracle;

use super::signing_key::{Scope, SigningKeys};
use super::*;
use crate::error::ErrorName;
use crate::uri_path::UriPathPrefix;

const ID: &str = "MUBSXM6K3KMXHN6RRCXI7TWQ";
/// Of 40 characters, as AWS's own are: the oracle takes no others.
const SECRET: &str = "zbP0fPXscqHA/ImC9h5HsLRXqCyPmWgYx7tzyoTp";
const REGION: &str = "eu-central-1";
const PATH: &str = "/tenant-a/kms/xks/v1/keys/key-1/encrypt";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_000_000)
}

/// What is signed and what is sent, when nobody changes it.
#[derive(Debug, Clone)]
struct Request {
    method: String,
    path: String,
    authority: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    fn new() -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("xks.example.com"));
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let body = br#"{"requestMetadata":{}}"#.to_vec();
        Self { method: "POST".to_owned(), path: PATH.to_owned(), authority: None, headers, body }
    }

    fn signed(self) -> Self {
        self.signed_by(ID, SECRET, PayloadChecksumKind::NoHeader)
    }

    /// Signs with AWS's own library whatever headers there are.
    fn signed_by(mut self, id: &str, secret: &str, checksum: PayloadChecksumKind) -> Self {
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = checksum;
        let identity =
            aws_credential_types::Credentials::new(id, secret, None, None, "tests").into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name(SERVICE)
            .time(now())
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let uri = format!("https://xks.example.com{}", self.path);
        let headers =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let body = SignableBody::Bytes(&self.body);
        let request = SignableRequest::new(&self.method, uri, headers, body).unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        for (name, value) in instructions.headers() {
            let name: HeaderName = name.parse().unwrap();
            self.headers.insert(name, value.parse().unwrap());
        }
        self
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    fn and(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    fn authorization(&self) -> String {
        self.headers["authorization"].to_str().unwrap().to_owned()
    }

    /// The same with something else in the place of a part of `Authorization`.
    fn replacing(self, part: &str, other: &str) -> Self {
        let authorization = self.authorization();
        assert!(authorization.contains(part), "{part} in {authorization}");
        self.with("authorization", &authorization.replacen(part, other, 1))
    }

    fn claim_at(&self, now: SystemTime) -> Result<Claim, SignatureError> {
        let head = RequestHead {
            method: &self.method,
            path_and_query: &self.path,
            authority: self.authority.as_deref(),
            headers: &self.headers,
        };
        Claim::parse(&head, &[region("us-east-1"), region(REGION)], now)
    }

    fn claim(&self) -> Result<Claim, SignatureError> {
        self.claim_at(now())
    }

    fn check(&self) -> Result<(), SignatureError> {
        self.claim()?.verify(&self.body, &credentials())
    }

    /// Whether a verifier accepts it that is not ours.
    fn is_accepted_by_oracle(&self) -> bool {
        let mut request = http::Request::builder()
            .method(self.method.as_str())
            .uri(self.path.as_str())
            .body(self.body.clone())
            .unwrap();
        request.headers_mut().clone_from(&self.headers);
        let mut keys = oracle::service_for_signing_key_fn(oracle_key);
        let verdict = oracle::sigv4_validate_request(
            request,
            REGION,
            SERVICE,
            &mut keys,
            now().into(),
            &oracle::NO_ADDITIONAL_SIGNED_HEADERS,
            oracle::SignatureOptions::default(),
        );
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(verdict).is_ok()
    }
}

async fn oracle_key(
    asked: oracle::GetSigningKeyRequest,
) -> Result<oracle::GetSigningKeyResponse, Box<dyn std::error::Error + Send + Sync>> {
    if asked.access_key() != ID {
        return Err("unknown".into());
    }
    let secret: oracle::KSecretKey = SECRET.parse()?;
    let key = secret.to_ksigning(asked.request_date(), asked.region(), asked.service());
    let principal = oracle::principal::User::new("aws", "123456789012", "/", "kms")?;
    Ok(oracle::GetSigningKeyResponse::builder().principal(principal).signing_key(key).build()?)
}

fn region(name: &str) -> Region {
    Region::parse(name).unwrap()
}

fn credential(id: &str, secret: &str) -> Credential {
    Credential::new(AccessKeyId::parse(id).unwrap(), SecretAccessKey::of_any_length(secret))
}

/// The second of two, as while credentials are rotated.
fn credentials() -> Credentials {
    let other = Credential::generate().unwrap();
    Credentials::new(vec![other, credential(ID, SECRET)]).unwrap()
}

// === Accepted ===

#[test]
fn what_aws_signs_is_accepted() {
    assert_eq!(Request::new().signed().check(), Ok(()));
    let with_hash = Request::new().signed_by(ID, SECRET, PayloadChecksumKind::XAmzSha256);
    assert!(with_hash.authorization().contains("x-amz-content-sha256"));
    assert_eq!(with_hash.check(), Ok(()));
}

#[test]
fn the_host_of_http2_is_the_authority() {
    let mut request = Request::new().signed().without("host");
    assert_eq!(request.check(), Err(SignatureError::HeaderAbsent));
    request.authority = Some("xks.example.com".to_owned());
    assert_eq!(request.check(), Ok(()));
    request.authority = Some("xks.example.com:443".to_owned());
    assert_eq!(request.check(), Err(SignatureError::Mismatch));
}

/// `:authority` itself may be what is listed. Nobody's library signs so: the
/// signature is made with our own chain.
#[test]
fn a_signed_authority_counts_as_host() {
    let mut request = Request::new().signed().without("host");
    request.authority = Some("xks.example.com".to_owned());
    let listed = request.replacing("content-type;host;", ":authority;content-type;");
    assert_eq!(listed.check(), Err(SignatureError::Mismatch), "all but the signature is right");
    let signed = listed.clone().with("authorization", &resigned(&listed));
    assert_eq!(signed.check(), Ok(()));
    let mut without = signed.clone();
    without.authority = None;
    assert_eq!(without.claim().unwrap_err(), SignatureError::HeaderAbsent);
    let mut other = signed;
    other.authority = Some("xks.example.org".to_owned());
    assert_eq!(other.check(), Err(SignatureError::Mismatch));
}

/// The canonical request put together by hand, and AWS's key and HMAC.
fn resigned(request: &Request) -> String {
    use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
    use sha2::{Digest, Sha256};

    let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let date = request.headers["x-amz-date"].to_str().unwrap();
    let canonical = format!(
        "POST\n{PATH}\n\n:authority:xks.example.com\ncontent-type:application/json\n\
         x-amz-date:{date}\n\n:authority;content-type;x-amz-date\n{}",
        hash(&request.body)
    );
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{}/{REGION}/kms-xks-proxy/aws4_request\n{}",
        &date[..8],
        hash(canonical.as_bytes())
    );
    let key = generate_signing_key(SECRET, now(), REGION, SERVICE);
    let signature = calculate_signature(key, to_sign.as_bytes());
    let authorization = request.authorization();
    let (head, _) = authorization.rsplit_once('=').unwrap();
    format!("{head}={signature}")
}

#[test]
fn each_of_several_credentials_is_valid() {
    let [first, second] = [(); 2].map(|()| Credential::generate().unwrap());
    let requests = [&first, &second].map(|it| {
        let (id, secret) = (it.id().as_str(), it.secret().expose());
        Request::new().signed_by(id, secret, PayloadChecksumKind::NoHeader)
    });
    let credentials = Credentials::new(vec![first, second]).unwrap();
    for request in &requests {
        let claim = request.claim().unwrap();
        assert_eq!(claim.verify(&request.body, &credentials), Ok(()));
        assert!(credentials.ids().any(|id| id == claim.access_key_id()));
    }
}

#[test]
fn spaces_at_the_ends_and_repeated_ones_do_not_count() {
    let request = Request::new().with("x-a", "one  two").signed();
    for same in ["one two", " one two", "one   two  "] {
        assert_eq!(request.clone().with("x-a", same).check(), Ok(()), "{same:?}");
    }
    assert_eq!(request.with("x-a", "onetwo").check(), Err(SignatureError::Mismatch));
}

#[test]
fn repeated_headers_are_joined_in_order() {
    let request = Request::new().with("x-a", "1").and("x-a", "2").signed();
    assert_eq!(request.check(), Ok(()));
    assert_eq!(request.clone().with("x-a", "1,2").check(), Ok(()));
    let exchanged = request.with("x-a", "2").and("x-a", "1");
    assert_eq!(exchanged.check(), Err(SignatureError::Mismatch));
}

// === Refused: the head ===

#[test]
fn there_is_one_authorization_header() {
    let request = Request::new().signed();
    let authorization = request.authorization();
    assert_eq!(
        request.clone().without("authorization").claim().unwrap_err(),
        SignatureError::AuthorizationMissing
    );
    assert_eq!(
        request.and("authorization", &authorization).claim().unwrap_err(),
        SignatureError::AuthorizationRepeated
    );
}

#[test]
fn authorization_has_one_form() {
    let request = Request::new().signed();
    for (part, other) in [
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256, "),
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256  "),
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA512 "),
        ("AWS4-HMAC-SHA256 ", ""),
        ("Credential=", "credential="),
        (", SignedHeaders=", ",SignedHeaders="),
        (", SignedHeaders=", ", X=1, SignedHeaders="),
        (", Signature=", ", Signature=00"),
        (", Signature=", ";Signature="),
        ("/kms-xks-proxy/", "/kms/"),
        ("/kms-xks-proxy/", "/"),
        ("/aws4_request", "/aws4_request/"),
        ("/aws4_request", ""),
        (ID, "MUBSXM6K3KMXHN6RRCX"),
        (ID, "MUBSXM6K3KMXHN6RRCXI7TWQH4NU76H"),
        (ID, "mubsxm6k3kmxhn6rrcxi7twq"),
        (ID, "MUBSXM6K3KMXHN6RRCXI7TW1"),
        (ID, ""),
    ] {
        let changed = request.clone().replacing(part, other);
        assert_eq!(changed.claim().unwrap_err(), SignatureError::AuthorizationForm, "{other}");
    }
    for hostile in ["", " ", "=", "AWS4-HMAC-SHA256", "Basic dXNlcjpwYXNz", &"/".repeat(100_000)] {
        let changed = request.clone().with("authorization", hostile);
        assert_eq!(changed.claim().unwrap_err(), SignatureError::AuthorizationForm);
    }
    let mut foreign = request;
    foreign.headers.insert("authorization", HeaderValue::from_bytes(b"AWS4\xff\xe9").unwrap());
    assert_eq!(foreign.claim().unwrap_err(), SignatureError::AuthorizationForm);
}

#[test]
fn a_signature_is_64_lower_case_digits() {
    let request = Request::new().signed();
    let authorization = request.authorization();
    let (head, signature) = authorization.rsplit_once('=').unwrap();
    for other in [&signature.to_uppercase(), &signature[1..], "", &"g".repeat(64)] {
        let changed = request.clone().with("authorization", &format!("{head}={other}"));
        assert_eq!(changed.claim().unwrap_err(), SignatureError::AuthorizationForm, "{other}");
    }
}

#[test]
fn host_and_date_are_signed() {
    let request = Request::new().signed();
    let without_host = request.clone().replacing("content-type;host;x-amz-date", "x-amz-date");
    assert_eq!(without_host.claim().unwrap_err(), SignatureError::HostNotSigned);
    let without_date = request.replacing("content-type;host;x-amz-date", "content-type;host");
    assert_eq!(without_date.claim().unwrap_err(), SignatureError::DateNotSigned);
}

#[test]
fn signed_headers_are_sorted_unique_and_lower_case() {
    let request = Request::new().signed();
    let many: String = (1000..6000).map(|number| format!("a{number};")).collect();
    for list in [
        "",
        ";",
        "host",
        "Host;x-amz-date",
        "host;X-Amz-Date",
        "x-amz-date;host",
        "host;host;x-amz-date",
        "host;x-amz-date;",
        ";host;x-amz-date",
        "host;;x-amz-date",
        "host; x-amz-date",
        "ho st;x-amz-date",
        ":method;host;x-amz-date",
        &format!("{many}host;x-amz-date"),
    ] {
        let changed = request.clone().replacing("content-type;host;x-amz-date", list);
        let refused = changed.claim().unwrap_err();
        let expected = if list == "host" {
            SignatureError::DateNotSigned
        } else {
            SignatureError::SignedHeaders
        };
        assert_eq!(refused, expected, "{list:.40}");
    }
}

#[test]
fn every_listed_header_has_to_be_there() {
    let request = Request::new().with("x-a", "1").signed();
    assert_eq!(request.check(), Ok(()));
    assert_eq!(request.without("x-a").claim().unwrap_err(), SignatureError::HeaderAbsent);
    let listed = Request::new().signed().replacing("host;x-amz-date", "host;x-amz-date;x-b");
    assert_eq!(listed.claim().unwrap_err(), SignatureError::HeaderAbsent);
}

#[test]
fn there_is_one_host() {
    let twice = Request::new().signed().and("host", "xks.example.com");
    assert_eq!(twice.claim().unwrap_err(), SignatureError::HostAmbiguous);
    let mut other = Request::new().signed();
    other.authority = Some("other.example.com".to_owned());
    assert_eq!(other.claim().unwrap_err(), SignatureError::HostAmbiguous);
    other.authority = Some("XKS.example.com".to_owned());
    assert_eq!(other.check(), Ok(()));
    let none = Request::new().signed().without("host");
    assert_eq!(none.claim().unwrap_err(), SignatureError::HeaderAbsent);
}

#[test]
fn the_date_is_there_once_and_in_the_calendar() {
    let request = Request::new().signed();
    let date = request.headers["x-amz-date"].to_str().unwrap().to_owned();
    let form = SignatureError::DateForm;
    assert_eq!(request.clone().without("x-amz-date").claim().unwrap_err(), form);
    assert_eq!(request.clone().and("x-amz-date", &date).claim().unwrap_err(), form);
    for hostile in [
        "",
        "20260230T000000Z",
        "20261301T000000Z",
        "20260100T000000Z",
        "20260101T235960Z",
        "20260101T000000",
        "Mon, 23 Nov 2026 02:00:00 GMT",
        "99999999T999999Z",
        &"9".repeat(100_000),
    ] {
        let changed = request.clone().with("x-amz-date", hostile);
        assert_eq!(changed.claim().unwrap_err(), form, "{hostile:.40}");
    }
    let mut foreign = request;
    let bytes = HeaderValue::from_bytes(b"2026\xb2\xb3\xb9\xb9T000000Z").unwrap();
    foreign.headers.insert("x-amz-date", bytes);
    assert_eq!(foreign.claim().unwrap_err(), form);
}

/// Section "Authentication", Appendix A: the scope has the date of `x-amz-date`.
#[test]
fn the_scope_has_the_date_of_the_request() {
    let request = Request::new().signed();
    let date = request.headers["x-amz-date"].to_str().unwrap()[..8].to_owned();
    for other in ["20261117", "00000000", "", "2026111", "202611190", "2026-11-19"] {
        let changed = request.clone().replacing(&format!("/{date}/"), &format!("/{other}/"));
        assert_eq!(changed.claim().unwrap_err(), SignatureError::ScopeDate, "{other}");
    }
}

#[test]
fn five_minutes_from_now_is_the_limit() {
    let request = Request::new().signed();
    let minutes = Duration::from_mins(5);
    let second = Duration::from_secs(1);
    assert!(request.claim_at(now() + minutes).is_ok());
    assert!(request.claim_at(now() - minutes).is_ok());
    let late = request.claim_at(now() + minutes + second).unwrap_err();
    assert_eq!(late, SignatureError::Clock { seconds_ahead: -301 });
    let early = request.claim_at(now() - minutes - second).unwrap_err();
    assert_eq!(early, SignatureError::Clock { seconds_ahead: 301 });
    for year in ["0000", "0001", "9999"] {
        let day = format!("{year}0101");
        let today = request.headers["x-amz-date"].to_str().unwrap()[..8].to_owned();
        let changed = request.clone().with("x-amz-date", &format!("{day}T000000Z"));
        let refused = changed.replacing(&today, &day).claim().unwrap_err();
        assert!(matches!(refused, SignatureError::Clock { .. }), "{year}");
    }
}

#[test]
fn only_listed_regions_are_called_from() {
    let request = Request::new().signed();
    for other in ["eu-central-2", "EU-CENTRAL-1", "eu-central-1 ", ""] {
        let changed = request.clone().replacing(&format!("/{REGION}/"), &format!("/{other}/"));
        assert_eq!(changed.claim().unwrap_err(), SignatureError::Region, "{other}");
    }
    let listed = request.replacing(&format!("/{REGION}/"), "/us-east-1/");
    assert_eq!(listed.check(), Err(SignatureError::Mismatch));
}

#[test]
fn the_method_is_post() {
    for method in ["GET", "PUT", "post", "DELETE", ""] {
        let request = Request { method: method.to_owned(), ..Request::new().signed() };
        assert_eq!(request.claim().unwrap_err(), SignatureError::Method, "{method}");
    }
}

#[test]
fn the_path_has_one_spelling_and_no_query() {
    for path in [
        "", "*", "a", "/a?", "/a?b=c", "/a%41", "/a//b", "/a/./b", "/a/..", "/a/", "/a b",
        "/\u{e9}",
    ] {
        let request = Request { path: path.to_owned(), ..Request::new().signed() };
        assert_eq!(request.claim().unwrap_err(), SignatureError::Path, "{path}");
    }
}

#[test]
fn huge_headers_cost_no_more_than_their_hash() {
    let request = Request::new().with("x-a", &"a ".repeat(500_000)).signed();
    assert_eq!(request.check(), Ok(()));
    let mut repeated = Request::new();
    for number in 0..5000 {
        repeated = repeated.and("x-a", &number.to_string());
    }
    let repeated = repeated.signed();
    assert_eq!(repeated.check(), Ok(()));
    assert_eq!(repeated.and("x-a", "").check(), Err(SignatureError::Mismatch));
}

// === Refused: the signature ===

#[test]
fn the_body_is_signed() {
    let request = Request::new().signed();
    for body in [&b""[..], b"{}", br#"{"requestMetadata":{}} "#] {
        let changed = Request { body: body.to_vec(), ..request.clone() };
        assert_eq!(changed.check(), Err(SignatureError::Mismatch));
    }
}

#[test]
fn a_signed_content_hash_is_that_of_the_body() {
    let request = Request::new().signed_by(ID, SECRET, PayloadChecksumKind::XAmzSha256);
    let changed = Request { body: b"{}".to_vec(), ..request.clone() };
    assert_eq!(changed.check(), Err(SignatureError::ContentHash));
    for value in ["UNSIGNED-PAYLOAD", "", "00", &"0".repeat(63), &"0".repeat(65), &"A".repeat(64)] {
        let changed = request.clone().with("x-amz-content-sha256", value);
        assert_eq!(changed.claim().unwrap_err(), SignatureError::ContentHash, "{value}");
    }
    // AWS's library signs what is there already.
    let unsigned = Request::new().with("x-amz-content-sha256", "UNSIGNED-PAYLOAD").signed();
    assert_eq!(unsigned.claim().unwrap_err(), SignatureError::ContentHash);
    let beside = Request::new().signed().with("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    assert_eq!(beside.check(), Ok(()), "it is not signed, so it says nothing");
}

#[test]
fn another_secret_or_id_is_refused_with_one_answer() {
    let other = Credential::generate().unwrap();
    let checksum = PayloadChecksumKind::NoHeader;
    let wrong_secret = Request::new().signed_by(ID, other.secret().expose(), checksum);
    let unknown_id = Request::new().signed_by(other.id().as_str(), SECRET, checksum);
    let [secret, id] = [wrong_secret, unknown_id].map(|it| it.check().unwrap_err());
    assert_eq!((secret, id), (SignatureError::Mismatch, SignatureError::AccessKeyUnknown));
    assert_eq!(secret.answer(), id.answer());
}

/// What an unknown id is compared with is public.
#[test]
fn nobody_signs_for_an_unknown_id() {
    let id = "A".repeat(20);
    let request = Request::new().signed_by(&id, &"A".repeat(43), PayloadChecksumKind::NoHeader);
    assert_eq!(request.check(), Err(SignatureError::AccessKeyUnknown));
}

#[test]
fn another_service_does_not_verify() {
    let other = Scope { service: "kms", ..Scope::of_xks(*b"20261118", region(REGION)) };
    let ours = Scope::of_xks(*b"20261118", region(REGION));
    let keys = SigningKeys::default();
    let [one, two] = [&ours, &other].map(|scope| keys.of(SECRET, scope));
    let moment = b"20261118T000000Z";
    assert_ne!(one.sign(moment, &ours, &[0; 32]), two.sign(moment, &ours, &[0; 32]));
}

// === Answers ===

#[test]
fn answers_tell_the_clock_and_nothing_else() {
    let uniform = SignatureError::Mismatch.answer();
    assert_eq!(uniform.name(), ErrorName::AuthenticationFailed);
    for error in [
        SignatureError::AccessKeyUnknown,
        SignatureError::AuthorizationForm,
        SignatureError::AuthorizationMissing,
        SignatureError::AuthorizationRepeated,
        SignatureError::ContentHash,
        SignatureError::DateForm,
        SignatureError::DateNotSigned,
        SignatureError::HeaderAbsent,
        SignatureError::HostAmbiguous,
        SignatureError::HostNotSigned,
        SignatureError::Method,
        SignatureError::Path,
        SignatureError::Region,
        SignatureError::ScopeDate,
        SignatureError::SignedHeaders,
    ] {
        assert_eq!(error.answer(), uniform);
        assert_ne!(error.to_string(), SignatureError::Mismatch.to_string());
    }
    let late = SignatureError::Clock { seconds_ahead: -412 }.answer();
    assert!(late.message().contains("412 s behind the proxy's clock"), "{}", late.message());
    let farthest = SignatureError::Clock { seconds_ahead: i64::MIN }.answer();
    assert!(farthest.message().ends_with("has to be signed again."));
    assert!(uniform.message().ends_with("which rule failed."), "it is not cut");
}

#[test]
fn nothing_that_is_printed_has_the_secret_or_a_signature() {
    let request = Request::new().signed();
    let authorization = request.authorization();
    let (_, signature) = authorization.rsplit_once('=').unwrap();
    let claim = request.claim().unwrap();
    let refused = claim.verify(b"other", &credentials()).unwrap_err();
    for printed in [format!("{claim:?}"), format!("{refused:?} {refused} {}", refused.answer())] {
        assert!(!printed.contains(SECRET) && !printed.contains(&signature[..16]), "{printed}");
    }
}

// === Credentials ===

#[test]
fn parts_of_credentials_are_what_kms_takes() {
    for id in ["A".repeat(20), "Z".repeat(30), "ABCDEFGHIJKLMNOPQRSTUVWXYZ2345".to_owned()] {
        assert!(AccessKeyId::parse(&id).is_ok());
    }
    for id in ["A".repeat(19), "A".repeat(31), "a".repeat(20), "1".repeat(20), "\u{e9}".repeat(10)]
    {
        assert_eq!(AccessKeyId::parse(&id), Err(CredentialError::AccessKeyId), "{id}");
    }
    for secret in ["a".repeat(43), "/".repeat(64), "Az09+/=".repeat(7)] {
        assert!(SecretAccessKey::parse(&secret).is_ok());
    }
    for secret in ["a".repeat(42), "a".repeat(65), "-".repeat(43), "\u{e9}".repeat(22)] {
        assert!(SecretAccessKey::parse(&secret).is_err(), "{secret}");
    }
}

#[test]
fn fresh_credentials_differ_and_are_what_kms_takes() {
    let [one, two] = [(); 2].map(|()| Credential::generate().unwrap());
    assert_ne!(one.id(), two.id());
    assert_ne!(one.secret().expose(), two.secret().expose());
    assert!(AccessKeyId::parse(one.id().as_str()).is_ok());
    assert!(SecretAccessKey::parse(one.secret().expose()).is_ok());
}

/// Section "XKS proxy configuration in AWS KMS console".
#[test]
fn the_console_gets_its_file() {
    let credential = Credential::generate().unwrap();
    let prefix = UriPathPrefix::parse("/tenant-a").unwrap();
    let json: serde_json::Value = serde_json::from_str(&credential.console_json(&prefix)).unwrap();
    let expected = serde_json::json!({
        "XksProxyUriPath": "/tenant-a/kms/xks/v1",
        "XksProxyAuthenticationCredential": {
            "AccessKeyId": credential.id().as_str(),
            "RawSecretAccessKey": credential.secret().expose(),
        }
    });
    assert_eq!(json, expected);
}

#[test]
fn a_set_has_some_credentials_and_no_id_twice() {
    let same = || credential(ID, SECRET);
    assert_eq!(Credentials::new(vec![]).err(), Some(CredentialsError::Size));
    let many = (0..17).map(|_| Credential::generate().unwrap()).collect();
    assert_eq!(Credentials::new(many).err(), Some(CredentialsError::Size));
    assert_eq!(Credentials::new(vec![same(), same()]).err(), Some(CredentialsError::RepeatedId));
    assert!(Credentials::new(vec![same()]).is_ok());
}

#[test]
fn regions_have_few_characters() {
    for name in ["eu-central-1", "us-gov-west-1", "a"] {
        assert!(Region::parse(name).is_ok());
    }
    for name in ["", "EU", "eu_1", "eu/1", "eu 1", &"a".repeat(33)] {
        assert_eq!(Region::parse(name), Err(RegionError), "{name}");
    }
}

#[test]
fn signing_keys_are_kept_and_few() {
    let credential = credential(ID, SECRET);
    let credentials = Credentials::new(vec![credential]).unwrap();
    let keys = SigningKeys::default();
    for number in 0..100 {
        let scope = Scope::of_xks(*b"20261118", region(&format!("region-{number}")));
        for _ in 0..3 {
            let moment = b"20261118T000000Z";
            let cached = keys.of(SECRET, &scope).sign(moment, &scope, &[7; 32]);
            let fresh = SigningKeys::default().of(SECRET, &scope).sign(moment, &scope, &[7; 32]);
            assert_eq!(cached, fresh);
        }
        assert!(keys.len() <= 16);
    }
    assert_eq!(keys.len(), 16);
    let request = Request::new().signed();
    for _ in 0..3 {
        assert_eq!(request.claim().unwrap().verify(&request.body, &credentials), Ok(()));
    }
    assert_eq!(credentials.cached_keys(), [1]);
}

// === Both verifiers, over whatever is signed and whatever is changed ===

/// What can be sent, with headers of one or more values.
fn requests() -> impl Strategy<Value = Request> {
    let path = "(/[a-zA-Z0-9_-]{1,9}){0,3}/kms/xks/v1/(health|keys/[a-zA-Z0-9_-]{1,9}/encrypt)";
    let headers = proptest::collection::vec(("x-[a-z0-9-]{1,6}", "[!-~]([ -~]{0,12}[!-~])?"), 0..5);
    let body = proptest::collection::vec(any::<u8>(), 0..200);
    (path, headers, body, any::<bool>()).prop_map(|(path, headers, body, hash)| {
        let mut request = Request { path, body, ..Request::new() };
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers.append(name, value.parse().unwrap());
        }
        let checksum =
            if hash { PayloadChecksumKind::XAmzSha256 } else { PayloadChecksumKind::NoHeader };
        request.signed_by(ID, SECRET, checksum)
    })
}

/// Changes something that is signed, wherever `at` points.
#[derive(Debug, Clone, Copy)]
enum Change {
    Body,
    Header,
    HeaderAdded,
    HeaderRemoved,
    Listed,
    Method,
    Path,
    Signature,
    Unlisted,
}

fn changes() -> impl Strategy<Value = Change> {
    use Change::*;
    proptest::sample::select(vec![
        Body,
        Header,
        HeaderAdded,
        HeaderRemoved,
        Listed,
        Method,
        Path,
        Signature,
        Unlisted,
    ])
}

impl Change {
    fn apply(self, mut request: Request, at: &Index) -> Request {
        let names = signed_names(&request);
        let name = names[at.index(names.len())].clone();
        match self {
            Self::Body => {
                if request.body.is_empty() {
                    request.body.push(b'x');
                } else {
                    let at = at.index(request.body.len());
                    request.body[at] ^= 1;
                }
            }
            Self::Header => {
                let changed = [request.headers[&name].as_bytes(), b"x"].concat();
                request.headers.insert(name, HeaderValue::from_bytes(&changed).unwrap());
            }
            Self::HeaderAdded => drop(request.headers.append(name, "x".parse().unwrap())),
            Self::HeaderRemoved => drop(request.headers.remove(name)),
            Self::Listed => {
                return request.replacing(", Signature=", ";zz, Signature=").with("zz", "1");
            }
            Self::Method => request.method = "PUT".to_owned(),
            Self::Path => request.path.push('x'),
            Self::Signature => {
                let authorization = request.authorization();
                let at = authorization.len() - 1 - at.index(64);
                let digit = if authorization.as_bytes()[at] == b'0' { "1" } else { "0" };
                let mut changed = authorization;
                changed.replace_range(at..=at, digit);
                return request.with("authorization", &changed);
            }
            Self::Unlisted => return request.replacing("content-type;host;", "host;"),
        }
        request
    }
}

fn signed_names(request: &Request) -> Vec<HeaderName> {
    let authorization = request.authorization();
    let list = authorization.split_once("SignedHeaders=").unwrap().1;
    let list = list.split_once(',').unwrap().0;
    list.split(';').map(|name| name.parse().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_aws_signs_both_accept(request in requests()) {
        prop_assert_eq!(request.check(), Ok(()));
        prop_assert!(request.is_accepted_by_oracle());
    }

    #[test]
    fn whatever_is_changed_both_refuse(request in requests(), change in changes(), at in any::<Index>()) {
        let changed = change.apply(request, &at);
        prop_assert!(changed.check().is_err());
        prop_assert!(!changed.is_accepted_by_oracle());
    }

    #[test]
    fn what_is_not_signed_may_change(request in requests(), value in "[!-~]{1,9}") {
        let changed = request.with("zz-unsigned", &value);
        prop_assert_eq!(changed.check(), Ok(()));
        prop_assert!(changed.is_accepted_by_oracle());
    }

    #[test]
    fn no_header_makes_it_panic(authorization in any::<Vec<u8>>(), date in any::<Vec<u8>>()) {
        let mut request = Request::new().signed();
        let mut changed = false;
        for (name, value) in [("authorization", authorization), ("x-amz-date", date)] {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                request.headers.insert(name, value);
                changed = true;
            }
        }
        prop_assert_eq!(request.check().is_err(), changed);
    }
}
