//! Who calls: bearer tokens (JWTs) of the issuers that are configured, Entra ID
//! or any other that speaks OpenID Connect.
//!
//! A token is believed when an issuer's published key has signed it and its
//! claims say that it is for this service. The `iss` that it claims only chooses
//! among the configured issuers; nothing else of it is read before the signature
//! was verified, and no key or address is ever taken from it.
//!
//! # The keys of an issuer
//!
//! They are those of the `jwks_uri` in its discovery document, which has to name
//! the configured issuer. Both are fetched in the background, again each hour,
//! and when a token names a key that is not known: once in 30
//! seconds at the most, however many such tokens there are, which
//! wait for the same fetch. An issuer that does not answer changes nothing for
//! a day; before its keys were fetched once, its tokens are
//! [`Unavailable`](Unverified::Unavailable).
//!
//! # Entra ID
//!
//! Office presents tokens of version 1, whose issuer is
//! `https://sts.windows.net/<tenant>/`, with the slash. Its discovery document is
//! there, at `https://login.microsoftonline.com/<tenant>/`, and at
//! `https://login.microsoftonline.com/common/`; the last one names its issuer as
//! `https://sts.windows.net/{tenantid}/`, a template, which is compared with
//! [`IssuerSettings::tenant`] in the place of `{tenantid}`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

mod caller;
mod claims;
mod fetch;
mod issuer;
mod key_set;
mod proven;

pub use caller::Caller;

use crate::token::Token;
use issuer::Issuer;

/// Whose tokens are believed, and which of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// The `iss` of its tokens, to the letter.
    pub issuer: String,
    /// The address of its discovery document; if not said,
    /// `.well-known/openid-configuration` below the issuer.
    pub metadata: Option<String>,
    /// What the `aud` of a token has to name one of, but for a slash at its end;
    /// if none is said, the origin of this service.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// What the `tid` of a token has to be. Needed where `metadata` is one for all
    /// tenants.
    pub tenant: Option<String>,
    /// What the `scp` or `scope` of a token has to have one of; anything if none
    /// is said.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// What the `appid` (of Entra ID's version 1), `azp` or `client_id` of a token
    /// has to be one of; anything if none is said.
    #[serde(default)]
    pub clients: Vec<String>,
    /// How tokens may be signed.
    #[serde(default = "rs256")]
    pub algorithms: Vec<String>,
    /// Authorities for the issuer's certificate, in PEM, instead of the system's.
    pub ca: Option<PathBuf>,
}

fn rs256() -> Vec<String> {
    vec!["RS256".to_owned()]
}

/// Verifies bearer tokens.
pub struct Bearer {
    issuers: Vec<Arc<Issuer>>,
}

/// Why a caller is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unverified {
    /// The token is no good, and why: for the log, and for `error_description`,
    /// since it has neither commas nor quotes. Never a part of the token.
    Invalid(&'static str),
    /// The keys of its issuer are not known (yet). For the log.
    Unavailable(String),
}

impl Bearer {
    /// Reads what the settings name. Nothing is fetched yet: see
    /// [`refresh`](Self::refresh). `origin` is scheme, host and port of this
    /// service's own address.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(issuers: &[IssuerSettings], origin: &str) -> Result<Self, String> {
        Self::with_timing(issuers, origin, &Timing::default())
    }

    fn with_timing(
        issuers: &[IssuerSettings],
        origin: &str,
        timing: &Timing,
    ) -> Result<Self, String> {
        if issuers.is_empty() {
            return Err("there is no [[issuer]]".to_owned());
        }
        for (number, settings) in issuers.iter().enumerate() {
            if issuers[..number].iter().any(|other| other.issuer == settings.issuer) {
                return Err(format!("two have the issuer {:?}", settings.issuer));
            }
        }
        let open = |settings: &IssuerSettings| {
            let issuer = Issuer::new(settings, origin, timing);
            issuer.map(Arc::new).map_err(|error| format!("issuer {:?}: {error}", settings.issuer))
        };
        Ok(Self { issuers: issuers.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// Says who presents this token: what stands behind `Bearer ` in the header.
    ///
    /// # Errors
    /// When the token is no good, or when that cannot be told now.
    pub async fn verify(&self, token: &str) -> Result<Caller, Unverified> {
        let token = Token::parse(token).map_err(Unverified::Invalid)?;
        let named = |issuer: &&Arc<Issuer>| token.issuer.as_deref() == Some(issuer.name());
        match self.issuers.iter().find(named) {
            Some(issuer) => issuer.verify(token).await,
            None => Err(Unverified::Invalid("the token is of an issuer that is not trusted")),
        }
    }

    /// Fetches the keys of all issuers for which it is time. To be called again
    /// and again, every few seconds; it returns when all have answered or have
    /// taken too long.
    pub async fn refresh(&self) {
        let flights: Vec<_> = self.issuers.iter().filter_map(Issuer::refresh).collect();
        for flight in flights {
            flight.landed().await;
        }
    }

    /// Takes over the keys that another one has fetched, from the same places: as
    /// when the configuration is read again.
    pub fn inherit(&self, before: &Self) {
        for issuer in &self.issuers {
            let same = before.issuers.iter().find(|other| other.has_source_of(issuer));
            same.into_iter().for_each(|other| issuer.inherit(other));
        }
    }

    /// How long ago the keys of each issuer were fetched, if they ever were.
    pub fn ages_of_keys(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.issuers.iter().filter_map(|issuer| Some((issuer.name(), issuer.age_of_keys()?)))
    }

    /// What is wrong with issuers now, a sentence each: for readiness and
    /// `check-config`.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.issuers.iter().filter_map(|issuer| issuer.problem()).collect()
    }
}

/// How long things take and last.
#[derive(Clone, Debug)]
struct Timing {
    /// Between one fetch of an issuer's keys and the next, at the least.
    gap: Duration,
    /// After which keys are fetched again in the background.
    refresh: Duration,
    /// For which keys are used while their issuer does not answer. No token is
    /// valid for longer, so nobody is shut out; and a key that was withdrawn is
    /// not believed for ever by whoever can be cut off from its issuer.
    keep: Duration,
    /// For each of the two documents.
    timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            gap: Duration::from_secs(30),
            refresh: Duration::from_secs(3600),
            keep: Duration::from_secs(24 * 3600),
            timeout: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests;
