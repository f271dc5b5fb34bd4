//! The transit engine of HashiCorp Vault and OpenBao as a key holder, over its
//! HTTP interface.
//!
//! ```no_run
//! use twinlock_keys::{KeyUri, ProviderKey};
//! use twinlock_remote_keys::vault_transit::{Auth, Credential, Options, VaultTransitKey};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let uri: KeyUri = "vault://vault.example:8200/transit/keys/archive".parse()?;
//! let secret_id = Credential::File("/run/secrets/secret-id".into());
//! let options = Options::new().auth(Auth::app_role("4b1f…", secret_id));
//! let provider = ProviderKey::new(VaultTransitKey::connect(&uri, &options)?)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is sent
//!
//! One `encrypt` per wrap and one `decrypt` per unwrap, each with the share AAD
//! as `associated_data`, which the key's AEAD binds. It is also sent as
//! `context`, from which a key with `derived=true` makes a key of its own for
//! each share; other keys pay no attention to it.
//!
//! Before its first wrap a holder reads the key once: it has to be of the type
//! `aes256-gcm96`, `chacha20-poly1305` or `xchacha20-poly1305`, and it has to
//! exist, since the engine makes a key of any name that somebody with the
//! capability `create` encrypts with. Where the policy does not let it read the
//! key, it goes on without. The policy to give:
//!
//! ```text
//! path "transit/encrypt/archive" { capabilities = ["update"] }  # to encrypt
//! path "transit/decrypt/archive" { capabilities = ["update"] }  # to decrypt, and to read back
//! path "transit/keys/archive"    { capabilities = ["read"] }    # better
//! ```
//!
//! # Where
//!
//! `https://` and the host and port of the URI (443 if it has none, as in
//! `VAULT_ADDR`), unless [`Options::address`] says otherwise, or `VAULT_ADDR`
//! names the same host and port with `http://`. Plain HTTP is refused but to
//! this machine, since a share would travel in the clear. Redirects are not
//! followed: name the load balancer, or a node that forwards. Certificates are
//! checked against the system's authorities, or against those of
//! [`Options::ca_file`] or `VAULT_CACERT` alone. The namespace is that of
//! [`Options::namespace`] or `VAULT_NAMESPACE`. Each variable is also read
//! under its name in OpenBao, which goes first: `BAO_ADDR` and so on.
//!
//! # As whom
//!
//! [`Auth`] says: a token, an AppRole or a Kubernetes service account. A token
//! is obtained with the first call and kept until nine tenths of its lease are
//! over, or its uses. If it is refused before, a new one is obtained, once for a
//! call, unless a login gave it less than 30 seconds ago: then it is the policy
//! that refuses. One that comes out of a variable or file is read again, which
//! is how an agent's sink file is followed. A secret id or JWT that the server
//! did not accept is not sent again until it has changed. Tokens are not renewed: those of a login are cheap to
//! get, and others are for whoever made them to renew.
//!
//! # Runtime
//!
//! The futures need a tokio runtime with time and I/O enabled, and the same one
//! for the life of the holder, as its pooled connections live there.
//!
//! # Secrets
//!
//! Shares, tokens and secret ids are wiped where this crate owns them. The HTTP
//! and TLS libraries keep copies (of what is sent and received) that they free
//! without wiping. Their logging is off inside our calls; each call to the
//! engine leaves one DEBUG line of our own instead, with the operation, the key
//! and the request id, under which the audit log of the server has it.

mod auth;
mod body;
mod call;
mod client;
mod options;
mod refusal;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use tokio::sync::OnceCell;
use twinlock_keys::{
    BoxFuture, HolderError, HolderErrorKind, KeyHolder, KeyUri, Share, ShareAlgorithm, WrapContext,
    WrappedShare,
};
use zeroize::Zeroizing;

use crate::network;

pub use crate::credential::Credential;
pub use auth::Auth;
pub use options::Options;
pub use secrecy::SecretString;

use body::{Decrypted, Encrypted, KeyData};
use call::{Call, Operation};
use client::Client;

/// The longest ciphertext that is sent, in bytes: what a header has room for.
const MAX_CIPHERTEXT_LEN: usize = 6144;

