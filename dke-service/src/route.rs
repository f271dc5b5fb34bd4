//! Which of the two operations a path names, and the names that stand in it.
//!
//! Segments that are empty count for nothing: a label's URL with a slash too many
//! has been in the field for years, and the file that was protected with it has to
//! be opened (`//` in its `kid`). Nothing is decoded: no name needs it.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// What is asked for. Names are as they were sent: whether there are such is for
/// the configuration to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `{prefix}/{key}`
    PublicKey {
        /// The key's name.
        key: &'a str,
    },
    /// `{prefix}/{key}/{id}/decrypt`, the last in any case of letters.
    Decrypt {
        /// The key's name.
        key: &'a str,
        /// Which of its generations.
        id: &'a str,
    },
}

impl<'a> Route<'a> {
    /// Reads the path of a request, without its query, below `prefix` (as
    /// [`PublicUrl::prefix`](crate::public_url::PublicUrl::prefix) has it).
    #[must_use]
    pub fn parse(path: &'a str, prefix: &str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/').filter(|it| !it.is_empty()).fuse();
        for expected in prefix.split('/').filter(|it| !it.is_empty()) {
            if segments.next()? != expected {
                return None;
            }
        }
        let key = segments.next()?;
        match (segments.next(), segments.next(), segments.next()) {
            (None, _, _) => Some(Self::PublicKey { key }),
            (Some(id), Some(verb), None) if verb.eq_ignore_ascii_case("decrypt") => {
                Some(Self::Decrypt { key, id })
            }
            _ => None,
        }
    }

    /// The operation's name in logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::PublicKey { .. } => "GetPublicKey",
            Self::Decrypt { .. } => "Decrypt",
        }
    }

    /// The method that it is asked for with.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::PublicKey { .. } => "GET",
            Self::Decrypt { .. } => "POST",
        }
    }
}

/// A key's name: 1 to 64 of `A-Z a-z 0-9 . _ -`, case-sensitive, and neither `.`
/// nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(Box<str>);

/// The name of one generation of a key: 1 to 64 of `A-Z a-z 0-9 -`, by convention
/// a GUID, case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Box<str>);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Of a key.
    #[error("a key's name is 1 to 64 of A-Z a-z 0-9 . _ -, and neither . nor ..")]
    Key,
    /// Of a generation.
    #[error("a generation's id is 1 to 64 of A-Z a-z 0-9 -: a GUID, for instance")]
    Id,
}

const MAX_NAME_LEN: usize = 64;

impl KeyName {
    /// Checks a name.
    ///
    /// # Errors
    /// When it has other characters, or too many.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let is_name = is_plain(text, b"._-") && !matches!(text, "." | "..");
        if is_name { Ok(Self(text.into())) } else { Err(NameError::Key) }
    }

    /// As it stands in paths.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl KeyId {
    /// Checks an id.
    ///
    /// # Errors
    /// When it has other characters, or too many.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if is_plain(text, b"-") { Ok(Self(text.into())) } else { Err(NameError::Id) }
    }

    /// As it stands in paths.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain(text: &str, others: &[u8]) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
    (1..=MAX_NAME_LEN).contains(&text.len()) && text.bytes().all(allowed)
}

macro_rules! name {
    ($($type:ident)*) => {$(
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    )*};
}

name!(KeyName KeyId);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::public_url::PublicUrl;

    const ID: &str = "c4f5d1a0-1111-2222-3333-444455556666";

    #[test]
    fn the_two_paths_are_routed_below_their_prefix() {
        for prefix in ["", "/ms_dke", "/api/v1/tenant"] {
            let path = |rest: &str| format!("{prefix}{rest}");
            let get = path("/Top.Secret");
            assert_eq!(Route::parse(&get, prefix), Some(Route::PublicKey { key: "Top.Secret" }));
            for verb in ["decrypt", "Decrypt", "DECRYPT", "dEcRyPt"] {
                let post = path(&format!("/k/{ID}/{verb}"));
                assert_eq!(Route::parse(&post, prefix), Some(Route::Decrypt { key: "k", id: ID }));
            }
        }
    }

    /// Case 6, and what a reader of the `kid` that it gave would ask.
    #[test]
    fn slashes_too_many_count_for_nothing() {
        for path in ["/k/", "//k", "///k//"] {
            assert_eq!(Route::parse(path, ""), Some(Route::PublicKey { key: "k" }), "{path}");
        }
        for path in ["/k//id/decrypt", "/k/id/decrypt/", "//k/id//decrypt"] {
            assert_eq!(Route::parse(path, ""), Some(Route::Decrypt { key: "k", id: "id" }));
        }
        assert_eq!(Route::parse("/p//k", "/p"), Some(Route::PublicKey { key: "k" }));
    }

    #[test]
    fn what_is_neither_is_no_route() {
        for path in [
            "",
            "/",
            "//",
            "*",
            "k",
            "/k/id",
            "/k/decrypt",
            "/k/id/encrypt",
            "/k/id/decrypt/more",
            "/k/id/decryp",
            "/k/id/\u{e9}",
            "https://host/k",
        ] {
            assert_eq!(Route::parse(path, ""), None, "{path}");
        }
        for path in ["/k", "/P/k", "/q/k", "/p", "/p/", "/pk", "/p/k/id/x"] {
            assert_eq!(Route::parse(path, "/p"), None, "{path}");
        }
    }

    #[test]
    fn names_are_plain_and_short() {
        for text in ["", ".", "..", "a b", "a/b", "a%41", "\u{e9}", "a,b", &"k".repeat(65)] {
            assert_eq!(KeyName::parse(text), Err(NameError::Key), "{text}");
        }
        for text in ["", ".", "a.b", "a_b", "{guid}", "a b", "a/b", "\u{e9}", &"k".repeat(65)] {
            assert_eq!(KeyId::parse(text), Err(NameError::Id), "{text}");
        }
        assert!(KeyName::parse(&"k".repeat(64)).is_ok() && KeyName::parse("...").is_ok());
        assert!(KeyId::parse(ID).is_ok());
    }

    proptest! {
        /// What a client makes of a `kid` leads back to the key.
        #[test]
        fn every_kid_leads_to_its_key(
            host in "https://[a-z]{1,9}(:8443)?(/[a-zA-Z._]{0,5}){0,2}",
            key in "[A-Za-z0-9._-]{1,64}",
            id in "[A-Za-z0-9-]{1,64}",
        ) {
            let (Ok(url), Ok(name), Ok(key_id)) =
                (PublicUrl::parse(&host), KeyName::parse(&key), KeyId::parse(&id))
            else {
                return Ok(());
            };
            let decrypt = format!("{}/decrypt", url.kid(&name, &key_id));
            let path = decrypt.strip_prefix(url.origin()).unwrap();
            let route = Route::parse(path, url.prefix());
            prop_assert_eq!(route, Some(Route::Decrypt { key: &key, id: &id }));
        }

        #[test]
        fn nothing_that_is_sent_panics(path in any::<String>(), prefix in "(/[a-z]{1,3}){0,2}") {
            if let Some(Route::PublicKey { key } | Route::Decrypt { key, .. }) =
                Route::parse(&path, &prefix)
            {
                prop_assert!(!key.is_empty() && !key.contains('/'));
            }
        }
    }
}
