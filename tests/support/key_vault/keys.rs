//! Keys and their versions, with AWS-LC for what they do.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::rsa::{
    KeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PrivateDecryptingKey,
};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

#[derive(Default)]
pub(super) struct Keys(HashMap<String, Vec<Version>>);

impl Keys {
    /// The versions of a key, oldest first; none if there is no such key.
    pub(super) fn versions(&mut self, name: &str) -> &mut Vec<Version> {
        self.0.entry(name.to_ascii_lowercase()).or_default()
    }

    pub(super) fn add(&mut self, name: &str, version: Version) -> String {
        let id = version.id.clone();
        self.versions(name).push(version);
        id
    }
}

pub(crate) struct Version {
    pub(super) id: String,
    pub(super) material: Material,
    pub(crate) enabled: bool,
    pub(crate) operations: Vec<String>,
}

impl Version {
    pub(super) fn new(material: Material) -> Self {
        let mut id = [0; 16];
        SystemRandom::new().fill(&mut id).unwrap();
        let operations = ["wrapKey", "unwrapKey"].map(str::to_owned).to_vec();
        Self { id: hex::encode(id), material, enabled: true, operations }
    }

    pub(super) fn kid(&self, host: &str, name: &str) -> String {
        format!("https://{host}/keys/{name}/{}", self.id)
    }

    /// What `getKey` answers.
    pub(super) fn described(&self, host: &str, name: &str) -> Value {
        let mut key = json!({
            "kid": self.kid(host, name),
            "kty": self.material.kind(),
            "key_ops": self.operations,
        });
        if let Material::Rsa(rsa) = &self.material {
            key["n"] = URL_SAFE_NO_PAD.encode(&rsa.modulus).into();
            key["e"] = "AQAB".into();
        }
        let attributes = json!({
            "enabled": self.enabled,
            "created": 1_700_000_000,
            "updated": 1_700_000_000,
            "recoveryLevel": "Recoverable+Purgeable",
        });
        json!({ "key": key, "attributes": attributes })
    }
}

#[derive(Clone)]
pub(crate) enum Material {
    Aes([u8; 32]),
    /// What wraps nothing.
    Ec,
    Rsa(Arc<Rsa>),
}

pub(crate) struct Rsa {
    kind: String,
    modulus: Vec<u8>,
    private: OaepPrivateDecryptingKey,
    public: OaepPublicEncryptingKey,
}

impl Material {
    pub(crate) fn aes() -> Self {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).unwrap();
        Self::Aes(key)
    }

    pub(crate) fn rsa(kind: &str, bits: u64) -> Self {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            other => panic!("Azure makes no RSA keys of {other} bits"),
        };
        let key = PrivateDecryptingKey::generate(size).unwrap();
        let pkcs8: Pkcs8V1Der<'_> = key.as_der().unwrap();
        let pair = KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        Self::Rsa(Arc::new(Rsa {
            kind: kind.to_owned(),
            modulus: modulus(pair.public_key().as_ref()),
            public: OaepPublicEncryptingKey::new(key.public_key()).unwrap(),
            private: OaepPrivateDecryptingKey::new(key).unwrap(),
        }))
    }

    fn kind(&self) -> &str {
        match self {
            Self::Aes(_) => "oct-HSM",
            Self::Ec => "EC-HSM",
            Self::Rsa(rsa) => &rsa.kind,
        }
    }

    /// As `alg` says it.
    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Aes(_) => "A256KW",
            Self::Ec => "none",
            Self::Rsa(_) => "RSA-OAEP-256",
        }
    }

    pub(super) fn wrap(&self, value: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Aes(key) => {
                let mut out = vec![0; value.len() + 8];
                Some(kek(key).wrap(value, &mut out).ok()?.to_vec())
            }
            Self::Ec => None,
            Self::Rsa(rsa) => {
                let mut out = vec![0; rsa.public.ciphertext_size()];
                let algorithm = &OAEP_SHA256_MGF1SHA256;
                Some(rsa.public.encrypt(algorithm, value, &mut out, None).ok()?.to_vec())
            }
        }
    }

    pub(super) fn unwrap_key(&self, value: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Aes(key) => {
                let mut out = vec![0; value.len()];
                Some(kek(key).unwrap(value, &mut out).ok()?.to_vec())
            }
            Self::Ec => None,
            Self::Rsa(rsa) => {
                let mut out = vec![0; rsa.private.min_output_size()];
                let algorithm = &OAEP_SHA256_MGF1SHA256;
                Some(rsa.private.decrypt(algorithm, value, &mut out, None).ok()?.to_vec())
            }
        }
    }
}

/// The first number of an `RSAPublicKey` (RFC 8017 appendix A.1.1), whose lengths
/// take two bytes each at these sizes, and without the zero before it.
fn modulus(public_key: &[u8]) -> Vec<u8> {
    let [0x30, 0x82, _, _, 0x02, 0x82, high, low, 0, rest @ ..] = public_key else {
        panic!("AWS-LC writes RSA keys in DER");
    };
    rest[..usize::from(u16::from_be_bytes([*high, *low])) - 1].to_vec()
}

fn kek(key: &[u8; 32]) -> AesKek {
    AesKek::new(&AES_256, key).unwrap()
}