/// AEADs with keys of 256 bits.
const AEAD_TYPES: [&str; 3] = ["aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"];

/// A symmetric encryption key in the transit engine of Vault or OpenBao.
pub struct VaultTransitKey {
    uri: KeyUri,
    client: Client,
    /// Set when the key was seen to be usable, or may not be looked at.
    looked_at: OnceCell<()>,
}

/// What the engine says about a key, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyFacts {
    /// Its algorithm, for instance `aes256-gcm96`.
    pub kind: String,
    /// The version that wraps.
    pub latest_version: u64,
    /// Versions below this one open nothing any more.
    pub min_decryption_version: u64,
    /// True if each context has a key of its own.
    pub derived: bool,
    /// True if the key can be read by those whom a policy lets.
    pub exportable: bool,
    /// True if the key can be deleted.
    pub deletion_allowed: bool,
    /// True if the key is switched off (OpenBao).
    pub soft_deleted: bool,
}

impl VaultTransitKey {
    /// Makes a holder for the key that `uri` names. No call is made: whether
    /// the key exists and may be used shows when it is used.
    ///
    /// # Errors
    /// When `uri` is not of the scheme `vault`, and when an option cannot be.
    pub fn connect(uri: &KeyUri, options: &Options) -> Result<Self, HolderError> {
        let client = Client::open(uri, options)?;
        Ok(Self { uri: uri.clone(), client, looked_at: OnceCell::new() })
    }

    /// Makes a new key of the type `aes256-gcm96` that cannot be exported.
    /// Needs the capabilities `read` and `update` on it.
    ///
    /// # Errors
    /// When there is one of that name, and when the server refuses.
    pub async fn create(uri: &KeyUri, options: &Options) -> Result<(), HolderError> {
        let key = Self::connect(uri, options)?;
        let deadline = key.client.deadline();
        match key.read(deadline).await {
            Ok(_) => Err(misconfigured(format!("{uri} exists already"))),
            Err(error) if error.kind() == HolderErrorKind::NotFound => {
                let call = Call::new(Operation::CreateKey, uri, deadline);
                key.client.post(&call, &serde_json::json!({ "type": AEAD_TYPES[0] })).await?;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the engine what it knows about the key, with one call.
    ///
    /// # Errors
    /// When the server refuses or fails, and with
    /// [`Misconfigured`](HolderErrorKind::Misconfigured) when the key is of a
    /// type that cannot be used.
    pub async fn describe(uri: &KeyUri, options: &Options) -> Result<KeyFacts, HolderError> {
        let key = Self::connect(uri, options)?;
        key.read(key.client.deadline()).await
    }

    async fn read(&self, deadline: call::Deadline) -> Result<KeyFacts, HolderError> {
        let call = Call::new(Operation::ReadKey, &self.uri, deadline);
        let answer = self.client.get(&call).await?;
        let data: KeyData = answer.data(&call)?;
        if AEAD_TYPES.contains(&data.kind.as_str()) {
            return Ok(data.into());
        }
        Err(misconfigured(format!(
            "{} is of the type {}: make one of the type {}, which `twinlock keys create` does",
            self.uri,
            network::printable(&data.kind),
            AEAD_TYPES[0],
        ))
        .with_answer(answer.evidence()))
    }

    /// Makes sure that there is such a key before something is encrypted with
    /// it, as far as we are allowed to look.
    async fn look(&self, deadline: call::Deadline) -> Result<(), HolderError> {
        let look = async || {
            self.client.log_in(&Call::new(Operation::ReadKey, &self.uri, deadline)).await?;
            match self.read(deadline).await {
                Err(error) if error.kind() != HolderErrorKind::Denied => Err(error),
                _ => Ok(()),
            }
        };
        self.looked_at.get_or_try_init(look).await.copied()
    }

    async fn wrap(
        &self,
        share: &Share,
        context: &WrapContext,
    ) -> Result<WrappedShare, HolderError> {
        let deadline = self.client.deadline();
        let call = Call::new(Operation::Encrypt, &self.uri, deadline);
        self.look(deadline).await?;
        let plaintext = Zeroizing::new(BASE64.encode(share.expose()));
        let aad = BASE64.encode(context.aad());
        let ask = EncryptRequest { plaintext: &plaintext, associated_data: &aad, context: &aad };
        let answer = self.client.post(&call, &ask).await?;
        let Encrypted { ciphertext } = answer.data(&call)?;
        match version_of(ciphertext.as_bytes()) {
            Some(version) => {
                Ok(WrappedShare::new(ShareAlgorithm::HolderAead, ciphertext.clone().into_bytes())
                    .with_key_version(version))
            }
            None => Err(call.failed("the answer has no usable ciphertext")),
        }
    }

    async fn unwrap(
        &self,
        wrapped: &WrappedShare,
        context: &WrapContext,
    ) -> Result<Share, HolderError> {
        let call = Call::new(Operation::Decrypt, &self.uri, self.client.deadline());
        let ciphertext = std::str::from_utf8(wrapped.bytes())
            .ok()
            .filter(|text| {
                wrapped.algorithm() == ShareAlgorithm::HolderAead
                    && version_of(text.as_bytes()).is_some()
            })
            .ok_or_else(|| call.invalid_ciphertext())?;
        let aad = BASE64.encode(context.aad());
        let ask = DecryptRequest { ciphertext, associated_data: &aad, context: &aad };
        let answer = self.client.post(&call, &ask).await?;
        let decrypted: Decrypted = answer.data(&call)?;
        let bytes = BASE64.decode(decrypted.plaintext.as_bytes()).unwrap_or_default();
        let bytes = Zeroizing::new(bytes);
        match Share::try_copy_of(&bytes) {
            Some(share) => Ok(share.with_answer(answer.evidence())),
            None => Err(call.invalid_ciphertext().with_answer(answer.evidence())),
        }
    }
}

impl KeyHolder for VaultTransitKey {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        Box::pin(self.wrap(share, context))
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(self.unwrap(wrapped, context))
    }
}

#[derive(Serialize)]
struct EncryptRequest<'a> {
    plaintext: &'a str,
    associated_data: &'a str,
    context: &'a str,
}

#[derive(Serialize)]
struct DecryptRequest<'a> {
    ciphertext: &'a str,
    associated_data: &'a str,
    context: &'a str,
}

