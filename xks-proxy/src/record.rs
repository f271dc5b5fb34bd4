//! What is written of each request: a line of JSON.
//!
//! It has whatever helps to find out what happened and to write a policy, and
//! none of what was encrypted: no plaintext, ciphertext, IV or AAD, and no
//! secret or signature.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use twinlock_service::listen::Peer;
use twinlock_service::log::Timestamp;
use twinlock_service::traces::{Span, steps_of_token};

/// One request, as far as it came.
#[derive(Debug, Serialize)]
pub struct Record {
    /// When its head was there.
    pub time: Timestamp,
    /// KMS's name for the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_request_id: Option<String>,
    /// What was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<&'static str>,
    /// What KMS was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_operation: Option<String>,
    /// The key store's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_store: Option<Arc<str>>,
    /// The external key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Which of its generations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The KMS key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_arn: Option<String>,
    /// Who asked KMS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// From which VPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_vpc: Option<String>,
    /// Through which endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_vpce: Option<String>,
    /// Through which service of AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via_service: Option<String>,
    /// Whose credential signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Where the connection came from.
    pub peer: IpAddr,
    /// Whose certificate it showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_subject: Option<Arc<str>>,
    /// `ok`, or the error that KMS was told.
    pub outcome: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// What went wrong, for people here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'static, str>>,
    /// Which rule of the policy decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_rule: Option<String>,
    /// The policy would have denied it, and is only tried out.
    #[serde(skip_serializing_if = "is_false")]
    pub policy_would_deny: bool,
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
            kms_request_id: None,
            operation: None,
            kms_operation: None,
            key_store: None,
            key: None,
            generation: None,
            kms_key_arn: None,
            principal: None,
            source_vpc: None,
            source_vpce: None,
            via_service: None,
            access_key_id: None,
            peer: peer.address.ip(),
            peer_subject: peer.subject.clone(),
            outcome: "ok",
            status: 200,
            error: None,
            policy_rule: None,
            policy_would_deny: false,
            hsm: None,
            queue_us: None,
            hsm_us: None,
            total_us: 0,
        }
    }

    /// Its span, of a request that took `total`.
    #[must_use]
    pub fn span(&self, total: Duration) -> Span<'_, Self> {
        Span {
            name: self.operation.unwrap_or("request"),
            record: self,
            start: self.time.0,
            end: self.time.0 + total,
            is_fault: self.status >= 500,
            steps: steps_of_token(self.queue_us, self.hsm_us),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::new(&Peer { address: ([127, 0, 0, 1], 1).into(), subject: None })
    }

    #[test]
    fn a_record_is_one_line_of_json_whatever_kms_sends() {
        let mut record = record();
        record.kms_request_id = Some("a\nb\u{2028}\"\u{7f}".to_owned());
        let line = serde_json::to_vec(&record).unwrap();
        assert!(!line.contains(&b'\n'));
        let read: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(read["kms_request_id"], "a\nb\u{2028}\"\u{7f}");
    }

    #[test]
    fn a_span_has_the_times_of_the_record() {
        let mut record = record();
        (record.operation, record.status) = (Some("Encrypt"), 503);
        let total = Duration::from_millis(3);
        assert!(record.span(total).steps.is_empty(), "no token was asked");
        (record.queue_us, record.hsm_us) = (Some(500), Some(2000));
        let span = record.span(total);
        assert_eq!((span.name, span.is_fault), ("Encrypt", true));
        assert_eq!(span.end.duration_since(span.start).unwrap(), total);
        let micros = Duration::from_micros;
        assert_eq!(span.steps, [("queue", micros(500)), ("hsm", micros(2000))]);
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        let line = serde_json::to_string(&record()).unwrap();
        assert!(!line.contains("null") && !line.contains("policy"), "{line}");
    }
}
