//! Every fault at every function: who is blamed, how long it takes, and that
//! work goes on when the fault is gone.

use std::time::Duration;

use twinlock_pkcs11::{ErrorKind, Pkcs11Error, check_key};

use crate::fault_module::{Faults, OpenKey, in_time, resumes, with_faults};
use crate::kind::Kind;
use crate::support::{SoftHsm, TOKEN, block_on, options};

/// What an error of a function means for the call that it happens in.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// It is the call's error.
    Decides,
    /// Nobody needs the answer.
    Ignored,
    /// Nobody needs the answer, but the session is of no more use.
    Spoils,
    /// A token that cannot be looked at is no token.
    Shows,
}

/// The functions that are called between opening a key and closing it.
const FUNCTIONS: [(&str, Role); 16] = [
    ("C_GetInfo", Role::Ignored),
    ("C_GetSlotList", Role::Decides),
    ("C_GetTokenInfo", Role::Shows),
    ("C_OpenSession", Role::Decides),
    ("C_GetSessionInfo", Role::Decides),
    ("C_Login", Role::Decides),
    ("C_FindObjectsInit", Role::Decides),
    ("C_FindObjects", Role::Decides),
    ("C_FindObjectsFinal", Role::Spoils),
    ("C_GetAttributeValue", Role::Decides),
    ("C_GenerateRandom", Role::Decides),
    ("C_EncryptInit", Role::Decides),
    ("C_Encrypt", Role::Decides),
    ("C_DecryptInit", Role::Decides),
    ("C_Decrypt", Role::Decides),
    ("C_CloseSession", Role::Ignored),
];

/// Codes, and whom they blame where nothing else is said below.
const CODES: [(&str, ErrorKind); 24] = [
    ("CKR_HOST_MEMORY", ErrorKind::Busy),
    ("CKR_SLOT_ID_INVALID", ErrorKind::Gone),
    ("CKR_GENERAL_ERROR", ErrorKind::Fatal),
    ("CKR_FUNCTION_FAILED", ErrorKind::Gone),
    ("CKR_ARGUMENTS_BAD", ErrorKind::Misconfigured),
    ("CKR_DEVICE_ERROR", ErrorKind::Gone),
    ("CKR_DEVICE_MEMORY", ErrorKind::Busy),
    ("CKR_DEVICE_REMOVED", ErrorKind::Gone),
    ("CKR_ENCRYPTED_DATA_INVALID", ErrorKind::BadCiphertext),
    ("CKR_FUNCTION_CANCELED", ErrorKind::Busy),
    ("CKR_FUNCTION_NOT_SUPPORTED", ErrorKind::Misconfigured),
    ("CKR_KEY_HANDLE_INVALID", ErrorKind::Gone),
    ("CKR_KEY_FUNCTION_NOT_PERMITTED", ErrorKind::Misconfigured),
    ("CKR_MECHANISM_INVALID", ErrorKind::Misconfigured),
    ("CKR_OBJECT_HANDLE_INVALID", ErrorKind::Gone),
    ("CKR_OPERATION_ACTIVE", ErrorKind::Gone),
    ("CKR_OPERATION_NOT_INITIALIZED", ErrorKind::Gone),
    ("CKR_SESSION_CLOSED", ErrorKind::Gone),
    ("CKR_SESSION_COUNT", ErrorKind::Busy),
    ("CKR_SESSION_HANDLE_INVALID", ErrorKind::Gone),
    ("CKR_TOKEN_NOT_PRESENT", ErrorKind::Gone),
    ("CKR_USER_NOT_LOGGED_IN", ErrorKind::Gone),
    ("CKR_CRYPTOKI_NOT_INITIALIZED", ErrorKind::Gone),
    ("0x80000001", ErrorKind::Fatal), // a vendor's own
];

/// What happens when `function` keeps answering with a code of that `kind`.
fn lasting(function: &str, role: Role, code: &str, kind: ErrorKind) -> Result<(), ErrorKind> {
    match (role, Kind::of_this_run(), function, code) {
        (Role::Ignored, ..) => Ok(()),
        (Role::Spoils, Kind::SoftHsm, ..) => Err(ErrorKind::Gone),
        // The search has ended there when all is found, whatever becomes of the
        // farewell, so that the next one can begin.
        (Role::Spoils, Kind::Kryoptic, ..) => Ok(()),
        (Role::Shows, ..) => Err(ErrorKind::NotFound),
        // How SoftHSM says that a tag is wrong.
        (_, Kind::SoftHsm, "C_Decrypt", "CKR_GENERAL_ERROR") => Err(ErrorKind::BadCiphertext),
        _ => Err(kind),
    }
}

/// The same if it answers so once.
fn once(function: &str, role: Role, code: &str, kind: ErrorKind) -> Result<(), ErrorKind> {
    if Kind::of_this_run() == Kind::Kryoptic
        && code == "CKR_GENERAL_ERROR"
        && is_with_the_key(function)
    {
        return Ok(()); // so it answers a stale handle: the key is looked up again
    }
    match (role, function, kind) {
        // It may have cost a try of the PIN, and is not made again at once.
        (_, "C_Login", _) if !is_before_pin(code) => Err(kind),
        (Role::Decides, _, ErrorKind::Gone) | (Role::Spoils, ..) => Ok(()), // done again
        (_, "C_OpenSession", ErrorKind::Busy) => Ok(()),                    // asked again
        _ => lasting(function, role, code, kind),
    }
}

