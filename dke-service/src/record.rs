//! What is written of each request: a line of JSON.
//!
//! It says who had what decrypted, and why somebody was refused. It has neither
//! plaintexts nor ciphertexts, and nothing of a token but who it speaks for.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use twinlock_service::listen::Peer;
use twinlock_service::log::Timestamp;
use twinlock_service::traces::{Span, steps_of_token};

use crate::access::Match;
use crate::bearer::Caller;
use crate::key::{Generation, Key};

/// One request, as far as it came.
#[derive(Debug, Serialize)]
pub struct Record {
    /// When its head was there.
    pub time: Timestamp,
    /// What was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<&'static str>,
    /// The key, if there is one of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// What the key is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<&'static str>,
    /// Which of its generations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Who made the token that was presented; this and what follows is as that
    /// token says, once it was verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Who presented it, by a name that people know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The same by the name that never changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oid: Option<String>,
    /// The same as the issuer of the token names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Which list or rule let them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_by: Option<&'static str>,
    /// The claim that is listed there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_claim: Option<String>,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_value: Option<String>,
    /// Where the connection came from.
    pub peer: IpAddr,
    /// `ok`, or the error that the caller was told.
    pub outcome: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// What went wrong, for people here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'static, str>>,
    /// Which token did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsm: Option<String>,
    /// Microseconds it waited for a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_us: Option<u64>,
    /// Microseconds that the token took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsm_us: Option<u64>,
    /// Microseconds from head to answer.
    pub total_us: u64,
}

impl Record {
    /// Of a request that begins now.
    #[must_use]
    pub fn new(peer: &Peer) -> Self {
        Self {
            time: Timestamp(SystemTime::now()),
            operation: None,
            key: None,
            purpose: None,
            generation: None,
            issuer: None,
            user: None,
            oid: None,
            sub: None,
            tenant: None,
            client: None,
            allowed_by: None,
            allowed_claim: None,
            allowed_value: None,
            peer: peer.address.ip(),
            outcome: "ok",
            status: 200,
            error: None,
            hsm: None,
            queue_us: None,
            hsm_us: None,
            total_us: 0,
        }
    }

    /// Its span, of a request that took `total`.
    pub(crate) fn span(&self, total: Duration) -> Span<'_, Self> {
        Span {
            name: self.operation.unwrap_or("request"),
            record: self,
            start: self.time.0,
            end: self.time.0 + total,
            is_fault: self.status >= 500,
            steps: steps_of_token(self.queue_us, self.hsm_us),
        }
    }

    pub(crate) fn note_caller(&mut self, caller: &Caller) {
        self.issuer = Some(caller.issuer().to_owned());
        self.user = caller.user();
        self.oid = caller.oid();
        self.sub = caller.subject();
        self.tenant = caller.tenant();
        self.client = caller.client();
    }

    pub(crate) fn note_allowed(&mut self, by: &'static str, matched: Option<Match>) {
        self.allowed_by = Some(by);
        (self.allowed_claim, self.allowed_value) =
            matched.map(|Match { claim, value }| (claim, value)).unzip();
    }

    pub(crate) fn note_key(&mut self, key: &Key) {
        self.key = Some(Arc::clone(&key.label));
        self.purpose = Some(key.purpose.as_str());
    }

    pub(crate) fn note_generation(&mut self, generation: &Generation) {
        self.generation = Some(generation.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::new(&Peer { address: ([127, 0, 0, 1], 1).into(), subject: None })
    }

    #[test]
    fn a_record_is_one_line_of_json_whatever_a_token_says() {
        let mut record = record();
        record.user = Some("a\nb\u{2028}\"\u{7f}".to_owned());
        let line = serde_json::to_vec(&record).unwrap();
        assert!(!line.contains(&b'\n'));
        let read: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(read["user"], "a\nb\u{2028}\"\u{7f}");
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        let line = serde_json::to_string(&record()).unwrap();
        assert!(!line.contains("null") && !line.contains("oid"), "{line}");
    }
}
