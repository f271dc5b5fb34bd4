//! Where clients reach the service, as the configuration has it: what every `kid`
//! is built from.
//!
//! Never from a request: behind a proxy its `Host` is another one, and a file would
//! keep for good a name that nobody resolves.

use std::fmt;

use crate::route::{KeyId, KeyName};

/// An origin, and the segments of a path below which the service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    origin: Box<str>,
    /// Empty, or segments that a slash stands before and not behind.
    prefix: Box<str>,
}

/// Why a text is no public URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a public URL is https://, a host in lower case, perhaps a port, and perhaps segments of \
     A-Z a-z 0-9 . _ ~ - behind slashes; without user, query and fragment"
)]
pub struct PublicUrlError;

impl PublicUrl {
    /// Reads one. A slash at the end counts for nothing.
    ///
    /// # Errors
    /// When it is none, or could be spelled otherwise.
    pub fn parse(text: &str) -> Result<Self, PublicUrlError> {
        let rest = text.strip_prefix("https://").ok_or(PublicUrlError)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_valid = is_authority(authority) && is_prefix(prefix) && text.len() <= MAX_LEN;
        match is_valid {
            true => {
                Ok(Self { origin: format!("https://{authority}").into(), prefix: prefix.into() })
            }
            false => Err(PublicUrlError),
        }
    }

    /// Scheme, host and port: what tokens are made for unless told otherwise.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Empty, or the path below which the keys are.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What names a generation of a key in every file that was protected with it.
    #[must_use]
    pub fn kid(&self, key: &KeyName, id: &KeyId) -> String {
        format!("{self}/{key}/{id}")
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.prefix)
    }
}

/// Clients have limits of their own for what is stored in files.
const MAX_LEN: usize = 512;

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text.ends_with(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    is_host(host) && port.is_none_or(is_port)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address = address.parse::<std::net::Ipv6Addr>();
        return address.is_ok_and(|address| format!("[{address}]") == host);
    }
    let is_label = |label: &str| {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

/// Not 443, which has a shorter spelling.
fn is_port(port: &str) -> bool {
    let number = port.parse::<u16>();
    number.is_ok_and(|number| number != 0 && number != 443 && number.to_string() == port)
}

fn is_prefix(text: &str) -> bool {
    let Some(segments) = text.strip_prefix('/') else { return text.is_empty() };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    let is_segment = |it: &str| !matches!(it, "" | "." | "..") && it.bytes().all(allowed);
    segments.split('/').all(is_segment)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> PublicUrl {
        PublicUrl::parse(text).unwrap()
    }

    #[test]
    fn a_kid_has_the_public_url_the_key_and_its_id() {
        let (key, id) = (KeyName::parse("Top.Secret_1").unwrap(), KeyId::parse("a-1").unwrap());
        for (text, kid) in [
            ("https://dke.example.org", "https://dke.example.org/Top.Secret_1/a-1"),
            ("https://dke.example.org/", "https://dke.example.org/Top.Secret_1/a-1"),
            ("https://h:8443/a/B_c", "https://h:8443/a/B_c/Top.Secret_1/a-1"),
            ("https://[::1]:8443", "https://[::1]:8443/Top.Secret_1/a-1"),
            ("https://127.0.0.1", "https://127.0.0.1/Top.Secret_1/a-1"),
        ] {
            assert_eq!(url(text).kid(&key, &id), kid);
        }
    }

    #[test]
    fn origin_and_prefix_are_told_apart() {
        let url = url("https://dke.example.org:8443/ms_dke/eu");
        assert_eq!((url.origin(), url.prefix()), ("https://dke.example.org:8443", "/ms_dke/eu"));
        assert_eq!(url.to_string(), "https://dke.example.org:8443/ms_dke/eu");
    }

    #[test]
    fn what_has_another_spelling_or_is_no_url_of_a_service_is_refused() {
        let long = format!("https://h/{}", "p".repeat(600));
        for text in [
            "",
            "https://",
            "https:///a",
            "http://dke.example.org",
            "HTTPS://dke.example.org",
            "dke.example.org",
            "https://DKE.example.org",
            "https://dke.example.org.",
            "https://dke..example.org",
            "https://-dke.example.org",
            "https://dke_1.example.org",
            "https://user@dke.example.org",
            "https://dke.example.org:443",
            "https://dke.example.org:0",
            "https://dke.example.org:08443",
            "https://dke.example.org:65536",
            "https://dke.example.org:",
            "https://dke.example.org?a",
            "https://dke.example.org#a",
            "https://dke.example.org//",
            "https://dke.example.org/a//b",
            "https://dke.example.org/a/../b",
            "https://dke.example.org/./b",
            "https://dke.example.org/a%41",
            "https://dke.example.org/a b",
            "https://dke.example.org/a,b",
            "https://dke.example.org/a\"b",
            "https://[::01]",
            "https://[::1",
            "https://::1",
            "https://b\u{fc}cher.example",
            &long,
        ] {
            assert_eq!(PublicUrl::parse(text), Err(PublicUrlError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "https://[a-z0-9.:-]{0,12}(/[a-zA-Z0-9._~/-]{0,9})?/?") {
            if let Ok(url) = PublicUrl::parse(&text) {
                prop_assert_eq!(url.to_string(), text.strip_suffix('/').unwrap_or(&text));
                prop_assert_eq!(PublicUrl::parse(&url.to_string()), Ok(url));
            }
        }
    }
}
