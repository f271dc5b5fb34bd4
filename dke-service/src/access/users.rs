//! Users by their names.

use serde_json::Value;

use super::Match;
use crate::bearer::Caller;

/// The longest name, in bytes, that is looked for or at.
const MAX_NAME: usize = 1024;

/// Users who are listed by name.
pub(super) struct Users {
    patterns: Vec<Pattern>,
    claims: Vec<String>,
}

/// A name with `*` and `?`, folded.
struct Pattern(Vec<char>);

impl Users {
    /// None if nobody is listed.
    pub(super) fn new(names: &[String], claims: &[String]) -> Result<Option<Self>, String> {
        if names.is_empty() {
            return Ok(None);
        }
        if claims.is_empty() || claims.iter().any(String::is_empty) {
            return Err("access.user_claims is empty, so no token could name a user".to_owned());
        }
        let patterns = names.iter().map(|name| Pattern::of(name)).collect::<Result<_, _>>()?;
        Ok(Some(Self { patterns, claims: claims.to_vec() }))
    }

    /// By which claim the caller is one of them, if it is.
    pub(super) fn find(&self, caller: &Caller) -> Option<Match> {
        let claim = self.claims.iter().find(|claim| usable(caller, claim).is_some())?;
        let value = usable(caller, claim)?;
        let name = value.as_str()?;
        // As it is in the token: an issuer's names with spaces around are others.
        if name.trim().is_empty() || name.len() > MAX_NAME {
            return None;
        }
        let folded = folded(name);
        let is_listed = self.patterns.iter().any(|pattern| pattern.fits(&folded));
        is_listed.then(|| Match::of(claim, name))
    }
}

/// The claim of this name, if there is one that says who somebody is.
fn usable<'a>(caller: &'a Caller, name: &str) -> Option<&'a Value> {
    let is_unverified = || ["email_verified", "xms_edov"].into_iter().any(|it| is_no(caller, it));
    match caller.claim(name) {
        Some(Value::Null) => None,
        Some(_) if name == "email" && is_unverified() => None,
        claim => claim,
    }
}

/// Issuers write booleans in several ways.
fn is_no(caller: &Caller, name: &str) -> bool {
    match caller.claim(name) {
        Some(Value::Bool(yes)) => !yes,
        Some(Value::String(text)) => text == "0" || text.eq_ignore_ascii_case("false"),
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

impl Pattern {
    fn of(name: &str) -> Result<Self, String> {
        match name.trim() {
            "" => Err("access.users has an empty name".to_owned()),
            name if name.len() > MAX_NAME => {
                Err(format!("access.users has a name of more than {MAX_NAME} bytes"))
            }
            name => Ok(Self(folded(name))),
        }
    }

    fn fits(&self, name: &[char]) -> bool {
        self.0 == ['*'] || fits(&self.0, name)
    }
}

/// Whether a name fits a pattern. Each `*` takes as little as it can, and more
/// only while nothing after it fits: no name takes longer than the product of the
/// two lengths.
fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(wanted) if is_fit(*wanted, name[of]) => (at, of) = (at + 1, of + 1),
            _ => match star {
                Some((begin, taken)) if name[taken] != '@' => {
                    star = Some((begin, taken + 1));
                    (at, of) = (begin + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

fn is_fit(wanted: char, found: char) -> bool {
    wanted == found || (wanted == '?' && found != '@')
}

/// Without the difference of upper and lower case: Unicode's lower case, each
/// character by itself and in no language in particular, so that ß is not ss.
/// What is not ASCII never becomes it: the Kelvin sign is no k, and whoever may
/// choose a name of such letters is nobody else.
fn folded(text: &str) -> Vec<char> {
    text.chars().flat_map(folded_character).collect()
}

fn folded_character(character: char) -> Vec<char> {
    let lower: Vec<char> = character.to_lowercase().collect();
    let becomes_ascii = !character.is_ascii() && lower.iter().any(char::is_ascii);
    if becomes_ascii { vec![character] } else { lower }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        Pattern::of(pattern).unwrap().fits(&folded(name))
    }

    #[test]
    fn patterns() {
        for (pattern, name) in [
            ("alice@example.org", "ALICE@Example.Org"),
            (" alice@example.org\t", "alice@example.org"),
            ("*@example.org", "a@example.org"),
            ("*@example.org", "@example.org"),
            ("a*e@example.org", "alice@example.org"),
            ("a*c*@*.org", "alice@example.org"),
            ("al?ce@example.org", "alice@example.org"),
            ("*@*", "alice@example.org"),
            ("*", "alice@example.org"),
            ("Ärger@Straße.example", "äRGER@straße.example"),
            ("a**b", "ab"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("alice@example.org", "malice@example.org"),
            ("alice@example.org", "alice@example.org.evil.example"),
            ("*@example.org", "eve@evil.example@example.org"),
            ("*@example.org", "alice@example.orgs"),
            ("*@example.org", "alice@example-org"),
            ("a?b", "a@b"),
            ("a?b", "ab"),
            ("**", "a@b"),
            ("kelvin@example.org", "\u{212a}elvin@example.org"),
            ("strasse", "straße"),
            ("[a-z]*", "alice"),
            ("alice.example", "alicexexample"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_long_name_does_not_take_long() {
        let name = "a".repeat(MAX_NAME);
        assert!(!fits(&format!("{}b", "a*".repeat(MAX_NAME / 2 - 1)), &name));
    }

    /// The same by trying everything.
    fn simply_fits(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), Some((first, others))) => {
                simply_fits(rest, name) || (*first != '@' && simply_fits(pattern, others))
            }
            (Some(('*', rest)), None) => simply_fits(rest, name),
            (Some((wanted, rest)), Some((first, others))) => {
                is_fit(*wanted, *first) && simply_fits(rest, others)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_is_what_trying_everything_finds(pattern in "[ab@*?]{0,8}", name in "[ab@]{0,8}") {
            let (pattern, name): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(super::fits(&pattern, &name), simply_fits(&pattern, &name));
        }

        #[test]
        fn a_name_fits_itself_in_any_case(name in "[^\\s*?](.{0,20}[^\\s*?])?") {
            prop_assume!(!name.contains(['*', '?']));
            prop_assert!(fits(&name, &name));
            prop_assert!(fits(&name.to_ascii_uppercase(), &name.to_ascii_lowercase()));
        }
    }
}
