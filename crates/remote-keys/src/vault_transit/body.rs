//! What the server says, as far as it matters here.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use twinlock_keys::{HolderAnswer, HolderError};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::KeyFacts;
use super::call::Call;
use crate::network::printable;

/// An answer with status 200 or 204.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Data of a call to the engine.
#[derive(Deserialize)]
struct WithData<T> {
    data: T,
}

/// Answer of `encrypt`.
#[derive(Deserialize)]
pub(super) struct Encrypted {
    pub(super) ciphertext: String,
}

/// Answer of `decrypt`.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct Decrypted {
    pub(super) plaintext: String,
}

/// Answer of a login.
#[derive(Deserialize)]
pub(super) struct LoggedIn {
    pub(super) auth: Login,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct Login {
    pub(super) client_token: String,
    /// In seconds; 0 for ever.
    pub(super) lease_duration: u64,
    /// How many requests the token is good for; 0 for any number.
    #[serde(default)]
    pub(super) num_uses: u64,
}

/// Answer of `keys/<name>`.
#[derive(Deserialize)]
pub(super) struct KeyData {
    #[serde(rename = "type")]
    pub(super) kind: String,
    latest_version: u64,
    min_decryption_version: u64,
    derived: bool,
    exportable: bool,
    deletion_allowed: bool,
    #[serde(default)]
    soft_deleted: bool,
}

/// Body of every refusal.
#[derive(Deserialize)]
struct Refusal {
    errors: Vec<String>,
}

/// Of any answer.
#[derive(Deserialize)]
struct WithRequestId {
    request_id: String,
}

impl Answer {
    /// The data in it.
    pub(super) fn data<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, HolderError> {
        self.parse::<WithData<T>>(call).map(|answer| answer.data)
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, HolderError> {
        serde_json::from_slice(&self.body).map_err(|_| {
            call.failed("the answer was not one of Vault or OpenBao").with_answer(self.evidence())
        })
    }

    /// What a refusal says; `None` if it is not the server's.
    pub(super) fn errors(&self) -> Option<String> {
        let refusal: Refusal = serde_json::from_slice(&self.body).ok()?;
        Some(refusal.errors.join("; "))
    }

    pub(super) fn request_id(&self) -> Option<String> {
        let answer: WithRequestId = serde_json::from_slice(&self.body).ok()?;
        (!answer.request_id.is_empty()).then(|| printable(&answer.request_id))
    }

    pub(super) fn evidence(&self) -> HolderAnswer {
        HolderAnswer { code: self.status.to_string(), request_id: self.request_id() }
    }
}

impl From<KeyData> for KeyFacts {
    fn from(data: KeyData) -> Self {
        Self {
            kind: data.kind,
            latest_version: data.latest_version,
            min_decryption_version: data.min_decryption_version,
            derived: data.derived,
            exportable: data.exportable,
            deletion_allowed: data.deletion_allowed,
            soft_deleted: data.soft_deleted,
        }
    }
}
