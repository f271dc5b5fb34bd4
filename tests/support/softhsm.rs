//! A real SoftHSM with its own configuration and tokens; or whichever token the run
//! is on.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use tempfile::TempDir;
use twinlock_keys::Pkcs11Uri;
use twinlock_pkcs11::{SecretString, create_token};

use super::kind::Kind;
use super::process::{block_on, run_test};

pub(crate) const PIN: &str = "7391-user";
const SO_PIN: &str = "2648-officer";
pub(crate) const TOKEN: &str = "tests";

/// Names the folder in a process of [`in_a_process_with_a_token`].
pub(crate) const FOLDER: &str = "TWINLOCK_TEST_FOLDER";

/// Its folder. A process uses it that has the variables of [`SoftHsm::variables`]
/// from its start.
pub(crate) struct SoftHsm {
    folder: TempDir,
}

impl SoftHsm {
    /// A SoftHSM without tokens.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let module = module();
        assert!(
            module.is_file(),
            "there is no {}: install SoftHSM with `scripts/test --setup`, or name its library in \
             TWINLOCK_SOFTHSM_MODULE",
            module.display()
        );
        let tokens = folder.path().join("tokens");
        fs::create_dir(&tokens).unwrap();
        let configuration = Kind::of_this_run().configuration(&tokens);
        fs::write(folder.path().join("token.conf"), configuration).unwrap();
        write_private(&folder.path().join("pin"), PIN);
        Self { folder }
    }

    /// The same with one token, [`TOKEN`].
    pub(crate) fn with_token() -> Self {
        Self::with_pin(PIN)
    }

    /// The same with another PIN, which lies in the file `pin`.
    pub(crate) fn with_pin(pin: &str) -> Self {
        let hsm = Self::new();
        write_private(&hsm.folder.path().join("pin"), pin);
        hsm.init_token(TOKEN, pin);
        hsm
    }

    /// Another one with the same tokens and the keys that they have by now.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        let mut cp = Command::new("cp");
        cp.arg("-r").arg(self.folder.path().join("tokens")).arg(copy.folder.path());
        assert!(cp.status().unwrap().success());
        copy
    }

    /// One more token, with the usual PIN.
    pub(crate) fn add_token(&self, label: &str) {
        self.init_token(label, PIN);
    }

    /// One more RSA key for decrypting in [`TOKEN`], of 2048 bits, with the
    /// attributes that others make it with.
    pub(crate) fn add_rsa_2048(&self, label: &str) {
        self.in_child("rsa-2048", label, PIN);
    }

    /// Another name in [`TOKEN`] for the keys of this one, which others made.
    pub(crate) fn copy_key(&self, label: &str, copy: &str) {
        self.in_child(&format!("copy of {label}"), copy, PIN);
    }

    /// Destroys the keys of this name in [`TOKEN`].
    pub(crate) fn destroy_key(&self, label: &str) {
        self.in_child("nothing more", label, PIN);
    }

    fn init_token(&self, label: &str, pin: &str) {
        if Kind::of_this_run() == Kind::Kryoptic {
            return self.in_child("token", label, pin);
        }
        let mut util = Command::new("softhsm2-util");
        util.envs(self.variables());
        util.args(["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", pin]);
        let output = util.output().expect("softhsm2-util is installed with SoftHSM");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Has another process make what no program does.
    fn in_child(&self, what: &str, label: &str, pin: &str) {
        let told = [
            ("TWINLOCK_TEST_MAKE", what.into()),
            ("TWINLOCK_TEST_LABEL", label.into()),
            ("TWINLOCK_TEST_PIN", pin.into()),
        ];
        let variables = self.variables().into_iter().chain(told);
        run_test("support::softhsm::makes_what_it_is_told_to", variables);
    }

    pub(crate) fn variables(&self) -> [(&'static str, PathBuf); 2] {
        [
            (Kind::of_this_run().configuration_variable(), self.folder.path().join("token.conf")),
            ("TWINLOCK_PKCS11_MODULE", module()),
        ]
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A test only in form: it does nothing unless another starts it, in a process of its
/// own that has the token's variables.
#[test]
fn makes_what_it_is_told_to() {
    let Ok(what) = env::var("TWINLOCK_TEST_MAKE") else { return };
    let [label, pin] = ["LABEL", "PIN"].map(|it| env::var(format!("TWINLOCK_TEST_{it}")).unwrap());
    match what.as_str() {
        "token" => make_token(&label, pin.into()),
        "rsa-2048" => make_rsa_2048(&label, &pin.into()),
        "nothing more" => {
            let session = session(&pin.into());
            objects(&session, &label).for_each(|it| session.destroy_object(it).unwrap());
        }
        other => {
            let original = other.strip_prefix("copy of ").expect("something that can be made");
            let session = session(&pin.into());
            let label = [Attribute::Label(label.into())];
            for object in objects(&session, original) {
                session.copy_object(object, &label).unwrap();
            }
        }
    }
}

fn make_token(label: &str, pin: SecretString) {
    let uri = Pkcs11Uri::of_key(label, "any").with_module_path(module().display().to_string());
    let made = block_on(create_token(&uri, &SO_PIN.into(), &pin)).unwrap();
    assert_eq!((made.label.as_str(), made.model.as_str()), (label, Kind::of_this_run().model()));
}

fn session(pin: &SecretString) -> Session {
    let module = Pkcs11::new(module()).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slots = module.get_slots_with_initialized_token().unwrap().into_iter();
    let is_usual = |slot: &Slot| module.get_token_info(*slot).unwrap().label() == TOKEN;
    let slot = { slots }.find(is_usual).expect("a token with that label");
    let session = module.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(pin)).unwrap();
    session
}

/// At least one.
fn objects(session: &Session, label: &str) -> impl Iterator<Item = ObjectHandle> {
    let found = session.find_objects(&[Attribute::Label(label.into())]).unwrap();
    assert!(!found.is_empty(), "{label}");
    found.into_iter()
}

fn make_rsa_2048(label: &str, pin: &SecretString) {
    let session = session(pin);
    let label = Attribute::Label(label.as_bytes().to_vec());
    let public = [
        Attribute::Token(true),
        Attribute::Encrypt(true),
        Attribute::ModulusBits(2048.into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
        label.clone(),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Decrypt(true),
        Attribute::Sign(false),
        label,
    ];
    session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private).unwrap();
}

/// Runs `work`, the body of the test `name`, in a process of its own: a PKCS#11
/// module finds its tokens by a variable that has to be there from the start.
pub(crate) fn in_a_process_with_a_token(name: &str, work: impl AsyncFnOnce(&Path)) {
    if let Some(folder) = env::var_os(FOLDER) {
        return block_on(work(Path::new(&folder)));
    }
    let hsm = SoftHsm::with_token();
    let folder = (FOLDER, hsm.folder().to_owned());
    run_test(name, hsm.variables().into_iter().chain([folder]));
}

pub(crate) fn uri_in(folder: &Path, label: &str) -> String {
    uri_of(folder, TOKEN, label)
}

/// A key's URI in the token `token`.
pub(crate) fn uri_of(folder: &Path, token: &str, label: &str) -> String {
    let (module, pin) = (module(), folder.join("pin"));
    format!(
        "pkcs11:token={token};object={label}?module-path={}&pin-source=file:{}",
        module.display(),
        pin.display()
    )
}

/// The library itself.
pub(crate) fn module() -> PathBuf {
    Kind::of_this_run().module()
}

pub(crate) fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
