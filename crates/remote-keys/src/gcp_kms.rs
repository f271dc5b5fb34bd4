//! Google Cloud KMS as a key holder, through the official SDK.
//!
//! ```no_run
//! use twinlock_keys::{KeyUri, ProviderKey};
//! use twinlock_remote_keys::gcp_kms::{GcpKmsKey, Options};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let uri = "gcp-kms://projects/blue/locations/europe-west3/keyRings/files/cryptoKeys/archive";
//! let key = GcpKmsKey::connect(&uri.parse::<KeyUri>()?, &Options::new()).await?;
//! let provider = ProviderKey::new(key)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is sent
//!
//! One `Encrypt` per wrap and one `Decrypt` per unwrap, over Google's REST
//! interface, with the key's resource name and the share AAD as
//! `additionalAuthenticatedData`, which Google authenticates. The encryption
//! context itself is not sent, only its hash in that AAD. The caller needs
//! `cloudkms.cryptoKeyVersions.useToEncrypt` to encrypt and
//! `cloudkms.cryptoKeyVersions.useToDecrypt` to decrypt (and to read back what
//! was encrypted); the role *Cloud KMS CryptoKey Encrypter/Decrypter* has both.
//!
//! Google picks the primary version to encrypt and the right one to decrypt.
//! The version's number goes into the header; an answer for any other key is
//! refused.
//!
//! # Checksums
//!
//! As Google advises, CRC-32C go both ways: of what is sent, which Google has to
//! say it verified, and of what is answered, which is computed again here. What
//! does not fit is thrown away and asked for again, as often as
//! [`Options::attempts`] allows, and then an error
//! ([`Failed`](twinlock_keys::HolderErrorKind::Failed)).
//!
//! # Where and as whom
//!
//! Credentials: application default credentials (`GOOGLE_APPLICATION_CREDENTIALS`,
//! `gcloud auth application-default login`, the metadata server), unless
//! [`Options::credentials_file`] names a file, of a service account, a user, a
//! workload identity federation or an impersonation; with
//! [`Options::impersonate`], as that service account. Endpoint:
//! [`Options::endpoint`], or Google's own. Plain HTTP is refused but to this
//! machine, since a share would travel in the clear; redirects are not followed.
//! The universe domain comes from [`Options::universe_domain`] or
//! `GOOGLE_CLOUD_UNIVERSE_DOMAIN`, never from an answer. The SDK uses the
//! proxies that the environment names (`HTTPS_PROXY`).
//!
//! # Runtime
//!
//! The futures need a tokio runtime with time and I/O enabled, and the same one
//! for the life of the holder, as its pooled connections and the task that
//! renews its token live there.
//!
//! # Secrets
//!
//! A share is wiped where this crate owns it. The SDK keeps copies (its request
//! and response bodies, and their base64) that it frees without wiping; TLS does
//! too. It keeps credentials and tokens in ordinary memory for as long as it
//! needs them.
//!
//! The SDK's logging is off inside our calls, whatever the subscriber's filter
//! says. Each call leaves one DEBUG line of our own instead, with the operation
//! and the key. The REST interface has no request ids; Cloud Audit Logs have
//! each call by key, principal and time (data access logs must be switched on).

mod admin;
mod call;
mod client;
mod crc32c;
mod credentials;
mod options;
mod refusal;

use google_cloud_kms_v1::model::{DecryptResponse, EncryptResponse};
use twinlock_keys::{
    BoxFuture, HolderAnswer, HolderError, KeyHolder, KeyUri, Share, ShareAlgorithm, WrapContext,
    WrappedShare,
};
use zeroize::Zeroizing;

pub use admin::KeyFacts;
pub use options::Options;

use call::{Call, Failed, Operation};
use client::Clients;
use crc32c::crc32c;

/// The longest wrapped share that a header carries, in bytes
/// (`docs/format.md`, limits). Google's are about 110.
const MAX_CIPHERTEXT_LEN: usize = 6144;

/// A symmetric encryption key in Google Cloud KMS.
pub struct GcpKmsKey {
    uri: KeyUri,
    clients: Clients,
    options: Options,
}

impl GcpKmsKey {
    /// Makes a holder for the key that `uri` names. It costs no call: whether
    /// the key exists and may be used shows when it is used.
    ///
    /// # Errors
    /// When `uri` is not of the scheme `gcp-kms`, when the endpoint is no
    /// `https://` URL, and when there is a file of credentials that cannot be
    /// used.
    pub async fn connect(uri: &KeyUri, options: &Options) -> Result<Self, HolderError> {
        let clients = Clients::open(uri, options).await?;
        Ok(Self { uri: uri.clone(), clients, options: options.clone() })
    }

    /// Makes a new symmetric key of that name, in a key ring that exists.
    ///
    /// Needs `cloudkms.cryptoKeys.create`. The key is of protection level
    /// `SOFTWARE` and does not rotate by itself. A key cannot be deleted or
    /// renamed, only its versions destroyed.
    ///
    /// # Errors
    /// When the key exists, and when Google refuses.
    pub async fn create(uri: &KeyUri, options: &Options) -> Result<(), HolderError> {
        admin::create(uri, options).await
    }

    /// Asks Google what it knows about the key, with one `GetCryptoKey`, which
    /// needs `cloudkms.cryptoKeys.get`. A key whose primary version is disabled
    /// or destroyed is described too: see [`KeyFacts::state`].
    ///
    /// # Errors
    /// When Google refuses or fails, and with
    /// [`Misconfigured`](twinlock_keys::HolderErrorKind::Misconfigured) when the key is not a
    /// symmetric encryption key or has no primary version.
    pub async fn describe(uri: &KeyUri, options: &Options) -> Result<KeyFacts, HolderError> {
        admin::facts(uri, options).await
    }

