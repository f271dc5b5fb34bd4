//! The file that keeps a login: for its owner alone, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use twinlock_keys::HolderError;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::secret;
use crate::dke::call::Deadline;
use crate::dke::oauth::{Granted, OauthClient};
use crate::dke::token::Token;
use crate::dke::{Options, misconfigured};

/// The longest file that is read, in bytes: two tokens and names.
const MAX_LEN: usize = 64 * 1024;

/// Between two looks at whether another process has finished.
const PATIENCE: Duration = Duration::from_millis(50);

/// A login.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    issuer: String,
    client_id: String,
    scope: Option<String>,
    resource: Option<String>,
    access_token: String,
    /// In seconds since 1970.
    expires_at: Option<u64>,
    refresh_token: Option<String>,
}

impl Kept {
    pub(super) fn new(client: &OauthClient, granted: &Granted) -> Self {
        Self {
            issuer: client.issuer.clone(),
            client_id: client.client_id.clone(),
            scope: client.scope.clone(),
            resource: client.resource.clone(),
            access_token: granted.access_token.clone(),
            expires_at: granted.expires_in.map(|seconds| now().saturating_add(seconds)),
            refresh_token: granted.refresh_token.clone(),
        }
    }

    /// Reads the login of `client`, and of nobody else.
    pub(super) fn read(path: &Path, client: &OauthClient) -> Result<Self, HolderError> {
        let place = path.display();
        let text = match read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(misconfigured(format!(
                    "nobody is logged in with {client}: run `twinlock login`"
                )));
            }
            Err(error) => {
                return Err(misconfigured(format!("cannot read the login in {place}: {error}")));
            }
        };
        let kept: Option<Self> = serde_json::from_slice(&text).ok();
        kept.filter(|kept| kept.is_of(client)).ok_or_else(|| {
            misconfigured(format!(
                "{place} holds no login with {client} for this client and scope: run `twinlock \
                 login`"
            ))
        })
    }

    /// The token if its time is not over, and it is not `refused`.
    pub(super) fn token(&self, refused: Option<&str>) -> Option<Token> {
        let left = self.expires_at.map(|end| end.saturating_sub(now()));
        let is_good = left.is_none_or(|seconds| seconds > 0)
            && refused.is_none_or(|refused| refused != self.access_token);
        is_good.then(|| Token::leased(secret(&self.access_token), left.map(Duration::from_secs)))
    }

    pub(super) fn refresh_token(&self) -> Option<&str> {
        self.refresh_token.as_deref()
    }

    /// The same with new tokens. An issuer that gives no new refresh token leaves
    /// the old one good (RFC 6749 section 6).
    pub(super) fn renewed(&self, granted: &Granted) -> Self {
        let refresh_token = granted.refresh_token.clone().or_else(|| self.refresh_token.clone());
        Self {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            scope: self.scope.clone(),
            resource: self.resource.clone(),
            access_token: granted.access_token.clone(),
            expires_at: granted.expires_in.map(|seconds| now().saturating_add(seconds)),
            refresh_token,
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), HolderError> {
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_LEN));
        serde_json::to_writer(&mut *text, self).expect("texts become JSON");
        replace(path, &text).map_err(|error| {
            misconfigured(format!("cannot keep the login in {}: {error}", path.display()))
        })
    }

    fn is_of(&self, client: &OauthClient) -> bool {
        self.issuer == client.issuer
            && self.client_id == client.client_id
            && self.scope == client.scope
            && self.resource == client.resource
    }
}

/// Forgets the login that `file` keeps; false if there is none. Whoever is renewing
/// it is waited for, and finds it gone afterwards. Of `options`, the time for each
/// call counts. Its tokens stay good until they end by themselves, for whoever has a
/// copy.
///
/// # Errors
/// When the file cannot be removed, and when its renewal takes too long.
pub async fn forget_login(file: &Path, options: &Options) -> Result<bool, HolderError> {
    // Without one, no folder is made for its lock.
    if !file.exists() {
        return Ok(false);
    }
    let _lock = Lock::take(file, Deadline::within(options.deadline)).await?;
    match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            Err(misconfigured(format!("cannot remove the login {}: {error}", file.display())))
        }
    }
}

/// Held by whoever changes a login; ends with the process at the latest.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) async fn take(path: &Path, deadline: Deadline) -> Result<Self, HolderError> {
        let lock = beside(path, "lock");
        let cannot = |error: io::Error| {
            misconfigured(format!("cannot lock the login with {}: {error}", lock.display()))
        };
        create_private_folder(&lock).map_err(cannot)?;
        let file = private().create(true).truncate(false).open(&lock).map_err(cannot)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(fs::TryLockError::WouldBlock) if deadline.has_room_for(PATIENCE) => {
                    tokio::time::sleep(PATIENCE).await;
                }
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(HolderError::new(
                        twinlock_keys::HolderErrorKind::TimedOut,
                        format!(
                            "another program is renewing the login {}: try again when it is done",
                            path.display()
                        ),
                    ));
                }
                Err(fs::TryLockError::Error(error)) => return Err(cannot(error)),
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Asked before it is opened: to open a pipe waits for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let file = File::open(path)?;
    refuse_if_others_can_read(&file)?;
    // As large as it may become, for what grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_LEN + 1));
    file.take(MAX_LEN as u64 + 1).read_to_end(&mut text)?;
    match text.len() <= MAX_LEN {
        true => Ok(text),
        false => Err(io::Error::other("it is too long for one")),
    }
}

