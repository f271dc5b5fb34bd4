//! What reports say about keys and tokens.

use serde::Serialize;

/// A key that was found and tried.
#[derive(Serialize)]
pub(crate) struct KeyCheck {
    /// Its name as headers have it.
    pub(crate) uri: String,
    /// True for a key that is for development only.
    pub(crate) development: bool,
    /// To reach and log in to what holds it.
    pub(crate) open_ms: f64,
    /// To find it there; `null` where that is no step of its own.
    pub(crate) find_ms: Option<f64>,
    pub(crate) wrap_ms: f64,
    /// `null` for a key that only wraps here.
    pub(crate) unwrap_ms: Option<f64>,
    /// The pin of an RSA key.
    pub(crate) spki_sha256: Option<String>,
    /// Where it is, if in a token.
    pub(crate) token: Option<Token>,
    /// Its attributes, if in a token.
    pub(crate) key: Option<TokenKey>,
    /// What AWS says about it, if it is there.
    pub(crate) aws_kms: Option<AwsKmsKey>,
    /// What Azure says about it, if it is there and we may ask.
    pub(crate) azure_kv: Option<AzureKey>,
    /// What its DKE service publishes, if it is there.
    pub(crate) dke: Option<DkeKey>,
    /// What Google says about it, if it is there.
    pub(crate) gcp_kms: Option<GcpKmsKey>,
    /// What Vault says about it, if it is there.
    pub(crate) vault: Option<VaultKey>,
}

/// A token, as it describes itself.
#[derive(Serialize)]
pub(crate) struct Token {
    pub(crate) label: String,
    pub(crate) manufacturer: String,
    pub(crate) model: String,
    pub(crate) serial: String,
    pub(crate) slot_id: u64,
    pub(crate) initialized: bool,
    pub(crate) login_required: bool,
    /// A wrong user PIN was tried since the last login.
    pub(crate) user_pin_count_low: bool,
    /// One more locks it.
    pub(crate) user_pin_final_try: bool,
    pub(crate) user_pin_locked: bool,
    /// `null` without a limit, or where the token does not tell.
    pub(crate) free_sessions: Option<u64>,
    /// Which row of the table of vendors' quirks it is.
    pub(crate) vendor: String,
    /// `null` when they were not asked for.
    pub(crate) keys: Option<Vec<TokenKey>>,
}

/// A key in a token. An attribute that the token does not tell is `null`.
#[derive(Serialize)]
pub(crate) struct TokenKey {
    pub(crate) uri: Option<String>,
    pub(crate) label: String,
    /// In hexadecimal.
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) bits: Option<u64>,
    pub(crate) sensitive: Option<bool>,
    pub(crate) extractable: Option<bool>,
    pub(crate) local: Option<bool>,
    pub(crate) encrypt: Option<bool>,
    pub(crate) decrypt: Option<bool>,
    /// Why it cannot be a customer key; `null` if it can.
    pub(crate) problem: Option<String>,
}

/// A key in AWS KMS, in the words of its API.
#[derive(Serialize)]
pub(crate) struct AwsKmsKey {
    pub(crate) state: String,
    pub(crate) spec: String,
    pub(crate) manager: String,
    pub(crate) origin: String,
    pub(crate) multi_region: bool,
}

/// A key in Azure Key Vault or a Managed HSM, in the words of its API.
#[derive(Serialize)]
pub(crate) struct AzureKey {
    pub(crate) enabled: bool,
    pub(crate) kind: String,
    pub(crate) bits: Option<u32>,
    pub(crate) version: String,
    pub(crate) operations: Vec<String>,
}

/// A key in a DKE service.
#[derive(Serialize)]
pub(crate) struct DkeKey {
    pub(crate) version: String,
    pub(crate) bits: u64,
}

/// A key in Google Cloud KMS, in the words of its API.
#[derive(Serialize)]
pub(crate) struct GcpKmsKey {
    pub(crate) version: String,
    pub(crate) state: String,
    pub(crate) algorithm: String,
    pub(crate) protection_level: String,
}

/// A key in the transit engine of Vault or OpenBao, in its words.
#[derive(Serialize)]
pub(crate) struct VaultKey {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) latest_version: u64,
    pub(crate) min_decryption_version: u64,
    pub(crate) derived: bool,
    pub(crate) exportable: bool,
    pub(crate) deletion_allowed: bool,
}

