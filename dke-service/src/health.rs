//! Whether the tokens work: looked at again and again, in the background.
//!
//! A token works when it is open, logged in and has the keys that it should have.
//! Nothing is decrypted for that: in the log of an HSM, every decryption is one
//! that somebody asked for.

use twinlock_pkcs11::Pkcs11Error;

use crate::hsm::Hsm;
use crate::state::State;

/// Looks at a token, and remembers what was found. One that was never opened is
/// opened.
pub async fn check(hsm: &Hsm, state: &State) {
    let before = hsm.problem();
    let now = looked_at(hsm, state).await.err().map(|error| error.to_string());
    if before.is_some() != now.is_some() {
        match &now {
            None => tracing::info!(hsm = hsm.name(), "the token works"),
            Some(problem) => tracing::warn!(hsm = hsm.name(), problem, "the token does not work"),
        }
    }
    hsm.set_problem(now);
}

/// One of its keys is enough: the others are looked for one after the other.
async fn looked_at(hsm: &Hsm, state: &State) -> Result<(), Pkcs11Error> {
    match state.generations().find(|generation| generation.is_on(hsm)) {
        Some(generation) => hsm.key(&generation.object).await.map(drop),
        None => hsm.open().await.map(drop),
    }
}
