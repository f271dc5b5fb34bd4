//! What this service is told in the place of the sample, and what is left to do.

use std::fmt::Write as _;

use toml_edit::{Array, Value};

use super::Imported;
use super::appsettings::{AppSettings, Generation, Key};
use crate::config::MAX_CACHE_DAYS;

/// What the sample sends clients to if nothing else is said.
const AUTHORIZATION: &str = "https://login.windows.net/common/oauth2/authorize";

/// Stands where a person has to say something.
const UNKNOWN: &str = "CHANGE-ME";

pub(super) fn of(settings: &AppSettings) -> Imported {
    let audience = settings.own_audience().unwrap_or("https://CHANGE-ME.example");
    let mut text = format!(
        "# Made by `twinlock-dke import`. Each {UNKNOWN} is for you.\n\
         public_url = {}\n\n\
         [listen]\n\
         address = \"0.0.0.0:443\"\n\
         tls = {{ certificate = \"/etc/twinlock-dke/tls/chain.pem\", key = \"/etc/twinlock-dke/tls/key.pem\" }}\n\n\
         [challenge]\n\
         authorization = {}\n\
         resource = {}\n",
        quoted(audience.trim_end_matches('/')),
        quoted(settings.authorization.as_deref().unwrap_or(AUTHORIZATION)),
        quoted(audience),
    );
    settings.issuers.iter().for_each(|issuer| text.push_str(&issuer_table(issuer, settings)));
    if settings.uses_roles() {
        let _ = write!(
            text,
            "\n[ldap]\nurl = \"ldaps://{UNKNOWN}\"\nbind_dn = \"{UNKNOWN}\"\n\
             password = {{ credential = \"pin_ldap\" }}\nbase = \"{UNKNOWN}\"\n",
        );
    }
    let _ = write!(
        text,
        "\n[[hsm]]\nname = \"a\"\ntoken = \"pkcs11:token={UNKNOWN}?module-path=/usr/lib/{UNKNOWN}.so\"\n\
         pin = {{ credential = \"pin_a\" }}\n",
    );
    // Whose tokens count for which key is for a person to say, and refused until then.
    let issuers = if settings.issuers.len() > 1 { "issuers = [], " } else { "" };
    settings.keys.iter().for_each(|key| text.push_str(&key.table(issuers)));
    Imported { configuration: text, left: left(settings) }
}

fn issuer_table(issuer: &str, settings: &AppSettings) -> String {
    let mut table = format!("\n[[issuer]]\nissuer = {}\n", quoted(issuer));
    if let Some(tenant) = tenant_of(issuer) {
        let _ = writeln!(table, "tenant = {}", quoted(tenant));
        if issuer.starts_with("https://sts.windows.net/") {
            let metadata = format!(
                "https://login.microsoftonline.com/{tenant}/.well-known/openid-configuration"
            );
            let _ = writeln!(table, "metadata = {}", quoted(&metadata));
        }
    }
    if let Some(audience) = settings.own_audience() {
        let _ = writeln!(table, "audiences = [{}]", quoted(audience));
    }
    table.push_str("scopes = [\"user_impersonation\"]\n");
    table
}

/// The part of Entra ID's issuers that looks like a tenant's id.
fn tenant_of(issuer: &str) -> Option<&str> {
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    issuer.split('/').find(|part| {
        let groups: Vec<_> = part.split('-').collect();
        let lengths: Vec<_> = groups.iter().map(|group| group.len()).collect();
        lengths == [8, 4, 4, 4, 12] && groups.into_iter().all(is_hex)
    })
}

impl AppSettings {
    /// The audience, unless it is that of Azure Rights Management: every service that
    /// gets such tokens could pass them on to this one.
    fn own_audience(&self) -> Option<&str> {
        let audience = self.audience.as_deref()?;
        let lower = audience.to_ascii_lowercase();
        let host = lower.split("://").last()?.split(['/', ':']).next()?;
        (host != "aadrm.com" && !host.ends_with(".aadrm.com")).then_some(audience)
    }