impl KeyCheck {
    /// For people: a line, and what follows from it.
    pub(crate) fn text(&self) -> String {
        let mut out = match self.unwrap_ms {
            Some(_) => format!("{}: works ({})\n", self.uri, self.times()),
            None => format!(
                "{}: wraps ({})\n  only a public key is here: nothing that it wraps was unwrapped\n",
                self.uri,
                self.times()
            ),
        };
        if let Some(token) = &self.token {
            out += &format!("  token  {}\n", token.describe());
        }
        if let Some(key) = &self.key {
            out += &format!("  key    {}\n", key.describe());
        }
        if let Some(key) = &self.aws_kms {
            let regions = if key.multi_region { ", multi-Region" } else { "" };
            out += &format!(
                "  key    {}, {}, managed by {}, origin {}{regions}\n",
                key.state, key.spec, key.manager, key.origin
            );
        }
        if let Some(key) = &self.azure_kv {
            let bits = key.bits.map(|bits| format!(", {bits} bits")).unwrap_or_default();
            out += &format!(
                "  key    {}{bits}, for {}, version {}\n",
                key.kind,
                key.operations.join(" and "),
                key.version
            );
        }
        if let Some(key) = &self.dke {
            let pin = self.spki_sha256.as_deref().unwrap_or_default();
            out += &format!(
                "  key    RSA, {} bits, version {}\n  pin    sha256:{pin}\n",
                key.bits, key.version
            );
        }
        if let Some(key) = &self.gcp_kms {
            out += &format!(
                "  key    version {} {}, {}, protection level {}\n",
                key.version, key.state, key.algorithm, key.protection_level
            );
        }
        if let Some(key) = &self.vault {
            out += &format!("  key    {}\n", key.describe());
        }
        if self.development {
            out += "  for development only: whoever reads the file holds the key\n";
        }
        out
    }
}

impl KeyCheck {
    /// What each step took, for people.
    pub(crate) fn times(&self) -> String {
        let steps = [
            ("open", Some(self.open_ms)),
            ("find", self.find_ms),
            ("wrap", Some(self.wrap_ms)),
            ("unwrap", self.unwrap_ms),
        ];
        let taken = steps.iter().filter_map(|(step, ms)| Some(format!("{step} {:.1} ms", (*ms)?)));
        taken.collect::<Vec<_>>().join(", ")
    }
}

impl VaultKey {
    /// For people, on one line.
    fn describe(&self) -> String {
        let mut facts = format!("version {}, {}", self.latest_version, self.kind);
        if self.min_decryption_version > 1 {
            facts += &format!(", opens from version {} on", self.min_decryption_version);
        }
        let words = [
            (self.derived, ", derived"),
            (self.exportable, ", CAN BE EXPORTED"),
            (self.deletion_allowed, ", CAN BE DELETED"),
        ];
        facts.extend(words.iter().filter(|(fact, _)| *fact).map(|(_, word)| *word));
        facts
    }
}

impl Token {
    /// For people, on one line.
    pub(crate) fn describe(&self) -> String {
        if !self.initialized {
            return format!("empty, slot {} ({})", self.slot_id, self.manufacturer);
        }
        let locked = if self.user_pin_locked { ", PIN LOCKED" } else { "" };
        format!(
            "{:?} ({} {}, serial {}, slot {}{locked})",
            self.label, self.manufacturer, self.model, self.serial, self.slot_id
        )
    }
}

impl TokenKey {
    /// For people, on one line.
    pub(crate) fn describe(&self) -> String {
        let bits = self.bits.map(|bits| format!(", {bits} bits")).unwrap_or_default();
        let mut facts = format!("{:?} ({}{bits}", self.label, self.kind);
        let words = [
            (self.sensitive, "sensitive", "not sensitive"),
            (self.extractable, "extractable", "not extractable"),
            (self.local, "made in the token", "imported"),
        ];
        for (fact, yes, no) in words {
            if let Some(fact) = fact {
                facts += &format!(", {}", if fact { yes } else { no });
            }
        }
        facts + ")"
    }
}
