use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::{SERVICE, SignatureError};

/// The most headers that may be signed. KMS signs two.
const MAX_SIGNED_HEADERS: usize = 32;

/// The parts of the one `Authorization` header.
pub(super) struct Authorization<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) date: &'a str,
    pub(super) region: &'a str,
    pub(super) signed_headers: SignedHeaders<'a>,
    pub(super) signature: [u8; 32],
}

/// Names with semicolons between them: sorted, unique, lower case, host and
/// `x-amz-date` among them.
#[derive(Clone, Copy)]
pub(super) struct SignedHeaders<'a>(&'a str);

impl<'a> Authorization<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Result<Self, SignatureError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(SignatureError::AuthorizationMissing)?;
        if values.next().is_some() {
            return Err(SignatureError::AuthorizationRepeated);
        }
        Self::parse(value.to_str().map_err(|_| SignatureError::AuthorizationForm)?)
    }

    /// `AWS4-HMAC-SHA256 Credential=<id>/<yyyymmdd>/<region>/kms-xks-proxy/aws4_request,
    /// SignedHeaders=<names>, Signature=<64 hexadecimal digits>`, in one line.
    fn parse(value: &'a str) -> Result<Self, SignatureError> {
        let (credential, names, signature) =
            parts_of(value).ok_or(SignatureError::AuthorizationForm)?;
        let mut scope = credential.split('/');
        let [
            Some(access_key_id),
            Some(date),
            Some(region),
            Some(SERVICE),
            Some("aws4_request"),
            None,
        ] = std::array::from_fn(|_| scope.next())
        else {
            return Err(SignatureError::AuthorizationForm);
        };
        let signed_headers = SignedHeaders::parse(names)?;
        let signature = hash_of(signature.as_bytes()).ok_or(SignatureError::AuthorizationForm)?;
        Ok(Self { access_key_id, date, region, signed_headers, signature })
    }
}

pub(super) fn parts_of(value: &str) -> Option<(&str, &str, &str)> {
    let rest = value.strip_prefix("AWS4-HMAC-SHA256 Credential=")?;
    let (credential, rest) = rest.split_once(", SignedHeaders=")?;
    let (names, signature) = rest.split_once(", Signature=")?;
    Some((credential, names, signature))
}

/// 32 bytes out of 64 lower-case hexadecimal digits.
pub(super) fn hash_of(digits: &[u8]) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let lower_case = !digits.iter().any(u8::is_ascii_uppercase);
    (lower_case && hex::decode_to_slice(digits, &mut hash).is_ok()).then_some(hash)
}

impl<'a> SignedHeaders<'a> {
    pub(super) fn parse(names: &'a str) -> Result<Self, SignatureError> {
        let list = Self(names);
        let in_order = list.names().zip(list.names().skip(1)).all(|(one, next)| one < next);
        let few = list.names().take(MAX_SIGNED_HEADERS + 1).count() <= MAX_SIGNED_HEADERS;
        if !(few && in_order && list.names().all(is_name)) {
            return Err(SignatureError::SignedHeaders);
        }
        if !list.names().any(|name| matches!(name, "host" | ":authority")) {
            return Err(SignatureError::HostNotSigned);
        }
        if !list.names().any(|name| name == "x-amz-date") {
            return Err(SignatureError::DateNotSigned);
        }
        Ok(list)
    }

    pub(super) fn names(self) -> impl Iterator<Item = &'a str> {
        self.0.split(';')
    }

    pub(super) fn as_str(self) -> &'a str {
        self.0
    }
}

/// A header's name as HTTP/2 has it, or the one pseudo-header that is signed.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    };
    name == ":authority" || (!name.is_empty() && name.bytes().all(is_plain))
}
