//! Services of Double Key Encryption, through `twinlock-remote-keys`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use twinlock::{HolderError, HolderErrorKind, KeyHolder, KeyUri, Side};
use twinlock_remote_keys::dke::{
    Credential, DkeKey, KeyFacts, OauthClient, Options, PendingLogin, Pin, TokenSource,
    forget_login,
};

use super::{milliseconds, round_trip};
use crate::config::{Dke, DkeAuth};
use crate::report::hex;
use crate::report::keys::{self, KeyCheck};
use crate::settings::Access;

/// Where a client secret is if no file is named.
const CLIENT_SECRET: &str = "TWINLOCK_DKE_CLIENT_SECRET";

/// What a service publishes about its key.
pub(crate) struct Published {
    /// As profiles have it.
    pub(crate) pin: String,
    pub(crate) bits: u64,
    pub(crate) version: String,
    pub(crate) is_pinned: bool,
}

pub(crate) async fn open(uri: &KeyUri, access: &Access) -> Result<Arc<dyn KeyHolder>, HolderError> {
    Ok(Arc::new(DkeKey::connect(uri, &options(access)?)?))
}

/// What the service publishes, pinned or not; no token is needed for that.
pub(crate) async fn published(uri: &KeyUri, access: &Access) -> Result<Published, HolderError> {
    let options = reaching(access)?;
    let KeyFacts { version, bits, pin, .. } = DkeKey::describe(uri, &options).await?;
    let is_pinned = pins(&access.dke)?.contains(&pin);
    Ok(Published { pin: pin.to_string(), bits, version, is_pinned })
}

pub(crate) async fn check(uri: &KeyUri, access: &Access) -> Result<KeyCheck, HolderError> {
    let options = options(access)?;
    let start = Instant::now();
    let facts = DkeKey::describe(uri, &options).await?;
    let find_ms = Some(milliseconds(start.elapsed()));
    let start = Instant::now();
    let key = DkeKey::connect(uri, &options)?;
    let open_ms = milliseconds(start.elapsed());
    let check = round_trip(&key, Side::Customer).await?;
    let spki_sha256 = Some(hex(facts.pin.bytes()));
    let dke = Some(keys::DkeKey { version: facts.version, bits: facts.bits });
    Ok(KeyCheck { open_ms, find_ms, spki_sha256, dke, ..check })
}

/// `sha256:` and 64 digits, of either spelling.
pub(crate) fn canonical_pin(text: &str) -> Result<String, HolderError> {
    Ok(pin(text)?.to_string())
}

/// A login that waits for a person.
pub(crate) struct Login {
    pending: PendingLogin,
    file: PathBuf,
}

/// Begins the login that the profile describes.
pub(crate) async fn start_login(access: &Access) -> Result<Login, HolderError> {
    let (client, file) = login(access)?;
    let pending = twinlock_remote_keys::dke::start_login(&client, &reaching(access)?).await?;
    Ok(Login { pending, file })
}

impl Login {
    /// What the person has to do.
    pub(crate) fn message(&self) -> String {
        let (url, code) = (self.pending.verification_uri(), self.pending.user_code());
        match self.pending.verification_uri_complete() {
            Some(complete) => format!(
                "To log in, open {complete}\nand compare the code {code} (or type it at {url})"
            ),
            None => format!("To log in, open {url} and type the code {code}"),
        }
    }

    /// Waits for the person.
    pub(crate) async fn finish(self) -> Result<(), HolderError> {
        self.pending.finish(&self.file).await
    }
}

/// Forgets the login that the profile describes; false if there is none.
pub(crate) async fn log_out(access: &Access) -> Result<bool, HolderError> {
    forget_login(&login(access)?.1, &reaching(access)?).await
}

/// True if the settings want a login, and there is none yet.
pub(crate) fn awaits_login(access: &Access) -> bool {
    access.dke.auth == Some(DkeAuth::Login) && login(access).is_ok_and(|(_, file)| !file.exists())
}

fn options(access: &Access) -> Result<Options, HolderError> {
    Ok(reaching(access)?.token(token(access)?))
}

/// All but the token.
fn reaching(access: &Access) -> Result<Options, HolderError> {
    let mut options = Options::new();
    for pin in pins(&access.dke)? {
        options = options.pin(pin);
    }
    if let Some(path) = &access.dke.ca_file {
        options = options.ca_file(path);
    }
    if let Some(deadline) = access.deadline {
        options = options.deadline(deadline);
    }
    Ok(options)
}

fn pins(dke: &Dke) -> Result<Vec<Pin>, HolderError> {
    dke.pins.iter().map(|text| pin(text)).collect()
}

fn pin(text: &str) -> Result<Pin, HolderError> {
    text.parse().map_err(|error| misconfigured(format!("{error}: {text:?} is none")))
}

