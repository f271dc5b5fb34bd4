//! `Decrypt`.

use twinlock_pkcs11::Sealed;

use super::{Answer, Call, Refusal, note};
use crate::config::KeyState;
use crate::error::ErrorName;
use crate::record::Record;
use crate::uri_path::ExternalKeyId;
use crate::wire::{DecryptRequest, DecryptResponse};

pub(super) async fn answer(call: &Call<'_>, id: &ExternalKeyId, record: &mut Record) -> Answer {
    let request = DecryptRequest::parse(call.body)?;
    note(&request.metadata, record);
    let key = call.key("Decrypt", id, &request.metadata, record)?;
    if key.state == KeyState::Disabled {
        return Err(Refusal::disabled());
    }
    let generation = key.generation_of(request.ciphertext_metadata).ok_or_else(of_no_generation)?;
    record.generation = Some(generation.number);
    let members = generation.members();
    let fleet = call.fleet(generation, &members).await?;
    let token_aad = request.aad.for_token(&request.ciphertext_metadata, call.store.aad);
    let DecryptRequest { ciphertext, iv, tag, .. } = request;
    let done = fleet.decrypt(Sealed { iv, ciphertext, tag }, token_aad, call.left()?).await;
    let plaintext = call.settle(done, generation, &members, record).await?;
    Ok(DecryptResponse { plaintext: &plaintext }.body())
}

fn of_no_generation() -> Refusal {
    Refusal::new(
        ErrorName::InvalidCiphertext,
        "The ciphertextMetadata names no generation of this key.",
    )
}
