//! Logging in: once per token and process, and never twice with a PIN that the
//! token refused.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, SessionInfo, SessionState, UserType};
use cryptoki::slot::Slot;

use crate::pin::Pin;
use crate::{ErrorKind, Pkcs11Error, TokenFacts, slots};

/// How to log in to one token.
pub(crate) struct Login {
    credential: Credential,
    even_at_final_try: bool,
    memory: SharedMemory,
}

/// What the token wants to see.
pub(crate) enum Credential {
    /// Nothing: its keys need no login.
    None,
    /// A PIN on its own pad.
    PinPad,
    /// The user PIN.
    Pin(Pin),
}

/// How often a PIN that was right is tried on a token that then answers with
/// failures which may mean a wrong PIN.
const DOUBTS: u32 = 3;

/// What became of PINs since the last login, shared by whoever opens the token.
type SharedMemory = Arc<Mutex<Memory>>;

#[derive(Default)]
struct Memory {
    refused: Vec<Refused>,
    /// The PIN of the last login.
    good: Option<Pin>,
    /// How often it was tried since, and the token did not say whether it is
    /// still right.
    doubts: u32,
}

struct Refused {
    pin: Pin,
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
        Self { credential, even_at_final_try, memory: memory_of(module, token) }
    }

    /// Logs `session` in, unless the process is logged in to its token already
    /// (PKCS#11 3.1 section 5.6.8: login is shared by all sessions of an
    /// application with a token).
    pub(crate) fn log_in(&self, session: &Session, module: &Pkcs11) -> Result<(), Pkcs11Error> {
        if matches!(self.credential, Credential::None) {
            return Ok(());
        }
        if is_logged_in(session)? {
            return Ok(()); // whatever becomes of a login that hangs
        }
        // One at a time: of four workers with a wrong PIN only one tries it.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if is_logged_in(session)? {
            return Ok(());
        }
        // As it is now: somebody may have tried a wrong PIN since the session
        // was opened.
        let token = slots::read(module, slot_of(session)?)?;
        self.refuse_hopeless(&memory, &token)?;
        match session.login(UserType::User, self.pin().map(Pin::expose).as_ref()) {
            Ok(()) => {
                memory.succeeded(self.pin());
                Ok(())
            }
            // Somebody else did it, with whichever PIN.
            Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(error) => {
                let error = Pkcs11Error::of_call(error, &format!("log in to {:?}", token.label));
                Err(memory.failed(self.pin(), &token.label, error))
            }
        }
    }

    /// Fails if `session` is not logged in, and would have to be.
    pub(crate) fn check(&self, session: &Session) -> Result<(), Pkcs11Error> {
        match matches!(self.credential, Credential::None) || is_logged_in(session)? {
            true => Ok(()),
            false => Err(Pkcs11Error::new(ErrorKind::Gone, "the login was lost; retry")),
        }
    }

    fn pin(&self) -> Option<&Pin> {
        match &self.credential {
            Credential::Pin(pin) => Some(pin),
            Credential::None | Credential::PinPad => None,
        }
    }

    fn refuse_hopeless(&self, memory: &Memory, token: &TokenFacts) -> Result<(), Pkcs11Error> {
        if let Some(refused) = self.pin().and_then(|pin| memory.refusal_of(pin)) {
            return Err(refused.clone());
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
        if token.user_pin_count_low && self.pin().is_some_and(|pin| memory.doubts(pin)) {
            return Err(denied(format!(
                "{label:?} failed when it was given the PIN, and counts a wrong PIN by now, so it \
                 is not tried again; if the PIN was changed, correct its source and start again"
            )));
        }
        Ok(())
    }
}

impl Memory {
    fn succeeded(&mut self, pin: Option<&Pin>) {
        *self = Self { good: pin.cloned(), ..Self::default() };
    }

    /// What the failed login to `token` with `pin` means. After an answer that
    /// leaves open whether the PIN is wrong, only one that was right before is
    /// tried again, by a later call: devices fail, and come back.
    fn failed(&mut self, pin: Option<&Pin>, token: &str, error: Pkcs11Error) -> Pkcs11Error {
        let Some(pin) = pin.filter(|_| error.may_have_cost_a_try()) else { return error };
        if error.kind() != ErrorKind::Denied && self.is_good(pin) {
            self.doubts += 1;
            if self.doubts < DOUBTS {
                return error;
            }
        }
        let error = error.into_refused_pin(token);
        self.refused.push(Refused { pin: pin.clone(), error: error.clone() });
        error
    }

    fn refusal_of(&self, pin: &Pin) -> Option<&Pkcs11Error> {
        let refused = self.refused.iter().find(|refused| refused.pin == *pin);
        refused.map(|refused| &refused.error)
    }

    fn doubts(&self, pin: &Pin) -> bool {
        self.doubts > 0 && self.is_good(pin)
    }

    fn is_good(&self, pin: &Pin) -> bool {
        self.good.as_ref().is_some_and(|good| good == pin)
    }
}

