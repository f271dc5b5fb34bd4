//! Writes envelopes by the letter of `docs/format.md`, with none of the crates
//! under test: what it writes and they open is a second opinion on the page.
//!
//! Everything is made of separate steps, so that a vector can break one of
//! them and have the rest follow: a header that breaks a rule is still signed.
//! What should be random is a hash of the vector's name.

use aes_gcm::aead::{Aead as _, Payload as AeadInput};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, KeyInit, Mac as _};
use sha2::{Digest as _, Sha384};

use super::cbor::{Fields, Item};

/// The URIs of the two KEKs that open the vectors, as headers have them.
pub(super) const URIS: [&str; 2] =
    ["file:///twinlock-vectors/provider.kek", "file:///twinlock-vectors/customer.kek"];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Provider = 0,
    Customer = 1,
}

/// The KEK of a side: the same in all vectors.
fn kek(side: Side) -> [u8; 32] {
    hash(URIS[side as usize])
}

/// The two KEKs as files, by their names.
pub(super) fn kek_files() -> impl Iterator<Item = (String, String)> {
    [(Side::Provider, "provider.kek"), (Side::Customer, "customer.kek")].into_iter().map(
        |(side, name)| {
            let line = format!("twinlock-file-kek-v1 {}\n", hex::encode(kek(side)));
            (name.to_owned(), line)
        },
    )
}

/// Byte `i` of every vector's plaintext is `i mod 251`: a prime, so that no two
/// segments are alike.
pub(crate) fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251).to_le_bytes()[0]).collect()
}

/// One file to be written, and its secrets.
#[derive(Clone)]
pub(super) struct File {
    name: String,
    pub(super) context: Item,
    pub(super) segment_len: usize,
    /// `PARAM_ENCODE` of FLOE.
    pub(super) params: [u8; 10],
}

impl File {
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), context: Item::Map(vec![]), segment_len: 0, params: [0; 10] }
            .with_segment_len(4096)
    }

    /// Another file than this.
    pub(super) fn another(&self) -> Self {
        Self { name: format!("not {}", self.name), ..self.clone() }
    }

    pub(super) fn with_context(self, context: Item) -> Self {
        Self { context, ..self }
    }

    pub(super) fn with_segment_len(mut self, len: usize) -> Self {
        self.segment_len = len;
        let len = u32::try_from(len).unwrap();
        self.params =
            [&[0, 0], &len.to_be_bytes()[..], &32u32.to_be_bytes()].concat().try_into().unwrap();
        self
    }

    /// `N` bytes that are this file's alone.
    fn random<const N: usize>(&self, what: &str) -> [u8; N] {
        *hash::<32>(&format!("{}/{what}", self.name)).first_chunk().unwrap()
    }

    fn envelope_id(&self) -> [u8; 32] {
        self.random("envelope id")
    }

    fn dek(&self) -> [u8; 32] {
        self.random("DEK")
    }
}

// === Keyslots ===

impl File {
    /// The share of one side in the pair `pair`, wrapped by its file KEK.
    pub(super) fn share(&self, side: Side, pair: &str) -> Fields {
        let secret = self.secret_share(side, pair);
        let hash = self.binding_hash(side, pair);
        let nonce = self.random::<12>(&format!("{pair}/{}/nonce", side as u8));
        let aad = [b"twinlock/v1 share\0", &*hash].concat();
        let wrapped = [&nonce[..], &gcm(&kek(side), &nonce, &aad, &secret)].concat();
        let check = hmac(&secret, &[b"twinlock/v1 share check\0", &*hash].concat());
        Fields::default()
            .with(0, Item::text(URIS[side as usize]))
            .with(2, Item::Uint(1))
            .with(4, Item::Bytes(wrapped))
            .with(6, Item::Bytes(check[..32].to_vec()))
    }

    /// The pair's fields of a keyslot of kind 1.
    pub(super) fn pair(&self, pair: &str) -> Fields {
        self.pair_of(pair, self.share(Side::Provider, pair), self.share(Side::Customer, pair))
    }

    /// The same of these shares' fields, whatever they say.
    pub(super) fn pair_of(&self, pair: &str, provider: Fields, customer: Fields) -> Fields {
        self.pair_of_suite(1, pair, provider, customer)
    }

    pub(super) fn pair_of_suite(
        &self,
        suite: u64,
        pair: &str,
        provider: Fields,
        customer: Fields,
    ) -> Fields {
        let kek = self.dek_kek(suite, pair, &provider, &customer);
        self.pair_around(&kek, suite, pair, provider, customer)
    }

