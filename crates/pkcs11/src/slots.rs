//! Finding a token among the slots.

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::slot::{Limit, Slot, TokenInfo};
use twinlock_keys::Pkcs11Uri;

use crate::Pkcs11Error;
use crate::module::initialise;
use crate::vendors::vendor_of;

/// What a token says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenFacts {
    /// Its label; empty if it is not initialised.
    pub label: String,
    /// Its maker.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Its firmware's version, for instance `2.6`.
    pub firmware: String,
    /// The slot it is in now. Tokens move; a URI should not rely on it.
    pub slot_id: u64,
    /// False for an empty token that [`create_token`](crate::create_token)
    /// could use.
    pub initialized: bool,
    /// True if keys are out of reach without the user PIN.
    pub login_required: bool,
    /// True if the token has a PIN pad of its own.
    pub pin_pad: bool,
    /// True if a user PIN was set.
    pub user_pin_set: bool,
    /// True if a wrong user PIN was tried since the last login.
    pub user_pin_count_low: bool,
    /// True if one more wrong user PIN locks it.
    pub user_pin_final_try: bool,
    /// True if the user PIN is locked.
    pub user_pin_locked: bool,
    /// Sessions that this process could still open; `None` without a limit, or
    /// where the token does not tell.
    pub free_sessions: Option<u64>,
    /// Which row of the table of vendors' quirks it is, or `unknown`.
    pub vendor: &'static str,
}

impl TokenFacts {
    /// What makes it this token and no other, as far as it says: maker, model,
    /// serial number and label. Two URIs may name one token.
    #[must_use]
    pub fn identity(&self) -> [&str; 4] {
        [&self.manufacturer, &self.model, &self.serial, &self.label]
    }

    pub(crate) fn new(slot: Slot, info: &TokenInfo) -> Self {
        Self {
            label: info.label().to_owned(),
            manufacturer: info.manufacturer_id().to_owned(),
            model: info.model().to_owned(),
            serial: info.serial_number().to_owned(),
            firmware: info.firmware_version().to_string(),
            slot_id: slot.id(),
            initialized: info.token_initialized(),
            login_required: info.login_required(),
            pin_pad: info.protected_authentication_path(),
            user_pin_set: info.user_pin_initialized(),
            user_pin_count_low: info.user_pin_count_low(),
            user_pin_final_try: info.user_pin_final_try(),
            user_pin_locked: info.user_pin_locked(),
            free_sessions: free_sessions(info),
            vendor: vendor_of(info.manufacturer_id(), info.model()).name,
        }
    }

    /// RFC 7512 section 2.3: every attribute that the URI has must be equal.
    fn matches(&self, uri: &Pkcs11Uri) -> bool {
        let wanted = [
            (uri.token(), &self.label),
            (uri.manufacturer(), &self.manufacturer),
            (uri.model(), &self.model),
            (uri.serial(), &self.serial),
        ];
        wanted.iter().all(|(wanted, is)| wanted.is_none_or(|wanted| wanted == *is))
            && uri.slot_id().is_none_or(|wanted| wanted == self.slot_id)
    }
}

fn free_sessions(info: &TokenInfo) -> Option<u64> {
    match (info.max_session_count(), info.session_count()) {
        (Limit::Max(most), Some(open)) => Some(most.saturating_sub(open)),
        _ => None,
    }
}

/// The one initialised token that `uri` names.
pub(crate) fn find(module: &Pkcs11, uri: &Pkcs11Uri) -> Result<(Slot, TokenFacts), Pkcs11Error> {
    let present: Vec<_> =
        tokens(module)?.into_iter().filter(|(_, facts)| facts.initialized).collect();
    let mut found = present.iter().filter(|(_, facts)| facts.matches(uri));
    match (found.next(), found.next()) {
        (Some((slot, facts)), None) => Ok((*slot, facts.clone())),
        (None, _) => Err(not_found(uri, &present)),
        (Some((_, one)), Some((_, other))) => Err(Pkcs11Error::misconfigured(format!(
            "several tokens fit the URI, among them {} and {}: add token=<label> or \
             serial=<number>",
            described(one),
            described(other)
        ))),
    }
}

/// What the token in `slot` says about itself now.
pub(crate) fn read(module: &Pkcs11, slot: Slot) -> Result<TokenFacts, Pkcs11Error> {
    let info = module.get_token_info(slot);
    let info = info.map_err(|error| Pkcs11Error::of_call(error, "read the state of the PIN"))?;
    Ok(TokenFacts::new(slot, &info))
}

/// Every token in a slot. One that cannot be read does not hide the others.
pub(crate) fn tokens(module: &Pkcs11) -> Result<Vec<(Slot, TokenFacts)>, Pkcs11Error> {
    let slots =
        listed(module).map_err(|error| Pkcs11Error::of_call(error, "list the module's slots"))?;
    let facts = slots.into_iter().filter_map(|slot| match module.get_token_info(slot) {
        Ok(info) => Some((slot, TokenFacts::new(slot, &info))),
        Err(error) => {
            tracing::warn!(slot = slot.id(), %error, "a token cannot be read and is left out");
            None
        }
    });
    Ok(facts.collect())
}

/// The slots, even if some other part of the program finalised the module.
/// (kryoptic's `C_GetInfo` does not say so.)
fn listed(module: &Pkcs11) -> Result<Vec<Slot>, Error> {
    match module.get_slots_with_token() {
        Err(Error::Pkcs11(RvError::CryptokiNotInitialized, _)) => {
            initialise(module)?;
            module.get_slots_with_token()
        }
        result => result,
    }
}

fn not_found(uri: &Pkcs11Uri, present: &[(Slot, TokenFacts)]) -> Pkcs11Error {
    let wanted = uri.token().or(uri.serial()).or(uri.model()).or(uri.manufacturer());
    let wanted = wanted.map(|name| format!(" {name:?}")).unwrap_or_default();
    let names: Vec<String> = present.iter().map(|(_, facts)| described(facts)).collect();
    let present = match names.is_empty() {
        true => "the module shows no initialised token at all".to_owned(),
        false => format!("present are {}", names.join(", ")),
    };
    Pkcs11Error::not_found(format!("there is no token{wanted} that fits the URI; {present}"))
}

fn described(facts: &TokenFacts) -> String {
    // Both are the token's words, and may hold anything.
    format!("{:?} (serial {}, slot {})", facts.label, facts.serial.escape_debug(), facts.slot_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_says_of_itself_is_shown_without_effect() {
        let token = TokenFacts {
            label: "a\u{1b}[31m".to_owned(),
            manufacturer: String::new(),
            model: String::new(),
            serial: "1\u{9b}2\u{202e}".to_owned(),
            firmware: String::new(),
            slot_id: 0,
            initialized: true,
            login_required: true,
            pin_pad: false,
            user_pin_set: true,
            user_pin_count_low: false,
            user_pin_final_try: false,
            user_pin_locked: false,
            free_sessions: None,
            vendor: "unknown",
        };
        let shown = r#""a\u{1b}[31m" (serial 1\u{9b}2\u{202e}, slot 0)"#;
        assert_eq!(described(&token), shown);
    }
}
