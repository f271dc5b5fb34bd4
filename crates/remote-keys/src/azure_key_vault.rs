//! Azure Key Vault and Managed HSM as a key holder, through the official SDK.
//!
//! ```no_run
//! use twinlock_keys::{KeyUri, ProviderKey};
//! use twinlock_remote_keys::azure_key_vault::{AzureKeyVaultKey, Options};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let uri: KeyUri = "azure-kv://archive.vault.azure.net/keys/kek".parse()?;
//! let key = AzureKeyVaultKey::connect(&uri, &Options::new()).await?;
//! let provider = ProviderKey::new(key)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is sent
//!
//! One `wrapKey` per wrap and one `unwrapKey` per unwrap, with `RSA-OAEP-256`
//! for RSA keys (2048 bits or more) and `A256KW` for AES-256 keys of a Managed
//! HSM. The first wrap is preceded by one `getKey`, which says which of the two
//! it is, unless [`Options::algorithm`] does. The caller needs `keys/wrapKey`
//! and `keys/get` to encrypt, and `keys/unwrapKey` to decrypt (and to read back
//! what was encrypted).
//!
//! **Neither algorithm has additional data.** The vault can neither enforce nor
//! log an encryption context: the check of each share (`docs/format.md`,
//! shares) keeps *our reader* from using one of another context, and nobody
//! else.
//!
//! `wrapKey` goes to the newest version of the key, and the version that
//! answers is kept with the share: only its id, and only if the answer is about
//! our host and key. `unwrapKey` goes to that version. A key that was rotated
//! thus opens what its older versions wrapped, for as long as they are enabled.
//!
//! # Where and as whom
//!
//! The URI's host decides which cloud it is: that of `vault.azure.net`, of
//! `vault.azure.cn` or of `vault.usgovcloudapi.net`, and the same for
//! `managedhsm`. The cloud decides what tokens are asked for, and who gives
//! them. A vault's own challenge (`WWW-Authenticate`), which other clients ask
//! for both, is never looked at, and redirects are not followed. For other
//! hosts, [`Options::scope`] and [`Options::authority`] say so, or
//! `AZURE_AUTHORITY_HOST`. As whom, [`Credential`] says. Connections are HTTPS
//! and nothing else, but for the token of a managed identity, which comes from
//! the machine's own address.
//!
//! # Runtime
//!
//! The futures need a tokio runtime with time and I/O enabled, and the same one
//! for the life of the holder, as its pooled connections live there.
//!
//! # Secrets
//!
//! A share is wiped where this crate owns it. The SDK keeps copies (its request
//! and response bodies, tokens and client secrets) that it frees without wiping;
//! TLS does too. The SDK's logging is off inside our calls. Each call leaves one
//! DEBUG line of our own instead, with the operation, the key and the request
//! id.

mod admin;
mod call;
mod client;
mod clouds;
mod credential;
mod options;
mod refusal;
mod wire;

use azure_core::http::RequestContent;
use azure_security_keyvault_keys::KeyClient;
use azure_security_keyvault_keys::models::{
    EncryptionAlgorithm, KeyOperationParameters, KeyOperationResult,
};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use twinlock_keys::{
    BoxFuture, HolderError, HolderErrorKind, KeyHolder, KeyUri, Share, ShareAlgorithm, WrapContext,
    WrappedShare,
};
use zeroize::Zeroizing;

pub use admin::KeyFacts;
pub use credential::Credential;
pub use options::Options;

use call::{Answer, Call, Operation, evidence};
use client::Name;

/// A share of 32 bytes under AES key wrap (RFC 3394 section 2.2.1).
const AES_KW_LEN: usize = 40;

/// Under RSA: as long as a key of 2048 up to 4096 bits, the longest that Azure
/// has.
const RSA_LENS: std::ops::RangeInclusive<usize> = 256..=512;

/// A key in Azure Key Vault or a Managed HSM.
pub struct AzureKeyVaultKey {
    uri: KeyUri,
    client: KeyClient,
    options: Options,
    /// How shares are wrapped, once somebody asked.
    algorithm: OnceCell<ShareAlgorithm>,
}

impl AzureKeyVaultKey {
    /// Makes a holder for the key that `uri` names. This costs no call: whether
    /// the key exists and may be used shows when it is used.
    ///
    /// # Errors
    /// When `uri` is not of the scheme `azure-kv`, when nothing says for which
    /// scope its host wants tokens, and when the credential lacks something.
    pub async fn connect(uri: &KeyUri, options: &Options) -> Result<Self, HolderError> {
        let client = client::open(uri, options).await?;
        let algorithm = OnceCell::new_with(options.algorithm);
        Ok(Self { uri: uri.clone(), client, options: options.clone(), algorithm })
    }

