//! A SoftHSM, or whichever token the run is on, with its own configuration,
//! tokens and process for each test.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Output};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use twinlock_keys::{Pkcs11Uri, Share, Side, WrapContext};
use twinlock_pkcs11::{Pkcs11Error, Pkcs11Key, SecretString, TokenFacts, TokenOptions};

use crate::kind::Kind;

pub(crate) const PIN: &str = "1234-user";
pub(crate) const SO_PIN: &str = "5678-officer";
pub(crate) const TOKEN: &str = "Twinlock";

/// Runs `test`, a test's whole body, in a process that runs nothing else, with
/// a SoftHSM that holds one token, [`TOKEN`].
pub(crate) fn with_softhsm<F: FnOnce(&SoftHsm)>(test: F) {
    if let Some(hsm) = SoftHsm::of_this_process() {
        hsm.create_token(TOKEN);
        return test(&hsm);
    }
    alone(test_name::<F>(), |_| Vec::new());
}

/// Runs `test`, a test of this binary, in a process of its own with a SoftHSM
/// of its own, and further variables that may depend on its folder.
pub(crate) fn alone(test: &str, variables: impl Fn(&Path) -> Vec<(&'static str, PathBuf)>) {
    let kind = Kind::of_this_run();
    if let Some(reason) = kind.exception(test) {
        let _ = writeln!(std::io::stderr(), "not on {}: {test}: {reason}", kind.vendor());
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let hsm = SoftHsm::new(folder.path());
    let mut command = hsm.command(test);
    let output = command.envs(variables(folder.path())).output().expect("this binary runs");
    let text = text_of(&output);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    kind.record(test);
}

/// The name by which the test harness knows the function that `F` stands in.
pub(crate) fn test_name<F>() -> &'static str {
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    path.split_once("::").expect("the path begins with the binary").1
}

/// This process's SoftHSM.
pub(crate) struct SoftHsm {
    pub(crate) folder: PathBuf,
}

impl SoftHsm {
    pub(crate) fn of_this_process() -> Option<Self> {
        let folder = std::env::var_os("TWINLOCK_TEST_FOLDER")?;
        Some(Self { folder: folder.into() })
    }

    fn new(folder: &Path) -> Self {
        let tokens = folder.join("tokens");
        std::fs::create_dir(&tokens).expect("a folder for tokens");
        let configuration = Kind::of_this_run().configuration(&tokens);
        std::fs::write(folder.join("token.conf"), configuration).expect("a configuration");
        std::fs::write(folder.join("pin"), format!("{PIN}\n")).expect("a PIN file");
        Self { folder: folder.to_owned() }
    }

    /// One test of this binary, to be run in another process on the same tokens.
    fn command(&self, test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        for ours in ["TWINLOCK_PIN", "TWINLOCK_PIN_FILE", "CREDENTIALS_DIRECTORY"] {
            command.env_remove(ours);
        }
        command
            .env_remove("TWINLOCK_PKCS11_MODULE")
            .env(Kind::of_this_run().configuration_variable(), self.folder.join("token.conf"))
            .env("TWINLOCK_TEST_FOLDER", &self.folder);
        command
    }

    /// Has another process do `action` (see `child`) and returns what it said,
    /// as an error if it failed.
    pub(crate) fn in_child(
        &self,
        action: &str,
        uri: &str,
        variables: &[(&str, &OsStr)],
    ) -> Result<String, String> {
        let mut command = self.child(action, uri);
        let output = command.envs(variables.iter().copied()).output().expect("this binary runs");
        match output.status.success() {
            true => Ok(text_of(&output)),
            false => Err(text_of(&output)),
        }
    }

    /// Has another process do `action` meanwhile.
    pub(crate) fn start_child(&self, action: &str) -> Child {
        self.child(action, "pkcs11:").spawn().expect("this binary runs")
    }

    fn child(&self, action: &str, uri: &str) -> Command {
        let mut command = self.command("child::does_what_it_is_told");
        command.env("TWINLOCK_TEST_ACTION", action).env("TWINLOCK_TEST_URI", uri);
        command
    }

    /// A URI with this module, and the PIN file as its source.
    pub(crate) fn uri(&self, path: &str) -> Pkcs11Uri {
        let pin = self.folder.join("pin");
        parse(&format!("{}&pin-source=file:{}", self.text_without_pin(path), pin.display()))
    }

    /// The same without a source for the PIN.
    pub(crate) fn text_without_pin(&self, path: &str) -> String {
        format!("pkcs11:{path}?module-path={}", module())
    }

    pub(crate) fn create_token(&self, label: &str) {
        let uri = Pkcs11Uri::of_key(label, "any").with_module_path(module());
        let token = create_token(&uri).expect("a new token");
        let maker = Kind::of_this_run().maker();
        assert_eq!((token.manufacturer.as_str(), token.model.as_str()), maker);
    }

    /// Creates a KEK on [`TOKEN`] and opens it.
    pub(crate) fn new_kek(&self, label: &str) -> Pkcs11Key {
        let uri = self.uri(&format!("token={TOKEN};object={label}"));
        block_on(twinlock_pkcs11::create_kek(&uri, options())).expect("a new key");
        block_on(Pkcs11Key::open(&uri, options())).expect("the new key")
    }

    pub(crate) fn open(&self, path: &str) -> Result<Pkcs11Key, Pkcs11Error> {
        block_on(Pkcs11Key::open(&self.uri(path), options()))
    }

    /// The module itself, without this crate.
    pub(crate) fn raw(&self) -> Pkcs11 {
        let raw = Pkcs11::new(module()).expect("the module loads");
        match raw.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => raw,
            Err(error) => panic!("{error}"),
        }
    }

    /// A session with a token, without this crate.
    pub(crate) fn raw_session(&self, token: &str) -> Session {
        let session = self.raw_session_without_pin(token);
        match session.login(UserType::User, Some(&pin(PIN))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => session,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same as whoever does not know the PIN gets it.
    pub(crate) fn raw_session_without_pin(&self, token: &str) -> Session {
        let raw = self.raw();
        let slots = raw.get_slots_with_initialized_token().expect("slots");
        let slot = slots
            .into_iter()
            .find(|slot| raw.get_token_info(*slot).expect("a token").label() == token)
            .expect("the token is there");
        raw.open_rw_session(slot).expect("a session")
    }
}

pub(crate) fn create_token(uri: &Pkcs11Uri) -> Result<TokenFacts, Pkcs11Error> {
    block_on(twinlock_pkcs11::create_token(uri, &pin(SO_PIN), &pin(PIN)))
}

pub(crate) fn module() -> String {
    Kind::of_this_run().module()
}

pub(crate) fn options() -> TokenOptions {
    TokenOptions::default()
}

pub(crate) fn pin(text: &str) -> SecretString {
    SecretString::from(text)
}

pub(crate) fn parse(uri: &str) -> Pkcs11Uri {
    Pkcs11Uri::parse_any(uri).expect("a URI")
}

pub(crate) fn share() -> Share {
    Share::random().expect("random bytes")
}

pub(crate) fn context(aad: &str) -> WrapContext {
    WrapContext::new(Side::Customer, "v1/customer/00".to_owned(), aad.into(), Vec::new())
}

/// No runtime is needed: the thread sleeps until the future wakes it.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn text_of(output: &Output) -> String {
    [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat()
}