/// What a token answers before it compares a PIN, and what a login therefore
/// makes again.
fn is_before_pin(code: &str) -> bool {
    let codes = [
        "CKR_SLOT_ID_INVALID",
        "CKR_DEVICE_REMOVED",
        "CKR_OPERATION_ACTIVE",
        "CKR_OPERATION_NOT_INITIALIZED",
        "CKR_SESSION_CLOSED",
        "CKR_SESSION_HANDLE_INVALID",
        "CKR_TOKEN_NOT_PRESENT",
        "CKR_CRYPTOKI_NOT_INITIALIZED",
    ];
    codes.contains(&code)
}

/// With the handle that was found when the key was opened.
fn is_with_the_key(function: &str) -> bool {
    let functions =
        ["C_GenerateRandom", "C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt"];
    functions.contains(&function)
}

/// For calls that are answered: only a machine that stands still exceeds it.
const DEADLINE: Duration = Duration::from_secs(4);
/// For calls that will not be answered before.
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn every_code_at_every_function_blames_the_right_one_in_time() {
    with_faults(|hsm, faults| {
        hsm.new_kek("archive");
        for (function, role) in FUNCTIONS {
            for (code, kind) in CODES {
                let order = format!("{function} return {code}");
                let expected = lasting(function, role, code, kind);
                tell(hsm, faults, &order, DEADLINE, expected);
                let expected = once(function, role, code, kind);
                tell(hsm, faults, &format!("{order} times 1"), DEADLINE, expected);
            }
        }
        faults.clear();
        check(hsm, DEADLINE).unwrap();
        assert_eq!(faults.count("C_Finalize"), 0);
    });
}

#[test]
fn a_hang_at_any_function_costs_the_deadline_and_no_more() {
    with_faults(|hsm, faults| {
        hsm.new_kek("archive");
        for (function, _) in FUNCTIONS {
            // What is only asked when a session is opened or closed again may
            // not be asked at all, and nobody waits for a farewell.
            let expected = match function {
                "C_CloseSession" => Ok(()),
                _ => Err(ErrorKind::TimedOut),
            };
            tell(hsm, faults, &format!("{function} hang"), SHORT, expected);
            faults.clear();
            resumes(function, || check(hsm, DEADLINE));
        }
        assert_eq!(faults.count("C_Finalize"), 0);
    });
}

#[test]
fn a_short_delay_at_any_function_is_only_a_delay() {
    with_faults(|hsm, faults| {
        hsm.new_kek("archive");
        for (function, _) in FUNCTIONS {
            let order = format!("{function} delay 20ms times 3");
            tell(hsm, faults, &order, DEADLINE * 4, Ok(()));
        }
    });
}

/// The whole life of a key under a fault.
fn tell(
    hsm: &SoftHsm,
    faults: &Faults<'_>,
    order: &str,
    deadline: Duration,
    expected: Result<(), ErrorKind>,
) {
    faults.set(order);
    let result = in_time(deadline, order, || check(hsm, deadline));
    let kind = result.as_ref().map_err(|error| error.kind()).copied();
    assert_eq!(kind, expected, "{order}: {result:?}");
    if order.starts_with("C_Login") && expected.is_err() {
        faults.clear();
        check(hsm, deadline).expect("a PIN that was right is tried again");
    }
}

fn check(hsm: &SoftHsm, deadline: Duration) -> Result<(), Pkcs11Error> {
    let uri = hsm.uri(&format!("token={TOKEN};object=archive"));
    block_on(check_key(&uri, options().with_deadline(deadline))).map(drop)
}

#[test]
fn a_key_that_is_open_survives_every_fault_at_every_function() {
    with_faults(|hsm, faults| {
        // The breaker rests but shortly: there is a lot to survive.
        let options = options().with_deadline(SHORT).with_breaker(5, Duration::from_millis(5));
        let key = OpenKey::new(hsm, options);
        for (function, _) in FUNCTIONS {
            for (code, _) in CODES {
                survives(hsm, faults, &key, &format!("{function} return {code}"));
            }
            survives(hsm, faults, &key, &format!("{function} hang"));
        }
        assert_eq!(faults.count("C_Finalize"), 0);
    });
}

/// Loses the session and the login, so that every function is needed, and has
/// one of them fail.
fn survives(hsm: &SoftHsm, faults: &Faults<'_>, key: &OpenKey, order: &str) {
    hsm.raw_session(TOKEN).logout().unwrap();
    faults.set(&format!("C_DecryptInit return CKR_SESSION_CLOSED times 1\n{order}"));
    for _ in 0..2 {
        let result = in_time(SHORT, order, || key.unwrap());
        if let Err(error) = result {
            assert!(!error.to_string().is_empty());
        }
    }
    faults.clear();
    resumes(order, || key.unwrap());
    resumes(order, || key.wrap());
}
