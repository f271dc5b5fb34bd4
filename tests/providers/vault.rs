//! The transit engine of a real OpenBao, with a proxy between for what a
//! healthy server does not do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use twinlock_keys::{HolderError, KeyUri};
use twinlock_remote_keys::vault_transit::{Auth, Credential, Options, VaultTransitKey};

use super::bench::{Bench, Holder, SHORT_DEADLINE, Trouble};
use super::suite::every_holder;
use crate::support::http::Message;
use crate::support::openbao::{OpenBao, ROOT, openbao};
use crate::support::proxy::{Fault, Proxy, closed_address};
use crate::support::tls::Authority;

every_holder!(Vault);

pub(super) struct Vault {
    key: String,
    proxy: Proxy,
}

impl Bench for Vault {
    const NEVER: &'static [(Trouble, &'static str)] = &[(
        Trouble::ClockSkew,
        "no request carries the time: a token is looked up, and its lease counted by the server",
    )];

    async fn new() -> Self {
        let key = openbao().create_key(&json!({}));
        Self { key, proxy: Proxy::before(openbao().address, operation) }
    }

    async fn holder(&self) -> Holder {
        connect(&self.key, &self.options()).unwrap()
    }

    async fn stranger(&self) -> Holder {
        connect(&openbao().create_key(&json!({})), &self.options()).unwrap()
    }

    async fn in_trouble(&self, trouble: Trouble) -> Result<Holder, HolderError> {
        let (server, options) = (openbao(), self.options());
        match trouble {
            Trouble::BadCredentials => connect(&self.key, &options.auth(token("hvs.wrong"))),
            Trouble::Denied => {
                let policy = "path \"transit/keys/*\" { capabilities = [\"read\"] }";
                connect(&self.key, &options.auth(token(&server.token(policy, &json!({})))))
            }
            Trouble::Disabled => {
                switch_off(server, &self.key);
                connect(&self.key, &options)
            }
            Trouble::Down => {
                connect(&self.key, &options.address(format!("http://{}", closed_address())))
            }
            Trouble::NoCredentials => {
                let missing = Credential::File("/nowhere/token".into());
                connect(&self.key, &options.auth(Auth::Token(missing)))
            }
            Trouble::NotFound => connect("no-such-key", &options),
            Trouble::Slow => {
                self.inject(&Fault::Delay(Duration::from_secs(600)));
                connect(&self.key, &options.deadline(SHORT_DEADLINE))
            }
            Trouble::UntrustedServer => {
                let options = options
                    .address(format!("https://{}", server.tls_address))
                    .ca_file(Authority::unknown().certificate());
                connect(&self.key, &options)
            }
            _ => {
                self.inject(&fault(trouble));
                connect(&self.key, &options)
            }
        }
    }

    fn heal(&self) {
        self.proxy.heal();
    }
}

impl Vault {
    fn options(&self) -> Options {
        Options::new()
            .address(self.proxy.url())
            .auth(token(ROOT))
            .attempts(1)
            .deadline(Duration::from_secs(30))
    }

    fn inject(&self, fault: &Fault) {
        for operation in ["encrypt", "decrypt"] {
            self.proxy.inject(operation, fault.clone());
        }
    }
}

fn connect(key: &str, options: &Options) -> Result<Holder, HolderError> {
    let uri = KeyUri::parse(&format!("vault://vault.example:8200/transit/keys/{key}")).unwrap();
    Ok(Arc::new(VaultTransitKey::connect(&uri, options)?))
}

fn token(text: &str) -> Auth {
    Auth::Token(Credential::Value(text.into()))
}

fn switch_off(server: &OpenBao, key: &str) {
    let deletable = json!({ "deletion_allowed": true });
    server.call("POST", &format!("transit/keys/{key}/config"), &deletable);
    server.call("DELETE", &format!("transit/keys/{key}/soft-delete"), &json!({}));
}

/// What a server says that is not at its best, or what stands in its place.
fn fault(trouble: Trouble) -> Fault {
    let errors = r#"{"errors":["injected"]}"#;
    match trouble {
        Trouble::HangsUp => Fault::Drop,
        Trouble::InternalError => Fault::answer(500, &[], errors),
        Trouble::NotTheService => Fault::answer(200, &[], "<html>please log in</html>"),
        Trouble::Redirected(to) => {
            Fault::answer(307, &[("location", &format!("http://{to}/v1/"))], "")
        }
        Trouble::Throttled => Fault::answer(429, &[("retry-after", "7")], errors),
        other => panic!("no fault of the proxy's is {other:?}"),
    }
}

/// `encrypt` in `POST /v1/transit/encrypt/<key> HTTP/1.1`; `login` for any.
pub(crate) fn operation(request: &Message) -> String {
    let path = request.first_line.split(' ').nth(1).unwrap_or_default();
    match path.rsplit('/').collect::<Vec<_>>()[..] {
        ["login", ..] => "login".to_owned(),
        [_, operation, ..] => operation.to_owned(),
        _ => String::new(),
    }
}
