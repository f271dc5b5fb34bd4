//! Roles and groups that a token lists.

use serde_json::Value;

use super::Match;
use crate::bearer::Caller;

/// Which of the values of a claim, a text or a list of them, is listed.
pub(super) fn listed(
    caller: &Caller,
    claim: &str,
    listed: &[String],
    is_same: impl Fn(&str, &str) -> bool,
) -> Option<Match> {
    let is_listed = |has: &&str| listed.iter().any(|listed| is_same(has, listed));
    let value = match caller.claim(claim)? {
        Value::Array(values) => values.iter().filter_map(Value::as_str).find(is_listed),
        value => value.as_str().filter(is_listed),
    };
    value.map(|value| Match::of(claim, value))
}

/// Whether the token says only where its groups can be asked for: Entra ID lists
/// no more than 200.
pub(super) fn groups_are_elsewhere(caller: &Caller) -> bool {
    let elsewhere = caller.claim("_claim_names").and_then(|names| names.get("groups"));
    elsewhere.is_some() || caller.claim("hasgroups") == Some(&Value::Bool(true))
}
