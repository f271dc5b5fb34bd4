//! JSON as .NET reads it in settings files: with comments, with a comma after the
//! last item, and with a byte order mark.

/// The same as plain JSON. Whatever is left out becomes spaces, so that a
/// complaint about the rest names the right line and column.
pub(super) fn without(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    without_last_commas(&without_comments(text))
}

fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let (taken, is_kept) = match next {
            '"' => (string(rest), true),
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            '/' if rest.starts_with("/*") => {
                (rest.find("*/").map_or(rest.len(), |end| end + 2), false)
            }
            other => (other.len_utf8(), true),
        };
        let (piece, after) = rest.split_at(taken);
        match is_kept {
            true => plain.push_str(piece),
            false => plain.extend(piece.chars().map(blank)),
        }
        rest = after;
    }
    plain
}

fn blank(character: char) -> char {
    if character == '\n' { '\n' } else { ' ' }
}

/// How long the string is that the text begins with, with its quotes.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn without_last_commas(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let taken = if next == '"' { string(rest) } else { next.len_utf8() };
        let (piece, after) = rest.split_at(taken);
        let is_last = next == ','
            && after.trim_start().starts_with([']', '}'])
            && !plain.trim_end().ends_with(['[', '{', ',']);
        plain.push_str(if is_last { " " } else { piece });
        rest = after;
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &str) -> Option<Value> {
        serde_json::from_str(&without(text)).ok()
    }

    #[test]
    fn comments_go_and_strings_stay() {
        for (text, expected) in [
            ("\u{feff}{}", json!({})),
            ("// a\n[1, // b\n2]// c", json!([1, 2])),
            ("/* \" */[1,/**/2,/***/3]", json!([1, 2, 3])),
            (r#"["//", "/* */", "\"//", "\\", ",]"]"#, json!(["//", "/* */", "\"//", "\\", ",]"])),
            ("[1, 2, /* no more */ ]", json!([1, 2])),
            ("{\"a\": [{\"b\": 1,},],}", json!({"a": [{"b": 1}]})),
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_does_not_become_it() {
        for text in ["[1 2]", "[,]", "[1,,]", "/* [1]", "\"a", "[1] /", "\"a\\", "{\"a\" 1}"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_complaint_is_about_the_right_place() {
        let error =
            serde_json::from_str::<Value>(&without("/* a\nb */ // c\n[1, /* d */ x]")).unwrap_err();
        assert_eq!((error.line(), error.column()), (3, 13));
    }

    proptest! {
        #[test]
        fn plain_json_is_left_alone(text in "\\PC{0,60}") {
            let plain = json!({"a": text, "b": [text, 1]}).to_string();
            prop_assert_eq!(without(&plain), plain);
        }

        #[test]
        fn any_text_comes_back(text in "[/*\"\\\\,\\]}\n a]{0,40}") {
            prop_assert_eq!(without(&text).lines().count(), text.lines().count());
        }
    }
}
