use proptest::prelude::*;

use super::*;

/// Made by OpenSSL, as the others here are, which gives its DER the hash [`PIN`].
const PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAjRUwWftDCjk8bmqszEGF
arDCrBjhdGhg/vqvuP0fPWdPDUH0cGM927DTQCYCkSfPMtMzAjv2o5SBR3zya++l
BPB6PIamrcSrkkZv0I05zQiferVjDXn//DY640Os0gNfQQGhRfuX9WIcnreM4qIB
ugzCYDHesWYCccYA0NuIncmhlkS68HyHWw9hcNelCiZyQWbKorcJ0KKB3CORKRwP
7nRPTcaRGbo69cAhSku1JMi/dGiQZOKGV4nYomJ+MuUOaXll5wp/IM3D0G4ZE7PZ
hfVBTGaxRUaVQNQl40TY8wHjKvOa4ZsgNmvcP3hldzz4t49lLNwwXTDHRUdv/iSC
mwIDAQAB
-----END PUBLIC KEY-----
";
const PIN: &str = "6fa1eba9dd9f1fa4d53564f5632706f304299bb9f7b5048beb23f2460b01d251";
/// The same key, as PKCS#1 has it.
const PKCS1: &str = "\
-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEAjRUwWftDCjk8bmqszEGFarDCrBjhdGhg/vqvuP0fPWdPDUH0cGM9
27DTQCYCkSfPMtMzAjv2o5SBR3zya++lBPB6PIamrcSrkkZv0I05zQiferVjDXn/
/DY640Os0gNfQQGhRfuX9WIcnreM4qIBugzCYDHesWYCccYA0NuIncmhlkS68HyH
Ww9hcNelCiZyQWbKorcJ0KKB3CORKRwP7nRPTcaRGbo69cAhSku1JMi/dGiQZOKG
V4nYomJ+MuUOaXll5wp/IM3D0G4ZE7PZhfVBTGaxRUaVQNQl40TY8wHjKvOa4Zsg
NmvcP3hldzz4t49lLNwwXTDHRUdv/iSCmwIDAQAB
-----END RSA PUBLIC KEY-----
";
const OF_1024_BITS: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDovXrc5AGSMxqXOFzBgPDadzkd
aLg//OLkTvJjWS9C649r031Md+2DMnhp9mn6LH9XMpa6KPnpFTfjL7IelMBkD0Id
hCETCjMKoDRxdtoHm8vlRyeBxSMvHnedgmGwZ2Ko2NmMxvQefLHMO5tvnTClzo6v
zfQn4x02X3WTFljnOwIDAQAB
-----END PUBLIC KEY-----
";
const WITH_EXPONENT_3: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIDANBgkqhkiG9w0BAQEFAAOCAQ0AMIIBCAKCAQEA7mCSFqbpRPN5EF+Lsng1
F32IfCDSoKfpqioXuRgywmVmN/ZaaSs0oZgyIFBIpHdEuL216vHlhcEEATS0P9PQ
VIb17JiOzpuJV2NZGIamPli5+9uALIBYKkrD173CvFMsWSwcs0jprbh/+cZFhNTf
F8NTG3gxrBHhNWtARLdUTQwK4lImaTAU+YFYkGFEkbgp4BWU2SQ2SjgcsRPp9YfN
/ZzJlH1k/95U+ob6xcEIspoBXY9xJgpyqdEm08GrFrmZYyerkR/mNpVXCoCT/0Mu
emfl+fVouszzkeZH5iYiwXcZHdw46epT3oFvpjOhhmGY9uhmVf85/b93xuB26gG4
hwIBAw==
-----END PUBLIC KEY-----
";
const OF_A_CURVE: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEErL4TY/ldKyrr437cUlSMVFfskWT
KtpbiuQW7ux57/GxZcVhOe56jzj5BfYHMPLYw1j1cDklzejM/kQPFwf+0w==
-----END PUBLIC KEY-----
";

fn in_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_key_of_openssl_is_read_and_written_as_it_was() {
    let key = RsaPublicKey::from_pem(PEM).unwrap();
    assert_eq!((key.bits(), key.modulus_len()), (2048, 256));
    assert_eq!(in_hex(&key.spki_sha256()), PIN);
    assert_eq!(key.to_pem(), PEM);
    assert_eq!(RsaPublicKey::new(&key.modulus, &EXPONENT).unwrap(), key);
}

