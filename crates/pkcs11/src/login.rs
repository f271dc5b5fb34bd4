//! Logging in: once per token and process, and never twice with a PIN that the
//! token refused.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, SessionState, UserType};
use secrecy::SecretString;

use crate::{ErrorKind, Pkcs11Error, TokenFacts, pin};

/// How to log in to one token.
pub(crate) struct Login {
    credential: Credential,
    even_at_final_try: bool,
    refused: Memory,
}

/// What the token wants to see.
pub(crate) enum Credential {
    /// Nothing: its keys need no login.
    None,
    /// A PIN on its own pad.
    PinPad,
    /// The user PIN.
    Pin(SecretString),
}

/// The PINs that the token has refused since the last login, shared by whoever
/// opens the token.
type Memory = Arc<Mutex<Vec<Refused>>>;

struct Refused {
    pin: SecretString,
    error: Pkcs11Error,
}

impl Login {
    /// The login for a token of the module at `module`.
    pub(crate) fn new(
        module: &Path,
        token: &TokenFacts,
        credential: Credential,
        even_at_final_try: bool,
    ) -> Self {
        Self { credential, even_at_final_try, refused: memory_of(module, token) }
    }

    /// Logs `session` in, unless the process is logged in to its token already
    /// (PKCS#11 3.1 section 5.6.8: login is shared by all sessions of an
    /// application with a token).
    pub(crate) fn log_in(&self, session: &Session, token: &TokenFacts) -> Result<(), Pkcs11Error> {
        if matches!(self.credential, Credential::None) {
            return Ok(());
        }
        if is_logged_in(session)? {
            return Ok(()); // whatever becomes of a login that hangs
        }
        // One at a time: of four workers with a wrong PIN only one tries it.
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if is_logged_in(session)? {
            return Ok(());
        }
        self.refuse_hopeless(&refused, token)?;
        match session.login(UserType::User, self.pin()) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                refused.clear();
                Ok(())
            }
            Err(error) => {
                let error = Pkcs11Error::of_call(error, &format!("log in to {:?}", token.label));
                refused.extend(self.remembered(&error));
                Err(error)
            }
        }
    }

    fn pin(&self) -> Option<&SecretString> {
        match &self.credential {
            Credential::Pin(pin) => Some(pin),
            Credential::None | Credential::PinPad => None,
        }
    }

    fn refuse_hopeless(&self, refused: &[Refused], token: &TokenFacts) -> Result<(), Pkcs11Error> {
        let known = |pin| refused.iter().find(|refused| pin::same(&refused.pin, pin));
        if let Some(refused) = self.pin().and_then(known) {
            return Err(refused.error.clone());
        }
        let label = &token.label;
        if token.user_pin_locked {
            return Err(denied(format!(
                "the user PIN of {label:?} is locked after too many wrong tries; its security \
                 officer has to set a new one"
            )));
        }
        if token.user_pin_final_try && !self.even_at_final_try {
            return Err(denied(format!(
                "one more wrong PIN would lock {label:?}, so none is tried; log in once with \
                 another tool to clear that, for instance pkcs11-tool --login --list-objects"
            )));
        }
        Ok(())
    }

    fn remembered(&self, error: &Pkcs11Error) -> Option<Refused> {
        let pin = self.pin()?;
        let is_refusal = error.kind() == ErrorKind::Denied;
        is_refusal.then(|| Refused { pin: pin.clone(), error: error.clone() })
    }
}

/// What this process remembers of a token's refusals, whoever opened it.
fn memory_of(module: &Path, token: &TokenFacts) -> Memory {
    type Name = (PathBuf, String, String);
    static TOKENS: LazyLock<Mutex<HashMap<Name, Memory>>> = LazyLock::new(Mutex::default);
    let mut tokens = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
    let name = (module.to_owned(), token.serial.clone(), token.label.clone());
    Arc::clone(tokens.entry(name).or_default())
}

fn is_logged_in(session: &Session) -> Result<bool, Pkcs11Error> {
    let info = session
        .get_session_info()
        .map_err(|error| Pkcs11Error::of_call(error, "read the session's state"))?;
    Ok(matches!(info.session_state(), SessionState::RoUser | SessionState::RwUser))
}

fn denied(message: String) -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::Denied, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(serial: &str) -> TokenFacts {
        TokenFacts {
            label: "Twinlock".to_owned(),
            manufacturer: String::new(),
            model: String::new(),
            serial: serial.to_owned(),
            slot_id: 0,
            initialized: true,
            login_required: true,
            pin_pad: false,
            user_pin_set: true,
            user_pin_count_low: false,
            user_pin_final_try: false,
            user_pin_locked: false,
            vendor: "unknown",
        }
    }

    fn login(token: &TokenFacts, pin: &str, even_at_final_try: bool) -> Login {
        let credential = Credential::Pin(pin.into());
        Login::new(Path::new("/module"), token, credential, even_at_final_try)
    }

    fn hopeless(login: &Login, token: &TokenFacts) -> Option<String> {
        let refused = login.refused.lock().unwrap();
        login.refuse_hopeless(&refused, token).err().map(|error| error.to_string())
    }

    #[test]
    fn no_pin_is_tried_on_a_locked_token() {
        let token = TokenFacts { user_pin_locked: true, ..token("locked") };
        let message = hopeless(&login(&token, "1234", true), &token).unwrap();
        assert!(message.contains("security officer"), "{message}");
    }

    #[test]
    fn no_pin_is_tried_when_a_wrong_one_would_lock_the_token() {
        let token = TokenFacts { user_pin_final_try: true, ..token("final") };
        assert!(hopeless(&login(&token, "1234", false), &token).is_some());
        assert!(hopeless(&login(&token, "1234", true), &token).is_none(), "unless told to");
    }

    #[test]
    fn a_refused_pin_is_remembered_per_token_and_another_may_be_tried() {
        let (one, other) = (token("1"), token("2"));
        let denied = denied("the PIN is wrong".to_owned());
        let first = login(&one, "1234", false);
        first.refused.lock().unwrap().extend(first.remembered(&denied));
        assert!(hopeless(&login(&one, "1234", false), &one).is_some());
        assert!(hopeless(&login(&one, "5678", false), &one).is_none());
        assert!(hopeless(&login(&other, "1234", false), &other).is_none());
    }

    #[test]
    fn two_wrong_pins_in_turn_are_each_tried_once() {
        let token = token("4");
        let denied = denied("the PIN is wrong".to_owned());
        for pin in ["1234", "5678"] {
            let login = login(&token, pin, false);
            assert!(hopeless(&login, &token).is_none(), "{pin} was not tried yet");
            login.refused.lock().unwrap().extend(login.remembered(&denied));
        }
        for pin in ["1234", "5678"] {
            assert!(hopeless(&login(&token, pin, false), &token).is_some(), "{pin} again");
        }
    }

    #[test]
    fn failures_that_say_nothing_about_the_pin_are_not_remembered() {
        let token = token("3");
        let gone = Pkcs11Error::new(ErrorKind::Gone, "pulled out");
        assert!(login(&token, "1234", false).remembered(&gone).is_none());
    }
}
