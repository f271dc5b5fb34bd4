//! The configuration file: profiles, which say which keys to use.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml_edit::{DocumentMut, Item, Table, value};
use twinlock::file::OutputFile;

use crate::exit::Failure;
use crate::origin::Origin;
use crate::pins::without_pins;

/// A whole configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The profile to use when none is named.
    pub(crate) profile: Option<String>,
    #[serde(default)]
    pub(crate) profiles: BTreeMap<String, Profile>,
}

/// Which keys to use, and how this machine reaches them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub(crate) provider: Option<String>,
    pub(crate) customer: Option<String>,
    /// Further pairs of keys.
    #[serde(default, rename = "keyslot")]
    pub(crate) keyslots: Vec<KeyslotKeys>,
    /// What headers call keys that have moved since.
    #[serde(default)]
    pub(crate) moved: Vec<Moved>,
    #[serde(default)]
    pub(crate) aws: Aws,
    #[serde(default)]
    pub(crate) azure: Azure,
    #[serde(default)]
    pub(crate) dke: Dke,
    #[serde(default)]
    pub(crate) gcp: Gcp,
    #[serde(default)]
    pub(crate) vault: Vault,
    /// Accept customer keys that can leave their token.
    #[serde(default)]
    pub(crate) allow_extractable: bool,
    /// How long one call to a holder may take.
    pub(crate) deadline_seconds: Option<NonZeroU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyslotKeys {
    pub(crate) provider: String,
    pub(crate) customer: String,
}

/// Headers say `from`; the key is now at `to`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Moved {
    pub(crate) from: String,
    pub(crate) to: String,
}

/// How to reach AWS, where the usual chain of the AWS tools is not enough.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "aws-kms"), allow(dead_code, reason = "for the AWS holder"))]
pub(crate) struct Aws {
    pub(crate) profile: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
}

/// How to reach Azure, where a key's host and the environment are not enough.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "azure-kv"), allow(dead_code, reason = "for the Azure holder"))]
pub(crate) struct Azure {
    /// How to wrap, instead of asking the vault.
    pub(crate) algorithm: Option<AzureAlgorithm>,
    pub(crate) authority: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    /// Of a managed identity.
    pub(crate) client_id: Option<String>,
    pub(crate) credential: Option<AzureCredential>,
    pub(crate) endpoint: Option<String>,
    pub(crate) scope: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AzureAlgorithm {
    A256kw,
    #[serde(rename = "rsa-oaep-256")]
    RsaOaep256,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AzureCredential {
    AzureCli,
    Environment,
    ManagedIdentity,
    WorkloadIdentity,
}

/// Which keys of a DKE service to trust, how to reach it, and as whom.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "dke"), allow(dead_code, reason = "for the DKE holder"))]
pub(crate) struct Dke {
    /// Of the public keys that may wrap.
    #[serde(default)]
    pub(crate) pins: Vec<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) token_command: Option<Vec<String>>,
    /// With a token unless this says otherwise.
    pub(crate) auth: Option<DkeAuth>,
    pub(crate) issuer: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) scope: Option<String>,
    pub(crate) resource: Option<String>,
    pub(crate) client_secret_file: Option<PathBuf>,
    pub(crate) assertion_file: Option<PathBuf>,
}

/// How to get a token for a DKE service from an issuer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DkeAuth {
    ClientCredentials,
    Federated,
    Login,
}

impl DkeAuth {
    /// As a profile has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client-credentials",
            Self::Federated => "federated",
            Self::Login => "login",
        }
    }
}

/// How to reach Google, where application default credentials are not enough.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "gcp-kms"), allow(dead_code, reason = "for the Google holder"))]
pub(crate) struct Gcp {
    pub(crate) credentials_file: Option<PathBuf>,
    pub(crate) endpoint: Option<String>,
    pub(crate) impersonate: Option<String>,
    pub(crate) quota_project: Option<String>,
    pub(crate) universe_domain: Option<String>,
}

/// How to reach Vault or OpenBao, where `VAULT_*` and `BAO_*` are not enough.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "vault"), allow(dead_code, reason = "for the Vault holder"))]
pub(crate) struct Vault {
    pub(crate) address: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) namespace: Option<String>,
    /// With a token unless this says otherwise.
    pub(crate) auth: Option<VaultAuth>,
    pub(crate) auth_mount: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) role_id: Option<String>,
    pub(crate) secret_id_file: Option<PathBuf>,
    pub(crate) role: Option<String>,
    pub(crate) jwt_file: Option<PathBuf>,
}

