//! Tokens' quirks, as rows of a table.

use cryptoki::error::RvError;
use cryptoki::mechanism::MechanismType;

use crate::{ErrorKind, Pkcs11Error};

/// What is particular about one vendor's tokens.
#[derive(Debug)]
pub(crate) struct Vendor {
    /// For people.
    pub(crate) name: &'static str,
    /// How `CK_TOKEN_INFO.manufacturerID` begins.
    manufacturer: &'static str,
    /// How `CK_TOKEN_INFO.model` begins; empty for any.
    model: &'static str,
    /// Who makes the IV of AES-GCM.
    pub(crate) gcm_iv: GcmIv,
    /// Codes by which `C_Decrypt` says that a well-formed ciphertext failed,
    /// besides those that mean nothing else.
    gcm_bad_tag: &'static [RvError],
    /// Codes for the handle of an object that was deleted, besides
    /// `CKR_OBJECT_HANDLE_INVALID` and `CKR_KEY_HANDLE_INVALID`.
    stale_handle: &'static [RvError],
    /// True if a new AES key can be bound to AES-GCM (`CKA_ALLOWED_MECHANISMS`).
    pub(crate) allowed_mechanisms: bool,
    /// The same for a new RSA key: what it is bound to, if anything. Without
    /// padding it can do all that it does with one, so that naming a padding
    /// beside it gives nothing away.
    pub(crate) rsa_mechanisms: &'static [MechanismType],
    /// Sessions that work side by side unless told otherwise.
    pub(crate) workers: usize,
    /// What is known, what is assumed, and where from.
    #[cfg_attr(not(test), expect(dead_code, reason = "evidence for whoever edits the table"))]
    source: &'static str,
}

/// Who makes the IV of AES-GCM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GcmIv {
    /// We do, from the token's generator.
    Ours,
    /// We do, but a token in FIPS mode makes its own 16 bytes and appends them
    /// to the output.
    OursOrAppended,
    /// The token does: it wants 12 zero bytes and writes its IV over them.
    Theirs,
}

/// The row for a token, by what it says about itself.
pub(crate) fn vendor_of(manufacturer: &str, model: &str) -> &'static Vendor {
    ROWS.iter()
        .find(|row| manufacturer.starts_with(row.manufacturer) && model.starts_with(row.model))
        .unwrap_or(&UNKNOWN)
}

/// A token that the table does not know.
static UNKNOWN: Vendor = Vendor {
    name: "unknown",
    manufacturer: "",
    model: "",
    gcm_iv: GcmIv::Ours,
    gcm_bad_tag: &[],
    stale_handle: &[],
    allowed_mechanisms: false,
    rsa_mechanisms: &[],
    workers: 1,
    source: "safe defaults: what PKCS#11 2.40 says, one session at a time",
};

/// The first row that matches counts.
static ROWS: [Vendor; 8] = [
    Vendor {
        name: "SoftHSM",
        manufacturer: "SoftHSM project",
        gcm_bad_tag: &[RvError::GeneralError],
        allowed_mechanisms: true,
        rsa_mechanisms: &[MechanismType::RSA_X_509, MechanismType::RSA_PKCS_OAEP],
        workers: 4,
        source: "measured with 2.6.1: a bad tag is GENERAL_ERROR (ENCRYPTED_DATA_* from 2.7.0), \
                 the caller gives the IV, CKA_ALLOWED_MECHANISMS is enforced, 16 threads are fine; \
                 OAEP with SHA-256 is ARGUMENTS_BAD from C_DecryptInit, RSA without padding \
                 works and gives all bytes",
        ..UNKNOWN
    },
    Vendor {
        name: "kryoptic",
        manufacturer: "Kryoptic",
        stale_handle: &[RvError::GeneralError],
        allowed_mechanisms: true,
        rsa_mechanisms: &[MechanismType::RSA_PKCS_OAEP],
        source: "measured with 1.5.4: correct codes for a bad tag, but GENERAL_ERROR for an \
                 object deleted by another process; CKA_ALLOWED_MECHANISMS is enforced. One \
                 worker, since C_Login and C_Logout deadlock with other sessions' calls. OAEP \
                 with SHA-256 is done by the token, a bad one is DEVICE_ERROR; RSA without \
                 padding is listed and fails",
        ..UNKNOWN
    },
    Vendor {
        name: "NSS softokn",
        manufacturer: "Mozilla Foundation",
        source: "measured with 3.87: one-shot GCM encryption fails with BUFFER_TOO_SMALL, and \
                 C_Initialize wants a configuration string; keys cannot be used here yet",
        ..UNKNOWN
    },
    Vendor {
        name: "Thales Luna",
        manufacturer: "SafeNet",
        model: "Luna",
        gcm_iv: GcmIv::OursOrAppended,
        workers: 4,
        source: "vendor's CKM_AES_GCM page: outside FIPS mode the caller gives the IV; in FIPS \
                 mode the HSM makes 16 bytes and appends them. Names assumed, not tested",
        ..UNKNOWN
    },
    Vendor {
        name: "AWS CloudHSM",
        manufacturer: "Cavium",
        gcm_iv: GcmIv::Theirs,
        workers: 4,
        source: "the AWS sample proxy's settings: the HSM always makes the IV and wants 12 zero \
                 bytes. Names assumed, not tested",
        ..UNKNOWN
    },
    Vendor {
        name: "AWS CloudHSM",
        manufacturer: "Marvell",
        gcm_iv: GcmIv::Theirs,
        workers: 4,
        source: "as above, under the chip maker's later name; assumed, not tested",
        ..UNKNOWN
    },
    Vendor {
        name: "Entrust nShield",
        manufacturer: "nCipher",
        gcm_iv: GcmIv::Theirs,
        workers: 4,
        source: "the AWS sample proxy's settings: the HSM has to make the IV and wants zero \
                 bytes. Names assumed, not tested",
        ..UNKNOWN
    },
    Vendor {
        name: "Utimaco",
        manufacturer: "Utimaco",
        workers: 4,
        source: "no facts beyond the standard; names assumed, not tested",
        ..UNKNOWN
    },
];

