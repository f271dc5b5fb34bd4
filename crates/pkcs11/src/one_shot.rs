//! `C_Encrypt` and `C_Decrypt` in one call each.
//!
//! cryptoki calls either of them twice, the first time for the length of the
//! output alone, which costs a token in the network another round trip. Here it
//! gets a buffer that is large enough from the start.
//!
//! This is the crate's only `unsafe` code. It trusts the module as cryptoki
//! does: to be a PKCS#11 module, which keeps to the bounds that it is given.

use std::path::Path;

use cryptoki::context::Function;
use cryptoki::error::{Error, Rv, RvError};
use cryptoki::session::Session;
use cryptoki_sys::{
    CK_BYTE_PTR, CK_FUNCTION_LIST, CK_RV, CK_SESSION_HANDLE, CK_ULONG, CK_ULONG_PTR,
};
use zeroize::Zeroizing;

/// A module may want that much more room than it was given, and not more: what
/// it says is not trusted with our memory.
const MOST_MORE: usize = 4096;

/// `C_Encrypt` and `C_Decrypt` of a module that stays loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OneShot {
    encrypt: Crypt,
    decrypt: Crypt,
}

/// Both functions' type (PKCS#11 3.1 sections 5.8.2 and 5.10.2).
type Crypt = unsafe extern "C" fn(
    CK_SESSION_HANDLE,
    CK_BYTE_PTR,
    CK_ULONG,
    CK_BYTE_PTR,
    CK_ULONG_PTR,
) -> CK_RV;

impl OneShot {
    /// The functions of the module at `path`, which cryptoki has loaded.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let list = function_list(path)?;
        let (encrypt, decrypt) = (list.C_Encrypt, list.C_Decrypt);
        Ok(Self {
            encrypt: encrypt.ok_or(Error::NullFunctionPointer)?,
            decrypt: decrypt.ok_or(Error::NullFunctionPointer)?,
        })
    }

    /// Ends the encryption that was begun in `session`, with all of its `data`.
    /// The module makes `room` bytes of it at most.
    ///
    /// After any error there is no encryption any more, or the session is not
    /// to be used again: the error is then none of the data.
    pub(crate) fn encrypt(
        self,
        session: &Session,
        data: &[u8],
        room: usize,
    ) -> Result<Vec<u8>, Error> {
        // SAFETY: the function is the module's own C_Encrypt, see `of`.
        let mut output =
            unsafe { crypt(self.encrypt, Function::Encrypt, session.handle(), data, room) }?;
        Ok(std::mem::take(&mut *output))
    }

    /// As [`OneShot::encrypt`], for a decryption; no plaintext is longer than
    /// its ciphertext.
    pub(crate) fn decrypt(
        self,
        session: &Session,
        encrypted: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let room = encrypted.len();
        // SAFETY: the function is the module's own C_Decrypt, see `of`.
        unsafe { crypt(self.decrypt, Function::Decrypt, session.handle(), encrypted, room) }
    }
}

/// The functions of the module at `path`, which is never unloaded again.
fn function_list(path: &Path) -> Result<CK_FUNCTION_LIST, Error> {
    // SAFETY: loading runs a library's initialisers; cryptoki has had them run
    // already, so this only counts one more user of the same library.
    let module = unsafe { cryptoki_sys::Pkcs11::new(path) }.map_err(Error::LibraryLoading)?;
    // Pointers into it are kept for good. (So it is with cryptoki's own: a
    // module is loaded once per process and never finalised.)
    let module = Box::leak(Box::new(module));
    if module.C_GetFunctionList.is_err() {
        return Err(Error::MissingSymbol("C_GetFunctionList"));
    }
    let mut list = std::ptr::null_mut();
    // SAFETY: the symbol is there, and `list` may be written to.
    let code = unsafe { module.C_GetFunctionList(&raw mut list) };
    Rv::from(code).into_result(Function::GetFunctionList)?;
    if list.is_null() {
        return Err(Error::NullFunctionPointer);
    }
    // SAFETY: not null, and the module says that its list is there: it lives as
    // long as the module, and nobody writes to it (PKCS#11 3.1 section 5.4.4).
    Ok(unsafe { *list })
}

/// Calls `function` with all of `input` and room for its output, and once more
/// if it wants more room: then, and only then, what was begun is still active
/// (PKCS#11 3.1 section 5.2).
///
/// # Safety
/// `function` reads as many bytes of its input as it is told, writes as many of
/// its output as it is told at most, and keeps no pointer to either.
unsafe fn crypt(
    function: Crypt,
    name: Function,
    session: CK_SESSION_HANDLE,
    input: &[u8],
    room: usize,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut output = Zeroizing::new(vec![0; room]);
    // SAFETY: the caller's promises are passed on.
    let (mut code, mut len) = unsafe { call(function, session, input, &mut output) }?;
    if code == Rv::Error(RvError::BufferTooSmall) && (room + 1..=room + MOST_MORE).contains(&len) {
        output = Zeroizing::new(vec![0; len]);
        // SAFETY: as above.
        (code, len) = unsafe { call(function, session, input, &mut output) }?;
    }
    code.into_result(name)?;
    if len > output.len() {
        return Err(Error::InvalidValue); // more than there was room for
    }
    output.truncate(len);
    Ok(output)
}

