//! `Encrypt`.

use zeroize::Zeroizing;

use super::{Answer, Call, Refusal, note};
use crate::aad::Aad;
use crate::ciphertext_metadata::CiphertextMetadata;
use crate::config::KeyState;
use crate::counts::UsedUp;
use crate::error::ErrorName;
use crate::integrity::integrity_value;
use crate::key_store::{Generation, Key};
use crate::record::Record;
use crate::uri_path::ExternalKeyId;
use crate::wire::{EncryptRequest, EncryptResponse};

pub(super) async fn answer(call: &Call<'_>, id: &ExternalKeyId, record: &mut Record) -> Answer {
    let request = EncryptRequest::parse(call.body)?;
    note(&request.metadata, record);
    let generation = encrypting(call.key("Encrypt", id, &request.metadata, record)?)?;
    record.generation = Some(generation.number);
    let members = generation.members();
    let fleet = call.fleet(generation, &members).await?;
    count(generation, fleet.members().len())?;
    let metadata = CiphertextMetadata::of_generation(generation.number);
    let token_aad = request.aad.for_token(&metadata, call.store.aad);
    let (plaintext, left) = (request.plaintext, call.left()?);
    let (sealed, integrity_value) = match request.wants_integrity_value {
        false => {
            let done = fleet.encrypt(plaintext, token_aad, left).await;
            (call.settle(done, generation, &members, record).await?, None)
        }
        true => {
            // Computed from what the token returned, before it decrypts that.
            let value = cdiv(request.aad, metadata);
            let done = fleet.encrypt_checked(plaintext, token_aad, left, value).await;
            let (sealed, value) = call.settle(done, generation, &members, record).await?;
            (sealed, Some(value))
        }
    };
    let response = EncryptResponse {
        ciphertext: &sealed.ciphertext,
        ciphertext_metadata: metadata,
        iv: &sealed.iv,
        tag: &sealed.tag,
        integrity_value,
    };
    Ok(Zeroizing::new(response.body()))
}

/// The generation that encrypts, if the key may.
fn encrypting(key: &Key) -> Result<&Generation, Refusal> {
    match key.state {
        KeyState::Enabled => Ok(key.newest()),
        KeyState::Disabled => Err(Refusal::disabled()),
        KeyState::DecryptOnly => Err(Refusal::new(
            ErrorName::InvalidKeyUsage,
            "The proxy's configuration lets this key decrypt only.",
        )),
    }
}

/// Of a hedged call, every token may do its own.
fn count(generation: &Generation, members: usize) -> Result<(), Refusal> {
    let times = if generation.is_hedged() { members as u64 } else { 1 };
    let counted = generation.count.take(times).map_err(|UsedUp| {
        Refusal::new(
            ErrorName::InvalidState,
            "This key has encrypted as often as is safe with AES-GCM. Add a new generation to the \
             proxy's configuration.",
        )
        .because(format!("{}: {UsedUp}", generation.name))
    });
    if generation.count.wants_warning() {
        tracing::warn!(
            generation = &*generation.name,
            used = generation.count.used(),
            limit = generation.count.limit(),
            "half of the encryptions that are safe for this key are used; add a new generation"
        );
    }
    counted
}

fn cdiv(
    aad: Aad,
    metadata: CiphertextMetadata,
) -> impl Fn(&twinlock_pkcs11::Sealed) -> [u8; 32] + Send + Sync + Clone + 'static {
    move |sealed| integrity_value(&aad, &metadata, &sealed.iv, &sealed.ciphertext, &sealed.tag)
}
