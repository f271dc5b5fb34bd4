//! The connection to a directory, kept and made anew, and the searches over it.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use ldap3::{LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, SearchOptions};
use reqwest::Url;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::{Mutex, Semaphore};
use twinlock_service::config::SecretSource;

use super::super::Sid;

/// How long a question to the directory may take, with connecting and all.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// How long connecting alone may.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// Questions at a time: whoever has a token asks some, and a directory has others
/// to serve.
pub(super) const MAX_QUESTIONS: usize = 32;

/// How long a directory is left alone that could not be reached.
const PAUSE: Duration = Duration::from_secs(1);

/// Which directory to ask, and as whom.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapSettings {
    /// `ldaps://host[:port]`, or `ldap://` with `start_tls`. Without TLS only on
    /// this machine.
    pub url: String,
    /// Begins TLS on a connection that begins without.
    #[serde(default)]
    pub start_tls: bool,
    /// Whom to bind as; nobody if not said.
    pub bind_dn: Option<String>,
    /// Where the password of `bind_dn` is.
    pub password: Option<SecretSource>,
    /// Below which entry users and groups are.
    pub base: String,
    /// Authorities for the directory's certificate, in PEM, instead of the
    /// system's.
    pub ca: Option<PathBuf>,
    /// The issuer whose users the directory has; any if not said, which is refused
    /// where the configuration has several: another one could write any SID.
    pub issuer: Option<String>,
    /// The claim that has the user's SID. Entra ID calls it `onprem_sid`.
    #[serde(default = "onprem_sid")]
    pub sid_claim: String,
}

impl LdapSettings {
    /// The files that it names, to watch them for changes.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let password = self.password.as_ref().and_then(SecretSource::path);
        self.ca.clone().into_iter().chain(password)
    }
}

fn onprem_sid() -> String {
    "onprem_sid".to_owned()
}

/// A directory.
pub struct Ldap {
    place: Arc<Place>,
    issuer: Option<String>,
    sid_claim: String,
    line: Arc<Mutex<Line>>,
    turns: Arc<Semaphore>,
}

/// What a connection is made with.
struct Place {
    url: Url,
    start_tls: bool,
    tls: Option<Arc<ClientConfig>>,
    bind: Option<(String, SecretString)>,
    base: String,
}

/// The connection, if there is one. All questions share it.
#[derive(Default)]
struct Line {
    handle: Option<ldap3::Ldap>,
    /// Counts connections, so that nobody hangs up one that is new.
    number: u64,
    /// When it could not be made, and why.
    failed: Option<(Instant, String)>,
}

impl Ldap {
    /// Reads what the settings name. Nothing is connected yet.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(settings: &LdapSettings) -> Result<Self, String> {
        let said = |problem: String| format!("ldap: {problem}");
        let place = Place::new(settings).map_err(said)?;
        let (issuer, sid_claim) = (settings.issuer.clone(), settings.sid_claim.clone());
        let turns = Arc::new(Semaphore::new(MAX_QUESTIONS));
        Ok(Self { place: Arc::new(place), issuer, sid_claim, line: Arc::default(), turns })
    }

    /// Whether a SID in a token of this issuer is one of the directory's.
    pub(super) fn knows_users_of(&self, issuer: &str) -> bool {
        self.issuer.as_deref().is_none_or(|ours| ours == issuer)
    }

    /// The claim that has the user's SID.
    pub(super) fn sid_claim(&self) -> &str {
        &self.sid_claim
    }

    /// Connects, binds and looks at `base`: for `check-config`.
    ///
    /// # Errors
    /// When that does not work.
    pub async fn check(&self) -> Result<(), String> {
        match self.ask(Question::IsBaseThere).await? {
            true => Ok(()),
            false => Err(format!("ldap: there is no entry {:?}", self.place.base)),
        }
    }

    /// Whether the user is a member of one of these groups.
    pub(super) async fn is_member(&self, user: &Sid, groups: &[Sid]) -> Result<bool, String> {
        self.ask(Question::IsMember { user: user.clone(), groups: groups.to_vec() }).await
    }

    /// How many were made.
    #[cfg(test)]
    pub(super) async fn connections(&self) -> u64 {
        self.line.lock().await.number
    }

    /// Asks in a task of its own: what of an answer the library cannot read makes
    /// it panic, and whoever hangs up leaves no half of a question behind.
    async fn ask(&self, question: Question) -> Result<bool, String> {
        let (place, line) = (Arc::clone(&self.place), Arc::clone(&self.line));
        let turns = Arc::clone(&self.turns);
        let asking = tokio::spawn(async move {
            let until = Instant::now() + PATIENCE;
            let answer = match in_time(until, turns.acquire().map(Ok)).await {
                Ok(_turn) => place.ask(&line, &question, until).await,
                Err(problem) => Err(problem),
            };
            answer.map_err(|(Problem::Broken(problem) | Problem::Refused(problem))| {
                format!("the directory {}: {problem}", place.url)
            })
        });
        asking.await.unwrap_or_else(|_| Err("the directory's answer is no LDAP".to_owned()))
    }
}

