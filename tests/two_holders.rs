//! Neither holder alone opens a file: by trying, with a real token and a real
//! KMS, everything that the one holder and the whole file give.

use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha384};
use twinlock::{
    CustomerKey, Decryptor, EncryptionContext, Encryptor, HolderError, HolderErrorKind, KeyHolder,
    KeyUri, ProviderKey, Share, ShareAlgorithm, UnverifiedHeader, WrapContext, WrappedShare,
    read_header,
};
use twinlock_format::schedule::{self, ShareBinding};
use twinlock_format::{PairKeyslot, Side};
use twinlock_keys::Pkcs11Uri;
use twinlock_pkcs11::{Pkcs11Key, TokenOptions, create_kek};
use twinlock_remote_keys::aws_kms::{AwsKmsKey, Options};

use crate::support::moto::moto;
use crate::support::softhsm::{self, in_a_process_with_a_token, write_private};

const SECRET: &[u8] = b"only together";

#[test]
fn neither_holder_alone_opens_a_file_and_both_together_do() {
    in_a_process_with_a_token(
        "two_holders::neither_holder_alone_opens_a_file_and_both_together_do",
        async |folder| {
            let rig = Rig::new(folder).await;
            rig.each_refuses_the_others_share().await;
            rig.provider_with_the_file_fails().await;
            rig.customer_with_the_file_fails().await;
            rig.another_key_in_a_holders_place_fails().await;
            rig.both_together_open().await;
        },
    );
}

/// A file, its two real holders, and a second key at each of them.
struct Rig {
    cloud: ProviderKey,
    token: CustomerKey,
    other_cloud: ProviderKey,
    other_token: CustomerKey,
    envelope: Vec<u8>,
    header: UnverifiedHeader,
}

impl Rig {
    async fn new(folder: &Path) -> Self {
        let [cloud, other_cloud] = [new_cloud(folder).await, new_cloud(folder).await];
        let [token, other_token] =
            [new_token(folder, "kek").await, new_token(folder, "other").await];
        let encryptor = Encryptor::builder(cloud.clone(), token.clone()).context(context());
        let envelope = encryptor.prepare().await.unwrap().encrypt_slice(SECRET).unwrap();
        let header = read_header(&mut envelope.as_slice()).unwrap();
        Self { cloud, token, other_cloud, other_token, envelope, header }
    }

    fn keyslot(&self) -> &PairKeyslot {
        self.header.header().supported_keyslots().next().expect("it has one")
    }

    /// Has `holder` unwrap the share of `side`, told whatever belongs to `as_side`.
    async fn ask(
        &self,
        holder: &dyn KeyHolder,
        side: Side,
        as_side: Side,
    ) -> Result<Share, HolderError> {
        let wrapped = self.keyslot().pair().share(side).wrapped().to_vec();
        let wrapped = WrappedShare::new(ShareAlgorithm::HolderAead, wrapped);
        holder.unwrap_key(&wrapped, &self.wrap_context(as_side)).await
    }

    /// What the library tells a holder with a share of this file.
    fn wrap_context(&self, side: Side) -> WrapContext {
        let pair_id = self.keyslot().pair().pair_id();
        let binding = ShareBinding::new(&pair_id, &context());
        let of_keys = match side {
            Side::Provider => twinlock::Side::Provider,
            Side::Customer => twinlock::Side::Customer,
        };
        WrapContext::new(
            of_keys,
            schedule::aws_share_label(side, &pair_id),
            binding.aad(side).as_bytes().to_vec(),
            context().iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        )
    }

    async fn each_refuses_the_others_share(&self) {
        for as_side in [Side::Provider, Side::Customer] {
            for (holder, of_the_other) in
                [(self.cloud.holder(), Side::Customer), (self.token.holder(), Side::Provider)]
            {
                let refused = self.ask(holder, of_the_other, as_side).await.err().unwrap();
                assert_eq!(refused.kind(), HolderErrorKind::InvalidCiphertext, "{refused}");
            }
        }
    }

    async fn provider_with_the_file_fails(&self) {
        let share = self.ask(self.cloud.holder(), Side::Provider, Side::Provider).await.unwrap();
        let missing = self.all_that_could_be_a_share(share.expose());
        assert!(!missing.iter().any(|missing| self.opens(share.expose(), missing)));
        assert!(!missing.iter().any(|missing| self.opens(missing, share.expose())));
        self.no_bytes_are_the_kek(&missing);
        // The attempt itself is sound: with the one right share among them it opens.
        let right = self.ask(self.token.holder(), Side::Customer, Side::Customer).await.unwrap();
        assert!(self.opens(share.expose(), right.expose()));
    }

