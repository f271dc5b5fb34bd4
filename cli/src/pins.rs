//! Texts that quote what was typed, without the PIN that may stand in it.

const ATTRIBUTE: &str = "pin-value=";

/// `text` without what stands behind `pin-value=` in each of its lines:
/// complaints quote the line or word that they are about, and end in logs.
/// Where a PIN ends cannot be told in something that makes no sense.
pub(crate) fn without_pins(text: &str) -> String {
    text.split('\n').map(without_pin).collect::<Vec<_>>().join("\n")
}

fn without_pin(line: &str) -> String {
    match find(line) {
        Some(start) => line[..start].to_owned() + "…",
        None => line.to_owned(),
    }
}

/// A URI as it may be shown, with all attributes but the PIN.
pub(crate) fn uri_without_pin(uri: &str) -> String {
    match uri.split_once('?') {
        Some((name, query)) if find(name).is_none() => {
            // RFC 7512 section 2.3: in a query, `&` ends an attribute.
            let attributes: Vec<String> = query.split('&').map(without_pins).collect();
            format!("{name}?{}", attributes.join("&"))
        }
        _ => without_pins(uri),
    }
}

/// Where the first PIN begins.
fn find(text: &str) -> Option<usize> {
    text.to_ascii_lowercase().find(ATTRIBUTE).map(|start| start + ATTRIBUTE.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_where_its_pin_begins() {
        let text = "error: 'x?pin-value=12'34&a=b' is odd\n\nUsage: PIN-VALUE=9 twinlock";
        assert_eq!(without_pins(text), "error: 'x?pin-value=…\n\nUsage: PIN-VALUE=…");
        assert_eq!(without_pins("no PIN at all\n"), "no PIN at all\n");
    }

    #[test]
    fn a_uri_keeps_its_other_attributes() {
        let shown = uri_without_pin("pkcs11:token=t?pin-value=12'34&module-path=/m&pin-value=5");
        assert_eq!(shown, "pkcs11:token=t?pin-value=…&module-path=/m&pin-value=…");
        let shown = uri_without_pin("pkcs11:token=t?pin-source=file:/p");
        assert_eq!(shown, "pkcs11:token=t?pin-source=file:/p");
        // Not where it belongs, so where it ends is anybody's guess.
        assert_eq!(uri_without_pin("pkcs11:pin-value=12&34?a=b"), "pkcs11:pin-value=…");
    }
}
