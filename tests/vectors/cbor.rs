//! A writer of CBOR that can also write what the format forbids.

#[derive(Clone)]
pub(super) enum Item {
    Uint(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Item>),
    Map(Vec<(Item, Item)>),
    /// Written as it is.
    Raw(Vec<u8>),
}

impl Item {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// Pairs of text, in this order.
    pub(super) fn pairs(pairs: &[(&str, &str)]) -> Self {
        Self::Map(pairs.iter().map(|(k, v)| (Self::text(k), Self::text(v))).collect())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Uint(n) => head(0, *n),
            Self::Bytes(bytes) => [&head(2, bytes.len() as u64), &**bytes].concat(),
            Self::Text(text) => [&head(3, text.len() as u64), text.as_bytes()].concat(),
            Self::Array(items) => {
                let content: Vec<u8> = items.iter().flat_map(Self::encode).collect();
                [head(4, items.len() as u64), content].concat()
            }
            Self::Map(entries) => {
                let entry = |(key, value): &(Item, Item)| [key.encode(), value.encode()].concat();
                let content: Vec<u8> = entries.iter().flat_map(entry).collect();
                [head(5, entries.len() as u64), content].concat()
            }
            Self::Raw(bytes) => bytes.clone(),
        }
    }
}

/// Major type and argument, in the shortest form.
fn head(major: u8, n: u64) -> Vec<u8> {
    let bytes = n.to_be_bytes();
    let (code, width) = match n {
        0..24 => return vec![major << 5 | bytes[7]],
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    [&[major << 5 | code], &bytes[8 - width..]].concat()
}

/// A map with numbered fields.
#[derive(Clone, Default)]
pub(super) struct Fields(pub(super) Vec<(u64, Item)>);

impl Fields {
    /// Sets a field, at its place in the order.
    pub(super) fn with(self, key: u64, value: Item) -> Self {
        let mut fields = self.without(key);
        let place = fields.0.partition_point(|(have, _)| *have < key);
        fields.0.insert(place, (key, value));
        fields
    }

    pub(super) fn without(mut self, key: u64) -> Self {
        self.0.retain(|(have, _)| *have != key);
        self
    }

    /// Two fields in each other's place.
    pub(super) fn with_swapped(mut self, a: usize, b: usize) -> Self {
        self.0.swap(a, b);
        self
    }

    /// The first field a second time, behind itself.
    pub(super) fn with_first_twice(mut self) -> Self {
        self.0.insert(1, self.0[0].clone());
        self
    }

    pub(super) fn value(&self, key: u64) -> Option<&Item> {
        self.0.iter().find(|(have, _)| *have == key).map(|(_, value)| value)
    }

    pub(super) fn item(&self) -> Item {
        Item::Map(self.0.iter().map(|(k, v)| (Item::Uint(*k), v.clone())).collect())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.item().encode()
    }
}