/// One call: what it returned, and the length that it has or wants.
///
/// # Safety
/// As for [`crypt`].
unsafe fn call(
    function: Crypt,
    session: CK_SESSION_HANDLE,
    input: &[u8],
    output: &mut [u8],
) -> Result<(Rv, usize), Error> {
    let mut len = CK_ULONG::try_from(output.len())?;
    let (data, data_len) = (input.as_ptr().cast_mut(), CK_ULONG::try_from(input.len())?);
    // SAFETY: both buffers are as long as it is told and outlive the call; the
    // input is not written to, although the interface has no `const`.
    let code = unsafe { function(session, data, data_len, output.as_mut_ptr(), &raw mut len) };
    Ok((Rv::from(code), usize::try_from(len)?))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use cryptoki_sys::{CKR_BUFFER_TOO_SMALL, CKR_DEVICE_ERROR, CKR_OK};

    use super::*;

    thread_local! {
        /// Answers of the next calls, each with a length; and the room that
        /// was offered, call by call.
        static ANSWERS: Cell<Vec<(CK_RV, CK_ULONG)>> = const { Cell::new(Vec::new()) };
        static ROOMS: Cell<Vec<CK_ULONG>> = const { Cell::new(Vec::new()) };
    }

    /// A module's function that answers as it is told, and writes what it says
    /// if there is room for that.
    unsafe extern "C" fn scripted(
        _: CK_SESSION_HANDLE,
        _: CK_BYTE_PTR,
        _: CK_ULONG,
        output: CK_BYTE_PTR,
        len: CK_ULONG_PTR,
    ) -> CK_RV {
        let mut answers = ANSWERS.take();
        let (code, says) = answers.remove(0);
        ANSWERS.set(answers);
        // SAFETY: the test's own buffer and length.
        unsafe {
            let mut rooms = ROOMS.take();
            rooms.push(*len);
            ROOMS.set(rooms);
            if code == CKR_OK && says <= *len {
                output.write_bytes(7, usize::try_from(says).unwrap());
            }
            *len = says;
        }
        code
    }

    fn answered(answers: &[(CK_RV, CK_ULONG)], room: usize) -> (Result<Vec<u8>, Error>, Vec<u64>) {
        ANSWERS.set(answers.to_vec());
        ROOMS.set(Vec::new());
        // SAFETY: `scripted` does as it should.
        let output = unsafe { crypt(scripted, Function::Encrypt, 1, b"data", room) };
        assert!(ANSWERS.take().is_empty(), "every answer was asked for");
        (output.map(|bytes| bytes.to_vec()), ROOMS.take())
    }

    #[test]
    fn one_call_is_enough_and_the_rest_of_the_room_is_cut_off() {
        let (output, rooms) = answered(&[(CKR_OK, 20)], 36);
        assert_eq!((output.unwrap(), rooms), (vec![7; 20], vec![36]));
    }

    #[test]
    fn a_module_that_wants_more_room_gets_it_once() {
        let (output, rooms) = answered(&[(CKR_BUFFER_TOO_SMALL, 64), (CKR_OK, 64)], 36);
        assert_eq!((output.unwrap().len(), rooms), (64, vec![36, 64]));
        let (output, rooms) = answered(&[(CKR_BUFFER_TOO_SMALL, 64); 2], 36);
        assert!(matches!(output, Err(Error::Pkcs11(RvError::BufferTooSmall, Function::Encrypt))));
        assert_eq!(rooms, [36, 64]);
    }

    #[test]
    fn a_module_that_wants_what_cannot_be_right_is_not_asked_again() {
        for wanted in [0, 36, 36 + 4097, CK_ULONG::MAX] {
            let (output, rooms) = answered(&[(CKR_BUFFER_TOO_SMALL, wanted)], 36);
            assert!(output.is_err(), "{wanted}");
            assert_eq!(rooms, [36], "{wanted}");
        }
    }

    #[test]
    fn a_module_that_says_it_wrote_more_than_it_could_is_not_believed() {
        assert!(answered(&[(CKR_OK, 37)], 36).0.is_err());
        assert!(answered(&[(CKR_OK, CK_ULONG::MAX)], 36).0.is_err());
    }

    #[test]
    fn any_other_error_is_the_end() {
        let (output, rooms) = answered(&[(CKR_DEVICE_ERROR, 0)], 36);
        assert!(matches!(output, Err(Error::Pkcs11(RvError::DeviceError, Function::Encrypt))));
        assert_eq!(rooms.len(), 1);
    }
}
