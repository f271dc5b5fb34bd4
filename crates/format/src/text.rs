//! Text from a header, made safe to show.

use std::fmt::{self, Display, Write};

/// Shows `text` with every character escaped that a terminal obeys, that
/// changes the order of what is read, or that is not seen at all.
///
/// Such a character becomes `\u{202e}`, and a backslash becomes `\\`, so that
/// two different texts never look alike for that reason. Letters that merely
/// resemble each other are left alone.
///
/// ```
/// let shown = twinlock_format::escape_untrusted("fdp.\u{202e}exe\x1b[0m").to_string();
/// assert_eq!(shown, r"fdp.\u{202e}exe\u{1b}[0m");
/// ```
pub fn escape_untrusted(text: &str) -> impl Display + '_ {
    Escaped(text)
}

struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str(r"\\")?,
                c if is_unsafe_to_show(c) => write!(f, "{}", c.escape_unicode())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn is_unsafe_to_show(c: char) -> bool {
    c.is_control() || is_invisible(c) || reorders(c)
}

/// Bidi marks, embeddings, overrides and isolates; line and paragraph separators.
fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Zero-width and other default-ignorable characters of Unicode.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}
