//! A DKE service: a small server of our own, with a proxy between that speaks TLS
//! and fails as services do.

use std::sync::Arc;
use std::time::Duration;

use twinlock_keys::{HolderError, KeyUri};
use twinlock_remote_keys::dke::{Credential, DkeKey, Options, TokenSource};

use super::bench::{Bench, Holder, RETRY_AFTER, SHORT_DEADLINE, Trouble};
use super::suite::every_holder;
use crate::support::key_service::{self, KeyService, REQUEST_ID, RsaKey, ServedKey};
use crate::support::proxy::{Fault, Proxy, closed_address};
use crate::support::tls::Authority;

every_holder!(DkeService);

const TOKEN: &str = "token-of-a-listed-user";

pub(super) struct DkeService {
    service: KeyService,
    proxy: Proxy,
}

impl Bench for DkeService {
    const NEVER: &'static [(Trouble, &'static str)] = &[
        (
            Trouble::BadCredentials,
            "a public key is published to everybody, so wrapping needs none; `dke_keys` has the \
             rest",
        ),
        (Trouble::ClockSkew, "wrapping needs no token, and no answer depends on our clock"),
        (Trouble::Denied, "wrapping is denied to nobody; `dke_keys` has who may not decrypt"),
        (Trouble::Disabled, "the protocol has one answer for this and for denied, or not found"),
        (Trouble::NoCredentials, "wrapping needs none; `dke_keys` has the rest"),
    ];

    async fn new() -> Self {
        let service = KeyService::start();
        service.serve("Archive", ServedKey::new("0a1b", RsaKey::of(1)).for_token(TOKEN));
        service.serve("Other", ServedKey::new("2c3d", RsaKey::of(2)).for_token(TOKEN));
        let tls = Authority::trusted().server();
        let proxy = Proxy::with_tls(service.address(), key_service::operation, tls);
        Self { service, proxy }
    }

    async fn holder(&self) -> Holder {
        self.connect(&self.proxy.address().to_string(), "Archive", self.options()).unwrap()
    }

    async fn stranger(&self) -> Holder {
        self.connect(&self.proxy.address().to_string(), "Other", self.options()).unwrap()
    }

    async fn in_trouble(&self, trouble: Trouble) -> Result<Holder, HolderError> {
        let (mut options, mut name) = (self.options(), "Archive");
        let mut place = self.proxy.address().to_string();
        match trouble {
            Trouble::Down => place = closed_address().to_string(),
            Trouble::NotFound => name = "Unknown",
            Trouble::Slow => {
                self.inject(&Fault::Delay(Duration::from_secs(600)));
                options = options.deadline(SHORT_DEADLINE);
            }
            Trouble::UntrustedServer => {
                let tls = Authority::unknown().server();
                let other = Proxy::with_tls(self.service.address(), key_service::operation, tls);
                place = other.address().to_string();
                std::mem::forget(other); // as long as the holder
            }
            other => self.inject(&fault(other)),
        }
        self.connect(&place, name, options)
    }

    fn heal(&self) {
        self.proxy.heal();
    }
}

impl DkeService {
    fn connect(&self, place: &str, name: &str, options: Options) -> Result<Holder, HolderError> {
        let uri = KeyUri::parse(&format!("dke+https://{place}/{name}")).unwrap();
        Ok(Arc::new(DkeKey::connect(&uri, &options)?))
    }

    fn options(&self) -> Options {
        Options::new()
            .pin(RsaKey::of(1).pin.parse().unwrap())
            .pin(RsaKey::of(2).pin.parse().unwrap())
            .ca_file(Authority::trusted().certificate())
            .token(TokenSource::Bearer(Credential::Value(TOKEN.into())))
            .attempts(1)
            .deadline(Duration::from_secs(30))
    }

    fn inject(&self, fault: &Fault) {
        for operation in ["key", "decrypt"] {
            self.proxy.inject(operation, fault.clone());
        }
    }
}

/// What services answer, or what stands in their place.
fn fault(trouble: Trouble) -> Fault {
    let answer = |status, headers: &[(&str, &str)], body: &str| {
        let mut all = vec![("x-request-id", REQUEST_ID)];
        all.extend(headers);
        Fault::answer(status, &all, body)
    };
    match trouble {
        Trouble::HangsUp => Fault::Drop,
        Trouble::InternalError => answer(500, &[], "System.Security.CryptographicException"),
        Trouble::NotTheService => answer(200, &[], "<html>please log in</html>"),
        Trouble::Redirected(to) => answer(307, &[("location", &format!("http://{to}/"))], ""),
        Trouble::Throttled => {
            answer(429, &[("retry-after", &RETRY_AFTER.as_secs().to_string())], "")
        }
        other => panic!("no fault of the proxy's is {other:?}"),
    }
}
