//! A PKCS#11 module for tests: it forwards every call to a real module, unless
//! a control file says that the call fails, waits or hangs.
//!
//! Four environment variables steer it:
//!
//! - `P11_FAULT_MODULE`: the real module, a path. Read once.
//! - `P11_FAULT_CONTROL`: the control file, read at every call, so that a test
//!   can change its mind; no file means no faults. Replace it by renaming, or
//!   half of it may be read. A line is a function, what happens to its calls,
//!   and perhaps to how many of them:
//!
//!   ```text
//!   # the first two decryptions fail, then the third line counts
//!   C_Decrypt return CKR_DEVICE_REMOVED times 2
//!   C_Login return CKR_PIN_INCORRECT
//!   C_Decrypt delay 300ms
//!   C_Encrypt hang
//!   C_OpenSession cap 2
//!   C_GetTokenInfo flags CKF_USER_PIN_FINAL_TRY
//!   C_Decrypt recode CKR_DEVICE_ERROR
//!   ```
//!
//!   The first line that fits a call counts. `return` answers without asking
//!   the real module. `delay` and `hang` forward the call afterwards; `hang`
//!   ends when its line is gone from the file. `cap` lets that many sessions be
//!   open and answers `CKR_SESSION_COUNT` to more. `flags` are added to the
//!   token's own. `recode` replaces the code with which the real module refuses.
//!   A file that makes no sense ends the process: a fault that never happens
//!   would pass any test.
//! - `P11_FAULT_COUNTS`: a file to which each call adds a line with its
//!   function's name, before anything else happens.
//! - `P11_FAULT_ALONE`: functions, between spaces, that are forwarded while no
//!   other call is in the real module: for a module that deadlocks otherwise.
//!   Read once.
//!
//! A copy of the module can have its own: in a file of its own name with
//! `.settings` added, lines of the form `P11_FAULT_MODULE=/path`, which count
//! before the variables. So one process can have several, each in front of
//! another token, and have one fail while the others work.
//!
//! Only the interface of PKCS#11 2.40 is offered, which every caller knows.
#![allow(non_snake_case)] // the names are the specification's

mod control;
mod settings;

use std::sync::OnceLock;

use cryptoki_sys::*;

use self::control::Faults;

/// PKCS#11 2.40 section 5.4: the one symbol that a module has to export.
///
/// # Safety
/// As the specification says: `list` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    static OURS: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let ours = OURS.get_or_init(|| CK_FUNCTION_LIST {
        C_GetTokenInfo: real().C_GetTokenInfo.map(|_| token_info_with_flags as _),
        ..with_faults(*real())
    });
    // SAFETY: not null, and the caller lets us write to it. Nobody writes
    // through the pointer that we give: the specification has the list read-only.
    unsafe { *list = std::ptr::from_ref(ours).cast_mut() };
    CKR_OK
}

/// The real module's functions. It stays loaded until the process ends.
fn real() -> &'static CK_FUNCTION_LIST {
    static REAL: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();
    REAL.get_or_init(|| {
        let path = settings::get("P11_FAULT_MODULE").expect("P11_FAULT_MODULE names a module");
        // SAFETY: loading runs the module's initialisers; the test that named
        // it would have loaded it itself otherwise.
        let module = unsafe { Pkcs11::new(&path) };
        let module = Box::leak(Box::new(module.expect("P11_FAULT_MODULE can be loaded")));
        let mut list = std::ptr::null_mut();
        // SAFETY: `list` may be written to.
        let code = unsafe { module.C_GetFunctionList(&raw mut list) };
        assert!(code == CKR_OK && !list.is_null(), "P11_FAULT_MODULE has no function list");
        // SAFETY: the module says CKR_OK, so it points to its list, which lives
        // as long as the module, and that was leaked.
        unsafe { *list }
    })
}

/// `C_GetTokenInfo` as all of ours, with the flags that the control file adds.
unsafe extern "C" fn token_info_with_flags(slot: CK_SLOT_ID, info: CK_TOKEN_INFO_PTR) -> CK_RV {
    // SAFETY: the caller's arguments, under the caller's promises.
    let code = unsafe { C_GetTokenInfo(slot, info) };
    if code == CKR_OK {
        // SAFETY: it was written to just now.
        unsafe { (*info).flags |= Faults::get().flags() };
    }
    code
}

