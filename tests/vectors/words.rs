//! How reading fails, in the words of the vectors.

use twinlock::{
    DecryptError, HeaderError, KeyslotFailure, OpenError, PayloadError, ReadHeaderError,
    ShareFailure,
};

pub(super) fn end_of<T>(result: &Result<T, DecryptError>) -> String {
    let end = match result {
        Ok(_) => "success",
        Err(DecryptError::Header(ReadHeaderError::Header(error))) => end_of_header(error),
        Err(DecryptError::Header(ReadHeaderError::Trailing { .. })) => "malformed-header",
        Err(DecryptError::Open(error)) => end_of_open(error),
        Err(DecryptError::Payload(error)) => end_of_payload(*error),
        Err(error) => return error.to_string(),
    };
    end.to_owned()
}

fn end_of_header(error: &HeaderError) -> &'static str {
    match error {
        HeaderError::Malformed { .. } => "malformed-header",
        HeaderError::DetachedPayload | HeaderError::NotTwinlock => "not-twinlock",
        HeaderError::Truncated { .. } => "truncated-header",
        HeaderError::UnknownField { .. } => "unknown-field",
        HeaderError::UnsupportedPayloadSuite(_) => "unsupported-suite",
        HeaderError::UnsupportedVersion(_) => "unsupported-version",
        _ => "an error that this table lacks",
    }
}

fn end_of_open(error: &OpenError) -> &'static str {
    match error {
        OpenError::Keyslots { failures } => match failures.last().map(|last| &last.failure) {
            Some(KeyslotFailure::WrappedDek) => "wrong-dek",
            Some(KeyslotFailure::Shares { provider: Some(ShareFailure::WrongShare), .. }) => {
                "wrong-share"
            }
            _ => "refused-share",
        },
        OpenError::NoKeyslot { .. } => "no-keyslot",
        OpenError::OldGeneration { .. } => "old-generation",
        OpenError::Tampered => "tampered-header",
        OpenError::UnexpectedContext { .. } => "unexpected-context",
        OpenError::WrongContext { .. } => "wrong-context",
        _ => "an error that this table lacks",
    }
}

fn end_of_payload(error: PayloadError) -> &'static str {
    match error {
        PayloadError::Header { .. } => "payload-header",
        PayloadError::OtherEnvelope { .. } | PayloadError::Prefix(_) => "payload-prefix",
        PayloadError::Segment { .. } => "segment",
        PayloadError::SegmentLen(_) => "segment-length",
        PayloadError::Trailing { .. } => "trailing",
        PayloadError::Truncated { .. } => "truncated",
        _ => "an error that this table lacks",
    }
}
