//! What a header's text looks like on a terminal.

use proptest::prelude::*;
use twinlock_format::escape_untrusted;

fn shown(text: &str) -> String {
    escape_untrusted(text).to_string()
}

#[test]
fn ordinary_text_is_left_alone() {
    for text in ["", "invoices/1.pdf", "r\u{e9}sum\u{e9} \u{65e5}\u{672c}\u{8a9e} \u{1f510}", "a b"]
    {
        assert_eq!(shown(text), text);
    }
}

#[test]
fn what_terminals_obey_reorder_or_hide_is_escaped() {
    let unsafe_characters = "\0\t\n\r\x1b\x7f\u{85}\u{9b}\u{ad}\u{61c}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\
        \u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{206f}\u{3164}\u{fe0f}\u{feff}\u{fff9}\u{e0041}";
    for c in unsafe_characters.chars() {
        assert_eq!(shown(&c.to_string()), format!("\\u{{{:x}}}", u32::from(c)));
    }
}

#[test]
fn a_backslash_is_doubled_so_that_no_text_passes_for_another() {
    assert_eq!(shown(r"\u{202e}"), r"\\u{202e}");
    assert_eq!(shown("\u{202e}"), r"\u{202e}");
}

proptest! {
    #[test]
    fn nothing_unsafe_is_left(text: String) {
        prop_assert!(!shown(&text).chars().any(char::is_control));
    }
}
