//! Making keys, and asking what Azure knows about one.

use azure_core::http::RequestContent;
use azure_security_keyvault_keys::KeyClient;
use azure_security_keyvault_keys::models::{CreateKeyParameters, Key, KeyOperation, KeyType};
use tokio::time::Instant;
use twinlock_keys::{HolderError, HolderErrorKind, KeyUri, ShareAlgorithm};

use super::call::{Answer, Call, Operation, evidence, until};
use super::client::{self, Name};
use super::clouds::{Service, cloud_of};
use super::{Options, misconfigured, version_of};
use crate::network::printable;

/// The shortest RSA key that is used, in bits.
const MIN_RSA_BITS: u32 = 2048;

/// What Azure knows about the newest version of a key. The words are those of
/// the Key Vault API.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyFacts {
    /// Its name.
    pub uri: KeyUri,
    /// The newest version.
    pub version: String,
    /// False for a key that is switched off.
    pub enabled: bool,
    /// `RSA`, `RSA-HSM` or `oct-HSM`.
    pub kind: String,
    /// The length of an RSA key. Azure does not tell that of others.
    pub bits: Option<u32>,
    /// `wrapKey`, `unwrapKey`, …
    pub operations: Vec<String>,
}

impl KeyFacts {
    /// True if the key can be used as it is.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// True if the key is in an HSM.
    #[must_use]
    pub fn in_hsm(&self) -> bool {
        self.kind.ends_with("-HSM")
    }

    /// How shares are wrapped with it.
    pub(super) fn algorithm(&self) -> Result<ShareAlgorithm, HolderError> {
        let missing = ["wrapKey", "unwrapKey"]
            .into_iter()
            .find(|operation| !self.operations.iter().any(|allowed| allowed == operation));
        if let Some(operation) = missing {
            return Err(misconfigured(format!(
                "{} does not allow {operation}: see `az keyvault key set-attributes --ops`",
                self.uri
            )));
        }
        match (self.kind.as_str(), self.bits) {
            ("RSA" | "RSA-HSM", Some(MIN_RSA_BITS..)) => Ok(ShareAlgorithm::RsaOaepSha256),
            ("oct-HSM", _) => Ok(ShareAlgorithm::AesKw),
            (kind, bits) => Err(misconfigured(format!(
                "{} is a key of type {kind}{}: shares are wrapped with RSA keys of at least \
                 {MIN_RSA_BITS} bits, and with AES-256 keys of a Managed HSM",
                self.uri,
                bits.map(|bits| format!(" with {bits} bits")).unwrap_or_default()
            ))),
        }
    }
}

pub(super) async fn facts(
    client: &KeyClient,
    uri: &KeyUri,
    options: &Options,
    until: Instant,
) -> Result<Answer<KeyFacts>, HolderError> {
    let name = Name::of(uri)?;
    let call = Call::new(Operation::GetKey, uri, options, until);
    let answer = call.send(|| client.get_key(name.key, None)).await?;
    described(&call, answer)
}

fn described(call: &Call<'_>, answer: Answer<Key>) -> Result<Answer<KeyFacts>, HolderError> {
    let Answer { model, request_id } = answer;
    let incomplete = || {
        let error = call.failed("Azure described a key incompletely");
        error.with_answer(evidence(request_id.clone()))
    };
    let key = model.key.ok_or_else(incomplete)?;
    let version = version_of(call.key, key.kid.as_deref()).ok_or_else(|| {
        call.failed("Azure described another key than it was asked for")
            .with_answer(evidence(request_id.clone()))
    })?;
    let kind = key.kty.as_ref().ok_or_else(incomplete)?;
    let operations = key.key_ops.unwrap_or_default();
    let facts = KeyFacts {
        uri: call.key.clone(),
        version: version.to_owned(),
        enabled: model.attributes.and_then(|attributes| attributes.enabled) != Some(false),
        kind: printable(kind.as_ref()),
        bits: key.n.as_deref().map(bits),
        operations: operations.iter().map(|operation| printable(operation)).collect(),
    };
    Ok(Answer { model: facts, request_id })
}

