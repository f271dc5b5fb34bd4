//! Signed requests, as bytes of HTTP/1.1.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// Whom to sign as.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) access_key_id: String,
    pub(crate) secret: String,
    pub(crate) region: String,
}

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Encrypt,
    EncryptChecked,
    Decrypt,
    Metadata,
    Health,
    Live,
}

impl Ask {
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "encrypt" => Self::Encrypt,
            "encrypt-checked" => Self::EncryptChecked,
            "decrypt" => Self::Decrypt,
            "metadata" => Self::Metadata,
            "health" => Self::Health,
            "livez" => Self::Live,
            _ => return None,
        })
    }
}

/// Signs requests for one path with one body.
#[derive(Clone)]
pub(crate) struct Signer {
    caller: Caller,
    host: String,
    path: String,
    body: String,
    body_hash: String,
    key: Option<(String, [u8; 32])>,
}

const METADATA: &str = "\"requestMetadata\":{\"awsPrincipalArn\":\"arn:aws:iam::123456789012:user/Alice\",\
\"kmsKeyArn\":\"arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab\",\
\"kmsOperation\":\"Encrypt\",\"kmsRequestId\":\"4112f4d6-db54-4af4-ae30-c55a22a8dfae\"}";
const AAD: &[u8] = b"project=nile,department=marketing";

impl Signer {
    pub(crate) fn new(
        caller: &Caller,
        host: &str,
        prefix: &str,
        key: &str,
        ask: Ask,
        ciphertext: Option<&str>,
    ) -> Self {
        let api = format!("{prefix}/kms/xks/v1");
        let aad = BASE64_STANDARD.encode(AAD);
        let plaintext = BASE64_STANDARD.encode([7; 48]);
        let encrypt = format!(
            "{{{METADATA},\"additionalAuthenticatedData\":\"{aad}\",\"plaintext\":\"{plaintext}\",\
             \"encryptionAlgorithm\":\"AES_GCM\""
        );
        let (path, body) = match ask {
            Ask::Encrypt => (format!("{api}/keys/{key}/encrypt"), format!("{encrypt}}}")),
            Ask::EncryptChecked => (
                format!("{api}/keys/{key}/encrypt"),
                format!("{encrypt},\"ciphertextDataIntegrityValueAlgorithm\":\"SHA_256\"}}"),
            ),
            Ask::Decrypt => {
                // The answer of Encrypt is what Decrypt wants, but for its braces.
                let answer = ciphertext.expect("something was encrypted before");
                let fields = answer.trim().trim_start_matches('{').trim_end_matches('}');
                let body = format!(
                    "{{{METADATA},\"additionalAuthenticatedData\":\"{aad}\",{fields},\
                     \"encryptionAlgorithm\":\"AES_GCM\"}}"
                );
                (format!("{api}/keys/{key}/decrypt"), body)
            }
            Ask::Metadata => (format!("{api}/keys/{key}/metadata"), format!("{{{METADATA}}}")),
            Ask::Health => (format!("{api}/health"), format!("{{{METADATA}}}")),
            Ask::Live => ("/livez".to_owned(), String::new()),
        };
        let body_hash = hex::encode(Sha256::digest(&body));
        Self { caller: caller.clone(), host: host.to_owned(), path, body, body_hash, key: None }
    }

    /// A request as it is sent now.
    pub(crate) fn request(&mut self) -> Vec<u8> {
        if self.path == "/livez" {
            return format!("GET /livez HTTP/1.1\r\nhost: {}\r\n\r\n", self.host).into_bytes();
        }
        let time = timestamp();
        let date = &time[..8];
        let scope = format!("{date}/{}/kms-xks-proxy/aws4_request", self.caller.region);
        let canonical = format!(
            "POST\n{}\n\nhost:{}\nx-amz-date:{time}\n\nhost;x-amz-date\n{}",
            self.path, self.host, self.body_hash
        );
        let hash = hex::encode(Sha256::digest(canonical));
        let key = self.signing_key(date);
        let signature =
            hex::encode(hmac(&key, &format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}")));
        format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nx-amz-date: {time}\r\ncontent-type: application/json\r\n\
             authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, \
             SignedHeaders=host;x-amz-date, Signature={signature}\r\ncontent-length: {}\r\n\r\n{}",
            self.path,
            self.host,
            self.caller.access_key_id,
            self.body.len(),
            self.body
        )
        .into_bytes()
    }

    fn signing_key(&mut self, date: &str) -> [u8; 32] {
        if let Some((of, key)) = &self.key
            && of == date
        {
            return *key;
        }
        let first = hmac(format!("AWS4{}", self.caller.secret).as_bytes(), date);
        let key = [&self.caller.region, "kms-xks-proxy", "aws4_request"]
            .iter()
            .fold(first, |key, part| hmac(&key, part));
        self.key = Some((date.to_owned(), key));
        key
    }
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes every key");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

/// `YYYYMMDD'T'HHMMSS'Z'` of now (days to a date: Howard Hinnant's algorithm).
fn timestamp() -> String {
    let seconds =
        SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let time = seconds % 86_400;
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", time / 3600, time / 60 % 60, time % 60)
}
