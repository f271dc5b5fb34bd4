//! The token that tests run on, one a run: SoftHSM, or kryoptic where
//! `TWINLOCK_TEST_TOKEN` says so (`scripts/test-on-kryoptic` builds and names it).

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    SoftHsm,
    Kryoptic,
}

impl Kind {
    pub(crate) fn of_this_run() -> Self {
        match env::var("TWINLOCK_TEST_TOKEN").as_deref() {
            Err(_) | Ok("softhsm") => Self::SoftHsm,
            Ok("kryoptic") => Self::Kryoptic,
            Ok(other) => panic!("TWINLOCK_TEST_TOKEN is softhsm or kryoptic, and not {other:?}"),
        }
    }

    /// What its tokens say that they are.
    pub(crate) fn model(self) -> &'static str {
        match self {
            Self::SoftHsm => "SoftHSM v2",
            Self::Kryoptic => "v1",
        }
    }

    /// Its library.
    pub(crate) fn module(self) -> PathBuf {
        let named = |name| env::var_os(name).map(PathBuf::from);
        match self {
            Self::SoftHsm => named("TWINLOCK_SOFTHSM_MODULE")
                .unwrap_or_else(|| "/usr/lib/softhsm/libsofthsm2.so".into()),
            Self::Kryoptic => {
                named("TWINLOCK_KRYOPTIC_MODULE").expect("scripts/test-on-kryoptic sets the module")
            }
        }
    }

    /// The variable that names its configuration.
    pub(crate) fn configuration_variable(self) -> &'static str {
        match self {
            Self::SoftHsm => "SOFTHSM2_CONF",
            Self::Kryoptic => "KRYOPTIC_CONF",
        }
    }

    /// A configuration whose tokens, two or more, lie in the folder `tokens`.
    pub(crate) fn configuration(self, tokens: &Path) -> String {
        match self {
            Self::SoftHsm => format!(
                "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
                tokens.display()
            ),
            Self::Kryoptic => (0..2)
                .map(|slot| {
                    let file = tokens.join(format!("{slot}.sql"));
                    format!("[[slots]]\nslot = {slot}\ndbtype = \"sqlite\"\ndbargs = {file:?}\n")
                })
                .collect(),
        }
    }

    /// Functions that must be its only call. kryoptic 1.5.4 locks the token and
    /// then every session to log in or out, and other functions a session and
    /// then the token: two such calls at a time may wait for each other for ever.
    pub(crate) fn alone(self) -> &'static str {
        match self {
            Self::SoftHsm => "",
            Self::Kryoptic => "C_Login C_Logout",
        }
    }

    /// Adds the test that calls this to the record of the run, with which
    /// `scripts/test-on-kryoptic` makes sure that none was left out.
    pub(crate) fn record(self) {
        let Some(record) = env::var_os("TWINLOCK_TEST_RECORD") else { return };
        let test = thread::current().name().expect("the harness names threads").to_owned();
        let file = OpenOptions::new().create(true).append(true).open(record);
        let line = format!("{test}\n");
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the record of this run");
    }
}
