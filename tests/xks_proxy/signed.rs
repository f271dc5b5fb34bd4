//! Requests as KMS signs them (SigV4), by means of their own.

use std::time::SystemTime;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use twinlock_service::log::Timestamp;

use crate::support::http::Message;

/// Whom to sign as, and what for.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    pub(super) access_key_id: String,
    pub(super) secret: String,
    pub(super) region: String,
    pub(super) now: SystemTime,
}

impl Signer {
    pub(super) fn new(access_key_id: &str, secret: &str) -> Self {
        Self {
            access_key_id: access_key_id.to_owned(),
            secret: secret.to_owned(),
            region: "eu-central-1".to_owned(),
            now: SystemTime::now(),
        }
    }

    /// A POST to `path` of `host`, ready to be sent.
    pub(super) fn post(&self, host: &str, path: &str, body: &[u8]) -> Message {
        let time = compact(self.now);
        let scope = format!("{}/{}/kms-xks-proxy/aws4_request", &time[..8], self.region);
        let canonical = format!(
            "POST\n{path}\n\nhost:{host}\nx-amz-date:{time}\n\nhost;x-amz-date\n{}",
            hex::encode(Sha256::digest(body))
        );
        let hash = hex::encode(Sha256::digest(canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
        let first = format!("AWS4{}", self.secret).into_bytes();
        let key = scope.split('/').fold(first, |key, part| mac(&key, part));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders=host;x-amz-date, Signature={}",
            self.access_key_id,
            hex::encode(mac(&key, &to_sign))
        );
        let headers = [
            ("host", host),
            ("x-amz-date", &time),
            ("content-type", "application/json"),
            ("authorization", &authorization),
        ];
        Message::new(&format!("POST {path} HTTP/1.1"), &headers, body)
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// `YYYYMMDD'T'HHMMSS'Z'`
fn compact(time: SystemTime) -> String {
    let text = Timestamp(time).to_string();
    let (seconds, _) = text.split_once('.').unwrap_or((text.trim_end_matches('Z'), ""));
    format!("{}Z", seconds.replace(['-', ':'], ""))
}