/// How to log in to Vault.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VaultAuth {
    AppRole,
    Kubernetes,
}

/// Environment variables, as an argument so that tests need not set any.
pub(crate) type Environment<'a> = &'a (dyn Fn(&str) -> Option<OsString> + Sync);

/// Where the configuration file is.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// Who named it. If anybody did, it has to exist.
    pub(crate) origin: Origin,
}

impl Place {
    /// What `--config` says, else `TWINLOCK_CONFIG`, else the usual place.
    pub(crate) fn find(flag: Option<&Path>, environment: Environment<'_>) -> Result<Self, Failure> {
        let set = |name| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = flag.map(Path::to_owned) {
            return Ok(Self { path, origin: Origin::Flag("--config") });
        }
        if let Some(path) = set("TWINLOCK_CONFIG") {
            return Ok(Self { path, origin: Origin::Variable("TWINLOCK_CONFIG") });
        }
        // XDG Base Directory Specification: relative paths are invalid and ignored.
        set("XDG_CONFIG_HOME")
            .filter(|folder| folder.is_absolute())
            .or_else(|| set("HOME").map(|home| home.join(".config")))
            .map(|folder| Self {
                path: folder.join("twinlock/config.toml"),
                origin: Origin::Default,
            })
            .ok_or_else(|| {
                Failure::misconfigured("neither XDG_CONFIG_HOME nor HOME is set")
                    .hint("name the configuration file with --config")
            })
    }

    /// The folder that it is in.
    pub(crate) fn folder(&self) -> &Path {
        twinlock::file::folder_of(&self.path)
    }

    /// Reads it. A file in the usual place may be missing.
    pub(crate) fn read(&self) -> Result<Config, Failure> {
        let text = self.text()?;
        toml_edit::de::from_str(&text).map_err(|error| self.bad(&error))
    }

    /// What it says; nothing if it is in the usual place and missing.
    pub(crate) fn text(&self) -> Result<String, Failure> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(text),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && self.origin == Origin::Default =>
            {
                Ok(String::new())
            }
            Err(error) => Err(Failure::misconfigured(format!(
                "cannot read the configuration {}: {error}",
                self.path.display()
            ))),
        }
    }

    fn bad(&self, error: &dyn std::fmt::Display) -> Failure {
        let error = without_pins(&error.to_string());
        Failure::misconfigured(format!("in {}: {}", self.path.display(), error.trim_end()))
    }

    /// Writes the profile `name` with these keys; all else in the file stays as
    /// it is, comments too. The first profile becomes the one to use.
    ///
    /// Only its owner may read the file, which may name where PINs are.
    pub(crate) fn write_profile(
        &self,
        name: &str,
        keys: &KeyslotKeys,
        recovery: Option<&KeyslotKeys>,
        dke: &Dke,
    ) -> Result<(), Failure> {
        self.change(|document| {
            set_profile(document, name, keys);
            add_dke(document, name, dke);
            recovery.into_iter().for_each(|keys| add_keyslot(document, name, keys));
        })
    }

    /// Adds a keyslot to the profile `name`, which exists.
    pub(crate) fn add_keyslot(&self, name: &str, keys: &KeyslotKeys) -> Result<(), Failure> {
        self.change(|document| add_keyslot(document, name, keys))
    }

    fn change(&self, change: impl FnOnce(&mut DocumentMut)) -> Result<(), Failure> {
        let text = match self.path.exists() {
            true => self.text()?,
            false => String::new(),
        };
        let mut document: DocumentMut = text.parse().map_err(|error| self.bad(&error))?;
        change(&mut document);
        self.replace(&document.to_string()).map_err(|error| Failure::file(&self.path, &error))
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        create_private_folder(self.folder())?;
        let mut file = OutputFile::create(&self.path, true)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            file.file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        file.write_all(text.as_bytes())?;
        file.commit()
    }
}

