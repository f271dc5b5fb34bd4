//! Key URIs: the names of keys, one canonical spelling each.

mod aws;
mod percent;
mod pkcs11;
mod rest;

use std::fmt;
use std::str::FromStr;

pub use pkcs11::Pkcs11Uri;

use crate::Side;

/// Longest URI that a header carries, in bytes.
const MAX_LEN: usize = 1024;

/// The name of a KEK, in its canonical spelling: what a header carries and
/// what a reader compares.
///
/// | scheme | side | form |
/// |---|---|---|
/// | `aws-kms` | provider | `aws-kms://<key ARN>`, or an alias to be resolved |
/// | `azure-kv` | provider | `azure-kv://<host>/keys/<name>` |
/// | `gcp-kms` | provider | `gcp-kms://projects/<p>/locations/<l>/keyRings/<r>/cryptoKeys/<k>` |
/// | `vault` | provider | `vault://<host[:port]>/<mount>/keys/<name>` |
/// | `pkcs11` | customer | `pkcs11:token=<label>;object=<label>` (RFC 7512; more attributes allowed) |
/// | `dke+https` | customer | `dke+https://<host[:port]>/[prefix/]<name>` |
/// | `file` | either | `file:///<path>`, for development only |
///
/// Query attributes (`?module-path=…`, `?pin-source=…`) say how *this machine*
/// reaches a key. They are refused here, so that they can neither be written
/// to a header nor be taken from one; [`Pkcs11Uri`] has them.
///
/// ```
/// use twinlock_keys::{KeyUri, Scheme};
/// let uri: KeyUri = "pkcs11:object=archive%2dkek;token=Twinlock".parse()?;
/// assert_eq!(uri.as_str(), "pkcs11:token=Twinlock;object=archive-kek");
/// assert_eq!(uri.scheme(), Scheme::Pkcs11);
/// # Ok::<(), twinlock_keys::KeyUriError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyUri {
    scheme: Scheme,
    text: String,
}

impl KeyUri {
    /// Reads a URI in any spelling and keeps the canonical one.
    ///
    /// # Errors
    /// When it is longer than 1024 bytes, of an unknown scheme, not well
    /// formed, or has query attributes.
    pub fn parse(text: &str) -> Result<Self, KeyUriError> {
        if text.len() > MAX_LEN {
            return Err(KeyUriError::TooLong { len: text.len() });
        }
        let (scheme, rest) = Scheme::split(text)?;
        if text.contains(['?', '#']) {
            return Err(KeyUriError::HasQuery);
        }
        let canonical = match scheme {
            Scheme::AwsKms => aws::canonical(rest)?,
            Scheme::AzureKv => rest::azure_kv(rest)?,
            Scheme::Dke => rest::dke(rest)?,
            Scheme::File => rest::file(rest)?,
            Scheme::GcpKms => rest::gcp_kms(rest)?,
            Scheme::Pkcs11 => return Ok(Pkcs11Uri::parse(text)?.key_uri()),
            Scheme::Vault => rest::vault(rest)?,
        };
        Self::from_canonical(scheme, &canonical)
    }

    /// The canonical spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What kind of key this names.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What follows the scheme and its `:` or `://`: a key ARN, a path.
    #[must_use]
    pub fn key_name(&self) -> &str {
        self.text.strip_prefix(self.scheme.prefix()).expect("the text begins with its scheme")
    }

    /// The file that a `file` URI names.
    #[must_use]
    pub fn file_path(&self) -> Option<std::path::PathBuf> {
        (self.scheme == Scheme::File).then(|| percent::path_of(self.key_name()))
    }

    /// True for a name that only its holder can turn into the name of a key
    /// (an AWS alias). Such a URI never gets into a header.
    #[must_use]
    pub fn is_alias(&self) -> bool {
        self.scheme == Scheme::AwsKms && aws::is_alias(self.key_name())
    }

    /// True if both name the same key: equal spellings, or one multi-Region
    /// AWS key (`mrk-…`) in two regions.
    #[must_use]
    pub fn same_key(&self, other: &Self) -> bool {
        let both_aws = self.scheme == Scheme::AwsKms && other.scheme == Scheme::AwsKms;
        self == other || (both_aws && aws::same_multi_region_key(self.key_name(), other.key_name()))
    }

    fn from_canonical(scheme: Scheme, rest: &str) -> Result<Self, KeyUriError> {
        let text = format!("{}{rest}", scheme.prefix());
        if text.len() > MAX_LEN {
            return Err(KeyUriError::TooLong { len: text.len() });
        }
        Ok(Self { scheme, text })
    }
}

impl FromStr for KeyUri {
    type Err = KeyUriError;

    fn from_str(text: &str) -> Result<Self, KeyUriError> {
        Self::parse(text)
    }
}

impl fmt::Display for KeyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The kinds of key that a URI can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scheme {
    /// `aws-kms`
    AwsKms,
    /// `azure-kv`
    AzureKv,
    /// `dke+https`
    Dke,
    /// `file`
    File,
    /// `gcp-kms`
    GcpKms,
    /// `pkcs11`
    Pkcs11,
    /// `vault`
    Vault,
}

impl Scheme {
    const ALL: [Scheme; 7] = [
        Scheme::AwsKms,
        Scheme::AzureKv,
        Scheme::Dke,
        Scheme::File,
        Scheme::GcpKms,
        Scheme::Pkcs11,
        Scheme::Vault,
    ];

    /// True if a key of this scheme can be kept by `side`.
    #[must_use]
    pub fn fits(self, side: Side) -> bool {
        match self {
            Scheme::AwsKms | Scheme::AzureKv | Scheme::GcpKms | Scheme::Vault => {
                side == Side::Provider
            }
            Scheme::Pkcs11 | Scheme::Dke => side == Side::Customer,
            Scheme::File => true,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Scheme::AwsKms => "aws-kms://",
            Scheme::AzureKv => "azure-kv://",
            Scheme::Dke => "dke+https://",
            Scheme::File => "file://",
            Scheme::GcpKms => "gcp-kms://",
            Scheme::Pkcs11 => "pkcs11:",
            Scheme::Vault => "vault://",
        }
    }

    fn split(text: &str) -> Result<(Self, &str), KeyUriError> {
        Self::ALL
            .into_iter()
            .find_map(|scheme| Some((scheme, text.strip_prefix(scheme.prefix())?)))
            .ok_or(KeyUriError::UnknownScheme)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix().trim_end_matches(['/', ':']))
    }
}

/// Why a text is not a key URI. It never repeats the text, which may hold a
/// PIN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyUriError {
    /// Query attributes where only a name may stand.
    #[error(
        "a key's name has no query attributes (?module-path=, ?pin-source=): \
         they belong in a profile or behind --customer, not in a header"
    )]
    HasQuery,
    /// Not of the scheme's form.
    #[error("not a well-formed {scheme} key URI: {problem}")]
    Malformed {
        /// The scheme it claims.
        scheme: Scheme,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More than 1024 bytes.
    #[error("a key URI has at most {MAX_LEN} bytes, this one has {len}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// No scheme that we know.
    #[error(
        "not a key URI: it must begin with aws-kms://, azure-kv://, gcp-kms://, vault://, \
         pkcs11:, dke+https:// or file:///"
    )]
    UnknownScheme,
}

fn malformed(scheme: Scheme, problem: &'static str) -> KeyUriError {
    KeyUriError::Malformed { scheme, problem }
}

#[cfg(test)]
mod tests;