/// A reader finds the old file or the new one, whole.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    create_private_folder(path)?;
    let new = beside(path, "new");
    let _ = fs::remove_file(&new); // of a process that was killed: the lock is ours
    let mut file = private().create_new(true).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    path.with_extension(extension)
}

fn create_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    path.parent().map_or(Ok(()), |folder| builder.create(folder))
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}

#[cfg(unix)]
fn refuse_if_others_can_read(file: &File) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    match file.metadata()?.mode() & 0o077 {
        0 => Ok(()),
        _ => Err(io::Error::other("others than its owner can use it; run `twinlock login` again")),
    }
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "one signature on all systems")]
fn refuse_if_others_can_read(_: &File) -> io::Result<()> {
    Ok(())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> OauthClient {
        OauthClient::new("https://issuer.example", "cli").scope("a b")
    }

    fn forget(path: &Path) -> Result<bool, HolderError> {
        let options = Options::new().deadline(Duration::from_millis(100));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(forget_login(path, &options))
    }

    fn granted(text: &str) -> Granted {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_login_is_kept_for_its_owner_and_its_client_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logins/one.json");
        let given = granted(r#"{"access_token":"at","expires_in":3600,"refresh_token":"rt"}"#);
        Kept::new(&client(), &given).write(&path).unwrap();
        let kept = Kept::read(&path, &client()).unwrap();
        assert_eq!(*kept.token(None).unwrap().text, "at");
        assert_eq!(kept.refresh_token(), Some("rt"));
        assert!(kept.token(Some("at")).is_none(), "it was refused");
        for other in [
            OauthClient::new("https://other.example", "cli").scope("a b"),
            OauthClient::new("https://issuer.example", "other").scope("a b"),
            client().scope("c"),
            client().resource("https://dke.example"),
        ] {
            let error = Kept::read(&path, &other).err().unwrap();
            assert!(error.to_string().contains("twinlock login"), "{error}");
        }
        assert_eq!(forget(&path), Ok(true));
        assert_eq!(forget(&path), Ok(false));
        assert!(Kept::read(&path, &client()).err().unwrap().to_string().contains("nobody"));
    }

    #[test]
    fn a_login_that_is_being_renewed_is_not_forgotten_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logins/one.json");
        assert_eq!(forget(&path), Ok(false));
        assert!(!path.parent().unwrap().exists(), "nothing is made for what is not there");
        Kept::new(&client(), &granted(r#"{"access_token":"at"}"#)).write(&path).unwrap();
        let renewing = private().create(true).truncate(false).open(beside(&path, "lock")).unwrap();
        renewing.lock().unwrap();
        let error = forget(&path).unwrap_err();
        assert_eq!(error.kind(), twinlock_keys::HolderErrorKind::TimedOut);
        assert!(error.to_string().contains("another program"), "{error}");
        drop(renewing);
        assert_eq!(forget(&path), Ok(true));
    }

    #[test]
    fn a_renewed_login_keeps_a_refresh_token_that_was_not_replaced() {
        let kept = Kept::new(
            &client(),
            &granted(r#"{"access_token":"a","refresh_token":"r","expires_in":"0"}"#),
        );
        assert!(kept.token(None).is_none(), "it is over");
        let renewed = kept.renewed(&granted(r#"{"access_token":"b"}"#));
        assert_eq!((&*renewed.access_token, renewed.refresh_token()), ("b", Some("r")));
        let replaced = kept.renewed(&granted(r#"{"access_token":"b","refresh_token":"s"}"#));
        assert_eq!(replaced.refresh_token(), Some("s"));
    }

    #[cfg(unix)]
    #[test]
    fn a_login_that_others_can_read_is_refused() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.json");
        Kept::new(&client(), &granted(r#"{"access_token":"secret"}"#)).write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Kept::read(&path, &client()).err().unwrap().to_string();
        assert!(error.contains("others") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn what_is_no_login_is_refused_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.json");
        let long = "secret".repeat(MAX_LEN);
        for text in ["", "{}", "secret", r#"{"access_token":"secret"}"#, &long] {
            replace(&path, text.as_bytes()).unwrap();
            let error = Kept::read(&path, &client()).err().unwrap().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(Kept::read(folder.path(), &client()).is_err());
    }
}