    fn uses_roles(&self) -> bool {
        self.keys.iter().any(|key| !key.active().roles.is_empty())
    }
}

impl Key {
    fn active(&self) -> &Generation {
        self.generations.first().expect("a key is made of its first generation")
    }

    fn table(&self, issuers: &str) -> String {
        let active = self.active();
        let mut table = format!(
            "\n[[key]]\nname = {}\npurpose = \"microsoft-label\"\nhsms = [\"a\"]\n",
            quoted(&self.name)
        );
        if let Some(days) = active.cache_days.filter(|days| *days > 0) {
            let _ = writeln!(table, "cache_days = {}", days.min(MAX_CACHE_DAYS.into()));
        }
        table.push_str("generations = [\n");
        for (generation, number) in self.numbered() {
            let (id, object) = (quoted(&generation.id), quoted(&self.object(number)));
            let _ = writeln!(table, "    {{ number = {number}, id = {id}, object = {object} }},");
        }
        table.push_str("]\n");
        let access = match active.roles.is_empty() {
            true => format!("users = {}", Array::from_iter(self.users())),
            false => "ldap_groups = []".to_owned(),
        };
        let _ = writeln!(table, "access = {{ {issuers}{access} }}");
        table
    }

    /// Who may use each of its generations: nobody gets at data by this list that was
    /// not on the one of its generation.
    fn users(&self) -> impl Iterator<Item = &String> {
        let (active, others) = self.generations.split_first().expect("at least one");
        let is_listed = |email: &&String| others.iter().all(|it| it.emails.contains(email));
        active.emails.iter().filter(is_listed)
    }

    /// The first one of the file is the newest here.
    fn numbered(&self) -> impl Iterator<Item = (&Generation, usize)> {
        let count = self.generations.len();
        self.generations.iter().enumerate().map(move |(at, generation)| (generation, count - at))
    }

    fn object(&self, number: usize) -> String {
        format!("dke-{}-{number}", self.name)
    }
}

// === What is left ===

fn left(settings: &AppSettings) -> Vec<String> {
    let mut left = vec![format!(
        "Say in [listen] and [[hsm]] where the certificate, the token, its module and its PIN are; \
         each {UNKNOWN} stands for something that the sample does not know."
    )];
    if settings.audience.is_some() && settings.own_audience().is_none() {
        left.push(
            "JwtAudience is that of Azure Rights Management, and is not taken over: whoever gets \
             such a token for another service could present it here. Register an application of \
             its own for this service; public_url and challenge.resource are to be its address."
                .to_owned(),
        );
    }
    if settings.audience.is_none() {
        left.push(
            "The file has no JwtAudience: public_url and challenge.resource are to be the \
                   https:// address that the labels have, without the key's name."
                .to_owned(),
        );
    }
    left.extend(issuers_left(settings));
    left.extend(settings.keys.iter().flat_map(move_commands));
    left.extend(settings.keys.iter().flat_map(|key| access_left(key, settings)));
    left.extend(settings.keys.iter().map(new_generation));
    left.push(
        "Run `twinlock-dke check-config`. When a document opens with the new service, destroy \
         each copy of appsettings.json: it has the private keys in the clear, and so have its \
         backups."
            .to_owned(),
    );
    left
}

fn issuers_left(settings: &AppSettings) -> Vec<String> {
    let mut left = Vec::new();
    if settings.issuers.is_empty() {
        let tenant = settings.tenant.as_deref().unwrap_or("<tenant>");
        left.push(format!(
            "The file has no ValidIssuers: add an [[issuer]], for Office with issuer = \
             \"https://sts.windows.net/{tenant}/\" and tenant = \"{tenant}\"."
        ));
    }
    if settings.issuers.len() > 1 {
        left.push(
            "There are several issuers, and in the sample each could vouch for any user. Say in \
             access.issuers of each key whose tokens count for it, and in ldap.issuer whose users \
             the directory has."
                .to_owned(),
        );
    }
    left.push(
        "The scope user_impersonation is demanded of every token, which the sample did not do; it \
         is the scope of the app registration. Compare."
            .to_owned(),
    );
    left
}

