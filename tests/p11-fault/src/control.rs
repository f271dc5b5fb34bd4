//! The control file, and what it makes of a call.
#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::thread;
use std::time::{Duration, SystemTime};

use cryptoki_sys::*;

use crate::settings;

/// How often a hung call looks whether it may go on.
const POLL: Duration = Duration::from_millis(2);

/// The faults of this process.
#[derive(Default)]
pub(crate) struct Faults {
    control: Option<PathBuf>,
    counts: Option<PathBuf>,
    /// Functions that are forwarded when no other call is.
    alone: Vec<String>,
    forwarded: RwLock<()>,
    state: Mutex<State>,
}

/// A call's leave to be in the real module.
pub(crate) enum Turn<'a> {
    Alone { _guard: RwLockWriteGuard<'a, ()> },
    BesideOthers { _guard: RwLockReadGuard<'a, ()> },
}

#[derive(Default)]
struct State {
    /// The file as it was when `rules` was made of it.
    source: Source,
    rules: Vec<Rule>,
    /// Open sessions, and those that are being opened.
    sessions: usize,
}

/// A file's text and when it was written: the same text again is a new order.
#[derive(Default, PartialEq)]
struct Source {
    written: Option<SystemTime>,
    text: String,
}

impl Faults {
    pub(crate) fn get() -> &'static Self {
        static FAULTS: OnceLock<Faults> = OnceLock::new();
        let path = |name| settings::get(name).map(PathBuf::from);
        FAULTS.get_or_init(|| Self {
            control: path("P11_FAULT_CONTROL"),
            counts: path("P11_FAULT_COUNTS"),
            alone: words("P11_FAULT_ALONE"),
            forwarded: RwLock::default(),
            state: Mutex::default(),
        })
    }

    /// What happens before the call of `function`: perhaps it is over already.
    pub(crate) fn before(&self, function: &str) -> Option<CK_RV> {
        self.count(function);
        let hit = self.state().hit(function);
        match hit {
            Some(Rule { action: Action::Return(code), .. }) => return Some(code),
            Some(Rule { action: Action::Delay(time), .. }) => thread::sleep(time),
            Some(Rule { action: Action::Hang, line, .. }) => {
                while self.state().rules.iter().any(|rule| rule.line == line) {
                    thread::sleep(POLL);
                }
            }
            Some(Rule {
                action: Action::Cap(_) | Action::Flags(_) | Action::Recode(_), ..
            })
            | None => {}
        }
        (function == "C_OpenSession" && !self.state().reserve()).then_some(CKR_SESSION_COUNT)
    }

    /// Waits until the call of `function` may be forwarded. Calls that hang here
    /// have no turn yet.
    pub(crate) fn turn(&self, function: &str) -> Turn<'_> {
        match self.alone.iter().any(|alone| alone == function) {
            true => {
                let guard = self.forwarded.write();
                Turn::Alone { _guard: guard.unwrap_or_else(PoisonError::into_inner) }
            }
            false => {
                let guard = self.forwarded.read();
                Turn::BesideOthers { _guard: guard.unwrap_or_else(PoisonError::into_inner) }
            }
        }
    }

    /// What is made of `code`, the real module's answer to the call of `function`.
    pub(crate) fn after(&self, function: &str, code: CK_RV) -> CK_RV {
        let mut state = self.state();
        match (function, code) {
            ("C_OpenSession", CKR_OK) => {}
            ("C_OpenSession", _) | ("C_CloseSession", CKR_OK) => {
                state.sessions = state.sessions.saturating_sub(1);
            }
            ("C_CloseAllSessions" | "C_Finalize", CKR_OK) => state.sessions = 0,
            _ => {}
        }
        state.recoded(function, code)
    }

    /// Flags that the token is made to have besides its own.
    pub(crate) fn flags(&self) -> CK_FLAGS {
        let state = self.state();
        let flags = state.rules.iter().map(|rule| match rule.action {
            Action::Flags(flags) => flags,
            _ => 0,
        });
        flags.fold(0, std::ops::BitOr::bitor)
    }

    /// Whole lines, even from several processes: the file is opened to append.
    fn count(&self, function: &str) {
        let Some(path) = &self.counts else { return };
        let file = OpenOptions::new().create(true).append(true).open(path);
        let written = file.and_then(|mut file| file.write_all(format!("{function}\n").as_bytes()));
        written.expect("P11_FAULT_COUNTS can be written");
    }

    /// The state, after another look at the file.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let source = self.read(); // under the lock, or an older text might win
        if state.source != source {
            let lines = source.text.lines().map(str::trim);
            let orders = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            let rules = orders.map(|line| {
                line.parse()
                    .unwrap_or_else(|problem| panic!("P11_FAULT_CONTROL: {line}: {problem}"))
            });
            state.rules = rules.collect();
            state.source = source;
        }
        state
    }

    fn read(&self) -> Source {
        let Some(path) = &self.control else { return Source::default() };
        let written = fs::metadata(path).and_then(|facts| facts.modified()).ok();
        Source { written, text: fs::read_to_string(path).unwrap_or_default() }
    }
}