/// What a directory is asked.
enum Question {
    IsBaseThere,
    IsMember { user: Sid, groups: Vec<Sid> },
}

/// Why there is no answer.
enum Problem {
    /// The connection does not work, or the directory does not.
    Broken(String),
    /// They work, and the answer is no use.
    Refused(String),
}

/// The connection as one question uses it.
struct Use {
    handle: ldap3::Ldap,
    number: u64,
    is_new: bool,
}

impl Place {
    fn new(settings: &LdapSettings) -> Result<Self, String> {
        let LdapSettings { url, start_tls, bind_dn, password, base, ca, sid_claim, issuer: _ } =
            settings;
        if base.trim().is_empty() || sid_claim.is_empty() {
            return Err("base and sid_claim must not be empty".to_owned());
        }
        Ok(Self {
            url: private(url, *start_tls)?,
            start_tls: *start_tls,
            tls: ca.as_deref().map(tls).transpose()?,
            bind: bind(bind_dn.as_deref(), password.as_ref())?,
            base: base.clone(),
        })
    }

    /// Asks over the connection, and once more over a new one where an old one
    /// does not work any more, as after the directory was restarted.
    async fn ask(
        &self,
        line: &Mutex<Line>,
        question: &Question,
        until: Instant,
    ) -> Result<bool, Problem> {
        loop {
            let Use { mut handle, number, is_new } = in_time(until, self.connected(line)).await?;
            let answer = in_time(until, self.answer(&mut handle, question)).await;
            let Err(Problem::Broken(problem)) = answer else { return answer };
            line.lock().await.hang_up(number);
            if is_new {
                return Err(Problem::Broken(problem));
            }
        }
    }

    async fn answer(&self, ldap: &mut ldap3::Ldap, ask: &Question) -> Result<bool, Problem> {
        match ask {
            Question::IsBaseThere => {
                let found = self.search(ldap, Scope::Base, "(objectClass=*)", 1).await?;
                Ok(!found.is_empty())
            }
            Question::IsMember { user, groups } => self.is_member(ldap, user, groups).await,
        }
    }

    async fn is_member(
        &self,
        ldap: &mut ldap3::Ldap,
        user: &Sid,
        groups: &[Sid],
    ) -> Result<bool, Problem> {
        let most = groups.len() + 1;
        let names = self.search(ldap, Scope::Subtree, &any_of("objectSid", groups), most).await?;
        if names.len() < groups.len() {
            tracing::warn!(
                listed = groups.len(),
                found = names.len(),
                "a group of ldap_groups is not in the directory"
            );
        }
        if names.is_empty() {
            return Ok(false);
        }
        let filter = format!("(&(objectSid={}){})", escaped(user), any_of("memberOf", &names));
        match self.search(ldap, Scope::Subtree, &filter, 2).await?.len() {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Problem::Refused(format!("more than one user has the SID {user}"))),
        }
    }

    /// The names of the entries that fit, at most so many.
    async fn search(
        &self,
        ldap: &mut ldap3::Ldap,
        scope: Scope,
        filter: &str,
        most: usize,
    ) -> Result<Vec<String>, Problem> {
        let limit = i32::try_from(most).expect("a handful");
        ldap.with_search_options(SearchOptions::new().sizelimit(limit));
        // "1.1" is no attribute (RFC 4511 section 4.5.1.8).
        let search = ldap.streaming_search(&self.base, scope, filter, ["1.1"]);
        let mut found = search.await.map_err(broken)?;
        let mut names = Vec::new();
        while let Some(entry) = found.next().await.map_err(broken)? {
            let is_entry = !entry.is_ref() && !entry.is_intermediate();
            if is_entry && names.len() < most {
                names.push(SearchEntry::construct(entry).dn);
            }
        }
        let result = found.finish().await;
        match result.rc {
            SUCCESS | SIZE_LIMIT_EXCEEDED => Ok(names),
            NO_SUCH_OBJECT => Err(Problem::Refused(format!("there is no {:?}", self.base))),
            _ => Err(Problem::Broken(result.to_string())),
        }
    }

    /// The connection, made if there is none that works.
    async fn connected(&self, line: &Mutex<Line>) -> Result<Use, Problem> {
        let mut line = line.lock().await;
        if let Some(handle) = &mut line.handle
            && !handle.is_closed()
        {
            let handle = handle.clone();
            return Ok(Use { handle, number: line.number, is_new: false });
        }
        if let Some((_, problem)) = line.failed.as_ref().filter(|it| it.0.elapsed() < PAUSE) {
            return Err(Problem::Broken(problem.clone()));
        }
        match in_time(Instant::now() + CONNECT_PATIENCE, self.connect()).await {
            Ok(handle) => {
                let number = line.number + 1;
                *line = Line { handle: Some(handle.clone()), number, failed: None };
                Ok(Use { handle, number, is_new: true })
            }
            Err(problem) => {
                let (Problem::Broken(told) | Problem::Refused(told)) = &problem;
                line.failed = Some((Instant::now(), told.clone()));
                Err(problem)
            }
        }
    }

    async fn connect(&self) -> Result<ldap3::Ldap, Problem> {
        let mut settings = LdapConnSettings::new().set_starttls(self.start_tls);
        if let Some(tls) = &self.tls {
            settings = settings.set_config(Arc::clone(tls));
        }
        let connected = LdapConnAsync::from_url_with_settings(settings, &self.url).await;
        let (connection, mut ldap) = connected.map_err(broken)?;
        tokio::spawn(connection.drive());
        if let Some((name, password)) = &self.bind {
            let bound = ldap.simple_bind(name, password.expose_secret()).await;
            bound.and_then(ldap3::LdapResult::success).map_err(broken)?;
        }
        Ok(ldap)
    }
}