    async fn customer_with_the_file_fails(&self) {
        let share = self.ask(self.token.holder(), Side::Customer, Side::Customer).await.unwrap();
        let missing = self.all_that_could_be_a_share(share.expose());
        assert!(!missing.iter().any(|missing| self.opens(missing, share.expose())));
        assert!(!missing.iter().any(|missing| self.opens(share.expose(), missing)));
        self.no_bytes_are_the_kek(&missing);
        let right = self.ask(self.cloud.holder(), Side::Provider, Side::Provider).await.unwrap();
        assert!(self.opens(right.expose(), share.expose()));
    }

    /// The library's own way, with another key of the same token or KMS said to
    /// be the one that the file names.
    async fn another_key_in_a_holders_place_fails(&self) {
        for (cloud, token) in [
            (&self.cloud, &self.other_token),
            (&self.other_cloud, &self.token),
            (&self.other_cloud, &self.other_token),
        ] {
            let decryptor = Decryptor::expecting(context())
                .moved(self.cloud.holder().uri().clone(), cloud.holder().uri().clone())
                .moved(self.token.holder().uri().clone(), token.holder().uri().clone())
                .provider(cloud.clone())
                .customer(token.clone());
            let error = decryptor.decrypt_slice(&self.envelope).await.unwrap_err().to_string();
            assert!(error.contains("key aws-kms://") || error.contains("key pkcs11:"), "{error}");
        }
    }

    async fn both_together_open(&self) {
        let decryptor = Decryptor::expecting(context())
            .provider(self.cloud.clone())
            .customer(self.token.clone());
        assert_eq!(decryptor.decrypt_slice(&self.envelope).await.unwrap(), SECRET);
        let proofs = decryptor.prove(&self.header).await;
        let proof = proofs.first().expect("the file names these holders");
        assert!(proof.is_as_expected(), "{proof:?}");
    }

    /// Every 32 bytes in a row of the whole file (so all wrapped shares, checks,
    /// ids and nonces), what hashing makes of them, zeros, and the share itself.
    fn all_that_could_be_a_share(&self, own: &[u8; 32]) -> Vec<[u8; 32]> {
        let mut all = vec![[0; 32], [0xff; 32], *own, hashed(own)];
        for window in self.envelope.windows(32) {
            let window: [u8; 32] = window.try_into().unwrap();
            let masked = std::array::from_fn(|i| window[i] ^ own[i]);
            all.extend([window, hashed(&window), masked]);
        }
        for side in [Side::Provider, Side::Customer] {
            let share = self.keyslot().pair().share(side);
            all.extend([hashed(share.wrapped()), hashed(&[own, share.wrapped()].concat())]);
        }
        all
    }

    /// Whether the two make the KEK of the file.
    fn opens(&self, provider: &[u8; 32], customer: &[u8; 32]) -> bool {
        let envelope_id = self.header.header().envelope_id();
        let kek = schedule::kek(provider, customer, &envelope_id, self.keyslot().pair());
        self.is_kek(&kek)
    }

    fn no_bytes_are_the_kek(&self, candidates: &[[u8; 32]]) {
        assert!(!candidates.iter().any(|candidate| self.is_kek(candidate)));
    }

    fn is_kek(&self, kek: &[u8; 32]) -> bool {
        let envelope_id = self.header.header().envelope_id();
        schedule::unwrap_dek(kek, &envelope_id, self.keyslot().wrapped_dek()).is_ok()
    }
}

async fn new_cloud(folder: &Path) -> ProviderKey {
    let profile = folder.join("aws");
    write_private(
        &profile,
        "[default]\naws_access_key_id = AKID\naws_secret_access_key = secret\n",
    );
    let options =
        Options::new().endpoint(format!("http://{}", moto().address)).profile_file(profile);
    let uri = format!("aws-kms://{}", moto().create_key("eu-central-1", &json!({})));
    let key = AwsKmsKey::connect(&KeyUri::parse(&uri).unwrap(), &options).await.unwrap();
    ProviderKey::new(key).unwrap()
}

async fn new_token(folder: &Path, label: &str) -> CustomerKey {
    let uri = Pkcs11Uri::parse(&softhsm::uri_in(folder, label)).unwrap();
    create_kek(&uri, TokenOptions::default()).await.unwrap();
    CustomerKey::new(Pkcs11Key::open(&uri, TokenOptions::default()).await.unwrap()).unwrap()
}

fn context() -> EncryptionContext {
    EncryptionContext::from_pairs([("object", "a")]).unwrap()
}

fn hashed(bytes: &[u8]) -> [u8; 32] {
    *Sha384::digest(bytes).first_chunk().unwrap()
}