impl State {
    /// The rule for a call, which is one fewer of those that it is for.
    fn hit(&mut self, function: &str) -> Option<Rule> {
        let fits = |rule: &&mut Rule| rule.function == function && rule.left != Some(0);
        let rule = self.rules.iter_mut().find(fits)?;
        rule.left = rule.left.map(|left| left - 1);
        Some(rule.clone())
    }

    /// The code in the place of `code`, if that is a refusal.
    fn recoded(&self, function: &str, code: CK_RV) -> CK_RV {
        let other = |rule: &Rule| match rule.action {
            Action::Recode(other) if rule.function == function => Some(other),
            _ => None,
        };
        match code {
            CKR_OK | CKR_BUFFER_TOO_SMALL => code, // how long the output will be
            _ => self.rules.iter().find_map(other).unwrap_or(code),
        }
    }

    /// Room for one more session?
    fn reserve(&mut self) -> bool {
        let caps = self.rules.iter().filter_map(|rule| match rule.action {
            Action::Cap(sessions) => Some(sessions),
            _ => None,
        });
        let has_room = caps.min().is_none_or(|cap| self.sessions < cap);
        self.sessions += usize::from(has_room);
        has_room
    }
}

fn words(variable: &str) -> Vec<String> {
    let text = settings::get(variable).unwrap_or_default();
    text.to_string_lossy().split_whitespace().map(str::to_owned).collect()
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    line: String,
    function: String,
    action: Action,
    /// Calls that it is still for; none means all.
    left: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Cap(usize),
    Delay(Duration),
    Flags(CK_FLAGS),
    Hang,
    Recode(CK_RV),
    Return(CK_RV),
}

impl FromStr for Rule {
    type Err = &'static str;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (order, left) = match words.as_slice() {
            [order @ .., "times", count] => (order, Some(count.parse().map_err(|_| "how often?")?)),
            order => (order, None),
        };
        let (function, action) = match *order {
            [function, "return", code] => {
                (function, Action::Return(code_of(code).ok_or("no such code")?))
            }
            [function, "delay", time] => {
                (function, Action::Delay(milliseconds(time).ok_or("how many ms?")?))
            }
            [function, "hang"] => (function, Action::Hang),
            [function, "recode", code] => {
                (function, Action::Recode(code_of(code).ok_or("no such code")?))
            }
            [function @ "C_OpenSession", "cap", count] => {
                (function, Action::Cap(count.parse().map_err(|_| "how many?")?))
            }
            [function @ "C_GetTokenInfo", "flags", flag] => {
                (function, Action::Flags(flag_of(flag).ok_or("no such flag")?))
            }
            _ => return Err("this is no order"),
        };
        match crate::FUNCTIONS.contains(&function) {
            true => Ok(Self { line: line.to_owned(), function: function.to_owned(), action, left }),
            false => Err("this function cannot fail"),
        }
    }
}

fn milliseconds(text: &str) -> Option<Duration> {
    text.strip_suffix("ms")?.parse().ok().map(Duration::from_millis)
}

/// By its name, or as a number.
fn code_of(text: &str) -> Option<CK_RV> {
    let named = CODES.iter().find(|(name, _)| *name == text).map(|(_, code)| *code);
    named.or_else(|| CK_RV::from_str_radix(text.strip_prefix("0x")?, 16).ok())
}

fn flag_of(text: &str) -> Option<CK_FLAGS> {
    Some(match text {
        "CKF_USER_PIN_COUNT_LOW" => CKF_USER_PIN_COUNT_LOW,
        "CKF_USER_PIN_FINAL_TRY" => CKF_USER_PIN_FINAL_TRY,
        "CKF_USER_PIN_LOCKED" => CKF_USER_PIN_LOCKED,
        _ => return None,
    })
}

macro_rules! codes {
    ($($name:ident)*) => {
        const CODES: &[(&str, CK_RV)] = &[$((stringify!($name), $name)),*];
    };
}