    /// Makes a new key of the name that `uri` has, which may wrap and unwrap
    /// and nothing else: RSA with 3072 bits in an HSM, or AES-256 in a Managed
    /// HSM.
    ///
    /// Needs `keys/get` and `keys/create`, and a vault of the premium tier. It
    /// costs what Azure charges for a key until it is purged.
    ///
    /// # Errors
    /// When the name is taken, and when Azure refuses.
    pub async fn create(uri: &KeyUri, options: &Options) -> Result<KeyFacts, HolderError> {
        admin::create(uri, options).await
    }

    /// Asks Azure what it knows about the key, with one `getKey`. A key that is
    /// disabled is described too, if Azure does: see [`KeyFacts::is_enabled`].
    ///
    /// # Errors
    /// When Azure refuses or fails.
    pub async fn describe(uri: &KeyUri, options: &Options) -> Result<KeyFacts, HolderError> {
        let client = client::open(uri, options).await?;
        Ok(admin::facts(&client, uri, options, call::until(options)).await?.model)
    }

    async fn wrap(&self, share: &Share) -> Result<WrappedShare, HolderError> {
        let until = call::until(&self.options);
        let algorithm = *self.algorithm.get_or_try_init(|| self.ask_for_algorithm(until)).await?;
        let content = content(algorithm, share.expose())?;
        let call = self.call(Operation::WrapKey, until);
        let key = Name::of(&self.uri)?.key;
        let answer = call.send(|| self.client.wrap_key(key, content.clone(), None)).await?;
        self.wrapped(&call, algorithm, answer)
    }

    fn wrapped(
        &self,
        call: &Call<'_>,
        algorithm: ShareAlgorithm,
        answer: Answer<KeyOperationResult>,
    ) -> Result<WrappedShare, HolderError> {
        let Answer { model, request_id } = answer;
        let failed = |what| call.failed(what).with_answer(evidence(request_id.clone()));
        let version = version_of(&self.uri, model.kid.as_deref())
            .ok_or_else(|| failed("Azure answered for another key than it was asked for"))?;
        let bytes = model.result.unwrap_or_default();
        match has_usual_len(algorithm, &bytes) {
            true => Ok(WrappedShare::new(algorithm, bytes).with_key_version(version)),
            false => Err(failed("Azure answered wrapKey without a usable ciphertext")),
        }
    }

    async fn unwrap(&self, wrapped: &WrappedShare) -> Result<Share, HolderError> {
        let until = call::until(&self.options);
        let call = self.call(Operation::UnwrapKey, until);
        let version = wrapped
            .key_version()
            .filter(|version| is_version(version))
            .filter(|_| has_usual_len(wrapped.algorithm(), wrapped.bytes()))
            .ok_or_else(|| call.invalid_ciphertext())?;
        let content = content(wrapped.algorithm(), wrapped.bytes())?;
        let key = Name::of(&self.uri)?.key;
        let send = || self.client.unwrap_key(key, version, content.clone(), None);
        match call.send(send).await {
            Ok(answer) => self.unwrapped(&call, version, answer),
            Err(error) if error.kind() == HolderErrorKind::NotFound => {
                Err(self.not_found(&call, error, until).await)
            }
            Err(error) => Err(error),
        }
    }

    fn unwrapped(
        &self,
        call: &Call<'_>,
        version: &str,
        answer: Answer<KeyOperationResult>,
    ) -> Result<Share, HolderError> {
        let Answer { model, request_id } = answer;
        let plaintext = Zeroizing::new(model.result.unwrap_or_default());
        let evidence = evidence(request_id);
        if version_of(&self.uri, model.kid.as_deref()) != Some(version) {
            let error = call.failed("Azure answered for another key than it was asked for");
            return Err(error.with_answer(evidence));
        }
        match Share::try_copy_of(&plaintext) {
            Some(share) => Ok(share.with_answer(evidence)),
            None => Err(call.invalid_ciphertext().with_answer(evidence)),
        }
    }

    /// A version that is not there may mean a key that is not there, or the
    /// share of another one: versions are not deleted one by one.
    async fn not_found(&self, call: &Call<'_>, error: HolderError, until: Instant) -> HolderError {
        let is_there = admin::facts(&self.client, &self.uri, &self.options, until).await.is_ok();
        match (is_there, error.answer()) {
            (true, Some(answer)) => call.invalid_ciphertext().with_answer(answer.clone()),
            _ => error,
        }
    }

    async fn ask_for_algorithm(&self, until: Instant) -> Result<ShareAlgorithm, HolderError> {
        let Answer { model: facts, request_id } =
            admin::facts(&self.client, &self.uri, &self.options, until).await?;
        match facts.is_enabled() {
            true => facts.algorithm(),
            false => Err(HolderError::new(
                HolderErrorKind::Disabled,
                format!("{} is disabled: see `az keyvault key show`", self.uri),
            )
            .with_answer(evidence(request_id))),
        }
    }

    fn call(&self, operation: Operation, until: Instant) -> Call<'_> {
        Call::new(operation, &self.uri, &self.options, until)
    }
}

