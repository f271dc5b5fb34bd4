//! Roles and groups that a token lists.

use serde_json::Value;

use crate::bearer::Caller;

/// Whether one of the values of a claim, a text or a list of them, is listed.
pub(super) fn has_one(
    caller: &Caller,
    claim: &str,
    listed: &[String],
    is_same: impl Fn(&str, &str) -> bool,
) -> bool {
    let is_listed = |value: &Value| {
        value.as_str().is_some_and(|has| listed.iter().any(|listed| is_same(has, listed)))
    };
    match caller.claim(claim) {
        Some(Value::Array(values)) => values.iter().any(is_listed),
        Some(value) => is_listed(value),
        None => false,
    }
}

/// Whether the token says only where its groups can be asked for: Entra ID lists
/// no more than 200.
pub(super) fn groups_are_elsewhere(caller: &Caller) -> bool {
    let elsewhere = caller.claim("_claim_names").and_then(|names| names.get("groups"));
    elsewhere.is_some() || caller.claim("hasgroups") == Some(&Value::Bool(true))
}