codes! {
    CKR_OK CKR_CANCEL CKR_HOST_MEMORY CKR_SLOT_ID_INVALID CKR_GENERAL_ERROR CKR_FUNCTION_FAILED
    CKR_ARGUMENTS_BAD CKR_NO_EVENT CKR_NEED_TO_CREATE_THREADS CKR_CANT_LOCK
    CKR_ATTRIBUTE_READ_ONLY CKR_ATTRIBUTE_SENSITIVE CKR_ATTRIBUTE_TYPE_INVALID
    CKR_ATTRIBUTE_VALUE_INVALID CKR_ACTION_PROHIBITED CKR_DATA_INVALID CKR_DATA_LEN_RANGE
    CKR_DEVICE_ERROR CKR_DEVICE_MEMORY CKR_DEVICE_REMOVED CKR_ENCRYPTED_DATA_INVALID
    CKR_ENCRYPTED_DATA_LEN_RANGE CKR_AEAD_DECRYPT_FAILED CKR_FUNCTION_CANCELED
    CKR_FUNCTION_NOT_PARALLEL CKR_FUNCTION_NOT_SUPPORTED CKR_KEY_HANDLE_INVALID CKR_KEY_SIZE_RANGE
    CKR_KEY_TYPE_INCONSISTENT CKR_KEY_NOT_NEEDED CKR_KEY_CHANGED CKR_KEY_NEEDED
    CKR_KEY_INDIGESTIBLE CKR_KEY_FUNCTION_NOT_PERMITTED CKR_KEY_NOT_WRAPPABLE
    CKR_KEY_UNEXTRACTABLE CKR_MECHANISM_INVALID CKR_MECHANISM_PARAM_INVALID
    CKR_OBJECT_HANDLE_INVALID CKR_OPERATION_ACTIVE CKR_OPERATION_NOT_INITIALIZED CKR_PIN_INCORRECT
    CKR_PIN_INVALID CKR_PIN_LEN_RANGE CKR_PIN_EXPIRED CKR_PIN_LOCKED CKR_SESSION_CLOSED
    CKR_SESSION_COUNT CKR_SESSION_HANDLE_INVALID CKR_SESSION_PARALLEL_NOT_SUPPORTED
    CKR_SESSION_READ_ONLY CKR_SESSION_EXISTS CKR_SESSION_READ_ONLY_EXISTS
    CKR_SESSION_READ_WRITE_SO_EXISTS CKR_SIGNATURE_INVALID CKR_SIGNATURE_LEN_RANGE
    CKR_TEMPLATE_INCOMPLETE CKR_TEMPLATE_INCONSISTENT CKR_TOKEN_NOT_PRESENT
    CKR_TOKEN_NOT_RECOGNIZED CKR_TOKEN_WRITE_PROTECTED CKR_UNWRAPPING_KEY_HANDLE_INVALID
    CKR_UNWRAPPING_KEY_SIZE_RANGE CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT CKR_USER_ALREADY_LOGGED_IN
    CKR_USER_NOT_LOGGED_IN CKR_USER_PIN_NOT_INITIALIZED CKR_USER_TYPE_INVALID
    CKR_USER_ANOTHER_ALREADY_LOGGED_IN CKR_USER_TOO_MANY_TYPES CKR_WRAPPED_KEY_INVALID
    CKR_WRAPPED_KEY_LEN_RANGE CKR_WRAPPING_KEY_HANDLE_INVALID CKR_WRAPPING_KEY_SIZE_RANGE
    CKR_WRAPPING_KEY_TYPE_INCONSISTENT CKR_RANDOM_SEED_NOT_SUPPORTED CKR_RANDOM_NO_RNG
    CKR_DOMAIN_PARAMS_INVALID CKR_CURVE_NOT_SUPPORTED CKR_BUFFER_TOO_SMALL CKR_SAVED_STATE_INVALID
    CKR_INFORMATION_SENSITIVE CKR_STATE_UNSAVEABLE CKR_CRYPTOKI_NOT_INITIALIZED
    CKR_CRYPTOKI_ALREADY_INITIALIZED CKR_MUTEX_BAD CKR_MUTEX_NOT_LOCKED CKR_NEW_PIN_MODE
    CKR_NEXT_OTP CKR_EXCEEDED_MAX_ITERATIONS CKR_FIPS_SELF_TEST_FAILED CKR_LIBRARY_LOAD_FAILED
    CKR_PIN_TOO_WEAK CKR_PUBLIC_KEY_INVALID CKR_FUNCTION_REJECTED CKR_TOKEN_RESOURCE_EXCEEDED
    CKR_OPERATION_CANCEL_FAILED CKR_KEY_EXHAUSTED CKR_PENDING CKR_SESSION_ASYNC_NOT_SUPPORTED
    CKR_SEED_RANDOM_REQUIRED CKR_OPERATION_NOT_VALIDATED CKR_TOKEN_NOT_INITIALIZED
    CKR_PARAMETER_SET_NOT_SUPPORTED CKR_VENDOR_DEFINED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(folder: &tempfile::TempDir, text: &str) -> Faults {
        let control = folder.path().join("control");
        fs::write(&control, text).unwrap();
        let counts = Some(folder.path().join("counts"));
        Faults { control: Some(control), counts, ..Faults::default() }
    }

    #[test]
    fn every_call_is_counted_whatever_happens_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let faults = faults(&folder, "C_Login return CKR_PIN_INCORRECT");
        for function in ["C_Login", "C_Encrypt", "C_Login"] {
            faults.before(function);
        }
        let counts = fs::read_to_string(folder.path().join("counts")).unwrap();
        assert_eq!(counts, "C_Login\nC_Encrypt\nC_Login\n");
    }

    #[test]
    fn the_first_line_that_fits_counts_as_often_as_it_says() {
        let text = "# a comment\n\nC_Decrypt return CKR_DEVICE_REMOVED times 2\n\
                    C_Decrypt return 0x80000001\n";
        let folder = tempfile::tempdir().unwrap();
        let faults = faults(&folder, text);
        let answers: Vec<_> = (0..4).map(|_| faults.before("C_Decrypt")).collect();
        let removed = Some(CKR_DEVICE_REMOVED);
        assert_eq!(answers, [removed, removed, Some(0x8000_0001), Some(0x8000_0001)]);
        assert_eq!(faults.before("C_Encrypt"), None);
    }

    #[test]
    fn a_function_that_must_be_alone_keeps_all_others_out() {
        let faults = Faults { alone: vec!["C_Login".to_owned()], ..Faults::default() };
        let beside = (faults.turn("C_Encrypt"), faults.turn("C_Decrypt"));
        assert!(faults.forwarded.try_write().is_err(), "it waits for both");
        drop(beside);
        let _alone = faults.turn("C_Login");
        assert!(faults.forwarded.try_read().is_err(), "they wait for it");
    }

    #[test]
    fn flags_add_up_and_stop_no_call() {
        let text = "C_GetTokenInfo flags CKF_USER_PIN_LOCKED\n\
                    C_GetTokenInfo flags CKF_USER_PIN_COUNT_LOW\n";
        let folder = tempfile::tempdir().unwrap();
        let faults = faults(&folder, text);
        assert_eq!(faults.before("C_GetTokenInfo"), None);
        assert_eq!(faults.flags(), CKF_USER_PIN_LOCKED | CKF_USER_PIN_COUNT_LOW);
    }

    #[test]
    fn what_the_module_refuses_has_another_code_and_nothing_else_has() {
        let folder = tempfile::tempdir().unwrap();
        let faults = faults(&folder, "C_Decrypt recode CKR_FUNCTION_FAILED\n");
        assert_eq!(faults.before("C_Decrypt"), None);
        assert_eq!(faults.after("C_Decrypt", CKR_DEVICE_ERROR), CKR_FUNCTION_FAILED);
        for (function, code) in [
            ("C_Decrypt", CKR_OK),
            ("C_Decrypt", CKR_BUFFER_TOO_SMALL),
            ("C_DecryptInit", CKR_DEVICE_ERROR),
        ] {
            assert_eq!(faults.after(function, code), code);
        }
    }

    #[test]
    fn a_cap_counts_the_sessions_that_are_open() {
        let folder = tempfile::tempdir().unwrap();
        let faults = faults(&folder, "C_OpenSession cap 2\n");
        let open = || faults.before("C_OpenSession");
        assert_eq!([open(), open(), open()], [None, None, Some(CKR_SESSION_COUNT)]);
        faults.after("C_CloseSession", CKR_OK);
        assert_eq!([open(), open()], [None, Some(CKR_SESSION_COUNT)]);
        faults.after("C_OpenSession", CKR_DEVICE_ERROR);
        assert_eq!(open(), None, "one that was not opened after all");
    }

    #[test]
    fn a_hang_ends_when_its_line_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let faults = faults(&folder, "C_Login hang\n");
        thread::scope(|scope| {
            let call = scope.spawn(|| faults.before("C_Login"));
            thread::sleep(POLL * 10);
            assert!(!call.is_finished());
            fs::write(faults.control.as_ref().unwrap(), "").unwrap();
            assert_eq!(call.join().unwrap(), None);
        });
    }

    #[test]
    fn what_makes_no_sense_is_no_rule() {
        for line in [
            "C_Decrypt",
            "C_Decrypt return",
            "C_Decrypt return CKR_NONSENSE",
            "C_Decrypt hang times often",
            "C_Decrypt delay 1s",
            "C_Decrypt cap 2",
            "C_Nonsense hang",
        ] {
            assert!(line.parse::<Rule>().is_err(), "{line}");
        }
    }
}