impl KeyHolder for AzureKeyVaultKey {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        _: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        Box::pin(self.wrap(share))
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        _: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(self.unwrap(wrapped))
    }
}

/// The body of a `wrapKey` or `unwrapKey`.
fn content(
    algorithm: ShareAlgorithm,
    value: &[u8],
) -> Result<RequestContent<KeyOperationParameters>, HolderError> {
    let algorithm = match algorithm {
        ShareAlgorithm::RsaOaepSha256 => EncryptionAlgorithm::RsaOaep256,
        ShareAlgorithm::AesKw => EncryptionAlgorithm::A256Kw,
        _ => return Err(misconfigured("Azure Key Vault wraps with RSA-OAEP-256 or A256KW")),
    };
    let parameters = KeyOperationParameters {
        algorithm: Some(algorithm),
        value: Some(value.to_vec()),
        ..Default::default()
    };
    let json = azure_core::json::to_json(&parameters);
    drop(parameters.value.map(Zeroizing::new)); // wiped: it may be a share
    json.map(Into::into).map_err(|_| misconfigured("the request for Azure cannot be written"))
}

fn has_usual_len(algorithm: ShareAlgorithm, bytes: &[u8]) -> bool {
    match algorithm {
        ShareAlgorithm::RsaOaepSha256 => RSA_LENS.contains(&bytes.len()),
        ShareAlgorithm::AesKw => bytes.len() == AES_KW_LEN,
        _ => false,
    }
}

/// The version in `https://<host>/keys/<name>/<version>`, if host and name are
/// those of `uri`. Azure ignores the case of names and answers in its own.
fn version_of<'a>(uri: &KeyUri, kid: Option<&'a str>) -> Option<&'a str> {
    let ours = Name::of(uri).ok()?;
    let (host, path) = kid?.strip_prefix("https://")?.split_once('/')?;
    let (name, version) = path.strip_prefix("keys/")?.split_once('/')?;
    let port = |host: &'a str| host.strip_suffix(":443").unwrap_or(host);
    let is_ours = port(host)
        .eq_ignore_ascii_case(ours.host.strip_suffix(":443").unwrap_or(ours.host))
        && name.eq_ignore_ascii_case(ours.key);
    Some(version).filter(|version| is_ours && is_version(version))
}

/// `docs/format.md`, shares: what may stand in a header as a key's version.
fn is_version(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn misconfigured(message: impl Into<String>) -> HolderError {
    HolderError::new(HolderErrorKind::Misconfigured, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_our_own_key_is_taken_and_no_other() {
        let version = |kid: &str| {
            let uri: KeyUri = "azure-kv://archive.vault.azure.net/keys/kek".parse().unwrap();
            version_of(&uri, Some(kid)).map(ToOwned::to_owned)
        };
        let host = "https://archive.vault.azure.net";
        assert_eq!(version(&format!("{host}/keys/kek/0a1b")).as_deref(), Some("0a1b"));
        assert_eq!(version(&format!("{host}:443/keys/KEK/0a1b")).as_deref(), Some("0a1b"));
        let longest = "a".repeat(64);
        assert_eq!(version(&format!("{host}/keys/kek/{longest}")), Some(longest));
        for kid in [
            "https://evil.vault.azure.net/keys/kek/0a1b".to_owned(),
            "https://archive.vault.azure.net.evil.example/keys/kek/0a1b".to_owned(),
            "https://archive.vault.azure.net@evil.example/keys/kek/0a1b".to_owned(),
            "http://archive.vault.azure.net/keys/kek/0a1b".to_owned(),
            format!("{host}:444/keys/kek/0a1b"),
            format!("{host}/keys/other/0a1b"),
            format!("{host}/secrets/kek/0a1b"),
            format!("{host}/keys/kek"),
            format!("{host}/keys/kek/"),
            format!("{host}/keys/kek/0a1b/"),
            format!("{host}/keys/kek/0a1b/wrapkey"),
            format!("{host}/keys/kek/0a1b?x=y"),
            format!("{host}/keys/kek/..%2f"),
            format!("{host}/keys/kek/{}", "a".repeat(65)),
            String::new(),
        ] {
            assert_eq!(version(&kid), None, "{kid}");
        }
    }

    #[test]
    fn only_lengths_that_a_share_can_have_are_usual() {
        let usual = |algorithm, len: usize| has_usual_len(algorithm, &vec![0; len]);
        assert!(usual(ShareAlgorithm::AesKw, 40));
        assert!(!usual(ShareAlgorithm::AesKw, 48));
        assert!([256, 384, 512].iter().all(|&len| usual(ShareAlgorithm::RsaOaepSha256, len)));
        assert!(![0, 255, 513].iter().any(|&len| usual(ShareAlgorithm::RsaOaepSha256, len)));
        assert!(!usual(ShareAlgorithm::HolderAead, 256));
    }
}