fn token(access: &Access) -> Result<TokenSource, HolderError> {
    let dke = &access.dke;
    let file = |path: &Option<PathBuf>| path.clone().map(Credential::File);
    match (dke.auth, file(&dke.token_file), &dke.token_command) {
        (None, None, None) => Ok(Options::usual_token()),
        (None, Some(file), None) => Ok(TokenSource::Bearer(file)),
        (None, None, Some(words)) => Ok(TokenSource::Command(words.clone())),
        (Some(DkeAuth::ClientCredentials), None, None) => Ok(TokenSource::ClientCredentials {
            client: client(dke)?,
            secret: file(&dke.client_secret_file)
                .unwrap_or_else(|| Credential::Variable(CLIENT_SECRET.to_owned())),
        }),
        (Some(DkeAuth::Federated), None, None) => Ok(TokenSource::Federated {
            client: client(dke)?,
            assertion: file(&dke.assertion_file).ok_or_else(|| lacks("assertion_file"))?,
        }),
        (Some(DkeAuth::Login), None, None) => {
            let (client, file) = login(access)?;
            Ok(TokenSource::Login { client, file })
        }
        _ => Err(misconfigured(
            "the profile's [dke] names several sources of tokens: keep one of auth, token_file and \
             token_command"
                .to_owned(),
        )),
    }
}

/// As whom people log in, and where that is kept.
fn login(access: &Access) -> Result<(OauthClient, PathBuf), HolderError> {
    let client = client(&access.dke)?;
    let folder = access.logins.as_ref().ok_or_else(|| {
        misconfigured("a login has to be kept, and neither XDG_STATE_HOME nor HOME is set".into())
    })?;
    // Profiles with the same client share a login.
    let names = [Some(&client.issuer), Some(&client.client_id), access.dke.scope.as_ref()];
    let resource = access.dke.resource.as_ref();
    let mut hash = Sha256::new();
    for name in names.into_iter().chain([resource]) {
        hash.update([u8::from(name.is_some())]);
        hash.update(name.map(String::as_bytes).unwrap_or_default());
        hash.update([0]);
    }
    let name = hex(&hash.finalize()[..16]);
    Ok((client, folder.join(name).with_extension("json")))
}

fn client(dke: &Dke) -> Result<OauthClient, HolderError> {
    let needed = |setting: &Option<String>, name| setting.clone().ok_or_else(|| lacks(name));
    let issuer = needed(&dke.issuer, "issuer")?;
    let mut client = OauthClient::new(issuer, needed(&dke.client_id, "client_id")?);
    if let Some(scope) = &dke.scope {
        client = client.scope(scope);
    }
    if let Some(resource) = &dke.resource {
        client = client.resource(resource);
    }
    Ok(client)
}

fn lacks(name: &str) -> HolderError {
    misconfigured(format!("this way to get a token needs {name} in the profile's [dke]"))
}

fn misconfigured(message: String) -> HolderError {
    HolderError::new(HolderErrorKind::Misconfigured, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(dke: Dke) -> Access {
        Access::to_dke(dke, Some("/state".into()))
    }

    fn of_issuer(auth: DkeAuth) -> Dke {
        let text = |text: &str| Some(text.to_owned());
        Dke {
            auth: Some(auth),
            issuer: text("https://issuer.example"),
            client_id: text("cli"),
            ..Dke::default()
        }
    }

    #[test]
    fn a_token_has_one_source() {
        let command = Some(vec!["get-token".to_owned()]);
        let file = Some(PathBuf::from("/token"));
        let one = Dke { token_file: file.clone(), ..Dke::default() };
        assert!(matches!(token(&access(one)), Ok(TokenSource::Bearer(Credential::File(_)))));
        let one = Dke { token_command: command.clone(), ..Dke::default() };
        assert!(matches!(token(&access(one)), Ok(TokenSource::Command(_))));
        let none = token(&access(Dke::default())).unwrap();
        assert!(matches!(none, TokenSource::Bearer(Credential::Variable(_))));
        let both = Dke { token_file: file.clone(), token_command: command, ..Dke::default() };
        let other = Dke { token_file: file, ..of_issuer(DkeAuth::Login) };
        for several in [both, other] {
            let error = token(&access(several)).unwrap_err();
            assert!(error.to_string().contains("keep one"), "{error}");
        }
    }

    #[test]
    fn what_a_source_lacks_is_named() {
        for auth in [DkeAuth::ClientCredentials, DkeAuth::Federated, DkeAuth::Login] {
            let incomplete = Dke { client_id: None, ..of_issuer(auth) };
            let error = token(&access(incomplete)).unwrap_err();
            assert!(error.to_string().contains("client_id"), "{error}");
        }
        let error = token(&access(of_issuer(DkeAuth::Federated))).unwrap_err();
        assert!(error.to_string().contains("assertion_file"), "{error}");
    }

    #[test]
    fn each_client_and_scope_has_a_login_of_its_own() {
        let of = |dke: &Dke| login(&access(dke.clone())).unwrap().1;
        let one = of_issuer(DkeAuth::Login);
        let scoped = Dke { scope: Some("a".to_owned()), ..one.clone() };
        let other = Dke { resource: Some("a".to_owned()), ..one.clone() };
        let files = [of(&one), of(&scoped), of(&other)];
        assert!(files[0] != files[1] && files[1] != files[2] && files[0] != files[2]);
        assert!(files.iter().all(|file| file.starts_with("/state")));
        assert_eq!(of(&Dke { pins: vec!["any".to_owned()], ..one.clone() }), files[0]);
    }

    #[test]
    fn a_word_that_is_no_pin_is_shown() {
        let bad = Dke { pins: vec!["sha256:00".to_owned()], ..Dke::default() };
        let error = reaching(&access(bad)).unwrap_err();
        assert!(error.to_string().contains("sha256:00"), "{error}");
    }
}
