//! The documents of `--json`, one line each. `docs/cli.md` promises their
//! fields; only add to them.

pub(crate) mod keys;

use serde::Serialize;
use twinlock::EncryptionContext;

use crate::exit::{Failure, Kind};

/// Counts up when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// How a verb ended, when it did not fail.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// For people, on stdout; may be empty.
    pub(crate) text: String,
    /// For programs.
    pub(crate) json: String,
    /// What it comes down to, if it is no success all the same.
    pub(crate) kind: Option<Kind>,
}

impl Outcome {
    /// A success of `verb`.
    pub(crate) fn new(verb: &str, text: impl Into<String>, body: &impl Serialize) -> Self {
        Self { text: text.into(), json: document(verb, true, body), kind: None }
    }

    /// An outcome of `verb` that comes down to `kind`, if it is no success.
    pub(crate) fn judged(
        verb: &str,
        text: impl Into<String>,
        body: &impl Serialize,
        kind: Option<Kind>,
    ) -> Self {
        Self { text: text.into(), json: document(verb, kind.is_none(), body), kind }
    }
}

#[derive(Serialize)]
struct Document<'a, T> {
    twinlock: u32,
    verb: &'a str,
    ok: bool,
    #[serde(flatten)]
    body: &'a T,
}

/// One line.
pub(crate) fn document(verb: &str, ok: bool, body: &impl Serialize) -> String {
    let document = Document { twinlock: SCHEMA, verb, ok, body };
    serde_json::to_string(&document).expect("reports have text keys and finite numbers only")
}

/// The document of a failed run.
pub(crate) fn failure(verb: &str, failure: &Failure) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        error: Error<'a>,
    }
    document(verb, false, &Body { error: Error::of(failure) })
}

/// What reports say of a failure.
#[derive(Serialize)]
pub(crate) struct Error<'a> {
    code: u8,
    kind: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
}

impl<'a> Error<'a> {
    pub(crate) fn of(failure: &'a Failure) -> Self {
        Self {
            code: failure.kind.code(),
            kind: failure.kind.name(),
            message: &failure.message,
            hint: failure.hint.as_deref(),
        }
    }
}

/// An encryption context as a JSON object.
pub(crate) fn context(context: &EncryptionContext) -> serde_json::Value {
    context.iter().collect()
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_begins_alike() {
        #[derive(Serialize)]
        struct Body {
            n: u8,
        }
        let outcome = Outcome::new("encrypt", "", &Body { n: 1 });
        assert_eq!(outcome.json, r#"{"twinlock":1,"verb":"encrypt","ok":true,"n":1}"#);
    }

    #[test]
    fn a_failure_says_code_kind_message_and_hint() {
        let json = failure("verify", &Failure::usage("no").hint("so"));
        let expected = concat!(
            r#"{"twinlock":1,"verb":"verify","ok":false,"#,
            r#""error":{"code":2,"kind":"usage","message":"no","hint":"so"}}"#
        );
        assert_eq!(json, expected);
    }
}
