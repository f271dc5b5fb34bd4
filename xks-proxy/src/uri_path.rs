//! Which operation a path names (section "API operations").
//!
//! A path has one spelling. Percent-encoding, dot segments, empty segments, a
//! slash at the end and a query string make it no path of ours, whatever
//! another server would make of it: so what is signed, what is routed and what
//! is logged are always the same bytes. An operation that this version of the
//! API does not have is no path either: whoever is not authenticated yet gets
//! the one answer `InvalidUriPathException`.

use std::borrow::Borrow;
use std::fmt;

use crate::error::{ErrorName, XksError};

/// What every path of the API has between its prefix and the operation.
pub const API_PATH: &str = "/kms/xks/v1";

/// The longest `XksProxyUriPath`, which is prefix and [`API_PATH`], in
/// characters.
pub const MAX_URI_PATH_LEN: usize = 128;

/// The longest external key id, in characters.
pub const MAX_EXTERNAL_KEY_ID_LEN: usize = 128;

/// A path that names an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'a> {
    /// The key store's path prefix: empty, or `/` and more. It is a valid
    /// [`UriPathPrefix`], which says nothing of whether there is such a store.
    pub prefix: &'a str,
    /// What is asked for.
    pub operation: Operation,
}

/// The four operations of the API, with the external key that they are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// `Decrypt`
    Decrypt(ExternalKeyId),
    /// `Encrypt`
    Encrypt(ExternalKeyId),
    /// `GetHealthStatus`
    Health,
    /// `GetKeyMetadata`
    Metadata(ExternalKeyId),
}

impl<'a> Route<'a> {
    /// Reads a path as it was sent, with its query string if it has one.
    ///
    /// # Errors
    /// `InvalidUriPathException`, for everything that names no operation.
    pub fn parse(path_and_query: &'a str) -> Result<Self, XksError> {
        Self::try_parse(path_and_query).ok_or_else(Self::not_served)
    }

    /// The answer to a path that nothing is served under, unknown prefixes
    /// included: given before anything is asked about the caller.
    #[must_use]
    pub fn not_served() -> XksError {
        XksError::new(
            ErrorName::InvalidUriPath,
            "This proxy serves nothing under this URI path. Compare the key store's \
             XksProxyUriPath in KMS with the path prefixes in the proxy's configuration.",
        )
    }

    /// From the end, where there is only one way to read it.
    fn try_parse(path: &'a str) -> Option<Self> {
        let (head, last) = path.rsplit_once('/')?;
        if last == "health" {
            return Some(Self { prefix: prefix_of(head)?, operation: Operation::Health });
        }
        let (head, id) = head.rsplit_once('/')?;
        let prefix = prefix_of(head.strip_suffix("/keys")?)?;
        let operation = Operation::of_key(last, ExternalKeyId::parse(id).ok()?)?;
        Some(Self { prefix, operation })
    }
}

impl fmt::Display for Route<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{API_PATH}", self.prefix)?;
        match &self.operation {
            Operation::Decrypt(id) => write!(f, "/keys/{id}/decrypt"),
            Operation::Encrypt(id) => write!(f, "/keys/{id}/encrypt"),
            Operation::Health => f.write_str("/health"),
            Operation::Metadata(id) => write!(f, "/keys/{id}/metadata"),
        }
    }
}

impl Operation {
    fn of_key(name: &str, id: ExternalKeyId) -> Option<Self> {
        match name {
            "decrypt" => Some(Self::Decrypt(id)),
            "encrypt" => Some(Self::Encrypt(id)),
            "metadata" => Some(Self::Metadata(id)),
            _ => None,
        }
    }

    /// The operation's name in the specification.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Decrypt(_) => "Decrypt",
            Self::Encrypt(_) => "Encrypt",
            Self::Health => "GetHealthStatus",
            Self::Metadata(_) => "GetKeyMetadata",
        }
    }

    /// The external key that it is about, if it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&ExternalKeyId> {
        match self {
            Self::Decrypt(id) | Self::Encrypt(id) | Self::Metadata(id) => Some(id),
            Self::Health => None,
        }
    }
}

fn prefix_of(uri_path: &str) -> Option<&str> {
    let prefix = uri_path.strip_suffix(API_PATH)?;
    is_prefix(prefix).then_some(prefix)
}

/// A configured path prefix: empty, or `/` and segments of `a-z A-Z 0-9 - _`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UriPathPrefix(Box<str>);

/// Why a text is no path prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a path prefix is empty, or segments of a-z A-Z 0-9 - _ that a slash stands before and not \
     behind, 117 characters at most: {API_PATH} follows it, and 128 is the limit"
)]
pub struct PrefixError;

impl UriPathPrefix {
    /// Checks a prefix.
    ///
    /// # Errors
    /// When KMS would not take it as a part of an `XksProxyUriPath`, or when it
    /// has two spellings.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        if is_prefix(text) { Ok(Self(text.into())) } else { Err(PrefixError) }
    }

    /// As it stands in paths.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of `XksProxyUriPath` in KMS.
    #[must_use]
    pub fn uri_path(&self) -> String {
        format!("{}{API_PATH}", self.0)
    }
}

