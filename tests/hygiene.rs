//! No secret gets to where it stays: a log, a message, a core file.

mod child;
mod core_file;
mod logs;

/// A secret as it could be found: in words, and its bytes.
struct Secret {
    name: String,
    bytes: Vec<u8>,
}

/// The names of those secrets that are in `data`, whole or by half: a copy that
/// was overwritten in part still counts.
fn found<'a>(data: &[u8], secrets: &'a [Secret]) -> Vec<&'a str> {
    let halves = |secret: &'a Secret| {
        let half = match secret.bytes.len() {
            32.. => secret.bytes.len() / 2,
            len => len,
        };
        secret.bytes.chunks_exact(half).map(|needle| (secret.name.as_str(), needle))
    };
    let mut by_first: Vec<Vec<(&str, &[u8])>> = vec![Vec::new(); 256];
    for (name, needle) in secrets.iter().flat_map(halves) {
        by_first[usize::from(needle[0])].push((name, needle));
    }
    let mut names = Vec::new();
    for (at, first) in data.iter().enumerate() {
        for (name, needle) in &by_first[usize::from(*first)] {
            if data[at..].starts_with(needle) && !names.contains(name) {
                names.push(*name);
            }
        }
    }
    names
}

#[test]
fn a_half_is_found_and_nothing_else() {
    let secret = |name: &str, bytes: Vec<u8>| Secret { name: name.to_owned(), bytes };
    let secrets = [secret("share", (0..32).collect()), secret("PIN", b"7531".to_vec())];
    assert_eq!(found(&(16..32).collect::<Vec<u8>>(), &secrets), ["share"]);
    assert_eq!(found(b"..7531", &secrets), ["PIN"]);
    assert_eq!(found(&(8..24).collect::<Vec<u8>>(), &secrets), [""; 0]);
}
