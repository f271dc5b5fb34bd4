use std::fmt;
use std::time::SystemTime;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::authorization::{Authorization, SignedHeaders, hash_of};
use super::canonical::{host_of, write_head};
use super::moment::Moment;
use super::signing_key::{Scope, hex_of};
use super::{AccessKeyId, Credentials, Region, SignatureError};

/// What comes before the body of a request.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// In upper case, as it was sent.
    pub method: &'a str,
    /// The path as it was sent, with the query string if there is one.
    pub path_and_query: &'a str,
    /// `:authority` of HTTP/2, or the authority of an absolute request target.
    pub authority: Option<&'a str>,
    /// The headers as they were sent.
    pub headers: &'a HeaderMap,
}

/// What the head of a request claims: that the holder of a secret sent it with
/// its body, at about this time. It takes the body to tell.
pub struct Claim {
    access_key_id: AccessKeyId,
    scope: Scope,
    moment: Moment,
    signature: [u8; 32],
    /// The canonical request up to the hash of the body.
    canonical: Sha256,
    /// The hash that a signed `X-Amz-Content-Sha256` says.
    content_hash: Option<[u8; 32]>,
}

impl Claim {
    /// Reads the head of a request that arrived at `now`, for a key store which
    /// is called from `regions`.
    ///
    /// # Errors
    /// Says which rule the head breaks.
    pub fn parse(
        head: &RequestHead<'_>,
        regions: &[Region],
        now: SystemTime,
    ) -> Result<Self, SignatureError> {
        check_target(head)?;
        host_of(head)?;
        let authorization = Authorization::of(head.headers)?;
        let moment = moment_of(head.headers)?;
        if authorization.date.as_bytes() != moment.date() {
            return Err(SignatureError::ScopeDate);
        }
        if let Some(seconds_ahead) = moment.skew(now) {
            return Err(SignatureError::Clock { seconds_ahead });
        }
        let region = regions.iter().find(|region| region.as_str() == authorization.region);
        let region = region.ok_or(SignatureError::Region)?.clone();
        let access_key_id = AccessKeyId::parse(authorization.access_key_id)
            .map_err(|_| SignatureError::AuthorizationForm)?;
        let mut canonical = Sha256::new();
        write_head(head, authorization.signed_headers, &mut canonical)?;
        Ok(Self {
            access_key_id,
            scope: Scope::of_xks(moment.date(), region),
            moment,
            signature: authorization.signature,
            canonical,
            content_hash: content_hash(head.headers, authorization.signed_headers)?,
        })
    }

    /// How many seconds later than `now` it says it was signed; fewer than none if
    /// earlier.
    #[must_use]
    pub fn seconds_ahead(&self, now: SystemTime) -> i64 {
        self.moment.seconds_ahead(now)
    }

    /// Whose signature it is said to be: for the log, once it is verified.
    #[must_use]
    pub fn access_key_id(&self) -> &AccessKeyId {
        &self.access_key_id
    }

    /// Checks that a secret of `credentials` signed head and body.
    ///
    /// An access key id that is unknown costs as much as one that is known, and
    /// signatures are compared in constant time.
    ///
    /// # Errors
    /// Says which of the two is wrong, for the log.
    pub fn verify(&self, body: &[u8], credentials: &Credentials) -> Result<(), SignatureError> {
        let body_hash: [u8; 32] = Sha256::digest(body).into();
        if self.content_hash.is_some_and(|claimed| claimed != body_hash) {
            return Err(SignatureError::ContentHash);
        }
        let request = self.canonical.clone().chain_update(hex_of(&body_hash)).finalize().into();
        credentials.check(&self.access_key_id, &self.scope, &self.signature, |key| {
            key.sign(self.moment.as_bytes(), &self.scope, &request)
        })
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("access_key_id", &self.access_key_id)
            .field("region", &self.scope.region)
            .finish_non_exhaustive()
    }
}

/// POST, and a path that is its own canonical form.
fn check_target(head: &RequestHead<'_>) -> Result<(), SignatureError> {
    if head.method != "POST" {
        return Err(SignatureError::Method);
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let segments = head.path_and_query.strip_prefix('/').ok_or(SignatureError::Path)?;
    let one_spelling = segments.bytes().all(is_plain)
        && segments.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    if one_spelling { Ok(()) } else { Err(SignatureError::Path) }
}

fn moment_of(headers: &HeaderMap) -> Result<Moment, SignatureError> {
    let mut values = headers.get_all("x-amz-date").iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Moment::parse(value.as_bytes()).ok_or(SignatureError::DateForm),
        _ => Err(SignatureError::DateForm),
    }
}

/// Whoever signs this header means that the body is what it says.
fn content_hash(
    headers: &HeaderMap,
    signed: SignedHeaders<'_>,
) -> Result<Option<[u8; 32]>, SignatureError> {
    const NAME: &str = "x-amz-content-sha256";
    if !signed.names().any(|name| name == NAME) {
        return Ok(None);
    }
    let mut values = headers.get_all(NAME).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => {
            hash_of(value.as_bytes()).map(Some).ok_or(SignatureError::ContentHash)
        }
        _ => Err(SignatureError::ContentHash),
    }
}
