//! Messages are for people, and hold no raw text from a header.

use twinlock_format::{
    ContextError, DetachedPrefix, EncryptionContext, HeaderError, HeaderTooLarge, PairId, Prefix,
};

#[test]
fn a_message_says_what_and_where() {
    let malformed = HeaderError::Malformed { offset: 18, expected: "a generation (key 4)" };
    assert_eq!(malformed.to_string(), "byte 18 of the header: expected a generation (key 4)");
    assert_eq!(Prefix::parse(b"PK").unwrap_err().to_string(), "not a Twinlock file");
    assert_eq!(
        Prefix::parse(b"TWINLOCK\x02").unwrap_err().to_string(),
        "the header is cut short: 9 bytes of 16"
    );
    assert_eq!(
        HeaderTooLarge { needed: 70_000, room: 65_536 }.to_string(),
        "the header takes 70000 bytes, there is room for 65536 (a header has at most 65536)"
    );
    assert_eq!(
        DetachedPrefix::parse(b"TWINLOCK").unwrap_err().to_string(),
        "not a payload whose header is kept apart"
    );
}

#[test]
fn text_in_a_message_is_escaped() {
    let mut context = EncryptionContext::new();
    let refused = context.insert("k\u{1b}[2J", "v").unwrap_err();
    assert_eq!(
        refused.to_string(),
        r#"the encryption context key or value at "k\u{1b}[2J" holds a control character"#
    );
    let twice = ContextError::DuplicateKey("a\u{202e}".into()).to_string();
    assert_eq!(twice, r#"the encryption context key "a\u{202e}" is given twice"#);
}

#[test]
fn ids_are_shown_in_hexadecimal() {
    let id = PairId([0xab; 32]);
    assert_eq!(id.to_string(), "ab".repeat(32));
    assert_eq!(format!("{id:?}"), format!("PairId({})", "ab".repeat(32)));
}