impl Vendor {
    /// True if `error`, from decrypting a ciphertext of the right length, says
    /// that its tag is wrong.
    pub(crate) fn is_bad_tag(&self, error: &Pkcs11Error) -> bool {
        error.kind() == ErrorKind::BadCiphertext
            || error.is_from("C_Decrypt") // before, nobody has seen the ciphertext
                && error.raw_code().is_some_and(|code| self.gcm_bad_tag.contains(&code))
    }

    /// True if `error` says that a handle's object is not there any more.
    pub(crate) fn is_stale_handle(&self, error: &Pkcs11Error) -> bool {
        error.raw_code().is_some_and(|code| {
            matches!(code, RvError::ObjectHandleInvalid | RvError::KeyHandleInvalid)
                || self.stale_handle.contains(&code)
        })
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;
    use cryptoki::error::Error;

    use super::*;

    fn failed(code: RvError) -> Pkcs11Error {
        Pkcs11Error::of_call(Error::Pkcs11(code, Function::Decrypt), "decrypt")
    }

    #[test]
    fn a_token_is_known_by_its_manufacturer_and_model() {
        assert_eq!(vendor_of("SoftHSM project", "SoftHSM v2").name, "SoftHSM");
        assert_eq!(vendor_of("SafeNet Inc.", "LunaSA 7.7.1").name, "Thales Luna");
        assert_eq!(vendor_of("SafeNet, Inc.", "PSI-E2:PL1500").name, "unknown");
        assert_eq!(vendor_of("Yubico (www.yubico.com)", "YubiHSM").name, "unknown");
        assert_eq!(vendor_of("", "").name, "unknown");
    }

    #[test]
    fn every_row_says_where_it_is_from_and_allows_a_session() {
        for row in ROWS.iter().chain([&UNKNOWN]) {
            assert!(row.source.len() > 20 && row.workers >= 1, "{}", row.name);
        }
    }

    #[test]
    fn no_row_hides_another() {
        for row in &ROWS {
            assert!(std::ptr::eq(vendor_of(row.manufacturer, row.model), row), "{}", row.name);
        }
    }

    #[test]
    fn a_general_error_is_a_bad_tag_only_where_that_is_known() {
        let softhsm = vendor_of("SoftHSM project", "");
        assert!(softhsm.is_bad_tag(&failed(RvError::GeneralError)));
        assert!(!UNKNOWN.is_bad_tag(&failed(RvError::GeneralError)));
        let before = Error::Pkcs11(RvError::GeneralError, Function::DecryptInit);
        assert!(!softhsm.is_bad_tag(&Pkcs11Error::of_call(before, "decrypt")));
        assert!(!softhsm.is_bad_tag(&failed(RvError::DeviceError)));
        for vendor in [softhsm, &UNKNOWN] {
            assert!(vendor.is_bad_tag(&failed(RvError::EncryptedDataInvalid)));
            assert!(vendor.is_bad_tag(&failed(RvError::EncryptedDataLenRange)));
            assert!(vendor.is_bad_tag(&failed(RvError::UnknownErrorCode(0x42))));
        }
    }

    #[test]
    fn handles_of_deleted_objects_are_known_by_their_codes() {
        let kryoptic = vendor_of("Kryoptic Project", "v1");
        assert!(kryoptic.is_stale_handle(&failed(RvError::GeneralError)));
        assert!(!UNKNOWN.is_stale_handle(&failed(RvError::GeneralError)));
        assert!(UNKNOWN.is_stale_handle(&failed(RvError::ObjectHandleInvalid)));
    }
}