/// How each private key gets into the token, through memory alone.
fn move_commands(key: &Key) -> Vec<String> {
    let with_key = |it: &(&Generation, usize)| it.0.has_private_key;
    let commands = |(generation, number): (&Generation, usize)| {
        format!(
            "Move the private key of {name} {id} into the token, on a machine that you trust; \
             without it nothing opens that was protected with it:\n\n\
             \x20   twinlock-dke import --private-key {index} appsettings.json |\n\
             \x20       twinlock keys create --from - '{uri}'\n\n\
             An HSM that takes no private keys has a tool of its vendor's for it; the key is for \
             decrypting alone (CKA_DECRYPT and not CKA_SIGN).",
            name = key.name,
            id = generation.id,
            index = generation.index,
            uri = object_uri(&key.object(number)),
        )
    };
    key.numbered().filter(with_key).map(commands).collect()
}

/// What was in a file in the clear is not what new documents should rely on.
fn new_generation(key: &Key) -> String {
    let number = key.generations.len() + 1;
    format!(
        "When all of {name} opens, have the token make a key that was never elsewhere, and add it: \
         what is protected from then on relies on it alone.\n\n\
         \x20   twinlock keys create --type rsa-2048 '{uri}'\n\n\
         In generations of {name}: {{ number = {number}, id = \"<a new GUID>\", object = {object} \
         }}",
        name = key.name,
        uri = object_uri(&key.object(number)),
        object = quoted(&key.object(number)),
    )
}

/// Names have nothing that a URI would have to escape.
fn object_uri(object: &str) -> String {
    format!("pkcs11:token={UNKNOWN};object={object}?module-path=/usr/lib/{UNKNOWN}.so")
}

fn access_left(key: &Key, settings: &AppSettings) -> Vec<String> {
    let (name, active) = (&key.name, key.active());
    let mut left = Vec::new();
    if !active.emails.is_empty() {
        left.push(format!(
            "The users of {name} are compared with the claim upn. The sample compared the first of \
             email and upn in the token. If tokens have no upn, set access.user_claims = [\"upn\", \
             \"email\"], and mind that an issuer may let people choose their email."
        ));
    }
    if !active.roles.is_empty() {
        let path = settings.ldap_path.as_deref().unwrap_or("none");
        let roles: Vec<_> = active.roles.iter().map(|role| quoted(role)).collect();
        left.push(format!(
            "The groups of {name} were known by name; here they are known by SID. Put the SIDs into \
             access.ldap_groups (in PowerShell: (Get-ADGroup NAME).SID.Value) of: {}. The directory \
             of the sample was: {}.",
            roles.join(", "),
            quoted(path),
        ));
    }
    if active.emails.is_empty() && active.roles.is_empty() {
        left.push(format!(
            "Nobody is listed for {name}. The sample let in whom the key before it let in; here the \
             key is refused until access.users says who may use it."
        ));
    }
    if let Some(days) = active.cache_days.filter(|days| *days > MAX_CACHE_DAYS.into()) {
        left.push(format!(
            "Clients keep the public key of {name} for {days} days, as the sample tells them; here \
             it is {MAX_CACHE_DAYS} at the most. A new generation reaches them only after that."
        ));
    }
    let differs = |other: &Generation| other.emails != active.emails || other.roles != active.roles;
    if key.generations.iter().any(differs) {
        left.push(format!(
            "The generations of {name} list different users in the sample. Here a key has one list: \
             it has those who are on all of them, and if \
             that is nobody, the key is refused until access.users says who may use it."
        ));
    }
    left
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
