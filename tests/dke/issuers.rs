//! Issuers that others wrote: their documents, their keys, their tokens.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
#[cfg(feature = "vault")]
use serde_json::json;

use super::client::Answer;
use super::service::{Dke, ORIGIN, decrypt_request, path_of};
use crate::support::cli::{Dir, wait};
use crate::support::http::{self, Message};
use crate::support::leash::Leashed;
#[cfg(feature = "vault")]
use crate::support::openbao::{OpenBao, unique};

#[test]
fn tokens_of_oauth2_mock_server_are_verified() {
    let start = || Other::start("mock_server.mjs");
    let (Some(issuer), Some(another)) = (start(), start()) else { return };
    decrypts_with_tokens_of(&issuer, &another);
}

#[test]
fn tokens_of_oidc_provider_are_verified() {
    let start = || Other::start("provider.mjs");
    let (Some(issuer), Some(another)) = (start(), start()) else { return };
    decrypts_with_tokens_of(&issuer, &another);
}

/// Its engine of identities, for a person whom a login has made known.
#[cfg(feature = "vault")]
#[test]
fn tokens_of_openbao_are_verified() {
    decrypts_with_tokens_of(&Bao::start(), &Bao::start());
}

/// RFC 8628, with nothing of ours at the issuer's and the person's end.
#[test]
fn a_person_who_logged_in_at_oidc_provider_opens_files() {
    let Some(provider) = Other::start("provider.mjs") else { return };
    let dke = provider.trusted_by(|dke| {
        let ours = format!("https://localhost:{}", dke.address.port());
        dke.config().replace(ORIGIN, &ours).replace("microsoft-label", "shares")
    });
    let desk = Desk::new(&dke, &provider);
    desk.log_in_as("alice@example.org");
    desk.dir.write("a", "secret");
    desk.dir.run(["encrypt", "a"]).ok();
    assert_eq!(desk.dir.run(["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret");

    desk.log_in_as("mallory@example.org");
    let ended = desk.dir.run(["decrypt", "a.twl", "-o", "-"]).with(4);
    assert!(ended.stderr.contains("may not decrypt"), "{}", ended.stderr);
}

fn decrypts_with_tokens_of(issuer: &impl GivesTokens, another: &impl GivesTokens) {
    let dke = issuer.trusted_by(Dke::config);
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    let ask = |token: &str| -> Answer {
        dke.send(&decrypt_request(token, &path_of(&public.id), &ciphertext))
    };
    let good = issuer.token("alice@example.org", ORIGIN);
    assert_eq!(ask(&good).plaintext(), b"x");
    ask(&issuer.token("mallory@example.org", ORIGIN)).with(403);
    ask(&issuer.token("alice@example.org", "https://other.test")).with(401);
    ask(&good[..good.len() - 4]).with(401);
    // One that another issuer of the same kind made: with keys of its own.
    ask(&another.token("alice@example.org", ORIGIN)).with(401);
}

// === Issuers ===

trait GivesTokens {
    fn url(&self) -> &str;

    /// One for a user, whose scope is `decrypt`.
    fn token(&self, user: &str, resource: &str) -> String;

    /// A service that trusts it and nobody else, with another configuration.
    fn trusted_by(&self, config: impl FnOnce(&Dke) -> String) -> Dke {
        let mut dke = Dke::prepared();
        let config = config(&dke);
        let (before, rest) = config.split_once("[[issuer]]").unwrap();
        let (_, after) = rest.split_once("[[hsm]]").unwrap();
        let issuer = format!("[[issuer]]\nissuer = \"{}\"\nscopes = [\"decrypt\"]\n\n", self.url());
        dke.write_config(&format!("{before}{issuer}[[hsm]]{after}"));
        dke.run();
        dke.wait_until_ready();
        dke
    }
}

/// One that runs in Node.js, in a process that ends with its test.
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
}

impl GivesTokens for Other {
    fn url(&self) -> &str {
        &self.url
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
            serde_json::from_slice::<Value>(&answer.body).unwrap()
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

/// OpenBao, which calls people by the alias that their login has.
#[cfg(feature = "vault")]
struct Bao {
    url: String,
    server: OpenBao,
    policy: String,
    /// What templates call the alias.
    alias: String,
}

#[cfg(feature = "vault")]
impl Bao {
    fn start() -> Self {
        let server = OpenBao::start();
        let origin = format!("http://{}", server.address);
        server.call("POST", "identity/oidc/config", &json!({ "issuer": origin }));
        let key = json!({ "algorithm": "RS256", "allowed_client_ids": ["*"] });
        server.call("POST", "identity/oidc/key/dke", &key);
        // It publishes a key when there is a role for it.
        server.call("POST", "identity/oidc/role/any", &json!({ "key": "dke" }));
        let anybody = json!({ "allowed_entity_aliases": ["*"] });
        server.call("POST", "auth/token/roles/people", &anybody);
        let logins = server.call("GET", "sys/auth", &json!({}));
        let accessor = logins["data"]["token/"]["accessor"].as_str().unwrap();
        let alias = format!("{{{{identity.entity.aliases.{accessor}.name}}}}");
        let policy = server.policy("path \"identity/oidc/token/*\" { capabilities = [\"read\"] }");
        Self { url: format!("{origin}/v1/identity/oidc"), server, policy, alias }
    }
}

#[cfg(feature = "vault")]
impl GivesTokens for Bao {
    fn url(&self) -> &str {
        &self.url
    }

    fn token(&self, user: &str, resource: &str) -> String {
        let role = unique("role");
        let template = format!("{{\"upn\": {}, \"scp\": \"decrypt\"}}", self.alias);
        let settings = json!({ "key": "dke", "client_id": resource, "template": template });
        self.server.call("POST", &format!("identity/oidc/role/{role}"), &settings);
        let login = json!({ "entity_alias": user, "policies": [self.policy] });
        let login = self.server.call("POST", "auth/token/create/people", &login);
        let session = login["auth"]["client_token"].as_str().unwrap();
        let path = format!("identity/oidc/token/{role}");
        let answer = self.server.try_call(session, "GET", &path, &json!({}));
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        answer["data"]["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

// === People ===

/// A machine without a token, whose user logs in.
struct Desk {
    dir: Dir,
}

impl Desk {
    fn new(dke: &Dke, issuer: &Other) -> Self {
        let dir = Dir::new();
        let service = format!("localhost:{}", dke.address.port());
        let (provider, pin) = (dir.new_key("provider"), dke.public_key("Other").pin());
        let (ca, issuer) = (dke.dir.home().join("ca.pem"), &issuer.url);
        dir.write_config(&format!(
            "[profiles.desk]\nprovider = \"{provider}\"\ncustomer = \"dke+https://{service}/Other\"\n\
             [profiles.desk.dke]\npins = [\"sha256:{pin}\"]\nca_file = \"{}\"\nauth = \"login\"\n\
             issuer = \"{issuer}\"\nclient_id = \"desk\"\nscope = \"offline_access decrypt\"\n\
             resource = \"https://{service}\"\n",
            ca.display()
        ));
        Self { dir }
    }

    /// The program shows an address, and the person opens it.
    fn log_in_as(&self, name: &str) {
        let mut command = self.dir.command();
        command.arg("login");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut login = command.spawn().unwrap();
        let mut said = BufReader::new(login.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let address = line.split(' ').find(|word| word.starts_with("http")).expect(&line);
        let mut person = node("person.mjs").expect("its issuer runs in it");
        person.args([address.trim(), name]);
        let page = person.output().unwrap();
        let errors = String::from_utf8_lossy(&page.stderr);
        assert!(page.status.success(), "{errors}");
        assert!(
            String::from_utf8_lossy(&page.stdout).contains("Sign-in Success"),
            "{}",
            String::from_utf8_lossy(&page.stdout)
        );
        login.stderr = Some(said.into_inner());
        wait(login).ok();
    }
}
