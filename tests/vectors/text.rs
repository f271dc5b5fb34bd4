//! A vector as a text file: `name: value` lines, an empty line, then the
//! envelope in hexadecimal, 32 bytes a line.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha384};

use super::writer::plaintext;
use crate::entry_points::Stored;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vector {
    pub(crate) name: String,
    /// The rule of `docs/format.md` that the envelope breaks, as in `R8`.
    pub(crate) rule: Option<String>,
    /// `success`, or the failure that a reader reports.
    pub(crate) expect: String,
    /// What a seeking reader reports instead, as it goes by the size.
    pub(crate) expect_seeking: Option<String>,
    /// The encryption context to expect.
    pub(crate) context: Vec<(String, String)>,
    pub(crate) min_generation: u64,
    /// How many bytes of plaintext a streaming reader releases at most.
    pub(crate) released_len: usize,
    /// The header, if it is kept apart: `envelope` is then the payload.
    pub(crate) header: Option<Vec<u8>>,
    pub(crate) envelope: Vec<u8>,
}

impl Vector {
    pub(super) fn success(name: &str, envelope: Vec<u8>, plaintext_len: usize) -> Self {
        Self {
            name: name.to_owned(),
            rule: None,
            expect: "success".to_owned(),
            expect_seeking: None,
            context: Vec::new(),
            min_generation: 0,
            released_len: plaintext_len,
            header: None,
            envelope,
        }
    }

    pub(super) fn failure(name: &str, rule: &str, expect: &str, envelope: Vec<u8>) -> Self {
        let (rule, expect) = (Some(rule.to_owned()), expect.to_owned());
        Self { rule, expect, ..Self::success(name, envelope, 0) }
    }

    pub(super) fn of_rule(self, rule: &str) -> Self {
        Self { rule: Some(rule.to_owned()), ..self }
    }

    pub(super) fn seeking(self, expect: &str) -> Self {
        Self { expect_seeking: Some(expect.to_owned()), ..self }
    }

    pub(super) fn expecting(self, pairs: &[(&str, &str)]) -> Self {
        let context = pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        Self { context: context.collect(), ..self }
    }

    pub(super) fn of_min_generation(self, min_generation: u64) -> Self {
        Self { min_generation, ..self }
    }

    pub(super) fn with_header(self, header: Vec<u8>) -> Self {
        Self { header: Some(header), ..self }
    }

    pub(crate) fn stored(&self) -> Stored<'_> {
        Stored { header: self.header.as_deref(), bytes: &self.envelope }
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| writeln!(text, "{name}: {value}").unwrap();
        line("expect", &self.expect);
        if let Some(expect) = &self.expect_seeking {
            line("expect-seeking", expect);
        }
        if let Some(rule) = &self.rule {
            line("rule", rule);
        }
        for (key, value) in &self.context {
            line("context", &format!("{key}={value}"));
        }
        if self.min_generation > 0 {
            line("min-generation", &self.min_generation.to_string());
        }
        line("released-len", &self.released_len.to_string());
        line("released-sha384", &hash(&plaintext(self.released_len)));
        if let Some(header) = &self.header {
            line("header", &hex::encode(header));
        }
        text.push('\n');
        for bytes in self.envelope.chunks(32) {
            writeln!(text, "{}", hex::encode(bytes)).unwrap();
        }
        text
    }

    pub(super) fn parse(name: &str, text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").expect("an empty line before the envelope");
        let envelope = hex::decode(body.replace('\n', "")).expect("hexadecimal");
        let mut vector = Self { expect: String::new(), ..Self::success(name, envelope, 0) };
        head.lines().for_each(|line| vector.read_line(line));
        vector
    }

    fn read_line(&mut self, line: &str) {
        let (name, value) = line.split_once(": ").expect("a name and a value");
        match name {
            "context" => {
                let (key, value) = value.split_once('=').expect("a key and a value");
                self.context.push((key.to_owned(), value.to_owned()));
            }
            "expect" => self.expect = value.to_owned(),
            "expect-seeking" => self.expect_seeking = Some(value.to_owned()),
            "header" => self.header = Some(hex::decode(value).expect("hexadecimal")),
            "min-generation" => self.min_generation = value.parse().expect("a number"),
            "released-len" => self.released_len = value.parse().expect("a number"),
            "released-sha384" => {
                let released = hash(&plaintext(self.released_len));
                assert_eq!(value, released, "{}: the plaintext is not by the rule", self.name);
            }
            "rule" => self.rule = Some(value.to_owned()),
            _ => panic!("{}: what is {name}?", self.name),
        }
    }
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha384::digest(bytes))
}
