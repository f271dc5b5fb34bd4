use http::HeaderValue;
use http::header::HOST;
use sha2::digest::Update;

use super::authorization::SignedHeaders;
use super::{RequestHead, SignatureError};

/// Writes the canonical request (Appendix A, task 1) up to the hash of the body,
/// which ends it.
pub(super) fn write_head(
    head: &RequestHead<'_>,
    signed: SignedHeaders<'_>,
    out: &mut impl Update,
) -> Result<(), SignatureError> {
    out.update(head.method.as_bytes());
    out.update(b"\n");
    out.update(head.path_and_query.as_bytes());
    out.update(b"\n\n"); // there is no query string
    for name in signed.names() {
        write_header(head, name, out)?;
    }
    out.update(b"\n");
    out.update(signed.as_str().as_bytes());
    out.update(b"\n");
    Ok(())
}

fn write_header(
    head: &RequestHead<'_>,
    name: &str,
    out: &mut impl Update,
) -> Result<(), SignatureError> {
    out.update(name.as_bytes());
    out.update(b":");
    match name {
        ":authority" => {
            let authority = head.authority.ok_or(SignatureError::HeaderAbsent)?;
            write_value(authority.as_bytes(), out);
        }
        "host" => write_value(host_of(head)?, out),
        _ => write_values(head, name, out)?,
    }
    out.update(b"\n");
    Ok(())
}

/// The `Host` header, or what HTTP/2 has in its place: the same, if both are
/// there.
pub(super) fn host_of<'a>(head: &RequestHead<'a>) -> Result<&'a [u8], SignatureError> {
    let mut hosts = head.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    match (hosts.next(), hosts.next(), head.authority.map(str::as_bytes)) {
        (Some(host), None, None) => Ok(host),
        (Some(host), None, Some(authority)) if host.eq_ignore_ascii_case(authority) => Ok(host),
        (None, _, Some(authority)) => Ok(authority),
        (None, _, None) => Err(SignatureError::HeaderAbsent),
        _ => Err(SignatureError::HostAmbiguous),
    }
}

/// A header that is repeated counts as one, in the order that it came.
fn write_values(
    head: &RequestHead<'_>,
    name: &str,
    out: &mut impl Update,
) -> Result<(), SignatureError> {
    let mut values = head.headers.get_all(name).iter();
    write_value(values.next().ok_or(SignatureError::HeaderAbsent)?.as_bytes(), out);
    for value in values {
        out.update(b",");
        write_value(value.as_bytes(), out);
    }
    Ok(())
}

/// Without spaces at its ends, and with one for several within.
fn write_value(value: &[u8], out: &mut impl Update) {
    let mut words = value.trim_ascii().split(|byte| *byte == b' ').filter(|it| !it.is_empty());
    out.update(words.next().unwrap_or_default());
    for word in words {
        out.update(b" ");
        out.update(word);
    }
}
