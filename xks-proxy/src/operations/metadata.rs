//! `GetKeyMetadata`: from what is known of the key, without a call to a token.

use zeroize::Zeroizing;

use super::{Answer, Call, note};
use crate::config::KeyState;
use crate::record::Record;
use crate::uri_path::ExternalKeyId;
use crate::wire::{self, KeyMetadataResponse};

pub(super) async fn answer(call: &Call<'_>, id: &ExternalKeyId, record: &mut Record) -> Answer {
    let request = wire::key_metadata(call.body)?;
    note(&request, record);
    let key = call.key("GetKeyMetadata", id, &request, record)?;
    let generation = key.newest();
    record.generation = Some(generation.number);
    let members = generation.members();
    call.fleet(generation, &members).await?;
    let all = |may: fn(&twinlock_pkcs11::KeyFacts) -> Option<bool>| {
        members.keys().all(|(_, facts)| may(facts) == Some(true))
    };
    let response = KeyMetadataResponse {
        encrypts: key.state != KeyState::DecryptOnly && all(|facts| facts.encrypt),
        decrypts: all(|facts| facts.decrypt),
        enabled: key.state != KeyState::Disabled,
    };
    Ok(Zeroizing::new(response.body()))
}