fn set_profile(document: &mut DocumentMut, name: &str, keys: &KeyslotKeys) {
    if document.get("profile").is_none() {
        document.insert("profile", value(name));
    }
    let profiles = document.entry("profiles").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true); // no line of its own
        Item::Table(table)
    });
    profiles[name] = Item::Table(table_of(keys));
}

/// What there is to say about a DKE service.
fn add_dke(document: &mut DocumentMut, name: &str, dke: &Dke) {
    if *dke == Dke::default() {
        return;
    }
    let mut table = Table::new();
    table.insert("pins", value(dke.pins.iter().collect::<toml_edit::Array>()));
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let texts = [
        ("ca_file", path(&dke.ca_file)),
        ("token_file", path(&dke.token_file)),
        ("auth", dke.auth.map(|auth| auth.name().to_owned())),
        ("issuer", dke.issuer.clone()),
        ("client_id", dke.client_id.clone()),
        ("scope", dke.scope.clone()),
        ("resource", dke.resource.clone()),
        ("client_secret_file", path(&dke.client_secret_file)),
        ("assertion_file", path(&dke.assertion_file)),
    ];
    for (key, text) in texts {
        text.into_iter().for_each(|text| _ = table.insert(key, value(text)));
    }
    if let Some(words) = &dke.token_command {
        table.insert("token_command", value(words.iter().collect::<toml_edit::Array>()));
    }
    document["profiles"][name]["dke"] = Item::Table(table);
}

fn add_keyslot(document: &mut DocumentMut, name: &str, keys: &KeyslotKeys) {
    let keyslots = &mut document["profiles"][name]["keyslot"];
    match keyslots.as_array_of_tables_mut() {
        Some(keyslots) => keyslots.push(table_of(keys)),
        // An array of inline tables stays one.
        None => match keyslots.as_array_mut() {
            Some(keyslots) => keyslots.push(table_of(keys).into_inline_table()),
            None => *keyslots = Item::ArrayOfTables([table_of(keys)].into_iter().collect()),
        },
    }
}

fn table_of(keys: &KeyslotKeys) -> Table {
    let mut table = Table::new();
    table.insert("provider", value(&keys.provider));
    table.insert("customer", value(&keys.customer));
    table
}

