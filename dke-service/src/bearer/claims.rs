//! Whether a token is for us, and for now.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::IssuerSettings;

/// How far the issuer's clock may be off from ours, in seconds.
const LEEWAY: f64 = 300.0;

/// What an issuer's tokens have to say.
pub(super) struct Rules {
    audiences: Vec<String>,
    tenant: Option<String>,
    scopes: Vec<String>,
    clients: Vec<String>,
}

impl Rules {
    pub(super) fn new(settings: &IssuerSettings, origin: &str) -> Result<Self, String> {
        let audiences = match &settings.audiences[..] {
            [] => vec![origin.to_owned()],
            audiences => audiences.to_vec(),
        };
        let rules = Self {
            audiences,
            tenant: settings.tenant.clone(),
            scopes: settings.scopes.clone(),
            clients: settings.clients.clone(),
        };
        let lists = [&rules.audiences, &rules.scopes, &rules.clients];
        let is_empty = |text: &String| text.trim().is_empty();
        if lists.into_iter().flatten().chain(&rules.tenant).any(is_empty) {
            return Err("one of audiences, tenant, scopes and clients is an empty text".to_owned());
        }
        Ok(rules)
    }

    /// Checks the claims of a token whose signature is good.
    pub(super) fn check(
        &self,
        claims: &Map<String, Value>,
        now: SystemTime,
    ) -> Result<(), &'static str> {
        check_time(claims, now)?;
        let is_for_us = self.audiences.iter().any(|ours| is_for(claims, ours));
        if !is_for_us {
            return Err("the token is for another audience");
        }
        if self.tenant.as_deref().is_some_and(|tenant| text(claims, "tid") != Some(tenant)) {
            return Err("the token is of another tenant");
        }
        if !self.scopes.is_empty() && !self.scopes.iter().any(|scope| has_scope(claims, scope)) {
            return Err("the token lacks the scope");
        }
        let is_listed = |client| self.clients.iter().any(|listed| listed == client);
        if !self.clients.is_empty() && !client(claims).is_some_and(is_listed) {
            return Err("the token was given to another application");
        }
        Ok(())
    }
}

/// The application that a token was given to.
pub(super) fn client(claims: &Map<String, Value>) -> Option<&str> {
    ["appid", "azp", "client_id"].into_iter().find_map(|name| text(claims, name))
}

fn check_time(claims: &Map<String, Value>, now: SystemTime) -> Result<(), &'static str> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64();
    // A NumericDate may have a fraction (RFC 7519 section 2).
    match claims.get("exp").map(Value::as_f64) {
        None => return Err("the token does not expire"),
        Some(None) => return Err("the expiry of the token is malformed"),
        Some(Some(expiry)) if now >= expiry + LEEWAY => return Err("the token has expired"),
        Some(Some(_)) => {}
    }
    match claims.get("nbf").map(Value::as_f64) {
        Some(None) => Err("the beginning of the token is malformed"),
        Some(Some(begin)) if begin > now + LEEWAY => Err("the token is not valid yet"),
        None | Some(Some(_)) => Ok(()),
    }
}

/// Whether `aud`, a text or a list of them, names this audience.
fn is_for(claims: &Map<String, Value>, ours: &str) -> bool {
    let is_ours = |value: &Value| value.as_str().is_some_and(|aud| bare(aud) == bare(ours));
    match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().any(is_ours),
        Some(value) => is_ours(value),
        None => false,
    }
}

/// Without the slash that one has at its end and another has not.
fn bare(audience: &str) -> &str {
    audience.strip_suffix('/').unwrap_or(audience)
}

/// Whether `scp` (Entra ID) or `scope` (RFC 9068) has this scope: a text of
/// several with spaces between, or a list.
fn has_scope(claims: &Map<String, Value>, wanted: &str) -> bool {
    let has = |value: &Value| match value {
        Value::String(scopes) => scopes.split(' ').any(|scope| scope == wanted),
        Value::Array(scopes) => scopes.iter().any(|scope| scope == wanted),
        _ => false,
    };
    ["scp", "scope"].into_iter().any(|name| claims.get(name).is_some_and(has))
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str()
}
