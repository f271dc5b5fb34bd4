//! The tokens that the tests run on, one a run.
//!
//! `TWINLOCK_TEST_TOKEN` says which: `softhsm`, which it is unless told
//! otherwise, or `kryoptic` (`scripts/test-on-kryoptic` builds and names it).
//! Each test makes sure of the manufacturer. Where the two differ, tests ask
//! [`Kind`] and say why; the few that one of them cannot have stand in
//! `not-on-kryoptic.txt`, with the reason.

use std::io::Write as _;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    SoftHsm,
    Kryoptic,
}

impl Kind {
    pub(crate) fn of_this_run() -> Self {
        match std::env::var("TWINLOCK_TEST_TOKEN").as_deref() {
            Err(_) | Ok("softhsm") => Self::SoftHsm,
            Ok("kryoptic") => Self::Kryoptic,
            Ok(other) => panic!("TWINLOCK_TEST_TOKEN is softhsm or kryoptic, and not {other:?}"),
        }
    }

    /// What its tokens say of themselves: manufacturer and model.
    pub(crate) fn maker(self) -> (&'static str, &'static str) {
        match self {
            Self::SoftHsm => ("SoftHSM project", "SoftHSM v2"),
            Self::Kryoptic => ("Kryoptic Project", "v1"),
        }
    }

    /// Its row in the table of vendors.
    pub(crate) fn vendor(self) -> &'static str {
        match self {
            Self::SoftHsm => "SoftHSM",
            Self::Kryoptic => "kryoptic",
        }
    }

    /// The variable that names its module.
    pub(crate) fn module_variable(self) -> &'static str {
        match self {
            Self::SoftHsm => "TWINLOCK_SOFTHSM_MODULE",
            Self::Kryoptic => "TWINLOCK_KRYOPTIC_MODULE",
        }
    }

    /// The module, or the one that injects faults before it.
    pub(crate) fn module(self) -> String {
        let named = std::env::var(self.module_variable()).ok();
        let module = match self {
            Self::SoftHsm => named.unwrap_or_else(|| "/usr/lib/softhsm/libsofthsm2.so".to_owned()),
            Self::Kryoptic => named.expect("scripts/test-on-kryoptic sets the module"),
        };
        assert!(
            Path::new(&module).exists(),
            "there is no {module}: install the token (SoftHSM is Debian's package softhsm2), or \
             set {} to its library",
            self.module_variable()
        );
        module
    }

    /// The variable that names its configuration.
    pub(crate) fn configuration_variable(self) -> &'static str {
        match self {
            Self::SoftHsm => "SOFTHSM2_CONF",
            Self::Kryoptic => "KRYOPTIC_CONF",
        }
    }

    /// A configuration whose tokens lie in the empty folder `tokens`, with room
    /// for two more than [`TOKEN`](crate::support::TOKEN).
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

    /// Why `test` is not for it.
    pub(crate) fn exception(self, test: &str) -> Option<&'static str> {
        match self {
            Self::SoftHsm => None,
            Self::Kryoptic => exceptions().find(|(name, _)| *name == test).map(|(_, why)| why),
        }
    }

    /// Adds `test` to the record of the run, with which `scripts/test-on-kryoptic`
    /// makes sure that no test was left out.
    pub(crate) fn record(self, test: &str) {
        let Some(record) = std::env::var_os("TWINLOCK_TEST_RECORD") else { return };
        let file = std::fs::OpenOptions::new().create(true).append(true).open(record);
        let line = format!("{test}\n");
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the record of this run");
    }
}

fn exceptions() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("not-on-kryoptic.txt").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').expect("a test and the reason"))
}