    async fn wrap(
        &self,
        share: &Share,
        context: &WrapContext,
    ) -> Result<WrappedShare, HolderError> {
        let call = self.call(Operation::Encrypt);
        let result = call.send(|| self.try_wrap(&call, share, context)).await;
        self.learnt(result)
    }

    async fn try_wrap(
        &self,
        call: &Call<'_>,
        share: &Share,
        context: &WrapContext,
    ) -> Result<WrappedShare, Failed> {
        let client = self.clients.client(&self.uri, &self.options).await?;
        client.sign_in(call).await?;
        let request = client
            .prepared(client.kms.encrypt())
            .set_name(self.uri.key_name())
            .set_plaintext(share.expose().to_vec())
            .set_plaintext_crc32c(crc32c(share.expose()))
            .set_additional_authenticated_data(context.aad().to_vec())
            .set_additional_authenticated_data_crc32c(crc32c(context.aad()));
        let answer = request.send().await.map_err(|error| refusal::explain(call, &error))?;
        self.wrapped(call, answer)
    }

    fn wrapped(&self, call: &Call<'_>, answer: EncryptResponse) -> Result<WrappedShare, Failed> {
        if !answer.verified_plaintext_crc32c
            || !answer.verified_additional_authenticated_data_crc32c
        {
            return Err(call.corrupted("Google did not verify the checksums of what was sent"));
        }
        if answer.ciphertext_crc32c != Some(crc32c(&answer.ciphertext)) {
            return Err(call.corrupted("the ciphertext came with a wrong checksum"));
        }
        let version = version_of(&self.uri, &answer.name).ok_or_else(|| {
            call.failed("Google answered for another key than it was asked for, or spells it so")
        })?;
        let len = answer.ciphertext.len();
        if len == 0 || len > MAX_CIPHERTEXT_LEN {
            return Err(call.failed("Google answered Encrypt without a usable ciphertext").into());
        }
        let wrapped = WrappedShare::new(ShareAlgorithm::HolderAead, answer.ciphertext.to_vec());
        Ok(wrapped.with_key_version(version))
    }

    async fn unwrap(
        &self,
        wrapped: &WrappedShare,
        context: &WrapContext,
    ) -> Result<Share, HolderError> {
        let call = self.call(Operation::Decrypt);
        let len = wrapped.bytes().len();
        if wrapped.algorithm() != ShareAlgorithm::HolderAead || len == 0 || len > MAX_CIPHERTEXT_LEN
        {
            return Err(call.invalid_ciphertext());
        }
        let result = call.send(|| self.try_unwrap(&call, wrapped, context)).await;
        self.learnt(result)
    }

    async fn try_unwrap(
        &self,
        call: &Call<'_>,
        wrapped: &WrappedShare,
        context: &WrapContext,
    ) -> Result<Share, Failed> {
        let client = self.clients.client(&self.uri, &self.options).await?;
        client.sign_in(call).await?;
        let request = client
            .prepared(client.kms.decrypt())
            .set_name(self.uri.key_name())
            .set_ciphertext(wrapped.bytes().to_vec())
            .set_ciphertext_crc32c(crc32c(wrapped.bytes()))
            .set_additional_authenticated_data(context.aad().to_vec())
            .set_additional_authenticated_data_crc32c(crc32c(context.aad()));
        let answer = request.send().await.map_err(|error| refusal::explain(call, &error))?;
        unwrapped(call, answer)
    }

    /// What a result says about the credentials.
    fn learnt<T>(&self, result: Result<T, HolderError>) -> Result<T, HolderError> {
        result.inspect_err(|error| self.clients.forget_after(error))
    }

    fn call(&self, operation: Operation) -> Call<'_> {
        Call::new(operation, &self.uri, &self.options)
    }
}

impl KeyHolder for GcpKmsKey {
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

fn unwrapped(call: &Call<'_>, answer: DecryptResponse) -> Result<Share, Failed> {
    let evidence = HolderAnswer::code("200");
    // Wipes the copy of ours; the SDK's is freed as it is.
    let plaintext = Zeroizing::new(answer.plaintext.to_vec());
    if answer.plaintext_crc32c != Some(crc32c(&plaintext)) {
        let failed = call.corrupted("the share came back with a wrong checksum");
        return Err(failed.with_answer(evidence));
    }
    match Share::try_copy_of(&plaintext) {
        Some(share) => Ok(share.with_answer(evidence)),
        None => Err(call.invalid_ciphertext().with_answer(evidence).into()),
    }
}

/// The number in `<key>/cryptoKeyVersions/<number>`, if it is a version of this
/// key.
fn version_of<'a>(uri: &KeyUri, name: &'a str) -> Option<&'a str> {
    let version = name.strip_prefix(uri.key_name())?.strip_prefix("/cryptoKeyVersions/")?;
    let digits = (1..=19).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_digit());
    (digits && !version.starts_with('0')).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_of_this_key_is_one() {
        let key = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
        let uri = KeyUri::parse(&format!("gcp-kms://{key}")).expect("well formed");
        let version = |rest: &str| version_of(&uri, &format!("{key}{rest}")).map(str::to_owned);
        assert_eq!(version("/cryptoKeyVersions/12").as_deref(), Some("12"));
        let others = ["", "/cryptoKeyVersions/", "/cryptoKeyVersions/0", "/cryptoKeyVersions/1/x"];
        let more = ["2/cryptoKeyVersions/1", "/cryptoKeyVersions/+1", "/cryptoKeyVersions/1\n"];
        let long = ["/cryptoKeyVersions/12345678901234567890"];
        for other in others.into_iter().chain(more).chain(long) {
            assert_eq!(version(other), None, "{other:?}");
        }
    }
}
