//! Whether a caller may use a key.
//!
//! Claims mean what the issuer that made them means: `alice@example.org` of one
//! issuer is not that of another. So what a key asks first is whether the token's
//! issuer counts for it at all.
//!
//! A key lists who: users, roles, groups, groups of a directory. A caller has to
//! be in one of the lists, if there is any, *and* the key's policy has to allow
//! it, if there is one. A key that has neither is no key: nobody may use it, so it
//! is refused when the configuration is read.
//!
//! Lists are asked in this order, and the directory only where no other list has
//! the caller, so that those who are listed here do not depend on it.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

mod claims;
mod directory;
mod policy;
mod sid;
mod users;

pub use directory::{Ldap, LdapSettings};
pub use policy::PACKAGE;
pub use sid::Sid;

use crate::bearer::Caller;
use directory::Membership;
use policy::{AccessPolicy, Verdict};
use users::Users;

/// Who may use a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessSettings {
    /// The issuers whose tokens count for the key. To be said wherever the
    /// configuration has several: what one of them calls alice, a role or a SID is
    /// not what another does.
    #[serde(default)]
    pub issuers: Vec<String>,
    /// Names of users, as `alice@example.org`. `*` stands for any number of
    /// characters and `?` for one, neither of them for an `@`; `*` alone is
    /// everybody who has a name. Upper and lower case are the same.
    #[serde(default)]
    pub users: Vec<String>,
    /// The claims that name a user. The first of them that a token has decides.
    ///
    /// `upn` if not said. `email` is whatever an issuer lets people call
    /// themselves; it counts only where it is listed here, and not where the token
    /// says that it was not verified (`email_verified`, or Entra ID's `xms_edov`).
    #[serde(default = "upn")]
    pub user_claims: Vec<String>,
    /// Values of the claim `roles`, to the letter.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Values of the claim `groups`: mostly object ids. Case does not matter.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Groups of the directory, by their SIDs. Who is in them directly may use the
    /// key; who is in a group that is in them may not, nor who has one of them as
    /// the primary group, which a directory keeps elsewhere.
    #[serde(default)]
    pub ldap_groups: Vec<Sid>,
    /// Rego, package `twinlock.dke`.
    pub policy: Option<PathBuf>,
}

fn upn() -> Vec<String> {
    vec!["upn".to_owned()]
}

/// Who may use a key, ready to be asked.
pub struct Access {
    /// Empty if there is but one.
    issuers: Vec<String>,
    users: Option<Users>,
    roles: Vec<String>,
    groups: Vec<String>,
    membership: Option<Membership>,
    policy: Option<AccessPolicy>,
}

/// A claim, and the value by which its bearer is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The name of the claim.
    pub claim: String,
    /// Its value, or the one among its values: as the token has it, shortened.
    pub value: String,
}

/// What a caller is listed by.
type Listed = (&'static str, Option<Match>);

/// Whether a caller may use a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It may.
    Allowed {
        /// What it is listed by: `user`, `role`, `group`, `directory` or `policy`.
        by: &'static str,
        /// What of the token matched, unless the policy alone decided.
        matched: Option<Match>,
    },
    /// It may not.
    Denied {
        /// Why, for the log.
        why: String,
    },
    /// That cannot be told now. For the log.
    Unavailable(String),
}

impl Access {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// When nobody is named at all, or something else is wrong with a setting.
    pub fn new(settings: &AccessSettings, ldap: Option<Arc<Ldap>>) -> Result<Self, String> {
        let AccessSettings { roles, groups, ldap_groups, .. } = settings;
        if settings.names_nobody() {
            return Err("access needs one of users, roles, groups, ldap_groups and policy: \
                        without, nobody may use the key"
                .to_owned());
        }
        if roles.iter().chain(groups).any(|name| name.trim().is_empty()) {
            return Err("access has a role or group without a name".to_owned());
        }
        Ok(Self {
            issuers: settings.issuers.clone(),
            users: Users::new(&settings.users, &settings.user_claims)?,
            roles: roles.clone(),
            groups: groups.clone(),
            membership: Membership::new(ldap_groups, ldap)?,
            policy: settings.policy.as_deref().map(AccessPolicy::load).transpose()?,
        })
    }

    /// Decides whether the caller may use this generation of this key.
    pub async fn decide(&self, caller: &Caller, key: &str, generation: &str) -> Decision {
        if !self.issuers.is_empty() && !self.issuers.iter().any(|it| it == caller.issuer()) {
            let why = "tokens of this issuer do not count for the key (access.issuers)";
            return Decision::Denied { why: why.to_owned() };
        }
        let (by, matched) = match self.listed(caller).await {
            Ok(listed) => listed,
            Err(decision) => return decision,
        };
        match self.policy.as_ref().map(|policy| policy.ask(caller, key, generation)) {
            None | Some(Verdict::Allowed) => Decision::Allowed { by, matched },
            Some(Verdict::Denied(rule)) => Decision::Denied { why: format!("policy: {rule}") },
            // A retry with the same token would fail in the same way.
            Some(Verdict::Failed(error)) if caller.has_no_name() => Decision::Denied {
                why: format!("the policy cannot decide of a token that names nobody: {error}"),
            },
            Some(Verdict::Failed(error)) => Decision::Unavailable(error),
        }
    }

    /// What the caller is listed by, or that it is not.
    async fn listed(&self, caller: &Caller) -> Result<Listed, Decision> {
        if !self.has_lists() {
            return Ok(("policy", None));
        }
        if let Some(user) = self.users.as_ref().and_then(|users| users.find(caller)) {
            return Ok(("user", Some(user)));
        }
        let is_same = |has: &str, listed: &str| has == listed;
        if let Some(role) = claims::listed(caller, "roles", &self.roles, is_same) {
            return Ok(("role", Some(role)));
        }
        let is_same = str::eq_ignore_ascii_case;
        if let Some(group) = claims::listed(caller, "groups", &self.groups, is_same) {
            return Ok(("group", Some(group)));
        }
        match &self.membership {
            Some(membership) => {
                membership.check(caller).await.map(|user| ("directory", Some(user)))
            }
            None => Err(Decision::Denied { why: self.absence(caller).to_owned() }),
        }
    }

    fn has_lists(&self) -> bool {
        let Self { users, roles, groups, membership, .. } = self;
        users.is_some() || !roles.is_empty() || !groups.is_empty() || membership.is_some()
    }

    /// Why a caller is on no list.
    fn absence(&self, caller: &Caller) -> &'static str {
        if !self.groups.is_empty() && claims::groups_are_elsewhere(caller) {
            return "the token does not list its groups since there are too many: have Entra ID put \
                    only the groups assigned to the application into tokens, or use roles";
        }
        "the caller is on none of the key's lists"
    }
}

impl Match {
    fn of(claim: &str, value: &str) -> Self {
        Self { claim: claim.to_owned(), value: value.chars().take(MAX_VALUE).collect() }
    }
}

/// What a log has of a value, in characters.
const MAX_VALUE: usize = 256;

impl AccessSettings {
    /// True if nobody could ever use the key.
    #[must_use]
    pub fn names_nobody(&self) -> bool {
        let Self { users, roles, groups, ldap_groups, policy, .. } = self;
        let lists = [users.len(), roles.len(), groups.len(), ldap_groups.len()];
        lists == [0; 4] && policy.is_none()
    }
}

#[cfg(test)]
mod tests;