impl Line {
    /// Forgets the connection of this number.
    fn hang_up(&mut self, number: u64) {
        if self.number == number {
            self.handle = None;
        }
    }
}

// RFC 4511 appendix A.1.
const SUCCESS: u32 = 0;
const SIZE_LIMIT_EXCEEDED: u32 = 4;
const NO_SUCH_OBJECT: u32 = 32;

async fn in_time<T>(
    until: Instant,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let late = |_| Err(Problem::Broken("it does not answer in time".to_owned()));
    tokio::time::timeout_at(until.into(), work).await.unwrap_or_else(late)
}

fn broken(error: LdapError) -> Problem {
    Problem::Broken(error.to_string())
}

/// A filter for entries of which an attribute has one of these values.
fn any_of(attribute: &str, values: &[impl fmt::Display]) -> String {
    let tests = values.iter().map(|value| format!("({attribute}={})", escaped(value)));
    format!("(|{})", tests.collect::<String>())
}

/// As it stands in a filter (RFC 4515 section 3).
fn escaped(value: impl fmt::Display) -> String {
    ldap3::ldap_escape(value.to_string()).into_owned()
}

/// A URL to which a password may be sent.
fn private(text: &str, start_tls: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| format!("{text:?} is no URL"))?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none();
    let host = url.host_str().unwrap_or_default();
    if !is_plain || host.is_empty() {
        return Err("url is a scheme, a host and maybe a port, and nothing else".to_owned());
    }
    match (url.scheme(), start_tls) {
        ("ldaps", false) | ("ldap", true) => Ok(url),
        ("ldap", false) if is_this_machine(host) => Ok(url),
        ("ldaps", true) => Err("with ldaps://, TLS begins at once: leave out start_tls".to_owned()),
        _ => Err("url has to be ldaps://, or ldap:// with start_tls = true".to_owned()),
    }
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn bind(
    name: Option<&str>,
    password: Option<&SecretSource>,
) -> Result<Option<(String, SecretString)>, String> {
    match (name, password) {
        (None, None) => Ok(None),
        // A name without a password binds as nobody, and that succeeds (RFC 4513
        // section 5.1.2).
        (Some(name), Some(password)) if !name.is_empty() => {
            let password = password.read().map_err(|error| error.to_string())?;
            Ok(Some((name.to_owned(), password)))
        }
        _ => Err("bind_dn and password go together".to_owned()),
    }
}

fn tls(ca: &Path) -> Result<Arc<ClientConfig>, String> {
    let place = ca.display();
    let read = |error: &dyn fmt::Display| format!("cannot read certificates in {place}: {error}");
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| read(&error))? {
        let certificate = certificate.map_err(|error| read(&error))?;
        authorities.add(certificate).map_err(|error| read(&error))?;
    }
    if authorities.is_empty() {
        return Err(format!("{place} holds no certificates in PEM"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(authorities).with_no_client_auth()))
}
