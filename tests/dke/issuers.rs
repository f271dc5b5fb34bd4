//! Issuers that others wrote: their documents, their keys, their tokens.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::Answer;
use super::service::{Dke, ORIGIN, decrypt_request, path_of};
use crate::support::http::{self, Message};
use crate::support::leash::Leashed;

/// One in a process of its own, which ends with its test.
struct Other {
    url: String,
    _process: Leashed,
}

impl Other {
    /// None where there is no Node.js of ours, and none is required.
    fn start(script: &str) -> Option<Self> {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut process = Leashed::start(&node(script)?, log.path());
        let url = process.line();
        assert!(url.starts_with("http"), "{url} {}", std::fs::read_to_string(log.path()).unwrap());
        Some(Self { url, _process: process })
    }

    /// A service that trusts it.
    fn trusting(&self) -> Dke {
        let mut dke = Dke::prepared();
        let config = dke.config();
        let (before, rest) = config.split_once("[[issuer]]").unwrap();
        let (_, after) = rest.split_once("[[hsm]]").unwrap();
        let issuer = format!("[[issuer]]\nissuer = \"{}\"\nscopes = [\"decrypt\"]\n\n", self.url);
        dke.write_config(&format!("{before}{issuer}[[hsm]]{after}"));
        dke.run();
        dke.wait_until_ready();
        dke
    }

    /// RFC 6749 section 4.4, RFC 8707: the path comes from the document.
    fn token(&self, user: &str, resource: &str) -> String {
        let address = self.url.strip_prefix("http://").unwrap().parse().unwrap();
        let send = |first_line: &str, body: &str| {
            let headers = [
                ("host", &self.url["http://".len()..]),
                ("content-type", "application/x-www-form-urlencoded"),
            ];
            let request = Message::new(first_line, &headers, body.as_bytes());
            let answer = http::exchange(address, &request).unwrap();
            serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()
        };
        let metadata = send("GET /.well-known/openid-configuration HTTP/1.1", "");
        let endpoint = metadata["token_endpoint"].as_str().unwrap();
        let path = endpoint.strip_prefix(&self.url).unwrap();
        let form: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("grant_type", "client_credentials"),
                ("client_id", "tests"),
                ("client_secret", "a secret of the tests"),
                ("scope", "decrypt"),
                ("resource", resource),
                ("user", user),
            ])
            .finish();
        let answer = send(&format!("POST {path} HTTP/1.1"), &form);
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

/// Has a script of `tests/dke/issuers` run.
fn node(script: &str) -> Option<Command> {
    let tools = tools()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dke/issuers");
    let text = std::fs::read_to_string(folder.join(script)).unwrap();
    // What a script imports is looked for from the working directory on, if it is in
    // no file.
    let mut command = Command::new("sh");
    command.args(["-c", r#"cd "$0" && exec ./node --input-type=module --eval "$@""#]);
    command.arg(tools).arg(text);
    Some(command)
}

/// Where `scripts/test` installs them. A run that must skip nothing fails without.
fn tools() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/issuers");
    let is_there = tools.join("node").exists() && tools.join("node_modules").is_dir();
    let required = env::var_os("TWINLOCK_REQUIRE_TOOLS").is_some();
    assert!(is_there || !required, "there is no {}: run scripts/test --setup", tools.display());
    if !is_there {
        // Past the test harness, for a skip that nobody sees looks like a pass.
        let _ = writeln!(std::io::stderr(), "skipped: no Node.js here; scripts/test installs it");
    }
    is_there.then_some(tools)
}

#[test]
fn tokens_of_oauth2_mock_server_are_verified() {
    decrypts_with_tokens_of("mock_server.mjs");
}

#[test]
fn tokens_of_oidc_provider_are_verified() {
    decrypts_with_tokens_of("provider.mjs");
}

fn decrypts_with_tokens_of(script: &str) {
    let Some(other) = Other::start(script) else { return };
    let dke = other.trusting();
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    let ask = |token: &str| -> Answer {
        dke.send(&decrypt_request(token, &path_of(&public.id), &ciphertext))
    };
    let good = other.token("alice@example.org", ORIGIN);
    assert_eq!(ask(&good).plaintext(), b"x");
    ask(&other.token("mallory@example.org", ORIGIN)).with(403);
    ask(&other.token("alice@example.org", "https://other.test")).with(401);
    ask(&good[..good.len() - 4]).with(401);
    // One that another issuer of the same kind made: with keys of its own.
    ask(&Other::start(script).unwrap().token("alice@example.org", ORIGIN)).with(401);
}
