use crate::error::{ErrorName, XksError};

use super::MAX_SKEW;

/// Which rule a request broke: for the log, not for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The id belongs to no credential of this key store.
    #[error("the access key id is not one of this key store")]
    AccessKeyUnknown,
    /// `Authorization` has another form than that of Appendix A.
    #[error("the Authorization header has not the form that KMS sends")]
    AuthorizationForm,
    /// There is no `Authorization` header.
    #[error("there is no Authorization header")]
    AuthorizationMissing,
    /// There is more than one `Authorization` header.
    #[error("there is more than one Authorization header")]
    AuthorizationRepeated,
    /// `x-amz-date` is too far from now.
    #[error("x-amz-date is {seconds_ahead} s ahead of this clock (behind it, if negative)")]
    Clock {
        /// How much later than now the request says it was signed.
        seconds_ahead: i64,
    },
    /// `X-Amz-Content-Sha256` is signed and is not the hash of the body.
    #[error("the signed X-Amz-Content-Sha256 is not the SHA-256 of the body")]
    ContentHash,
    /// `x-amz-date` is missing, repeated, or names no moment.
    #[error("x-amz-date is missing, repeated or no date and time")]
    DateForm,
    /// `x-amz-date` is not among the signed headers.
    #[error("x-amz-date is not signed")]
    DateNotSigned,
    /// A signed header is not in the request.
    #[error("a header that is listed as signed is absent")]
    HeaderAbsent,
    /// Two hosts are named.
    #[error("Host is repeated or differs from the authority")]
    HostAmbiguous,
    /// Neither host nor `:authority` is among the signed headers.
    #[error("neither host nor :authority is signed")]
    HostNotSigned,
    /// The method is not POST.
    #[error("the method is not POST")]
    Method,
    /// The signature is not that of this request under the credential's secret.
    #[error("the signature does not match: another secret, or a request changed on its way")]
    Mismatch,
    /// The path has more than one spelling, or a query string.
    #[error("the path has a query string or characters that have two spellings")]
    Path,
    /// The region is not on the key store's list.
    #[error("the region is not one that this key store is called from")]
    Region,
    /// The date of the scope is not that of `x-amz-date`.
    #[error("the date of the credential scope is not that of x-amz-date")]
    ScopeDate,
    /// The list of signed headers is not sorted, lower case and without
    /// repetition, or is too long.
    #[error("SignedHeaders is not a short list of sorted, unique, lower-case names")]
    SignedHeaders,
}

impl SignatureError {
    /// What the caller gets: nothing that tells a guess at an id from one at a
    /// secret, but what somebody needs whose setup is wrong.
    #[must_use]
    pub fn answer(&self) -> XksError {
        XksError::new(
            ErrorName::AuthenticationFailed,
            match self {
                Self::Clock { seconds_ahead } => clock_answer(*seconds_ahead),
                _ => UNIFORM.to_owned(),
            },
        )
    }
}

const UNIFORM: &str = "The request has no valid SigV4 signature of this key store. Compare access key ID \
     and secret access key in KMS with the proxy's credentials, and the AWS Region with its list; \
     nothing between KMS and the proxy may change method, path, host, signed headers or body. \
     The proxy's log says which rule failed.";

fn clock_answer(seconds_ahead: i64) -> String {
    let (seconds, side) =
        (seconds_ahead.unsigned_abs(), if seconds_ahead > 0 { "ahead of" } else { "behind" });
    let most = MAX_SKEW.as_secs();
    format!(
        "The request was signed {seconds} s {side} the proxy's clock, and {most} s are accepted. \
         Set the proxy's clock by NTP; a request that was held back has to be signed again."
    )
}