#[test]
fn white_space_around_it_and_windows_line_breaks_do_no_harm() {
    let key = RsaPublicKey::from_pem(PEM).unwrap();
    for text in [format!("\n{PEM}\n\n"), PEM.replace('\n', "\r\n"), PEM.trim().to_owned()] {
        assert_eq!(RsaPublicKey::from_pem(&text).unwrap(), key);
    }
}

#[test]
fn what_is_no_key_for_this_is_refused() {
    let twice = format!("{PEM}{PEM}");
    let cut = PEM.replacen("MIIBIjAN", "", 1);
    let longer = PEM.replacen("IDAQAB", "IDAQABAA==", 1);
    let base64 = PEM.replacen('M', "*", 1);
    for text in [
        "",
        "-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----",
        BEGIN,
        PKCS1,
        OF_1024_BITS,
        WITH_EXPONENT_3,
        OF_A_CURVE,
        &twice,
        &cut,
        &longer,
        &base64,
        &format!("key: {PEM}"),
    ] {
        let error = RsaPublicKey::from_pem(text).unwrap_err();
        assert!(matches!(error, RsaKeyError::Unusable(_)), "{text}: {error}");
    }
}

#[test]
fn a_private_key_is_not_repeated() {
    let text = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
    let error = RsaPublicKey::from_pem(text).unwrap_err().to_string();
    assert!(error.contains("private key") && !error.contains("c2VjcmV0"), "{error}");
}

#[test]
fn numbers_that_make_no_kek_are_refused_with_the_reason() {
    let odd = |len: usize| vec![0xFF; len];
    let cases = [
        (odd(128), &[1, 0, 1][..], "1024 bits"),
        (odd(1025), &[1, 0, 1], "8200 bits"),
        (Vec::new(), &[1, 0, 1], "0 bits"),
        ([&[1][..], &odd(256)].concat(), &[1, 0, 1], "of 2049 bits"),
        ([&odd(255)[..], &[0xFE]].concat(), &[1, 0, 1], "not one of an RSA key"),
        (odd(256), &[3], "exponent"),
        (odd(256), &[1], "exponent"),
        (odd(256), &[], "exponent"),
        (odd(256), &[1, 0, 1, 0], "exponent"),
    ];
    for (modulus, exponent, reason) in cases {
        let error = RsaPublicKey::new(&modulus, exponent).unwrap_err();
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    assert_eq!(RsaPublicKey::problem(&odd(256), &[0, 1, 0, 1]), None);
}

#[test]
fn only_as_many_bytes_as_the_modulus_and_less_than_it_are_asked_for() {
    let key = RsaPublicKey::from_pem(PEM).unwrap();
    let mut below = key.modulus.clone();
    below[255] -= 1;
    assert!(key.can_be_asked(&below) && key.can_be_asked(&[0; 256]));
    assert!(!key.can_be_asked(&key.modulus));
    for len in [0, 1, 255, 257, 512] {
        assert!(!key.can_be_asked(&vec![0; len]), "{len}");
    }
}

#[test]
fn each_wrapping_is_another() {
    let key = RsaPublicKey::from_pem(PEM).unwrap();
    let share = Share::copy_of(&[7; 32]);
    let (one, other) = (key.wrap(&share).unwrap(), key.wrap(&share).unwrap());
    assert_eq!((one.algorithm(), one.bytes().len()), (ShareAlgorithm::RsaOaepSha256, 256));
    assert_ne!(one, other);
}

#[test]
fn another_pin_is_refused() {
    let key = RsaPublicKey::from_pem(PEM).unwrap();
    key.check_pin(&key.spki_sha256(), "here").unwrap();
    let error = key.check_pin(&[0; 32], "here").unwrap_err();
    assert_eq!(HolderError::from(error).kind(), HolderErrorKind::Misconfigured);
}

proptest! {
    #[test]
    fn no_text_panics(text in "(-----BEGIN PUBLIC KEY-----)?[A-Za-z0-9+/=\n]{0,80}(-----END PUBLIC KEY-----)?") {
        prop_assert!(RsaPublicKey::from_pem(&text).is_err());
    }

    #[test]
    fn a_key_with_a_byte_changed_is_another_or_none(place in 0usize..294, flip in 1u8..) {
        let key = RsaPublicKey::from_pem(PEM).unwrap();
        let mut der = key.spki.clone();
        der[place] ^= flip;
        if let Ok(other) = RsaPublicKey::from_der(&der) {
            prop_assert_ne!(other.spki_sha256(), key.spki_sha256());
            prop_assert_eq!(other.spki, der);
        }
    }
}
