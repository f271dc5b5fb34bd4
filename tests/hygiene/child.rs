//! This binary, run once more as a process that other tests look at.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use twinlock::{
    CustomerKey, Decryptor, FileKek, KeyHolder, KeyUri, ProviderKey, Share, Side, WrapContext,
    WrappedShare,
};
use twinlock_format::{PairKeyslot, WrappedPair, schedule};
use twinlock_pkcs11::{Pkcs11Key, TokenOptions};
use twinlock_remote_keys::aws_kms::{AwsKmsKey, Options};

use super::Secret;

/// A test only in form: it does nothing unless another test tells it to.
#[tokio::test]
async fn does_what_it_is_told() {
    let Ok(action) = env::var("TWINLOCK_TEST_ACTION") else { return };
    let folder = env::var_os("TWINLOCK_TEST_FOLDER").unwrap();
    match action.as_str() {
        "tell" => tell(Path::new(&folder)).await,
        "hold" => hold(Path::new(&folder)).await,
        other => panic!("no such action: {other}"),
    }
}

/// This test as a command that does `action` with the envelope in `folder`. The
/// keys are in `TWINLOCK_PROVIDER` and `TWINLOCK_CUSTOMER`, which `command` has.
fn told(action: &str, folder: &Path, mut command: Command) -> Command {
    let environment: Vec<_> = command
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.unwrap().to_owned()))
        .collect();
    command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "hygiene::child::does_what_it_is_told", "--nocapture"]);
    command.env_clear().envs(environment);
    command.env("TWINLOCK_TEST_ACTION", action).env("TWINLOCK_TEST_FOLDER", folder);
    command.current_dir(folder);
    command
}

/// Shares, KEK and DEK of the file `a.twl` in `folder`.
pub(super) fn secrets_of(folder: &Path, command: Command) -> Vec<Secret> {
    let output = told("tell", folder, command).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    let secret = |line: &str| {
        let (name, hex) = line.strip_prefix("secret ")?.split_once(' ')?;
        Some(Secret { name: name.to_owned(), bytes: hex::decode(hex).unwrap() })
    };
    let secrets: Vec<_> = told.lines().filter_map(secret).collect();
    assert_eq!(secrets.len(), 4, "{told}");
    secrets
}

async fn tell(folder: &Path) {
    let secrets = Secrets::of(folder).await;
    println(&format!("secret provider-share {}", hex::encode(secrets.provider.expose())));
    println(&format!("secret customer-share {}", hex::encode(secrets.customer.expose())));
    println(&format!("secret KEK {}", hex::encode(secrets.kek.expose())));
    println(&format!("secret DEK {}", hex::encode(secrets.dek.expose())));
}

/// All that opens a file, where the library keeps it.
struct Secrets {
    provider: Share,
    customer: Share,
    kek: twinlock_keys::Secret<32>,
    dek: twinlock_keys::Secret<32>,
}

impl Secrets {
    /// Computes them from the header, with the format's own functions.
    async fn of(folder: &Path) -> Self {
        let header = twinlock::read_header(&mut File::open(folder.join("a.twl")).unwrap()).unwrap();
        let header = header.header();
        let keyslot: &PairKeyslot = header.supported_keyslots().next().unwrap();
        let pair = keyslot.pair();
        let unwrap = |side, holder: Arc<dyn KeyHolder>| async move {
            unwrap_share(pair, side, header.context(), &*holder).await
        };
        let provider = unwrap(Side::Provider, provider().await).await;
        let customer = unwrap(Side::Customer, Arc::new(customer().await)).await;
        let id = header.envelope_id();
        let kek = schedule::kek(provider.expose(), customer.expose(), &id, pair);
        let dek = schedule::unwrap_dek(&kek, &id, keyslot.wrapped_dek()).unwrap();
        let (kek, dek) =
            (twinlock_keys::Secret::copy_of(&kek), twinlock_keys::Secret::copy_of(&dek));
        Self { provider, customer, kek, dek }
    }
}

async fn unwrap_share(
    pair: &WrappedPair,
    side: Side,
    context: &twinlock::EncryptionContext,
    holder: &dyn KeyHolder,
) -> Share {
    let (slot, aad) = match side {
        Side::Provider => (pair.provider(), twinlock_format::Side::Provider),
        Side::Customer => (pair.customer(), twinlock_format::Side::Customer),
    };
    let binding = schedule::ShareBinding::new(&pair.pair_id(), context);
    let pairs = context.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let label = schedule::aws_share_label(aad, &pair.pair_id());
    let bound = WrapContext::new(side, label, binding.aad(aad).as_bytes().to_vec(), pairs);
    let wrapped = WrappedShare::new(twinlock::ShareAlgorithm::HolderAead, slot.wrapped().to_vec());
    holder.unwrap_key(&wrapped, &bound).await.unwrap()
}

async fn provider() -> Arc<dyn KeyHolder> {
    let uri = KeyUri::parse(&env::var("TWINLOCK_PROVIDER").unwrap()).unwrap();
    match uri.as_str().starts_with("file:") {
        true => Arc::new(FileKek::open(&uri).unwrap()),
        false => Arc::new(AwsKmsKey::connect(&uri, &Options::new()).await.unwrap()),
    }
}

async fn customer() -> Pkcs11Key {
    let uri = env::var("TWINLOCK_CUSTOMER").unwrap().parse().unwrap();
    Pkcs11Key::open(&uri, TokenOptions::default()).await.unwrap()
}

/// A process that has opened the envelope in a folder and holds all that it
/// needs to read on, and what was planted.
pub(super) struct Holding {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Holding {
    pub(super) fn start(folder: &Path, command: Command) -> Self {
        let mut command = told("hold", folder, command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut holding = Self { said: BufReader::new(child.stdout.take().unwrap()), child };
        holding.wait_for("holding");
        holding
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it abort, which the system answers with a core file if it may.
    pub(super) fn abort(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while line.trim_end() != word {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "it ended without {word:?}");
        }
    }
}

async fn hold(folder: &Path) {
    let limit = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: limit, maximum: limit }).unwrap();
    // In use all the time. Before the work, for a core file has registers too, and
    // what was copied last is in them.
    let secrets = Secrets::of(folder).await;
    let planted = fs::read(folder.join("planted")).unwrap();
    let decryptor = Decryptor::any_context()
        .provider(ProviderKey::shared(provider().await).unwrap())
        .customer(CustomerKey::new(customer().await).unwrap());
    let mut file = File::open(folder.join("a.twl")).unwrap();
    let header = twinlock::read_header(&mut file).unwrap();
    let envelope = decryptor.open(header).await.unwrap();
    let mut reader = envelope.reader(file).unwrap();
    reader.read_exact(&mut [0; 1000]).unwrap();
    println("holding");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    std::hint::black_box((&planted, &decryptor, &envelope, &reader, &secrets));
    std::process::abort();
}

fn println(line: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "\n{line}").and_then(|()| stdout.flush()).unwrap();
}