/// The length of a big-endian number.
fn bits(number: &[u8]) -> u32 {
    let digits = number.iter().position(|&byte| byte != 0).map_or(&[][..], |at| &number[at..]);
    let unused = digits.first().map_or(0, |first| first.leading_zeros());
    u32::try_from(digits.len() * 8).unwrap_or(u32::MAX).saturating_sub(unused)
}

pub(super) async fn create(uri: &KeyUri, options: &Options) -> Result<KeyFacts, HolderError> {
    let client = client::open(uri, options).await?;
    let name = Name::of(uri)?;
    let until = until(options);
    refuse_if_taken(&client, uri, options, until).await?;
    let parameters: RequestContent<CreateKeyParameters> = new_key(&name)
        .try_into()
        .map_err(|_| misconfigured("the parameters of a new key cannot be written"))?;
    // Never sent twice: each `createKey` that arrives makes a version.
    let call = Call::new(Operation::CreateKey, uri, options, until).once();
    let answer = call.send(|| client.create_key(name.key, parameters.clone(), None)).await?;
    Ok(described(&call, answer)?.model)
}

/// AES where there is AES: what is wrapped under RSA is open to whoever keeps
/// it until there is a quantum computer for it.
fn new_key(name: &Name<'_>) -> CreateKeyParameters {
    let in_managed_hsm =
        cloud_of(name.host).is_some_and(|cloud| cloud.service == Service::ManagedHsm);
    let (kind, bits) = match in_managed_hsm {
        true => (KeyType::OctHsm, 256),
        false => (KeyType::RsaHsm, 3072),
    };
    CreateKeyParameters {
        kty: Some(kind),
        key_size: Some(bits),
        key_ops: Some(vec![KeyOperation::WrapKey, KeyOperation::UnwrapKey]),
        ..Default::default()
    }
}

/// Asked first, since Azure would add a version to a key that exists.
async fn refuse_if_taken(
    client: &KeyClient,
    uri: &KeyUri,
    options: &Options,
    until: Instant,
) -> Result<(), HolderError> {
    match facts(client, uri, options, until).await {
        Ok(facts) => Err(misconfigured(format!(
            "{uri} exists, in version {}: choose another name",
            facts.model.version
        ))),
        Err(error) if error.kind() == HolderErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_from_the_first_that_is_set() {
        assert_eq!(bits(&[0x80; 256]), 2048);
        assert_eq!(bits(&[0x7f; 256]), 2047);
        assert_eq!(bits(&[0, 0, 1, 0]), 9);
        assert_eq!((bits(&[]), bits(&[0, 0])), (0, 0));
    }

    #[test]
    fn keys_that_fit_say_how_they_wrap() {
        let facts = |kind: &str, bits, operations: &[&str]| KeyFacts {
            uri: "azure-kv://archive.vault.azure.net/keys/kek".parse().unwrap(),
            version: "1".to_owned(),
            enabled: true,
            kind: kind.to_owned(),
            bits,
            operations: operations.iter().map(|&operation| operation.to_owned()).collect(),
        };
        let both = &["wrapKey", "unwrapKey"];
        for (kind, bits, expected) in [
            ("RSA", Some(2048), Some(ShareAlgorithm::RsaOaepSha256)),
            ("RSA-HSM", Some(4096), Some(ShareAlgorithm::RsaOaepSha256)),
            ("oct-HSM", None, Some(ShareAlgorithm::AesKw)),
            ("RSA", Some(2047), None),
            ("RSA-HSM", None, None),
            ("EC-HSM", None, None),
            ("oct", None, None),
        ] {
            assert_eq!(facts(kind, bits, both).algorithm().ok(), expected, "{kind} {bits:?}");
        }
        assert!(facts("RSA", Some(2048), &["wrapKey"]).algorithm().is_err());
        assert!(facts("RSA", Some(2048), &["unwrapKey", "encrypt"]).algorithm().is_err());
    }
}