    fn pair_around(
        &self,
        kek: &[u8; 32],
        suite: u64,
        pair: &str,
        provider: Fields,
        customer: Fields,
    ) -> Fields {
        Fields::default()
            .with(0, Item::Bytes(self.pair_id(pair).to_vec()))
            .with(2, Item::Uint(suite))
            .with(4, provider.item())
            .with(6, customer.item())
            .with(8, Item::Bytes(self.wrapped_dek(kek, pair, &self.dek())))
    }

    /// A pair that opens, and gives the DEK of another file.
    pub(super) fn pair_with_dek_of(&self, other: &File, pair: &str) -> Fields {
        let shares = (self.share(Side::Provider, pair), self.share(Side::Customer, pair));
        let kek = self.dek_kek(1, pair, &shares.0, &shares.1);
        let wrapped = self.wrapped_dek(&kek, pair, &other.dek());
        self.pair(pair).with(8, Item::Bytes(wrapped))
    }

    fn wrapped_dek(&self, kek: &[u8; 32], pair: &str, dek: &[u8; 32]) -> Vec<u8> {
        let nonce = self.random::<12>(&format!("{pair}/wrapped DEK"));
        let aad = [b"twinlock/v1 dek\0", &self.envelope_id()[..]].concat();
        [&nonce[..], &gcm(kek, &nonce, &aad, dek)].concat()
    }

    fn dek_kek(&self, suite: u64, pair: &str, provider: &Fields, customer: &Fields) -> [u8; 32] {
        let uri = |share: &Fields| share.value(0).cloned().unwrap_or(Item::text(""));
        let wrapped_hash = |share: &Fields| match share.value(4) {
            Some(Item::Bytes(wrapped)) => Item::Bytes(Sha384::digest(wrapped).to_vec()),
            _ => Item::Bytes(vec![]),
        };
        let info = Item::Array(vec![
            Item::Uint(suite),
            Item::Bytes(self.pair_id(pair).to_vec()),
            uri(provider),
            uri(customer),
            wrapped_hash(provider),
            wrapped_hash(customer),
        ]);
        let shares = [Side::Provider, Side::Customer].map(|side| self.secret_share(side, pair));
        let prk = hmac(&self.envelope_id(), &shares.concat());
        expand(&prk, &[b"twinlock/v1 kek\0", &*info.encode()].concat())
    }

    fn secret_share(&self, side: Side, pair: &str) -> [u8; 32] {
        self.random(&format!("{pair}/{}", side as u8))
    }

    fn pair_id(&self, pair: &str) -> [u8; 32] {
        self.random(&format!("{pair}/pair id"))
    }

    /// `H` of the page.
    fn binding_hash(&self, side: Side, pair: &str) -> Vec<u8> {
        let side = Item::Uint(side as u64);
        let pair_id = Item::Bytes(self.pair_id(pair).to_vec());
        Sha384::digest(Item::Array(vec![side, pair_id, self.context.clone()]).encode()).to_vec()
    }
}

/// Keyslots of our holders whose wrapped shares nobody unwraps.
pub(super) fn bad_keyslots(file: &File, count: usize) -> Vec<Item> {
    let bad = |number: usize| {
        let name = format!("bad {number}");
        let share = file.share(Side::Provider, &name).with(4, Item::Bytes(vec![0; 60]));
        let customer = file.share(Side::Customer, &name);
        keyslot(1, file.pair_of(&name, share, customer).encode())
    };
    (0..count).map(bad).collect()
}

pub(super) fn keyslot(kind: u64, content: Vec<u8>) -> Item {
    Item::Array(vec![Item::Uint(kind), Item::Bytes(content)])
}

// === The header ===

impl File {
    /// The body's fields with one good keyslot.
    pub(super) fn body(&self) -> Fields {
        self.body_with(vec![keyslot(1, self.pair("pair").encode())])
    }

    pub(super) fn body_with(&self, keyslots: Vec<Item>) -> Fields {
        Fields::default()
            .with(0, Item::Bytes(self.envelope_id().to_vec()))
            .with(2, Item::Uint(1))
            .with(4, Item::Uint(0))
            .with(6, self.context.clone())
            .with(8, Item::Array(keyslots))
    }

