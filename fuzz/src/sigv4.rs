use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arbitrary::{Arbitrary, Unstructured};
use http::{HeaderMap, HeaderName, HeaderValue};
use twinlock_xks::sigv4::{
    AccessKeyId, Claim, Credential, Credentials, Region, RequestHead, SecretAccessKey,
};

use crate::edit::{Edit, edited};

/// No request verifies but those that the secret signed: for the bytes as they
/// are, and for what a program of edits makes of a signed request, with another
/// one at hand.
pub fn sigv4(bytes: &[u8]) {
    check(bytes);
    if let Ok(edits) = Vec::<Edit>::arbitrary(&mut Unstructured::new(bytes)) {
        check(&edited(&lines(SIGNED[0]), &lines(SIGNED[1]), &edits));
    }
}

/// Signed by another program, under [`SECRET`].
pub(crate) const SIGNED: [&str; 2] = [
    "POST /tenant-a/kms/xks/v1/keys/key-1/encrypt
Host: xks.example.com
X-Amz-Date: 20261118T110640Z
Authorization: AWS4-HMAC-SHA256 Credential=MUBSXM6K3KMXHN6RRCXI7TWQ/20261118/eu-central-1/kms-xks-proxy/aws4_request, SignedHeaders=host;x-amz-date, Signature=945d06eb3ccb0bdf62dfe732c733b1c0866e6fd3c67057e876ee07cd5b579efc

{\"requestMetadata\":{}}",
    "POST /kms/xks/v1/health
Content-Type: application/json
Host: xks.example.com:8443
X-A: 1
X-Amz-Date: 20261118T110700Z
X-A: 2
Authorization: AWS4-HMAC-SHA256 Credential=MUBSXM6K3KMXHN6RRCXI7TWQ/20261118/us-east-1/kms-xks-proxy/aws4_request, SignedHeaders=content-type;host;x-a;x-amz-date, Signature=7dec96e73d2763b488743d657da7799c55af0fc3175b7173f0eeeb8dcec584da

{}",
];

const ID: &str = "MUBSXM6K3KMXHN6RRCXI7TWQ";
const SECRET: &str = "qHA/ImC9h5HsLRXqCyPmWgYx7tzyoTplzILbP0fPXsc";

fn check(bytes: &[u8]) {
    let Some(request) = Request::parse(bytes) else { return };
    if request.verifies() {
        let signed = SIGNED.map(|text| Request::parse(text.as_bytes()).expect("a request"));
        assert!(signed.iter().any(|one| request.is(one)), "nobody signed {request:?}");
    }
}

fn lines(text: &str) -> Vec<Vec<u8>> {
    text.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect()
}

/// A method and a path, an authority behind them perhaps, lines of headers, an
/// empty line, a body.
#[derive(Debug)]
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    authority: Option<&'a str>,
    headers: HeaderMap,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = bytes.windows(2).position(|two| two == b"\n\n")?;
        let mut lines = bytes[..end].split(|byte| *byte == b'\n');
        let mut target = std::str::from_utf8(lines.next()?).ok()?.split(' ');
        let (method, path, authority) = (target.next()?, target.next()?, target.next());
        let mut headers = HeaderMap::new();
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
            headers.append(name, value);
        }
        Some(Self { method, path, authority, headers, body: &bytes[end + 2..] })
    }

    fn verifies(&self) -> bool {
        let head = RequestHead {
            method: self.method,
            path_and_query: self.path,
            authority: self.authority,
            headers: &self.headers,
        };
        let claim = match Claim::parse(&head, &VERIFIER.regions, VERIFIER.now) {
            Ok(claim) => claim,
            Err(error) => {
                check_hidden(&format!("{error} {error:?} {}", error.answer()));
                return false;
            }
        };
        check_hidden(&format!("{claim:?}"));
        claim.verify(self.body, &VERIFIER.credentials).is_ok()
    }

    /// The same in all that was signed.
    fn is(&self, signed: &Self) -> bool {
        (self.method, self.path, self.body) == (signed.method, signed.path, signed.body)
            && self.host() == signed.host()
            && ["authorization", "x-amz-date", "content-type", "x-a"].iter().all(|name| {
                !signed.headers.contains_key(*name) || self.all(name) == signed.all(name)
            })
    }

    fn host(&self) -> String {
        let host = self.headers.get("host").map(|value| value.to_str().expect("it verified"));
        host.or(self.authority).expect("it is signed").trim().to_owned()
    }

    /// As it is signed: joined, and without spaces at the ends.
    fn all(&self, name: &str) -> String {
        let values = self.headers.get_all(name).iter();
        let values = values.map(|value| value.to_str().expect("it verified").trim());
        values.collect::<Vec<_>>().join(",")
    }
}

fn check_hidden(printed: &str) {
    assert!(!printed.contains(SECRET), "the secret is in {printed}");
}

struct Verifier {
    now: SystemTime,
    regions: [Region; 2],
    credentials: Credentials,
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let id = AccessKeyId::parse(ID).expect("an id");
    let secret = SecretAccessKey::parse(SECRET).expect("a secret");
    Verifier {
        now: UNIX_EPOCH + Duration::from_secs(1_795_000_000), // 2026-11-18, 11:06:40
        regions: ["eu-central-1", "us-east-1"].map(|name| Region::parse(name).expect("a region")),
        credentials: Credentials::new(vec![Credential::new(id, secret)]).expect("one"),
    }
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_verifies() {
        for text in SIGNED {
            assert!(Request::parse(text.as_bytes()).is_some_and(|request| request.verifies()));
        }
    }
}
