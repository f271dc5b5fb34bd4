//! What a 401 tells: where to get a token, and for what.
//!
//! Clients split the header at commas, and take what stands between quotes: no
//! value has either.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;

/// What the configuration says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChallengeSettings {
    /// Where clients get tokens; Microsoft's for all tenants unless said.
    pub authorization: Option<String>,
    /// What the tokens are for; the service's own origin unless said.
    pub resource: Option<String>,
}

/// Where to get tokens unless the configuration says.
pub const AUTHORIZATION: &str = "https://login.windows.net/common/oauth2/authorize";

/// A challenge, ready to send.
#[derive(Clone, Debug)]
pub struct Challenge {
    authenticate: String,
    authorization: HeaderValue,
    resource: HeaderValue,
}

impl Challenge {
    /// The challenge of a service at `origin`.
    ///
    /// # Errors
    /// When a value has what a header cannot have, or what splits one.
    pub fn new(settings: &ChallengeSettings, origin: &str) -> Result<Self, String> {
        let authorization = settings.authorization.as_deref().unwrap_or(AUTHORIZATION);
        let resource = settings.resource.as_deref().unwrap_or(origin);
        let named = [("authorization", authorization), ("resource", resource)];
        if let Some((name, _)) = named.iter().find(|(_, value)| !is_plain(value)) {
            return Err(format!(
                "challenge.{name} must be printable ASCII without spaces, commas and quotes"
            ));
        }
        let value = |text: &str| HeaderValue::from_str(text).expect("it is printable ASCII");
        Ok(Self {
            authenticate: format!(
                "Bearer resource=\"{resource}\", authorization=\"{authorization}\", \
                 realm=\"{resource}\""
            ),
            authorization: value(authorization),
            resource: value(resource),
        })
    }

    /// Adds the headers of a 401; with what is wrong with the token, if there was
    /// one.
    pub fn add_to(&self, headers: &mut HeaderMap, wrong: Option<&str>) {
        headers.insert(header::WWW_AUTHENTICATE, self.authenticate(wrong));
        headers.insert(RESOURCE, self.resource.clone());
        headers.insert(AUTHORIZATION_HEADER, self.authorization.clone());
    }

    /// RFC 6750 section 3, in the form that clients of this protocol read.
    fn authenticate(&self, wrong: Option<&str>) -> HeaderValue {
        let error = wrong.map(|wrong| {
            let splits = |it: &char| !matches!(it, ' '..='~') || matches!(it, ',' | '"' | '\\');
            let wrong: String = wrong.chars().filter(|it| !splits(it)).collect();
            format!(", error=\"invalid_token\", error_description=\"{wrong}\"")
        });
        let text = format!("{}{}", self.authenticate, error.unwrap_or_default());
        HeaderValue::from_str(&text).expect("all of it is printable ASCII")
    }
}

const RESOURCE: HeaderName = HeaderName::from_static("resource");
/// In a response: it is none of HTTP's own there.
const AUTHORIZATION_HEADER: HeaderName = header::AUTHORIZATION;

fn is_plain(value: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b',' | b'"' | b'\\');
    (1..=512).contains(&value.len()) && value.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(settings: &ChallengeSettings, wrong: Option<&str>) -> [String; 3] {
        let mut headers = HeaderMap::new();
        Challenge::new(settings, "https://dke.example.org").unwrap().add_to(&mut headers, wrong);
        ["www-authenticate", "resource", "authorization"]
            .map(|name| headers[name].to_str().unwrap().to_owned())
    }

    #[test]
    fn it_tells_where_to_get_a_token_and_for_what() {
        assert_eq!(
            headers(&ChallengeSettings::default(), None),
            [
                "Bearer resource=\"https://dke.example.org\", \
                 authorization=\"https://login.windows.net/common/oauth2/authorize\", \
                 realm=\"https://dke.example.org\"",
                "https://dke.example.org",
                "https://login.windows.net/common/oauth2/authorize",
            ]
        );
        let settings = ChallengeSettings {
            authorization: Some("https://issuer.example/authorize".to_owned()),
            resource: Some("api://dke".to_owned()),
        };
        assert_eq!(
            headers(&settings, None),
            [
                "Bearer resource=\"api://dke\", \
                 authorization=\"https://issuer.example/authorize\", realm=\"api://dke\"",
                "api://dke",
                "https://issuer.example/authorize",
            ]
        );
    }

    #[test]
    fn it_tells_what_is_wrong_with_a_token() {
        let [authenticate, _, _] = headers(&ChallengeSettings::default(), Some("it has expired"));
        let end = ", error=\"invalid_token\", error_description=\"it has expired\"";
        assert!(authenticate.ends_with(end), "{authenticate}");
    }

    #[test]
    fn what_would_split_the_header_is_refused() {
        let long = "x".repeat(513);
        for value in ["", "a,b", "a\"b", "a b", "a\\b", "a\nb", "\u{e9}", &long] {
            let value = Some(value.to_owned());
            for settings in [
                ChallengeSettings { authorization: value.clone(), resource: None },
                ChallengeSettings { authorization: None, resource: value.clone() },
            ] {
                assert!(Challenge::new(&settings, "https://h").is_err(), "{settings:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_split_in_one_way_whatever_is_wrong(wrong in any::<String>()) {
            let [text, _, _] = headers(&ChallengeSettings::default(), Some(&wrong));
            let items: Vec<_> = text.strip_prefix("Bearer ").unwrap().split(',').collect();
            prop_assert_eq!(items.len(), 5);
            for item in items {
                let (name, value) = item.trim().split_once('=').unwrap();
                prop_assert!(!name.is_empty() && value.len() >= 2);
                prop_assert!(value.starts_with('"') && value.ends_with('"'));
                prop_assert_eq!(value.matches('"').count(), 2);
            }
        }
    }
}