    /// The whole header of these body bytes, padding included.
    pub(super) fn header(&self, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len()).unwrap();
        self.sign([b"TWINLOCK\x01\0\0\0", &len.to_be_bytes()[..], body].concat())
    }

    /// Puts the tag behind `header`.
    pub(super) fn sign(&self, header: Vec<u8>) -> Vec<u8> {
        let key: [u8; 48] = self.key("twinlock/v1 header");
        let tag = hmac(&key, &header);
        [header, tag[..32].to_vec()].concat()
    }

    fn key<const N: usize>(&self, label: &str) -> [u8; N] {
        expand(&hmac(&self.envelope_id(), &self.dek()), label.as_bytes())
    }
}

// === The payload ===

impl File {
    /// What comes first in a payload whose header is kept apart.
    pub(super) fn payload_prefix(&self) -> Vec<u8> {
        [b"TWINPAYL\x01\0\0\0", &self.envelope_id()[..]].concat()
    }
}

/// FLOE's header and the segments, to be taken apart.
#[derive(Clone)]
pub(super) struct Payload {
    pub(super) header: Vec<u8>,
    pub(super) segments: Vec<Vec<u8>>,
}

impl Payload {
    pub(super) fn bytes(&self) -> Vec<u8> {
        [self.header.clone(), self.segments.concat()].concat()
    }
}

impl File {
    /// The payload of [`plaintext`]. Its last segment is full when it can be.
    pub(super) fn payload(&self, plaintext_len: usize) -> Payload {
        let plaintext = plaintext(plaintext_len);
        let mut chunks: Vec<&[u8]> = plaintext.chunks(self.segment_len - 32).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let last = chunks.len() - 1;
        let segment = |(i, chunk): (usize, &&[u8])| self.segment(i, i == last, chunk);
        Payload {
            header: self.floe_header(),
            segments: chunks.iter().enumerate().map(segment).collect(),
        }
    }

    pub(super) fn floe_header(&self) -> Vec<u8> {
        let tag: [u8; 32] = self.floe_kdf(&self.payload_key(), b"HEADER_TAG:");
        [&self.params[..], &self.floe_iv(), &tag].concat()
    }

    pub(super) fn segment(&self, position: usize, is_last: bool, plaintext: &[u8]) -> Vec<u8> {
        let len = u32::try_from(plaintext.len() + 32).unwrap();
        let length_field = if is_last { len } else { u32::MAX };
        let nonce = self.random::<12>(&format!("segment {position} {is_last}"));
        let position = (position as u64).to_be_bytes();
        let aad = [&position[..], &[u8::from(is_last)]].concat();
        // Positions below 2^20 have the same segment key.
        let message_key: [u8; 48] = self.floe_kdf(&self.payload_key(), b"MESSAGE_KEY:");
        let key: [u8; 32] = self.floe_kdf(&message_key, b"DEK:\0\0\0\0\0\0\0\0");
        [&length_field.to_be_bytes()[..], &nonce, &gcm(&key, &nonce, &aad, plaintext)].concat()
    }

    fn payload_key(&self) -> [u8; 32] {
        self.key("twinlock/v1 payload")
    }

    fn floe_iv(&self) -> [u8; 32] {
        self.random("FLOE IV")
    }

    fn floe_kdf<const N: usize>(&self, key: &[u8], purpose: &[u8]) -> [u8; N] {
        let input = Item::Array(vec![
            Item::Uint(1),
            Item::Bytes(self.envelope_id().to_vec()),
            self.context.clone(),
        ]);
        let aad = [b"twinlock/v1 payload aad\0", &*Sha384::digest(input.encode())].concat();
        expand(key, &[&self.params[..], &self.floe_iv(), purpose, &aad].concat())
    }
}

// === Primitives ===

/// A hash of a text, for what is fixed here and random elsewhere.
fn hash<const N: usize>(text: &str) -> [u8; N] {
    *Sha384::digest(text).first_chunk().unwrap()
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 48] {
    let mut mac = <Hmac<Sha384> as KeyInit>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// HKDF-Expand to at most 48 bytes, which is one call of HMAC.
fn expand<const N: usize>(prk: &[u8], info: &[u8]) -> [u8; N] {
    *hmac(prk, &[info, &[1]].concat()).first_chunk().unwrap()
}

fn gcm(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let input = AeadInput { msg: plaintext, aad };
    Aes256Gcm::new(key.into()).encrypt(&Nonce::from(*nonce), input).unwrap()
}
