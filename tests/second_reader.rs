//! A reader in another language, written from `docs/format.md` alone, agrees
//! with ours on every vector.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::cli::Dir;
use crate::support::python;
use crate::support::softhsm::{PIN, SoftHsm, TOKEN, uri_in, write_private};

#[test]
fn it_computes_every_value_of_the_worked_vector() {
    let output = second_reader(&["--self-test"]);
    assert_passed(&output, "25 values");
}

#[test]
fn it_opens_and_refuses_the_same_vectors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/v1");
    let files = folder.read_dir().unwrap().map(|file| file.unwrap().path());
    let vectors = files.filter(|path| path.extension() == Some("txt".as_ref())).count();
    let output = second_reader(&["vectors", folder.to_str().unwrap()]);
    assert_passed(&output, &format!("{vectors} passed, 0 failed"));
}

#[test]
fn it_opens_what_the_program_wrote_under_an_aes_key_in_a_token() {
    opens_what_the_program_wrote(&Rig::new("aes", &[]));
}

#[test]
fn it_opens_what_the_program_wrote_under_an_rsa_key_in_a_token() {
    opens_what_the_program_wrote(&Rig::new("rsa", &["--type", "rsa-3072"]));
}

fn opens_what_the_program_wrote(rig: &Rig) {
    let plaintext: Vec<u8> = (0..700_000_u32).map(|i| (i % 251) as u8).collect();
    rig.dir.write("a", &plaintext);
    rig.dir.run(["encrypt", "a", "--context", "object=a"]).ok();
    let opened = rig.decrypt(&["--context", "object=a"]);
    assert_eq!((opened.status.code(), opened.stdout == plaintext), (Some(0), true));

    let refused = rig.decrypt(&["--context", "object=b"]);
    assert_eq!((refused.status.code(), refused.stdout.is_empty()), (Some(1), true));
}

/// A provider key in a file and a customer key in a token, for both readers.
struct Rig {
    dir: Dir,
    hsm: SoftHsm,
    provider: String,
    customer: String,
}

impl Rig {
    /// `create` are flags for the creation of the token's key.
    fn new(label: &str, create: &[&str]) -> Self {
        let hsm = SoftHsm::with_token();
        let mut dir = Dir::new();
        for (name, value) in hsm.variables() {
            dir.set(name, value);
        }
        let provider = dir.new_key("provider");
        let customer = uri_in(hsm.folder(), label);
        dir.run(["keys", "create", &customer].into_iter().chain(create.iter().copied())).ok();
        dir.write_config(&format!(
            "profile = 'default'\n[profiles.default]\nprovider = '{provider}'\ncustomer = '{customer}'\n"
        ));
        let customer = format!("pkcs11:token={TOKEN};object={label}");
        Self { dir, hsm, provider, customer }
    }

    /// `a.twl`, by the second reader.
    fn decrypt(&self, flags: &[&str]) -> Output {
        let [(conf, conf_path), (_, module)] = self.hsm.variables();
        let pin = self.hsm.folder().join("second-reader-pin");
        write_private(&pin, PIN);
        let kek = format!("{}={}", self.provider, self.dir.home().join("provider.kek").display());
        let mut python = script();
        python.arg("decrypt").arg(self.dir.path("a.twl")).env(conf, conf_path);
        python.args(["--file-kek", &kek, "--pkcs11", &self.customer]);
        python.arg("--pkcs11-module").arg(module).arg("--token-pin-file").arg(pin);
        output_of(python.args(flags))
    }
}

fn second_reader(args: &[&str]) -> Output {
    output_of(script().args(args))
}

fn script() -> Command {
    let mut command = Command::new(python());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("second_reader");
    command.arg("-B").arg(folder.join("twinlock_reader.py"));
    command
}

fn output_of(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; install it with `scripts/test --setup`")
    })
}

fn assert_passed(output: &Output, expected: &str) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains(expected), "{stdout}{stderr}");
}