/// Defines each function as one that asks for a fault first, and the list that
/// has them instead of the real module's.
macro_rules! faulty {
    ($($function:ident($($argument:ident: $type:ty),*);)*) => {
        $(
            unsafe extern "C" fn $function($($argument: $type),*) -> CK_RV {
                const NAME: &str = stringify!($function);
                if let Some(code) = Faults::get().before(NAME) {
                    return code;
                }
                let function = real().$function.expect("listed only where the real one is");
                let turn = Faults::get().turn(NAME);
                // SAFETY: the caller's arguments, under the caller's promises.
                let code = unsafe { function($($argument),*) };
                drop(turn);
                Faults::get().after(NAME, code)
            }
        )*

        fn with_faults(real: CK_FUNCTION_LIST) -> CK_FUNCTION_LIST {
            CK_FUNCTION_LIST {
                C_GetFunctionList: Some(C_GetFunctionList),
                $($function: real.$function.map(|_| $function as _),)*
                ..real
            }
        }

        /// What can fail.
        const FUNCTIONS: &[&str] = &[$(stringify!($function)),*];
    };
}

faulty! {
    C_Initialize(arguments: CK_VOID_PTR);
    C_Finalize(reserved: CK_VOID_PTR);
    C_GetInfo(info: CK_INFO_PTR);
    C_GetSlotList(present: CK_BBOOL, slots: CK_SLOT_ID_PTR, count: CK_ULONG_PTR);
    C_GetSlotInfo(slot: CK_SLOT_ID, info: CK_SLOT_INFO_PTR);
    C_GetTokenInfo(slot: CK_SLOT_ID, info: CK_TOKEN_INFO_PTR);
    C_GetMechanismList(slot: CK_SLOT_ID, list: CK_MECHANISM_TYPE_PTR, count: CK_ULONG_PTR);
    C_GetMechanismInfo(slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, info: CK_MECHANISM_INFO_PTR);
    C_InitToken(slot: CK_SLOT_ID, pin: CK_UTF8CHAR_PTR, pin_len: CK_ULONG, label: CK_UTF8CHAR_PTR);
    C_InitPIN(session: CK_SESSION_HANDLE, pin: CK_UTF8CHAR_PTR, pin_len: CK_ULONG);
    C_OpenSession(
        slot: CK_SLOT_ID, flags: CK_FLAGS, application: CK_VOID_PTR, notify: CK_NOTIFY,
        session: CK_SESSION_HANDLE_PTR
    );
    C_CloseSession(session: CK_SESSION_HANDLE);
    C_CloseAllSessions(slot: CK_SLOT_ID);
    C_GetSessionInfo(session: CK_SESSION_HANDLE, info: CK_SESSION_INFO_PTR);
    C_Login(
        session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: CK_UTF8CHAR_PTR, pin_len: CK_ULONG
    );
    C_Logout(session: CK_SESSION_HANDLE);
    C_CreateObject(
        session: CK_SESSION_HANDLE, template: CK_ATTRIBUTE_PTR, count: CK_ULONG,
        object: CK_OBJECT_HANDLE_PTR
    );
    C_DestroyObject(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE);
    C_GetAttributeValue(
        session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, template: CK_ATTRIBUTE_PTR,
        count: CK_ULONG
    );
    C_FindObjectsInit(session: CK_SESSION_HANDLE, template: CK_ATTRIBUTE_PTR, count: CK_ULONG);
    C_FindObjects(
        session: CK_SESSION_HANDLE, objects: CK_OBJECT_HANDLE_PTR, most: CK_ULONG,
        count: CK_ULONG_PTR
    );
    C_FindObjectsFinal(session: CK_SESSION_HANDLE);
    C_EncryptInit(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, key: CK_OBJECT_HANDLE);
    C_Encrypt(
        session: CK_SESSION_HANDLE, data: CK_BYTE_PTR, data_len: CK_ULONG, output: CK_BYTE_PTR,
        output_len: CK_ULONG_PTR
    );
    C_DecryptInit(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, key: CK_OBJECT_HANDLE);
    C_Decrypt(
        session: CK_SESSION_HANDLE, data: CK_BYTE_PTR, data_len: CK_ULONG, output: CK_BYTE_PTR,
        output_len: CK_ULONG_PTR
    );
    C_GenerateKey(
        session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, template: CK_ATTRIBUTE_PTR,
        count: CK_ULONG, key: CK_OBJECT_HANDLE_PTR
    );
    C_GenerateKeyPair(
        session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR,
        public_template: CK_ATTRIBUTE_PTR, public_count: CK_ULONG,
        private_template: CK_ATTRIBUTE_PTR, private_count: CK_ULONG,
        public: CK_OBJECT_HANDLE_PTR, private: CK_OBJECT_HANDLE_PTR
    );
    C_GenerateRandom(session: CK_SESSION_HANDLE, output: CK_BYTE_PTR, output_len: CK_ULONG);
}
