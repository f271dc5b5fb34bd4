//! The ways to decrypt, as functions of one form.

use std::fs;
use std::io::{Cursor, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use futures_util::FutureExt as _;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use twinlock::{
    CustomerKey, DecryptError, Decryptor, EncryptionContext, FileKek, HeaderError, KeyUri,
    KeyslotFailure, OpenError, PayloadError, ProviderKey, ReadHeaderError, ShareFailure, file,
    read_header,
};

use super::writer::{self, URIS};
use super::{Outcome, Vector};

/// Plaintext, and in which way it came out.
pub(super) enum Released {
    /// After all of it was verified.
    AtOnce(Vec<u8>),
    /// Segment by segment, from the start.
    Streaming(Vec<u8>),
    /// Segment by segment, by what the size says.
    BySeeking(Vec<u8>),
}

type EntryPoint = fn(&Decryptor, &Vector) -> Outcome;

pub(super) const ENTRY_POINTS: &[(&str, EntryPoint)] = &[
    ("slice", slice),
    ("file", whole_file),
    ("stream", stream),
    ("tokio stream", tokio_stream),
    ("seek", seek),
    ("seek, length first", seek_length_first),
];

fn slice(decryptor: &Decryptor, vector: &Vector) -> Outcome {
    let result = now(decryptor.decrypt_slice(&vector.envelope));
    let end = end_of(&result);
    Outcome { released: Released::AtOnce(result.unwrap_or_default()), end }
}

fn whole_file(decryptor: &Decryptor, vector: &Vector) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&from, &vector.envelope).unwrap();
    let result = now(file::decrypt_file(decryptor, &from, &to, false));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), if result.is_ok() { 2 } else { 1 }, "{}: a file is left", vector.name);
    Outcome { released: Released::AtOnce(fs::read(&to).unwrap_or_default()), end: end_of(&result) }
}

fn stream(decryptor: &Decryptor, vector: &Vector) -> Outcome {
    let mut released = Vec::new();
    let result = now(decryptor.reader(&*vector.envelope))
        .and_then(|mut reader| Ok(reader.read_to_end(&mut released)?));
    Outcome { released: Released::Streaming(released), end: end_of(&result) }
}

fn tokio_stream(decryptor: &Decryptor, vector: &Vector) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        let mut reader = decryptor.async_reader(&*vector.envelope).await?;
        Ok(reader.read_to_end(&mut released).await?)
    });
    Outcome { released: Released::Streaming(released), end: end_of(&result) }
}

fn seek(decryptor: &Decryptor, vector: &Vector) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        let mut input = Cursor::new(&vector.envelope);
        let envelope = decryptor.open(read_header(&mut input)?).await?;
        Ok(envelope.seek_reader(input)?.read_to_end(&mut released)?)
    });
    Outcome { released: Released::BySeeking(released), end: end_of(&result) }
}

fn seek_length_first(decryptor: &Decryptor, vector: &Vector) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        let mut input = Cursor::new(&vector.envelope);
        let envelope = decryptor.open(read_header(&mut input)?).await?;
        let mut reader = envelope.seek_reader(input)?;
        let len = reader.seek(SeekFrom::End(0))?;
        reader.rewind()?;
        reader.read_to_end(&mut released)?;
        assert_eq!(released.len() as u64, len, "{}: the length that was reported", vector.name);
        Ok(len)
    });
    Outcome { released: Released::BySeeking(released), end: end_of(&result) }
}

/// File KEKs never wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing here waits")
}

/// In the words of the vectors.
fn end_of<T>(result: &Result<T, DecryptError>) -> String {
    let end = match result {
        Ok(_) => "success",
        Err(DecryptError::Header(ReadHeaderError::Header(error))) => end_of_header(error),
        Err(DecryptError::Open(error)) => end_of_open(error),
        Err(DecryptError::Payload(error)) => end_of_payload(*error),
        Err(error) => return error.to_string(),
    };
    end.to_owned()
}

fn end_of_header(error: &HeaderError) -> &'static str {
    match error {
        HeaderError::Malformed { .. } => "malformed-header",
        HeaderError::NotTwinlock => "not-twinlock",
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
        PayloadError::Segment { .. } => "segment",
        PayloadError::SegmentLen(_) => "segment-length",
        PayloadError::Trailing { .. } => "trailing",
        PayloadError::Truncated { .. } => "truncated",
        _ => "an error that this table lacks",
    }
}

/// The KEKs of the vectors, where only their owner can read them.
pub(crate) struct Keys {
    folder: TempDir,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in writer::kek_files() {
            write_private(&folder.path().join(name), &text);
        }
        Self { folder }
    }

    /// Where a KEK lies here, of `provider.kek` and `customer.kek`.
    pub(crate) fn uri(&self, name: &str) -> KeyUri {
        KeyUri::parse(&format!("file://{}/{name}", self.folder.path().display())).unwrap()
    }

    pub(super) fn decryptor(&self, vector: &Vector) -> Decryptor {
        let (provider, customer) = (self.uri("provider.kek"), self.uri("customer.kek"));
        let [was_provider, was_customer] = URIS.map(|uri| KeyUri::parse(uri).unwrap());
        Decryptor::expecting(EncryptionContext::from_pairs(vector.context.clone()).unwrap())
            .provider(ProviderKey::new(FileKek::open(&provider).unwrap()).unwrap())
            .customer(CustomerKey::new(FileKek::open(&customer).unwrap()).unwrap())
            .moved(was_provider, provider)
            .moved(was_customer, customer)
            .min_generation(vector.min_generation)
    }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
