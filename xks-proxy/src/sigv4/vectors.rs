//! AWS's signing vectors, read where cargo unpacked the crate `aws-sigv4`.
//!
//! They are of a service and of ids that KMS never uses, and most are GET, so
//! not one has the form that [`Claim`] takes: each has to be refused. What is
//! beneath, canonical request, string to sign and signature, has to come out as
//! AWS has it, for each vector whose path is its own canonical form.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use sha2::digest::Update;
use sha2::{Digest, Sha256};

use super::authorization::{SignedHeaders, parts_of};
use super::canonical::write_head;
use super::signing_key::{Scope, SigningKey, hex_of, write_string_to_sign};
use super::*;

/// All of them are signed at this second: 2015-08-30, 12:36.
const SIGNED_AT: Duration = Duration::from_secs(1_440_938_160);
const MOMENT: &[u8; 16] = b"20150830T123600Z";
const VECTORS: usize = 40;
/// The vectors whose path is its own canonical form.
const OF_PLAIN_PATHS: usize = 22;

#[test]
fn no_vector_has_the_form_of_kms() {
    let vectors = vectors();
    for vector in &vectors {
        let expected = if vector.request.method == "POST" {
            SignatureError::Path // `/` at the end, percent-encoding or a query string
        } else {
            SignatureError::Method
        };
        let regions = [Region::parse("us-east-1").unwrap()];
        let claim = Claim::parse(&vector.request.head(), &regions, UNIX_EPOCH + SIGNED_AT);
        assert_eq!(claim.unwrap_err(), expected, "{}", vector.name);
    }
    assert_eq!(vectors.len(), VECTORS);
}

#[test]
fn beneath_it_every_plain_vector_comes_out_as_aws_has_it() {
    let vectors = vectors();
    let plain: Vec<_> = vectors.iter().filter(|vector| vector.has_plain_path()).collect();
    for vector in &plain {
        vector.check();
    }
    assert_eq!(plain.len(), OF_PLAIN_PATHS);
}

struct Vector {
    name: String,
    folder: PathBuf,
    request: Parsed,
}

impl Vector {
    fn read(folder: PathBuf) -> Self {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(folder.join("header-signed-request.txt")).unwrap();
        Self { name, folder, request: Parsed::parse(&text) }
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap()
    }

    /// The canonical request has the path as it was sent, and no query string.
    fn has_plain_path(&self) -> bool {
        let canonical = self.text("header-canonical-request.txt");
        let mut lines = canonical.lines().skip(1);
        lines.next() == Some(&self.request.target) && lines.next() == Some("")
    }

    fn check(&self) {
        let name = &self.name;
        let authorization = self.request.headers["authorization"].to_str().unwrap();
        let (_, signed_headers, signature) = parts_of(authorization).unwrap();
        let canonical = self.canonical_request(SignedHeaders::parse(signed_headers).unwrap());
        assert_eq!(canonical, self.text("header-canonical-request.txt"), "{name}");

        let context: Value = serde_json::from_str(&self.text("context.json")).unwrap();
        assert_eq!(context["service"], "service");
        let region = Region::parse(context["region"].as_str().unwrap()).unwrap();
        let scope = Scope { date: *b"20150830", region, service: "service" };
        let request = Sha256::digest(canonical.as_bytes()).into();
        let mut to_sign = Written::default();
        write_string_to_sign(MOMENT, &scope, &request, &mut to_sign);
        assert_eq!(to_sign.text(), self.text("header-string-to-sign.txt"), "{name}");

        let secret = context["credentials"]["secret_access_key"].as_str().unwrap();
        let ours = hex::encode(SigningKey::derive(secret, &scope).sign(MOMENT, &scope, &request));
        assert_eq!(ours, self.text("header-signature.txt"), "{name}");
        assert_eq!(ours, signature, "{name}");
    }

    fn canonical_request(&self, signed: SignedHeaders<'_>) -> String {
        let mut written = Written::default();
        write_head(&self.request.head(), signed, &mut written).unwrap();
        written.update(&hex_of(&Sha256::digest(&self.request.body).into()));
        written.text()
    }
}

/// In the place of a hash, to see what it takes in.
#[derive(Default)]
struct Written(Vec<u8>);

impl Update for Written {
    fn update(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

impl Written {
    fn text(self) -> String {
        String::from_utf8(self.0).unwrap()
    }
}

/// A request as a server hands it over: a folded header is one line.
struct Parsed {
    method: String,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Parsed {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let head = head.replace("\n ", "  ");
        let mut lines = head.lines();
        let request_line = lines.next().unwrap();
        let (method, target) = request_line.split_once(' ').unwrap();
        let target = target.strip_suffix(" HTTP/1.1").unwrap_or(target); // one has no version
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value.trim()).unwrap());
        }
        let body = body.trim_end().into();
        Self { method: method.to_owned(), target: target.to_owned(), headers, body }
    }

    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            path_and_query: &self.target,
            authority: None,
            headers: &self.headers,
        }
    }
}

fn vectors() -> Vec<Vector> {
    let suite = source_of("aws-sigv4").join("aws-signing-test-suite/v4");
    let folders = fs::read_dir(suite).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|path| path.is_dir()).map(Vector::read).collect()
}

/// Where cargo keeps the sources of a package that we depend on.
fn source_of(package: &str) -> PathBuf {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let found = packages.iter().find(|it| it["name"] == package).unwrap();
    let manifest = Path::new(found["manifest_path"].as_str().unwrap());
    manifest.parent().unwrap().to_owned()
}
