//! Who asks: AWS Signature Version 4, in the one form that KMS has for a proxy
//! (section "Authentication", Appendix A).
//!
//! Verification has two steps, so that a body is read only for somebody who may
//! have signed it. [`Claim::parse`] looks at the head alone: at its form, its
//! date and its region. [`Claim::verify`] needs the body and the key store's
//! [`Credentials`].
//!
//! What is signed is stricter than SigV4 in general, because KMS is the only
//! caller: POST, a path with one spelling, no query string, host and `x-amz-date`
//! signed, and every header that is listed must be there.
//!
//! [`SignatureError`] says for the log which rule failed. It never holds a
//! secret, an expected signature or a text of the request; the caller gets
//! [`SignatureError::answer`], the same sentence for almost all of them.

mod authorization;
mod canonical;
mod claim;
mod credential;
mod error;
mod moment;
mod signing_key;

pub use claim::{Claim, RequestHead};
pub use credential::{
    AccessKeyId, Credential, CredentialError, Credentials, CredentialsError, MAX_CREDENTIALS,
    Region, RegionError, SecretAccessKey,
};
pub use error::SignatureError;
pub use moment::MAX_SKEW;

/// The service in the scope of every signature.
const SERVICE: &str = "kms-xks-proxy";

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
