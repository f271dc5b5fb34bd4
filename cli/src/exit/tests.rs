use super::*;

const ALL: [Kind; 23] = [
    Kind::Failed,
    Kind::Io,
    Kind::NoSpace,
    Kind::OutputExists,
    Kind::Unproven,
    Kind::Usage,
    Kind::Misconfigured,
    Kind::NotAnEnvelope,
    Kind::Tampered,
    Kind::Truncated,
    Kind::WrongContext,
    Kind::OldGeneration,
    Kind::Denied,
    Kind::KeyNotFound,
    Kind::KeyDisabled,
    Kind::NoKeyslot,
    Kind::Unavailable,
    Kind::TimedOut,
    Kind::Partial,
    Kind::Interrupted,
    Kind::Terminated,
    Kind::HungUp,
    Kind::BrokenPipe,
];

#[test]
fn every_kind_stands_in_the_page_for_users() {
    let page = include_str!("../../../docs/cli.md");
    for kind in ALL {
        let row = format!("| {} | `{}` |", kind.code(), kind.name());
        assert!(page.contains(&row), "docs/cli.md has no row {row:?}");
    }
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), ALL.len());
}

#[test]
fn holders_answers_become_exit_codes() {
    let code = |kind| Failure::from(HolderError::new(kind, "no")).kind.code();
    assert_eq!(code(HolderErrorKind::Denied), 4);
    assert_eq!(code(HolderErrorKind::Disabled), 4);
    assert_eq!(code(HolderErrorKind::NotFound), 4);
    assert_eq!(code(HolderErrorKind::InvalidCiphertext), 3);
    assert_eq!(code(HolderErrorKind::Misconfigured), 2);
    assert_eq!(code(HolderErrorKind::TimedOut), 5);
    assert_eq!(code(HolderErrorKind::Unavailable { retry_after: None }), 5);
    assert_eq!(code(HolderErrorKind::Failed), 1);
}

#[test]
fn payload_errors_are_found_inside_io_errors() {
    let code = |error: PayloadError| Failure::from(io::Error::from(error)).kind.code();
    assert_eq!(code(PayloadError::Header { offset: 0 }), 3);
    assert_eq!(code(PayloadError::Segment { segment: 0, offset: 0 }), 3);
    assert_eq!(code(PayloadError::Trailing { offset: 0 }), 3);
    assert_eq!(code(PayloadError::Truncated { offset: 0 }), 3);
    assert_eq!(code(PayloadError::SegmentLen(3)), 2);
}

#[test]
fn headers_that_are_not_ours_are_told_from_damaged_ones() {
    let code = |error: HeaderError| Failure::from(error).kind.code();
    assert_eq!(code(HeaderError::NotTwinlock), 2);
    assert_eq!(code(HeaderError::UnsupportedVersion(9)), 2);
    assert_eq!(code(HeaderError::UnsupportedPayloadSuite(9)), 2);
    assert_eq!(code(HeaderError::UnknownField { offset: 0, key: 10 }), 2);
    assert_eq!(code(HeaderError::Truncated { have: 0, need: 16 }), 2);
    assert_eq!(code(HeaderError::Truncated { have: 15, need: 16 }), 3);
    assert_eq!(code(HeaderError::Malformed { offset: 9, expected: "x" }), 3);
}

#[test]
fn a_closed_pipe_is_no_failure_and_a_full_disk_is_one() {
    let code = |kind: io::ErrorKind| Failure::from(io::Error::from(kind)).kind.code();
    assert_eq!(code(io::ErrorKind::BrokenPipe), 0);
    assert_eq!(code(io::ErrorKind::StorageFull), 1);
    assert_eq!(code(io::ErrorKind::AlreadyExists), 1);
    assert_eq!(code(io::ErrorKind::NotFound), 1);
}

#[test]
fn the_flags_for_an_unexpected_context_can_be_pasted_into_a_shell() {
    let actual = twinlock::EncryptionContext::from_pairs([
        ("object", "a/b.pdf"),
        ("note", "it's; rm -rf $HOME \u{202e}"),
    ]);
    let failure = Failure::from(OpenError::UnexpectedContext { actual: actual.unwrap() });
    assert_eq!(failure.kind.code(), 3);
    let hint = failure.hint.unwrap();
    assert!(hint.contains("--context object=a/b.pdf"), "{hint}");
    assert!(hint.contains(r"--context 'note=it'\''s; rm -rf $HOME \u{202e}'"), "{hint}");
}
