use twinlock_format::limits::{DETACHED_PREFIX_LEN, HEADER_TAG_LEN, MAX_BODY_LEN, MAX_HEADER_LEN};
use twinlock_format::{
    DetachedPrefix, Header, Padding, Prefix, UnverifiedHeader, escape_untrusted,
};

/// Bytes that parse as a header are the bytes that their meaning is encoded
/// to, and no bytes make the parser panic.
pub fn header(bytes: &[u8]) {
    check(bytes);
    // A fuzzer is slow to guess lengths. As a body of the right length, the
    // same bytes get to the fields at once.
    check(&framed(bytes));
}

fn check(bytes: &[u8]) {
    check_prefix(bytes);
    check_detached_prefix(bytes);
    check_sizes(bytes);
    let Ok(unverified) = UnverifiedHeader::parse(bytes) else { return };
    check_canonical(&unverified, bytes);
    check_readable(unverified.header());
}

/// What `inspect` says of a file adds up to its length.
fn check_sizes(bytes: &[u8]) {
    let file_len = bytes.len() as u64;
    let Ok(inspection) = twinlock::inspect(&mut &*bytes, Some(file_len)) else { return };
    assert!(inspection.padding_len() < inspection.header_len());
    let Some(payload) = inspection.payload() else { return };
    let before = inspection.header_len() as u64 + payload.floe_header_len;
    if let Some(sizes) = payload.sizes {
        assert_eq!(before + sizes.segments_len, file_len);
        assert!(sizes.plaintext_len < sizes.segments_len);
    }
}

fn check_prefix(bytes: &[u8]) {
    let Ok(prefix) = Prefix::parse(bytes) else { return };
    assert!(prefix.body_len() < prefix.header_len());
    assert!(prefix.header_len() <= MAX_HEADER_LEN);
}

fn check_detached_prefix(bytes: &[u8]) {
    let Ok(prefix) = DetachedPrefix::parse(bytes) else { return };
    assert_eq!(prefix.encode(), bytes[..DETACHED_PREFIX_LEN]);
}

fn check_canonical(unverified: &UnverifiedHeader, bytes: &[u8]) {
    assert_eq!(unverified.as_bytes(), bytes);
    let padding = Padding::Bytes(unverified.padding_len());
    let encoded = unverified.header().encode(padding).expect("it had room before");
    assert_eq!(encoded.as_bytes(), &bytes[..bytes.len() - HEADER_TAG_LEN]);
}

/// What `inspect` shows of it, and what a rewrap keeps of it.
fn check_readable(header: &Header) {
    for (key, value) in header.context().iter() {
        assert_eq!(header.context().get(key), Some(value));
        assert!(!escape_untrusted(value).to_string().chars().any(char::is_control));
    }
    assert!(header.supported_keyslots().count() <= header.keyslots().len());
    let Ok(rewrapped) = header.rewrapped(header.keyslots().to_vec()) else { return };
    assert_eq!(rewrapped.keyslots(), header.keyslots());
}

fn framed(body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(MAX_BODY_LEN)];
    let len = u32::try_from(body.len()).expect("a body is short");
    [b"TWINLOCK\x01\0\0\0", &len.to_be_bytes()[..], body, &[0; HEADER_TAG_LEN]].concat()
}