/// Makes `folder` and those above it where they are missing, for the owner
/// alone.
pub(crate) fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)], flag: Option<&str>) -> PathBuf {
        let environment = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Place::find(flag.map(Path::new), &environment).unwrap().path
    }

    #[test]
    fn the_flag_goes_before_the_variable_before_the_usual_place() {
        let all = [("TWINLOCK_CONFIG", "/v"), ("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(place(&all, Some("/f")), Path::new("/f"));
        assert_eq!(place(&all, None), Path::new("/v"));
        assert_eq!(place(&all[1..], None), Path::new("/x/twinlock/config.toml"));
        assert_eq!(place(&all[2..], None), Path::new("/h/.config/twinlock/config.toml"));
        let odd = [("TWINLOCK_CONFIG", ""), ("XDG_CONFIG_HOME", "relative"), ("HOME", "/h")];
        assert_eq!(place(&odd, None), Path::new("/h/.config/twinlock/config.toml"));
        assert!(Place::find(None, &|_| None).is_err());
    }

    #[test]
    fn a_word_that_is_not_known_is_an_error_with_the_files_name() {
        let folder = tempfile::tempdir().unwrap();
        let place =
            Place { path: folder.path().join("config.toml"), origin: Origin::Flag("--config") };
        std::fs::write(&place.path, "[profiles.a]\nprovidr = \"x\"\n").unwrap();
        let failure = place.read().unwrap_err();
        assert!(failure.message.contains("config.toml"), "{}", failure.message);
        assert!(failure.message.contains("providr"), "{}", failure.message);
        assert!(failure.message.contains("line 2"), "{}", failure.message);
    }

    #[test]
    fn a_complaint_about_a_line_leaves_its_pin_out() {
        let folder = tempfile::tempdir().unwrap();
        let place =
            Place { path: folder.path().join("config.toml"), origin: Origin::Flag("--config") };
        let uri = "pkcs11:token=t;object=o?pin-value=8765&module-path=/m";
        for line in ["customr = 'URI'", "moved = \"URI\"", "customer = \"URI"] {
            let text = format!("[profiles.a]\n{}\n", line.replace("URI", uri));
            std::fs::write(&place.path, text).unwrap();
            let failure = format!("{:?}", place.read().unwrap_err());
            assert!(!failure.contains("8765"), "{failure}");
            assert!(failure.contains("line 2"), "{failure}");
        }
    }

    #[test]
    fn only_a_file_that_was_named_has_to_exist() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        assert!(Place { path: path.clone(), origin: Origin::Flag("--config") }.read().is_err());
        assert!(Place { path, origin: Origin::Default }.read().unwrap().profiles.is_empty());
    }

    fn keys(provider: &str, customer: &str) -> KeyslotKeys {
        KeyslotKeys { provider: provider.to_owned(), customer: customer.to_owned() }
    }

    #[test]
    fn a_keyslot_is_added_behind_those_that_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { path: folder.path().join("config.toml"), origin: Origin::Default };
        let recovery = keys("file:///rp", "file:///rc");
        place
            .write_profile("one", &keys("file:///p", "file:///c"), Some(&recovery), &Dke::default())
            .unwrap();
        place.add_keyslot("one", &keys("file:///rp2", "file:///rc2")).unwrap();
        let customers = |config: &Config| {
            let keyslots = config.profiles["one"].keyslots.iter();
            keyslots.map(|keys| keys.customer.clone()).collect::<Vec<_>>()
        };
        assert_eq!(customers(&place.read().unwrap()), ["file:///rc", "file:///rc2"]);

        let inline =
            "[profiles.one]\nkeyslot = [{ provider = 'file:///x', customer = 'file:///y' }]\n";
        std::fs::write(&place.path, inline).unwrap();
        place.add_keyslot("one", &recovery).unwrap();
        assert_eq!(customers(&place.read().unwrap()), ["file:///y", "file:///rc"]);
    }

    #[test]
    fn writing_a_profile_keeps_the_rest_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { path: folder.path().join("new/config.toml"), origin: Origin::Default };
        place.write_profile("one", &keys("file:///p", "file:///c"), None, &Dke::default()).unwrap();
        let with_comment = format!("# mine\n{}", place.text().unwrap());
        std::fs::write(&place.path, with_comment).unwrap();
        place
            .write_profile("two", &keys("file:///p2", "file:///c2"), None, &Dke::default())
            .unwrap();
        place
            .write_profile("one", &keys("file:///p3", "file:///c3"), None, &Dke::default())
            .unwrap();

        assert!(place.text().unwrap().starts_with("# mine\n"));
        let config = place.read().unwrap();
        assert_eq!(config.profile.as_deref(), Some("one"));
        assert_eq!(config.profiles["one"].provider.as_deref(), Some("file:///p3"));
        assert_eq!(config.profiles["two"].customer.as_deref(), Some("file:///c2"));
    }

    #[cfg(unix)]
    #[test]
    fn what_a_dke_service_needs_is_written_as_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let place =
            Place { path: folder.path().join("config.toml"), origin: Origin::Flag("--config") };
        let text = |text: &str| Some(text.to_owned());
        let dke = Dke {
            pins: vec!["sha256:00".to_owned(), "sha256:01".to_owned()],
            ca_file: Some("/ca.pem".into()),
            token_file: Some("/token".into()),
            token_command: Some(vec!["a".to_owned(), "b c".to_owned()]),
            auth: Some(DkeAuth::ClientCredentials),
            issuer: text("https://i"),
            client_id: text("c"),
            scope: text("s \"t\""),
            resource: text("r"),
            client_secret_file: Some("/secret".into()),
            assertion_file: Some("/assertion".into()),
        };
        let keys = KeyslotKeys { provider: "file:///p".into(), customer: "file:///c".into() };
        place.write_profile("one", &keys, Some(&keys), &dke).unwrap();
        let profile = place.read().unwrap().profiles.remove("one").unwrap();
        assert_eq!(profile.dke, dke);
        assert_eq!(profile.keyslots.len(), 1, "the table is no keyslot's");
    }

    #[test]
    fn only_the_owner_can_read_what_was_written() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let place = Place { path: folder.path().join("new/config.toml"), origin: Origin::Default };
        place.write_profile("one", &keys("file:///p", "file:///c"), None, &Dke::default()).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&place.path), 0o600);
        assert_eq!(mode(place.folder()), 0o700);
    }
}
