//! Whether the tokens work: looked at again and again, in the background.
//!
//! A token works when it is open, logged in and has one of the keys that it should
//! have; the others are looked for one after the other, elsewhere.
//!
//! Nothing is decrypted for that, but when a key is first found.

use twinlock_pkcs11::{ErrorKind, Pkcs11Error};

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

/// One of its keys is enough, whichever: one that somebody deleted says nothing of
/// the token.
async fn looked_at(hsm: &Hsm, state: &State) -> Result<(), Pkcs11Error> {
    let mut lacks = None;
    for generation in state.generations().filter(|generation| generation.is_on(hsm)) {
        match hsm.key(&generation.object).await {
            Ok(_) => return Ok(()),
            Err(error) if is_about_the_key(&error) => lacks = lacks.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    match lacks {
        Some(error) => Err(error),
        None => hsm.open().await.map(drop),
    }
}

fn is_about_the_key(error: &Pkcs11Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Misconfigured)
}
