//! format.md, "Encryption context", from the writer's side.

use proptest::collection::btree_map;
use proptest::prelude::*;
use twinlock_format::limits::MAX_CONTEXT_LEN;
use twinlock_format::{ContextError, EncryptionContext};

use crate::support::Item;

fn of(pairs: &[(&str, &str)]) -> EncryptionContext {
    EncryptionContext::from_pairs(pairs.iter().copied()).unwrap()
}

#[test]
fn short_keys_come_first() {
    let context = of(&[("aa", "1"), ("b", "2"), ("\u{e9}", "3"), ("", "x")][..3]);
    let keys: Vec<_> = context.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["b", "aa", "\u{e9}"]);
}

#[test]
fn the_order_of_insertion_does_not_matter() {
    assert_eq!(of(&[("a", "1"), ("b", "2")]), of(&[("b", "2"), ("a", "1")]));
}

#[test]
fn a_key_is_given_once() {
    let twice = EncryptionContext::from_pairs([("a", "1"), ("a", "1")]);
    assert_eq!(twice, Err(ContextError::DuplicateKey("a".into())));
}

#[test]
fn keys_that_belong_to_others_are_refused() {
    for key in ["twinlock:", "twinlock:share", "TWINLOCK:x", "Aws:", "aws:s3:arn"] {
        let result = EncryptionContext::new().insert(key, "v");
        assert_eq!(result, Err(ContextError::ReservedKey(key.into())));
    }
    of(&[
        ("twinlock", "v"),
        ("aws", "v"),
        ("my-aws:key", "v"),
        ("\u{e9}ws:", "v"),
        ("aw\u{17f}:", "v"),
    ]);
}

#[test]
fn control_characters_are_refused_in_keys_and_values() {
    for c in ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}') {
        let (mut context, with) = (EncryptionContext::new(), format!("a{c}b"));
        let refused = Err(ContextError::ControlCharacter(with.clone()));
        assert_eq!(context.insert(with.clone(), "v"), refused);
        assert!(matches!(context.insert("k", with), Err(ContextError::ControlCharacter(_))));
        assert!(context.is_empty());
    }
    of(&[(" ", "\u{a0}\u{202e}\u{200b}")]);
}

#[test]
fn a_refused_pair_leaves_the_context_as_it_was() {
    let mut context = of(&[("k", "v")]);
    let before = context.clone();
    // 1 (map) + 2 + 2 (k, v) + 2 (j) + 3 (head of the value) = 10
    let fits = "x".repeat(MAX_CONTEXT_LEN - 10);
    assert_eq!(
        context.insert("j", format!("{fits}x")),
        Err(ContextError::TooLong(MAX_CONTEXT_LEN + 1))
    );
    assert_eq!(context.insert("", "v"), Err(ContextError::EmptyKey));
    assert_eq!(context, before);
    context.insert("j", fits).unwrap();
    assert_eq!(context.encoded().len(), MAX_CONTEXT_LEN);
}

#[test]
fn contains_all_wants_each_pair_with_its_value() {
    let context = of(&[("a", "1"), ("b", "2")]);
    assert!(context.contains_all(&of(&[])));
    assert!(context.contains_all(&of(&[("b", "2")])));
    assert!(context.contains_all(&context));
    assert!(!context.contains_all(&of(&[("b", "3")])));
    assert!(!context.contains_all(&of(&[("B", "2")])));
    assert!(!context.contains_all(&of(&[("a", "1"), ("c", "2")])));
    // Two spellings of one letter are two keys.
    assert!(!of(&[("\u{e9}", "")]).contains_all(&of(&[("e\u{301}", "")])));
}

#[test]
fn it_is_shown_escaped() {
    let context = of(&[("b", "2\u{202e}"), ("a", "1")]);
    assert_eq!(context.to_string(), r"a=1, b=2\u{202e}");
    assert_eq!(format!("{:?}", of(&[("a", "1")])), r#"{"a": "1"}"#);
}

proptest! {
    #[test]
    fn the_encoding_is_a_sorted_map(pairs in btree_map("[a-z\u{e9}]{1,30}", "[ -~]{0,300}", 0..30)) {
        prop_assume!(pairs.iter().map(|(k, v)| k.len() + v.len() + 5).sum::<usize>() < 4000);
        let text = |text: &String| Item::Text(text.clone());
        let mut entries: Vec<_> = pairs.iter().map(|(k, v)| (text(k), text(v))).collect();
        entries.sort_by_key(|(key, _)| key.encode());
        let context = EncryptionContext::from_pairs(pairs).unwrap();
        prop_assert_eq!(context.encoded(), Item::Map(entries).encode());
    }
}
