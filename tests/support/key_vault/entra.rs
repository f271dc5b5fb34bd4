//! Entra ID: gives tokens to one service principal, by secret, by federated
//! token or as a managed identity.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::http::Message;

pub(crate) const TENANT: &str = "11111111-2222-4333-8444-555555555555";
pub(crate) const CLIENT: &str = "66666666-7777-4888-8999-000000000000";
pub(crate) const SECRET: &str = "client~secret+of/the=tests&%";
/// The federated token of a workload.
pub(crate) const ASSERTION: &str = "eyJhbGciOiJub25lIn0.e30.workload";
/// What an application service's own address wants to see.
pub(crate) const IDENTITY_HEADER: &str = "identity-header-of-the-tests";

/// For how many seconds a token is good.
const LIFETIME: i64 = 3600;

#[derive(Default)]
pub(super) struct Entra {
    pub(super) tokens: HashMap<String, Token>,
}

pub(super) struct Token {
    pub(super) audience: String,
    pub(super) not_before: i64,
    pub(super) expires: i64,
}

impl Entra {
    /// Status and body of the answer to a request for a token.
    pub(super) fn answer(&mut self, request: &Message, target: &str, now: i64) -> (u16, Value) {
        match target.strip_prefix("/msi/token?") {
            Some(query) => self.for_managed_identity(request, query, now),
            None => self.for_principal(request, target, now),
        }
    }

    /// A new token for a scope: `https://vault.azure.net/.default`.
    pub(super) fn give(&mut self, scope: &str, now: i64) -> String {
        let token = format!("token-{}-of-the-tests", self.tokens.len());
        let audience = scope.strip_suffix("/.default").unwrap_or_default().to_owned();
        let given = Token { audience, not_before: now - 300, expires: now + LIFETIME };
        self.tokens.insert(token.clone(), given);
        token
    }

    fn for_principal(&mut self, request: &Message, target: &str, now: i64) -> (u16, Value) {
        let fields = fields(&String::from_utf8_lossy(&request.body));
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let by_secret = field("client_secret") == SECRET;
        let by_assertion = field("client_assertion") == ASSERTION
            && field("client_assertion_type")
                == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let is_known = request.first_line.starts_with("POST ")
            && target == format!("/{TENANT}/oauth2/v2.0/token")
            && field("grant_type") == "client_credentials"
            && field("client_id") == CLIENT;
        if !is_known || !(by_secret || by_assertion) {
            return invalid_client(field("client_secret"));
        }
        let token = self.give(field("scope"), now);
        let body = json!({ "token_type": "Bearer", "expires_in": LIFETIME, "access_token": token });
        (200, body)
    }

    fn for_managed_identity(&mut self, request: &Message, query: &str, now: i64) -> (u16, Value) {
        let fields = fields(query);
        let header = request.header("x-identity-header");
        let (Some(IDENTITY_HEADER), Some(resource)) = (header, fields.get("resource")) else {
            return (401, json!({ "statusCode": 401, "message": "Unauthorized" }));
        };
        let token = self.give(&format!("{resource}/.default"), now);
        let body = json!({
            "access_token": token,
            "expires_on": (now + LIFETIME).to_string(),
            "resource": resource,
            "token_type": "Bearer",
        });
        (200, body)
    }
}

/// The description repeats the secret, which the real one does not: nobody may
/// quote it.
fn invalid_client(secret: &str) -> (u16, Value) {
    let body = json!({
        "error": "invalid_client",
        "error_description": format!("AADSTS7000215: Invalid client secret provided: {secret}"),
        "error_codes": [7_000_215],
    });
    (401, body)
}

/// `application/x-www-form-urlencoded`
fn fields(text: &str) -> HashMap<String, String> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}
