//! A CBOR writer of its own, which can also write what the format forbids, and
//! headers made with it.

use twinlock_format::{HeaderError, UnverifiedHeader};

#[derive(Clone, Debug)]
pub(crate) enum Item {
    Uint(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Item>),
    Map(Vec<(Item, Item)>),
    /// Written as it is.
    Raw(Vec<u8>),
}

impl Item {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(crate) fn map_of_text(pairs: &[(&str, &str)]) -> Self {
        Self::Map(pairs.iter().map(|(k, v)| (Self::text(k), Self::text(v))).collect())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Uint(n) => head(0, *n),
            Self::Bytes(bytes) => [head(2, bytes.len() as u64), bytes.clone()].concat(),
            Self::Text(text) => [head(3, text.len() as u64), text.clone().into_bytes()].concat(),
            Self::Array(items) => {
                let content = items.iter().flat_map(Self::encode);
                head(4, items.len() as u64).into_iter().chain(content).collect()
            }
            Self::Map(entries) => {
                let content = entries.iter().flat_map(|(k, v)| [k.encode(), v.encode()].concat());
                head(5, entries.len() as u64).into_iter().chain(content).collect()
            }
            Self::Raw(bytes) => bytes.clone(),
        }
    }
}

fn head(major: u8, n: u64) -> Vec<u8> {
    let width = match n {
        0..=23 => return vec![major << 5 | n.to_be_bytes()[7]],
        24..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8_usize,
    };
    let code = 24 + width.trailing_zeros().to_be_bytes()[3];
    [&[major << 5 | code], &n.to_be_bytes()[8 - width..]].concat()
}

/// A map with numbered fields, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub(crate) Vec<(u64, Item)>);

impl Fields {
    pub(crate) fn with(mut self, key: u64, value: Item) -> Self {
        self = self.without(key);
        let place = self.0.partition_point(|(have, _)| *have < key);
        self.0.insert(place, (key, value));
        self
    }

    pub(crate) fn without(mut self, key: u64) -> Self {
        self.0.retain(|(have, _)| *have != key);
        self
    }

    pub(crate) fn item(&self) -> Item {
        Item::Map(self.0.iter().map(|(k, v)| (Item::Uint(*k), v.clone())).collect())
    }

    /// As the content of a byte string.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.item().encode()
    }
}

pub(crate) fn share(uri: &str) -> Fields {
    Fields::default()
        .with(0, Item::text(uri))
        .with(2, Item::Uint(1))
        .with(4, Item::Bytes(b"wrapped".to_vec()))
        .with(6, Item::Bytes(vec![6; 32]))
}

pub(crate) fn pair(id: u8) -> Fields {
    Fields::default()
        .with(0, Item::Bytes(vec![id; 32]))
        .with(2, Item::Uint(1))
        .with(4, share("p:1").item())
        .with(6, share("c:1").item())
        .with(8, Item::Bytes(vec![8; 60]))
}

pub(crate) fn keyslot(kind: u64, content: Vec<u8>) -> Item {
    Item::Array(vec![Item::Uint(kind), Item::Bytes(content)])
}

pub(crate) fn body() -> Fields {
    body_with(vec![keyslot(1, pair(1).encode())])
}

pub(crate) fn body_with(keyslots: Vec<Item>) -> Fields {
    Fields::default()
        .with(0, Item::Bytes(vec![1; 32]))
        .with(2, Item::Uint(1))
        .with(4, Item::Uint(0))
        .with(6, Item::map_of_text(&[("b", "2"), ("aa", "1")]))
        .with(8, Item::Array(keyslots))
}

/// A header of this body, with a tag of zeros.
pub(crate) fn header(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap();
    [b"TWINLOCK\x01\0\0\0", &len.to_be_bytes()[..], body, &[0; 32]].concat()
}

pub(crate) fn parse_body(body: &Fields) -> Result<UnverifiedHeader, HeaderError> {
    UnverifiedHeader::parse(header(&body.encode()))
}

/// Parses a header of one keyslot of kind 1 with this content.
pub(crate) fn parse_pair(pair: &Fields) -> Result<UnverifiedHeader, HeaderError> {
    parse_body(&body_with(vec![keyslot(1, pair.encode())]))
}

/// Parses a header whose one provider share is this.
pub(crate) fn parse_share(share: &Fields) -> Result<UnverifiedHeader, HeaderError> {
    parse_pair(&pair(1).with(4, share.item()))
}