/// What this process remembers of a token's logins, whoever opened it.
fn memory_of(module: &Path, token: &TokenFacts) -> SharedMemory {
    type Name = (PathBuf, String, String);
    static TOKENS: LazyLock<Mutex<HashMap<Name, SharedMemory>>> = LazyLock::new(Mutex::default);
    let mut tokens = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
    let name = (module.to_owned(), token.serial.clone(), token.label.clone());
    Arc::clone(tokens.entry(name).or_default())
}

fn is_logged_in(session: &Session) -> Result<bool, Pkcs11Error> {
    let state = info_of(session)?.session_state();
    Ok(matches!(state, SessionState::RoUser | SessionState::RwUser))
}

fn slot_of(session: &Session) -> Result<Slot, Pkcs11Error> {
    Ok(info_of(session)?.slot_id())
}

fn info_of(session: &Session) -> Result<SessionInfo, Pkcs11Error> {
    session
        .get_session_info()
        .map_err(|error| Pkcs11Error::of_call(error, "read the session's state"))
}

fn denied(message: String) -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::Denied, message)
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    fn token(serial: &str) -> TokenFacts {
        TokenFacts {
            label: "Twinlock".to_owned(),
            manufacturer: String::new(),
            model: String::new(),
            serial: serial.to_owned(),
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
        }
    }

    fn login(token: &TokenFacts, pin: &str, even_at_final_try: bool) -> Login {
        let credential = Credential::Pin(Pin::copy_of(&pin.into()));
        Login::new(Path::new("/module"), token, credential, even_at_final_try)
    }

    fn hopeless(login: &Login, token: &TokenFacts) -> Option<String> {
        let memory = login.memory.lock().unwrap();
        login.refuse_hopeless(&memory, token).err().map(|error| error.to_string())
    }

    fn succeeds(login: &Login) {
        login.memory.lock().unwrap().succeeded(login.pin());
    }

    fn fails(login: &Login, code: RvError) -> Pkcs11Error {
        let error = Pkcs11Error::of_call(Error::Pkcs11(code, Function::Login), "log in");
        login.memory.lock().unwrap().failed(login.pin(), "Twinlock", error)
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
        fails(&login(&one, "1234", false), RvError::PinIncorrect);
        assert!(hopeless(&login(&one, "1234", false), &one).is_some());
        assert!(hopeless(&login(&one, "5678", false), &one).is_none());
        assert!(hopeless(&login(&other, "1234", false), &other).is_none());
    }

    #[test]
    fn two_wrong_pins_in_turn_are_each_tried_once() {
        let token = token("4");
        for pin in ["1234", "5678"] {
            let login = login(&token, pin, false);
            assert!(hopeless(&login, &token).is_none(), "{pin} was not tried yet");
            fails(&login, RvError::PinIncorrect);
        }
        for pin in ["1234", "5678"] {
            assert!(hopeless(&login(&token, pin, false), &token).is_some(), "{pin} again");
        }
    }

    #[test]
    fn failures_before_any_pin_is_compared_are_not_remembered() {
        let token = token("3");
        let login = login(&token, "1234", false);
        for code in [RvError::DeviceRemoved, RvError::SessionHandleInvalid, RvError::HostMemory] {
            let error = fails(&login, code);
            assert_ne!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(hopeless(&login, &token).is_none(), "{error}");
        }
    }

    #[test]
    fn any_other_failure_of_a_pin_that_was_never_right_is_a_refusal() {
        let codes = [
            RvError::DeviceError,
            RvError::FunctionFailed,
            RvError::GeneralError,
            RvError::VendorDefined(0x8000_0001),
            RvError::UnknownErrorCode(0x3ff),
        ];
        for (number, code) in codes.into_iter().enumerate() {
            let token = token(&format!("unclear {number}"));
            let login = login(&token, "1234", false);
            let error = fails(&login, code);
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(error.to_string().contains("does not try it again"), "{error}");
            assert_eq!(hopeless(&login, &token), Some(error.to_string()));
        }
    }

    #[test]
    fn a_pin_that_was_right_is_doubted_a_few_times() {
        let token = token("5");
        let login = login(&token, "1234", false);
        succeeds(&login);
        for _ in 1..DOUBTS {
            assert_eq!(fails(&login, RvError::DeviceError).kind(), ErrorKind::Gone);
            assert!(hopeless(&login, &token).is_none());
        }
        assert_eq!(fails(&login, RvError::DeviceError).kind(), ErrorKind::Denied);
        assert!(hopeless(&login, &token).is_some());
        succeeds(&login);
        assert!(hopeless(&login, &token).is_none(), "all is forgotten");
    }

    #[test]
    fn a_doubted_pin_is_not_tried_when_the_token_counts_a_wrong_one() {
        let token = TokenFacts { user_pin_count_low: true, ..token("6") };
        let login = login(&token, "1234", false);
        succeeds(&login);
        assert!(hopeless(&login, &token).is_none(), "somebody else's");
        fails(&login, RvError::GeneralError);
        assert!(hopeless(&login, &token).is_some_and(|message| message.contains("counts")));
    }

    #[test]
    fn a_pin_that_was_right_and_is_refused_is_not_doubted() {
        let token = token("7");
        let login = login(&token, "1234", false);
        succeeds(&login);
        fails(&login, RvError::PinIncorrect);
        assert!(hopeless(&login, &token).is_some());
    }
}
