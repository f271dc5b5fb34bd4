//! Membership in the groups of a directory (LDAP), as Active Directory has it.
//!
//! The user is found by the SID that the token has, and is a member if its
//! `memberOf` names a group with one of the listed SIDs. Two searches find that
//! out: one for the names of the groups, and one for the user *with* one of these
//! names in `memberOf`. So the directory itself compares names, which have several
//! spellings, and nothing here takes one apart; and however many groups a user is
//! in, at most one entry comes back.
//!
//! The directory decides who may open what, so it is trusted: it is reached over
//! TLS, or on this machine. What it answers is kept for [a minute](KEEP).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use serde_json::Value;

use super::{Decision, Match, Sid};
use crate::bearer::Caller;

mod connection;

pub use connection::{Ldap, LdapSettings};

/// How long the directory's answer is believed.
const KEEP: Duration = Duration::from_secs(60);

/// How long it is not asked again after it gave none: callers who come back at once
/// would keep one busy that has trouble enough.
const KEEP_ERROR: Duration = Duration::from_secs(1);

/// Of so many users at a time.
const MAX_KEPT: usize = 10_000;

/// A filter for more would be longer than directories take.
const MAX_GROUPS: usize = 100;

/// The groups of a directory that may use a key.
pub(super) struct Membership {
    groups: Vec<Sid>,
    directory: Arc<Ldap>,
    known: Mutex<HashMap<Sid, Pending>>,
}

/// A question about one user. All who ask the same wait for one answer.
type Pending = Shared<BoxFuture<'static, Known>>;

/// What the directory says of a user, and since when that is known.
#[derive(Clone)]
struct Known {
    since: Instant,
    is_member: Result<bool, String>,
}

impl Membership {
    /// None if there are no groups.
    pub(super) fn new(
        groups: &[Sid],
        directory: Option<Arc<Ldap>>,
    ) -> Result<Option<Self>, String> {
        if groups.is_empty() {
            return Ok(None);
        }
        if groups.len() > MAX_GROUPS {
            return Err(format!("access.ldap_groups has more than {MAX_GROUPS} groups"));
        }
        let directory = directory.ok_or("access.ldap_groups needs [ldap]: the directory to ask")?;
        Ok(Some(Self { groups: groups.to_vec(), directory, known: Mutex::default() }))
    }

    /// By which SID the caller is in one of them; otherwise what to decide.
    pub(super) async fn check(&self, caller: &Caller) -> Result<Match, Decision> {
        let denied = |why: &str| Err(Decision::Denied { why: why.to_owned() });
        if !self.directory.knows_users_of(caller.issuer()) {
            return denied(
                "the caller is on none of the key's lists, and the directory is not asked for \
                 users of this issuer (ldap.issuer)",
            );
        }
        let claim = caller.claim(self.directory.sid_claim());
        let Some(text) = claim.and_then(Value::as_str) else {
            return denied("the caller is on none of the key's lists, and the token has no SID");
        };
        let Ok(user) = text.parse() else { return denied("the SID in the token is malformed") };
        match self.has(&user).await {
            Ok(true) => Ok(Match::of(self.directory.sid_claim(), text)),
            Ok(false) => denied("the caller is on none of the key's lists, nor in its groups"),
            Err(problem) => Err(Decision::Unavailable(problem)),
        }
    }

    async fn has(&self, user: &Sid) -> Result<bool, String> {
        let pending = self.asked(user);
        pending.await.is_member
    }

    /// What it is or was asked about the user.
    fn asked(&self, user: &Sid) -> Pending {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pending) = known.get(user).filter(|pending| is_of_use(pending)) {
            return pending.clone();
        }
        let pending = self.ask(user.clone());
        if known.len() >= MAX_KEPT {
            known.retain(|_, pending| is_of_use(pending));
        }
        if known.len() < MAX_KEPT {
            known.insert(user.clone(), pending.clone());
        }
        pending
    }

    /// Asks, whether anybody waits for the answer or not.
    fn ask(&self, user: Sid) -> Pending {
        let (directory, groups) = (Arc::clone(&self.directory), self.groups.clone());
        let asking = async move {
            let is_member = directory.is_member(&user, &groups).await;
            Known { since: Instant::now(), is_member }
        };
        let pending = asking.boxed().shared();
        tokio::spawn(pending.clone());
        pending
    }
}

/// True until the answer is too old.
fn is_of_use(pending: &Pending) -> bool {
    let Some(Known { since, is_member }) = pending.peek() else { return true };
    let keep = if is_member.is_ok() { KEEP } else { KEEP_ERROR };
    since.elapsed() < keep
}

#[cfg(test)]
mod tests;
