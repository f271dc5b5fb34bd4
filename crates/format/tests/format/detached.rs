//! format.md, "Detached headers": format.md#R27.

use twinlock_format::{DetachedPrefix, DetachedPrefixError, EnvelopeId};

const PREFIX: DetachedPrefix = DetachedPrefix { envelope_id: EnvelopeId([0xe1; 32]) };

#[test]
fn a_prefix_is_magic_version_and_id() {
    let bytes = PREFIX.encode();
    assert_eq!(bytes[..], [&b"TWINPAYL\x01\0\0\0"[..], &[0xe1; 32]].concat());
    assert_eq!(DetachedPrefix::parse(&bytes), Ok(PREFIX));
    assert_eq!(DetachedPrefix::parse(&[&bytes[..], b"FLOE"].concat()), Ok(PREFIX));
}

#[test]
fn other_bytes_are_refused() {
    let changed = |at: usize, byte| {
        let mut bytes = PREFIX.encode();
        bytes[at] = byte;
        DetachedPrefix::parse(&bytes).unwrap_err()
    };
    assert_eq!(changed(0, b't'), DetachedPrefixError::NotDetachedPayload);
    assert_eq!(changed(8, 2), DetachedPrefixError::UnsupportedVersion(2));
    for at in 9..12 {
        assert!(matches!(changed(at, 1), DetachedPrefixError::Malformed { offset: 9, .. }));
    }
    let header = DetachedPrefix::parse(b"TWINLOCK\x01\0\0\0");
    assert_eq!(header, Err(DetachedPrefixError::NotDetachedPayload));
}

#[test]
fn every_truncation_is_refused() {
    for have in 0..44 {
        let refused = DetachedPrefixError::Truncated { have, need: 44 };
        assert_eq!(DetachedPrefix::parse(&PREFIX.encode()[..have]), Err(refused));
    }
}
