//! A SoftHSM token and a key in it: a customer's side for a developer's
//! machine.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use twinlock_keys::Pkcs11Uri;
use zeroize::Zeroizing;

use super::super::keys::create_key;
use super::text_of;
use crate::args::InitArgs;
use crate::exit::{Failure, Kind};
use crate::holders;
use crate::settings::{Access, KeySpec};

/// Where distributions put SoftHSM.
const USUAL_PLACES: [&str; 7] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
];

/// Creates a token and a key with the labels of `args`. The PINs are random
/// and lie in files of `folder`; what was made is added to `created`.
pub(super) fn create(
    folder: &Path,
    args: &InitArgs,
    created: &mut Vec<String>,
) -> Result<KeySpec, Failure> {
    let module = module(args.module.as_deref())?;
    let pins = Pins::new(folder, &args.token)?;
    let uri = Pkcs11Uri::of_key(&args.token, &args.key)
        .with_module_path(text_of(&module)?)
        .with_pin_source(format!("file:{}", text_of(&pins.user.path)?));
    pins.write().map_err(|failure| match failure.kind {
        Kind::OutputExists => failure.hint(format!(
            "if that is the PIN of this token, use what there is: --customer '{}'; or choose \
             another label with --token LABEL",
            uri.profile_uri()
        )),
        _ => failure,
    })?;
    let made = holders::runtime()?.block_on(holders::pkcs11::create_software_token(
        &uri,
        &pins.so.pin,
        &pins.user.pin,
    ));
    if let Err(error) = made {
        pins.remove();
        return Err(Failure::from(error).about("creating a SoftHSM token").hint(TOKEN_HINT));
    }
    created.extend([&pins.user, &pins.so].map(|pin| pin.path.display().to_string()));
    let spec = KeySpec::Pkcs11(Box::new(uri));
    created.push(format!("{} in {}", create_key(&spec, &Access::default())?, module.display()));
    Ok(spec)
}

const TOKEN_HINT: &str = "SoftHSM keeps tokens in the folder that directories.tokendir names in the \
file SOFTHSM2_CONF, which you have to be able to write to; a label that is taken can be replaced by \
--token LABEL";

fn module(flag: Option<&Path>) -> Result<PathBuf, Failure> {
    let variable = std::env::var_os("TWINLOCK_PKCS11_MODULE").filter(|path| !path.is_empty());
    let named = flag.map(Path::to_owned).or_else(|| variable.map(PathBuf::from));
    let usual = || USUAL_PLACES.iter().map(PathBuf::from).find(|path| path.exists());
    named.or_else(usual).ok_or_else(|| {
        Failure::misconfigured("SoftHSM is not in any of the usual places")
            .hint("install it (softhsm2), or name its libsofthsm2.so with --module")
    })
}

/// The PINs of a new token, each with the file that it goes into.
struct Pins {
    user: Pin,
    so: Pin,
}

struct Pin {
    path: PathBuf,
    pin: Zeroizing<String>,
}

impl Pins {
    fn new(folder: &Path, label: &str) -> Result<Self, Failure> {
        let name = file_name(label);
        Ok(Self {
            user: Pin { path: folder.join(format!("{name}.pin")), pin: random_pin()? },
            so: Pin { path: folder.join(format!("{name}-so.pin")), pin: random_pin()? },
        })
    }

    /// Before the token is made: a token whose PIN nobody knows is lost.
    fn write(&self) -> Result<(), Failure> {
        self.user.write()?;
        self.so.write().inspect_err(|_| drop(std::fs::remove_file(&self.user.path)))
    }

    fn remove(&self) {
        for pin in [&self.user, &self.so] {
            if let Err(error) = std::fs::remove_file(&pin.path) {
                tracing::warn!(%error, "{} could not be removed", pin.path.display());
            }
        }
    }
}

impl Pin {
    fn write(&self) -> Result<(), Failure> {
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&self.path)?;
            file.write_all(self.pin.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| Failure::file(&self.path, &error))
    }
}

/// 128 random bits.
fn random_pin() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new([0u8; 16]);
    getrandom::fill(&mut *bytes).map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
    let mut pin = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes.iter() {
        write!(pin, "{byte:02x}").expect("a string takes everything");
    }
    Ok(pin)
}

/// A label as part of a file's name.
fn file_name(label: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    label.chars().map(|c| if plain(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_label_never_leaves_the_folder() {
        assert_eq!(file_name("../a b/c"), "___a_b_c");
        assert_eq!(file_name("twinlock"), "twinlock");
    }

    #[test]
    fn pins_are_random_and_only_the_owner_can_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let pins = Pins::new(folder.path(), "token").unwrap();
        assert_ne!(*pins.user.pin, *pins.so.pin);
        assert_eq!(pins.user.pin.len(), 32);
        pins.write().unwrap();
        let mode = pins.user.path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Pins::new(folder.path(), "token").unwrap().write().unwrap_err();
        assert_eq!(again.kind, Kind::OutputExists);
        pins.remove();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
