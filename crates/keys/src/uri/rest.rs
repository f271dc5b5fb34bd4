//! The schemes whose names are an authority, a path, or both.

use super::{KeyUriError, Scheme, malformed, percent};

/// `<host>/keys/<name>`
pub(super) fn azure_kv(rest: &str) -> Result<String, KeyUriError> {
    let bad = |problem| malformed(Scheme::AzureKv, problem);
    let (authority, path) = authority(rest).ok_or(bad("expected <host>/keys/<name>"))?;
    let name =
        path.strip_prefix("keys/").ok_or(bad("the path is keys/<name>, without a version"))?;
    if !is_name(name, b"-") {
        return Err(bad("a key's name is 1 to 127 letters, digits and hyphens, without a version"));
    }
    Ok(format!("{authority}/{path}"))
}

/// `<host[:port]>/[prefix/]<name>`, of which the name is what a service has in
/// its list, and the rest is where the service is.
pub(super) fn dke(rest: &str) -> Result<String, KeyUriError> {
    let bad = |problem| malformed(Scheme::Dke, problem);
    let (authority, path) = authority(rest).ok_or(bad("expected <host[:port]>/[prefix/]<name>"))?;
    let (prefix, name) = match path.rsplit_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, path),
    };
    if name.len() > 64 || !is_name(name, b"-._") {
        return Err(bad("a key's name is 1 to 64 letters, digits, '-', '.' and '_'"));
    }
    if !prefix.is_none_or(|prefix| prefix.split('/').all(|part| is_name(part, b"-._~"))) {
        return Err(bad("a prefix is of parts of 1 to 127 letters, digits, '-', '.', '_' and '~'"));
    }
    // RFC 9110 section 4.2.2: without a port it is this one.
    let authority = authority.strip_suffix(":443").unwrap_or(&authority);
    Ok(format!("{authority}/{path}"))
}

/// `/<absolute path>`, percent-encoded
pub(super) fn file(rest: &str) -> Result<String, KeyUriError> {
    let bad = |problem| malformed(Scheme::File, problem);
    if !rest.starts_with('/') {
        return Err(bad("expected three slashes and an absolute path: file:///path/to/kek"));
    }
    let bytes = percent::decode(rest).ok_or(bad("'%' is followed by two hexadecimal digits"))?;
    if bytes.contains(&0) {
        return Err(bad("a path has no zero bytes"));
    }
    let odd = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
    if bytes[1..].split(|&byte| byte == b'/').any(odd) {
        return Err(bad("a path has no empty parts, '.' or '..', and does not end in '/'"));
    }
    Ok(percent::encode(&bytes, b"/"))
}

/// `projects/<p>/locations/<l>/keyRings/<r>/cryptoKeys/<k>`
pub(super) fn gcp_kms(rest: &str) -> Result<String, KeyUriError> {
    const LITERALS: [&str; 4] = ["projects", "locations", "keyRings", "cryptoKeys"];
    let parts: Vec<&str> = rest.split('/').collect();
    let fits = parts.len() == 8
        && LITERALS.iter().zip(parts.iter().step_by(2)).all(|(literal, part)| literal == part)
        && parts.iter().skip(1).step_by(2).all(|name| is_name(name, b"-_.:"));
    if !fits {
        return Err(malformed(
            Scheme::GcpKms,
            "expected projects/<p>/locations/<l>/keyRings/<r>/cryptoKeys/<k>, without a version",
        ));
    }
    Ok(rest.to_owned())
}

/// `<host[:port]>/<mount>/keys/<name>`
pub(super) fn vault(rest: &str) -> Result<String, KeyUriError> {
    let bad = |problem| malformed(Scheme::Vault, problem);
    let (authority, path) =
        authority(rest).ok_or(bad("expected <host[:port]>/<mount>/keys/<name>"))?;
    let (mount, name) = path.rsplit_once("/keys/").ok_or(bad("the path is <mount>/keys/<name>"))?;
    if !mount.split('/').chain([name]).all(|part| is_name(part, b"-_.")) {
        return Err(bad("mounts and names are letters, digits, '-', '_' and '.'"));
    }
    Ok(format!("{authority}/{path}"))
}

/// Splits `<host[:port]>/<path>` and puts the host in lower case.
fn authority(rest: &str) -> Option<(String, &str)> {
    let (authority, path) = rest.split_once('/')?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let port_fits = port.is_none_or(|port| {
        port.parse::<u16>().is_ok_and(|number| number != 0 && number.to_string() == port)
    });
    (is_host(host) && port_fits).then(|| (authority.to_ascii_lowercase(), path))
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

fn is_name(name: &str, also: &[u8]) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || also.contains(&byte);
    (1..=127).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}
