//! Making keys, and asking what Google knows about one.

use google_cloud_kms_v1::model::crypto_key::CryptoKeyPurpose;
use google_cloud_kms_v1::model::crypto_key_version::{
    CryptoKeyVersionAlgorithm, CryptoKeyVersionState,
};
use google_cloud_kms_v1::model::{CryptoKey, CryptoKeyVersion};
use twinlock_keys::{HolderError, KeyUri};

use super::call::{Call, Failed, Operation};
use super::client::{Clients, misconfigured};
use super::{Options, refusal, version_of};

/// What Google knows about a symmetric encryption key. The words are those of
/// the Cloud KMS API.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyFacts {
    /// The URI of the key.
    pub uri: KeyUri,
    /// The number of its primary version, which encrypts.
    pub version: String,
    /// The state of that version: `ENABLED`, `DISABLED`, `DESTROY_SCHEDULED`, …
    pub state: String,
    /// `GOOGLE_SYMMETRIC_ENCRYPTION`, or `EXTERNAL_SYMMETRIC_ENCRYPTION` for a
    /// key that lies outside of Google.
    pub algorithm: String,
    /// `SOFTWARE`, `HSM`, `EXTERNAL`, `EXTERNAL_VPC`, …
    pub protection_level: String,
}

impl KeyFacts {
    /// True if the key can be used as it is.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.state == "ENABLED"
    }
}

pub(super) async fn facts(uri: &KeyUri, options: &Options) -> Result<KeyFacts, HolderError> {
    let clients = Clients::open(uri, options).await?;
    let call = Call::new(Operation::GetCryptoKey, uri, options);
    let key = call.send(|| describe(&call, &clients, uri, options)).await?;
    refuse_unless_symmetric(uri, &key)?;
    let primary = key.primary.ok_or_else(|| {
        misconfigured(format!(
            "{uri} has no primary version, so it encrypts nothing: set one with `gcloud kms keys \
             set-primary-version`"
        ))
    })?;
    facts_of(&call, primary)
}

/// Makes the key in a key ring that exists.
pub(super) async fn create(uri: &KeyUri, options: &Options) -> Result<(), HolderError> {
    let clients = Clients::open(uri, options).await?;
    // A second try after an answer that got lost would complain that the key
    // exists.
    let call = Call::new(Operation::CreateCryptoKey, uri, options).once();
    let made = call.send(|| make(&call, &clients, uri, options)).await?;
    match made.name == uri.key_name() {
        true => Ok(()),
        false => Err(call.failed("Google made another key than it was asked for")),
    }
}

async fn describe(
    call: &Call<'_>,
    clients: &Clients,
    uri: &KeyUri,
    options: &Options,
) -> Result<CryptoKey, Failed> {
    let client = clients.client(uri, options).await?;
    client.sign_in(call).await?;
    let request = client.prepared(client.kms.get_crypto_key()).set_name(uri.key_name());
    let key = request.send().await.map_err(|error| refusal::explain(call, &error))?;
    match key.name == uri.key_name() {
        true => Ok(key),
        false => Err(call.failed("Google described another key than it was asked for").into()),
    }
}

async fn make(
    call: &Call<'_>,
    clients: &Clients,
    uri: &KeyUri,
    options: &Options,
) -> Result<CryptoKey, Failed> {
    let client = clients.client(uri, options).await?;
    client.sign_in(call).await?;
    let name = uri.key_name().rsplit_once("/cryptoKeys/");
    let (key_ring, id) = name.expect("the form of the URI was checked when it was parsed");
    let request = client
        .prepared(client.kms.create_crypto_key())
        .set_parent(key_ring)
        .set_crypto_key_id(id)
        .set_crypto_key(CryptoKey::new().set_purpose(CryptoKeyPurpose::EncryptDecrypt));
    request.send().await.map_err(|error| refusal::explain(call, &error))
}

fn refuse_unless_symmetric(uri: &KeyUri, key: &CryptoKey) -> Result<(), HolderError> {
    if key.purpose == CryptoKeyPurpose::EncryptDecrypt {
        return Ok(());
    }
    Err(misconfigured(format!(
        "{uri} is not a symmetric encryption key but for {}: make one with `twinlock keys create \
         gcp-kms://projects/<project>/locations/<location>/keyRings/<ring>/cryptoKeys/<name>`",
        word(key.purpose.name()),
    )))
}

fn facts_of(call: &Call<'_>, primary: CryptoKeyVersion) -> Result<KeyFacts, HolderError> {
    let version = version_of(call.key, &primary.name)
        .ok_or_else(|| call.failed("Google described a key with a version of another"))?;
    let algorithm = match &primary.algorithm {
        CryptoKeyVersionAlgorithm::Unspecified => "ALGORITHM_UNKNOWN".to_owned(),
        known => word(known.name()),
    };
    let state = match &primary.state {
        CryptoKeyVersionState::Unspecified => "STATE_UNKNOWN".to_owned(),
        known => word(known.name()),
    };
    Ok(KeyFacts {
        uri: call.key.clone(),
        version: version.to_owned(),
        state,
        algorithm,
        protection_level: word(primary.protection_level.name()),
    })
}

/// A value of one of the API's enumerations; one that is newer than the SDK
/// has no name.
fn word(name: Option<&str>) -> String {
    name.unwrap_or("UNKNOWN").to_owned()
}