/// The key's version in `vault:v<version>:<base64>`; `None` for anything else.
/// What somebody else wrote goes no further than this.
fn version_of(ciphertext: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(ciphertext).ok()?;
    let (version, bytes) = text.strip_prefix("vault:v")?.split_once(':')?;
    let number: u32 = version.parse().ok()?;
    let fits = number > 0
        && number.to_string() == version
        && text.len() <= MAX_CIPHERTEXT_LEN
        && BASE64.decode(bytes).is_ok_and(|bytes| !bytes.is_empty());
    fits.then_some(version)
}

fn misconfigured(message: String) -> HolderError {
    HolderError::new(HolderErrorKind::Misconfigured, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ciphertext_says_the_version_of_its_key() {
        assert_eq!(version_of(b"vault:v1:AAAA"), Some("1"));
        assert_eq!(version_of(b"vault:v4294967295:AAA="), Some("4294967295"));
    }

    #[test]
    fn what_is_no_ciphertext_is_not_taken_for_one() {
        let long = format!("vault:v1:{}", "A".repeat(6136));
        let foreign = [
            "",
            "vault",
            "vault:v1",
            "vault:v1:",
            "vault:v0:AAAA",
            "vault:v01:AAAA",
            "vault:v+1:AAAA",
            "vault:v-1:AAAA",
            "vault:v:AAAA",
            "vault:v4294967296:AAAA",
            "vault:v1:AAA",
            "vault:v1:A A=",
            "vault:v1:AAAA\n",
            "Vault:v1:AAAA",
            "vault:v1:AA==AA==",
            "vault:v1:AAB=",
            &long,
        ];
        for text in foreign {
            assert_eq!(version_of(text.as_bytes()), None, "{text}");
        }
        assert_eq!(version_of(b"vault:v1:\xff"), None);
        assert!(version_of(&long.as_bytes()[..6141]).is_some(), "the longest: 4 does divide 6132");
    }
}
