//! The two operations: what is published of a key, and decrypting with it.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use twinlock_pkcs11::{Done, ErrorKind, Pkcs11Error};
use twinlock_service::log::micros;
use zeroize::Zeroizing;

use crate::access::Decision;
use crate::bearer::Caller;
use crate::config::{KeyState, Purpose};
use crate::error::ErrorName;
use crate::key::{Generation, Key, Members};
use crate::metrics::Metrics;
use crate::public_key::{PublicKeyResponse, expiry};
use crate::record::Record;
use crate::state::State;
use crate::wire::{DecryptRequest, plaintext_body};

/// What the caller is told, and what people here are told of it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) name: ErrorName,
    pub(crate) cause: Option<Cow<'static, str>>,
    /// Seconds until a retry makes sense.
    pub(crate) retry_after: Option<u64>,
    /// What is wrong with the token, if there was one.
    pub(crate) wrong_token: Option<&'static str>,
    /// The method that the path has.
    pub(crate) allow: Option<&'static str>,
}

/// The body of an answer.
pub(crate) type Answer = Result<Zeroizing<Vec<u8>>, Refusal>;

impl From<ErrorName> for Refusal {
    fn from(name: ErrorName) -> Self {
        let retry_after = matches!(name, ErrorName::Busy | ErrorName::Unavailable).then_some(1);
        Self { name, cause: None, retry_after, wrong_token: None, allow: None }
    }
}

impl Refusal {
    pub(crate) fn because(mut self, cause: impl Into<Cow<'static, str>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub(crate) fn unavailable(cause: impl Into<Cow<'static, str>>) -> Self {
        Self::from(ErrorName::Unavailable).because(cause)
    }
}

/// Publishes the newest generation of a key. That needs no token of the caller's,
/// and none of ours: what was found when the key was looked for is the answer.
pub(crate) fn public_key(state: &State, name: &str, record: &mut Record) -> Answer {
    let key = key_of(state, name, record)?;
    if key.state == KeyState::Disabled {
        return Err(Refusal::from(ErrorName::UnknownKey).because("the key is disabled"));
    }
    let generation = key.newest();
    record.note_generation(generation);
    refuse_conflicting(generation)?;
    let members = generation.members();
    let public = members.public_key().ok_or_else(|| of_no_token(generation, &members))?;
    let response = PublicKeyResponse {
        modulus: public.modulus(),
        exponent: public.exponent(),
        kid: &generation.kid,
        expires: key.cache_days.map(|days| expiry(SystemTime::now(), days)),
    };
    Ok(response.body().into())
}

/// A request to decrypt, of a caller who is known.
pub(crate) struct Call<'a> {
    pub(crate) state: &'a State,
    pub(crate) metrics: &'a Metrics,
    pub(crate) key: &'a Key,
    pub(crate) generation: &'a Generation,
}

impl<'a> Call<'a> {
    /// One answer for a key and for a generation that is not there.
    pub(crate) fn new(
        state: &'a State,
        metrics: &'a Metrics,
        (name, id): (&str, &str),
        record: &mut Record,
    ) -> Result<Self, Refusal> {
        let key = key_of(state, name, record)?;
        let Some(generation) = key.generation(id) else {
            return Err(
                Refusal::from(ErrorName::UnknownKey).because("the key has no such generation")
            );
        };
        record.note_generation(generation);
        Ok(Self { state, metrics, key, generation })
    }

    /// Whether this caller may do it, now and with this key.
    pub(crate) async fn authorize(
        &self,
        caller: &Caller,
        record: &mut Record,
    ) -> Result<(), Refusal> {
        let (key, id) = (self.key.name.as_str(), self.generation.id.as_str());
        match self.key.access.decide(caller, key, id).await {
            Decision::Allowed { by, matched } => record.note_allowed(by, matched),
            Decision::Denied { why } => {
                return Err(Refusal::from(ErrorName::Forbidden).because(why));
            }
            Decision::Unavailable(why) => return Err(Refusal::unavailable(why)),
        }
        match self.key.state {
            KeyState::Enabled => refuse_conflicting(self.generation),
            KeyState::Disabled => Err(ErrorName::Disabled.into()),
        }
    }

    pub(crate) async fn answer(&self, body: &[u8], record: &mut Record) -> Answer {
        let request = DecryptRequest::parse(body)
            .map_err(|error| Refusal::from(ErrorName::InvalidRequest).because(error.to_string()))?;
        if self.key.rate.as_ref().is_some_and(|rate| !rate.try_take()) {
            return Err(
                Refusal::from(ErrorName::Busy).because("the key's decrypts_per_second are used up")
            );
        }
        let members = self.generation.members();
        let Some(fleet) = members.fleet() else {
            return Err(of_no_token(self.generation, &members));
        };
        let done = fleet.decrypt(request.ciphertext, self.state.deadline).await;
        let plaintext = self.settle(done, &members, record)?;
        match self.is_for(&plaintext) {
            true => Ok(plaintext_body(&plaintext)),
            false => Err(ErrorName::InvalidCiphertext.into()),
        }
    }

    /// What a key for shares decrypts is a share.
    fn is_for(&self, plaintext: &[u8]) -> bool {
        const SHARE_LEN: usize = 32;
        match self.key.purpose {
            Purpose::MicrosoftLabel => true,
            Purpose::Shares => plaintext.len() == SHARE_LEN,
        }
    }

    /// Notes where the time went, and turns a token's error into an answer.
    fn settle(
        &self,
        done: Done<Zeroizing<Vec<u8>>>,
        members: &Members,
        record: &mut Record,
    ) -> Answer {
        record.queue_us = Some(micros(done.queued));
        record.hsm_us = Some(micros(done.in_token));
        if let Some(hsm) = members.hsm(done.member) {
            record.hsm = Some(hsm.name().to_owned());
            self.metrics.token(hsm.name(), done.queued, done.in_token);
        }
        done.result.map_err(|error| of_token(&error))
    }
}

fn key_of<'a>(state: &'a State, name: &str, record: &mut Record) -> Result<&'a Key, Refusal> {
    let key = state.keys.get(name).ok_or_else(|| {
        Refusal::from(ErrorName::UnknownKey).because("there is no key of this name")
    })?;
    record.note_key(key);
    Ok(key)
}

/// A key with two names would decrypt for who may use the other.
fn refuse_conflicting(generation: &Generation) -> Result<(), Refusal> {
    match generation.conflict() {
        Some(problem) => Err(Refusal::unavailable((*problem).clone())),
        None => Ok(()),
    }
}

fn of_no_token(generation: &Generation, members: &Members) -> Refusal {
    match (members.error(), members.replaced()) {
        (Some(error), _) => of_token(error),
        (None, Some(problem)) => Refusal::unavailable(problem.to_owned()),
        (None, None) => Refusal::unavailable(format!("{} was not looked for yet", generation.name)),
    }
}

/// Bad ciphertext is the caller's fault, and all else the token's or ours: worth a
/// retry, for somebody will mend it.
fn of_token(error: &Pkcs11Error) -> Refusal {
    let retry_after = error.retry_after().map(|time| time.max(Duration::from_secs(1)).as_secs());
    match error.kind() {
        // One text whatever is wrong with it, in the log, too.
        ErrorKind::BadCiphertext => ErrorName::InvalidCiphertext.into(),
        ErrorKind::Busy if retry_after.is_none() => {
            Refusal::from(ErrorName::Busy).because(error.to_string())
        }
        _ => Refusal {
            retry_after: Some(retry_after.unwrap_or(1)),
            ..Refusal::unavailable(error.to_string())
        },
    }
}