impl Borrow<str> for UriPathPrefix {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UriPathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_prefix(text: &str) -> bool {
    let Some(segments) = text.strip_prefix('/') else { return text.is_empty() };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.len() + API_PATH.len() <= MAX_URI_PATH_LEN
        && segments.split('/').all(|it| !it.is_empty() && it.bytes().all(is_plain))
}

/// The name of a key in a key store: 1 to 128 characters of `A-Z a-z 0-9 - . _`.
///
/// `.` and `..` are no names: in a path they would be something else to
/// whoever stands between KMS and the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExternalKeyId(Box<str>);

/// Why a text is no external key id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an external key id is 1 to 128 characters of A-Z a-z 0-9 - . _, and neither . nor ..")]
pub struct ExternalKeyIdError;

impl ExternalKeyId {
    /// Checks an id.
    ///
    /// # Errors
    /// When it has other characters, or too many.
    pub fn parse(text: &str) -> Result<Self, ExternalKeyIdError> {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let valid = (1..=MAX_EXTERNAL_KEY_ID_LEN).contains(&text.len())
            && text.bytes().all(is_plain)
            && !matches!(text, "." | "..");
        if valid { Ok(Self(text.into())) } else { Err(ExternalKeyIdError) }
    }

    /// As it stands in paths.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ExternalKeyId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExternalKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> ExternalKeyId {
        ExternalKeyId::parse(text).unwrap()
    }

    #[test]
    fn the_four_paths_are_routed() {
        for prefix in ["", "/tenant-a", "/a/b_C/9"] {
            for (path, operation) in [
                ("/kms/xks/v1/health", Operation::Health),
                ("/kms/xks/v1/keys/k-1/metadata", Operation::Metadata(id("k-1"))),
                ("/kms/xks/v1/keys/K.1_/encrypt", Operation::Encrypt(id("K.1_"))),
                ("/kms/xks/v1/keys/.../decrypt", Operation::Decrypt(id("..."))),
            ] {
                let path = format!("{prefix}{path}");
                assert_eq!(Route::parse(&path), Ok(Route { prefix, operation }), "{path}");
            }
        }
    }

    #[test]
    fn what_is_no_path_of_ours_is_an_invalid_uri_path() {
        let long_id = format!("/kms/xks/v1/keys/{}/encrypt", "k".repeat(129));
        let long_prefix = format!("/{}/kms/xks/v1/health", "p".repeat(117));
        for path in [
            "",
            "/",
            "*",
            "health",
            "kms/xks/v1/health",
            "/health",
            "/kms/xks/v1",
            "/kms/xks/v1/",
            "/kms/xks/v2/health",
            "/KMS/xks/v1/health",
            "/kms/xks/v1/Health",
            "/kms/xks/v1/health/",
            "/kms/xks/v1/health?",
            "/kms/xks/v1/health?a=b",
            "/kms/xks/v1/health#",
            "//kms/xks/v1/health",
            "/kms/xks/v1//health",
            "/a//b/kms/xks/v1/health",
            "/a/./kms/xks/v1/health",
            "/a/../kms/xks/v1/health",
            "/a.b/kms/xks/v1/health",
            "/a%2fb/kms/xks/v1/health",
            "/kms/xks/v1/%68ealth",
            "/kms/xks/v1/keys/k/sign",
            "/kms/xks/v1/keys/k",
            "/kms/xks/v1/keys/k/",
            "/kms/xks/v1/keys/k/encrypt/",
            "/kms/xks/v1/keys/k/encrypt?x",
            "/kms/xks/v1/keys//encrypt",
            "/kms/xks/v1/keys/./encrypt",
            "/kms/xks/v1/keys/../encrypt",
            "/kms/xks/v1/keys/a%2e/encrypt",
            "/kms/xks/v1/keys/a b/encrypt",
            "/kms/xks/v1/keys/a/b/encrypt",
            "/kms/xks/v1/keys/\u{e9}/encrypt",
            "/kms/xks/v1/keys/k\0/encrypt",
            "/kms/xks/v1/key/k/encrypt",
            "https://host/kms/xks/v1/health",
            &long_id,
            &long_prefix,
        ] {
            let refused = Route::parse(path).unwrap_err();
            assert_eq!(refused.name(), ErrorName::InvalidUriPath, "{path}");
        }
    }

    #[test]
    fn a_prefix_that_looks_like_the_api_is_read_one_way() {
        let route = Route::parse("/kms/xks/v1/keys/kms/xks/v1/keys/health/encrypt").unwrap();
        assert_eq!(route.prefix, "/kms/xks/v1/keys");
        assert_eq!(route.operation, Operation::Encrypt(id("health")));
    }

    #[test]
    fn a_uri_path_has_128_characters_at_the_most() {
        let longest = format!("/{}", "p".repeat(116));
        let prefix = UriPathPrefix::parse(&longest).unwrap();
        assert_eq!(prefix.uri_path().len(), 128);
        assert!(Route::parse(&format!("{longest}/kms/xks/v1/health")).is_ok());
        assert_eq!(UriPathPrefix::parse(&format!("{longest}p")), Err(PrefixError));
    }

    #[test]
    fn a_prefix_has_one_spelling_and_few_characters() {
        for text in ["/", "a", "a/b", "/a/", "//a", "/a//b", "/a.b", "/a%41", "/a b", "/\u{e9}"] {
            assert_eq!(UriPathPrefix::parse(text), Err(PrefixError), "{text}");
        }
        assert_eq!(UriPathPrefix::parse("").unwrap().uri_path(), "/kms/xks/v1");
    }

    #[test]
    fn an_external_key_id_has_128_characters_at_the_most() {
        assert!(ExternalKeyId::parse(&"k".repeat(128)).is_ok());
        for text in ["", ".", "..", "a/b", "a b", "\u{e9}", &"k".repeat(129)] {
            assert_eq!(ExternalKeyId::parse(text), Err(ExternalKeyIdError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_routed_has_one_spelling(path in "(/[a-z.%/]{0,9})?/kms/xks/v1/(health|keys/[a-zA-Z0-9._%/-]{0,9}/(en|de)crypt)[/?]?") {
            if let Ok(route) = Route::parse(&path) {
                prop_assert_eq!(route.to_string(), path.clone());
                prop_assert!(UriPathPrefix::parse(route.prefix).is_ok());
            }
        }
    }
}
