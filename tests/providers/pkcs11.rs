//! A token: SoftHSM, in a process of its own for each test. What a module does
//! under faults is tested with `twinlock-pkcs11`.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use twinlock_keys::{HolderError, Pkcs11Uri};
use twinlock_pkcs11::{Pkcs11Key, TokenOptions, create_kek};

use super::bench::{Bench, Holder, NOWHERE, Trouble};
use super::suite::every_holder;
use crate::support::softhsm::{FOLDER, in_a_process_with_a_token, uri_in, write_private};

every_holder!(Token);

const NO_NETWORK: &str = "the module is in our process: nothing is sent by us";
const FAULTS: &str = "faults of a module are injected and tested with twinlock-pkcs11";

pub(super) struct Token {
    folder: PathBuf,
}

impl Bench for Token {
    const NEVER: &'static [(Trouble, &'static str)] = &[
        (Trouble::ClockSkew, "nothing that a token is told has a time"),
        (Trouble::Denied, "a token has one user, who may use every key"),
        (Trouble::Disabled, "a token's key has no switch: it is there or it is not"),
        (Trouble::Down, FAULTS),
        (Trouble::HangsUp, FAULTS),
        (Trouble::InternalError, FAULTS),
        (Trouble::NoCredentials, "a token that has no PIN given asks for it"),
        (Trouble::NotTheService, FAULTS),
        (Trouble::Redirected(NOWHERE), NO_NETWORK),
        (Trouble::Slow, FAULTS),
        (Trouble::Throttled, "a module has no word for it: one that is busy is waited for"),
        (Trouble::UntrustedServer, NO_NETWORK),
    ];

    /// A PKCS#11 module finds its tokens by a variable that has to be there
    /// from the start.
    fn run(name: &str, test: impl Future<Output = ()>) {
        let name = name.split_once("::").expect("it begins with the binary").1;
        in_a_process_with_a_token(name, async |_| test.await);
    }

    async fn new() -> Self {
        let bench = Self { folder: env::var_os(FOLDER).expect("it was started with it").into() };
        for label in ["kek", "other"] {
            create_kek(&bench.uri(label), TokenOptions::default()).await.unwrap();
        }
        bench
    }

    async fn holder(&self) -> Holder {
        open(&self.uri("kek")).await.unwrap()
    }

    async fn stranger(&self) -> Holder {
        open(&self.uri("other")).await.unwrap()
    }

    async fn in_trouble(&self, trouble: Trouble) -> Result<Holder, HolderError> {
        match trouble {
            Trouble::BadCredentials => {
                write_private(&self.folder.join("pin"), "0000-wrong");
                open(&self.uri("kek")).await
            }
            Trouble::NotFound => open(&self.uri("missing")).await,
            other => panic!("{other:?} is in NEVER"),
        }
    }

    fn heal(&self) {}
}

impl Token {
    fn uri(&self, label: &str) -> Pkcs11Uri {
        Pkcs11Uri::parse(&uri_in(&self.folder, label)).unwrap()
    }
}

async fn open(uri: &Pkcs11Uri) -> Result<Holder, HolderError> {
    Ok(Arc::new(Pkcs11Key::open(uri, TokenOptions::default()).await?))
}
