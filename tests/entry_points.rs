//! The ways to decrypt, as functions of one form, so that every test can take
//! them all.

use std::fs;
use std::io::{Cursor, Read as _, Seek as _, SeekFrom};

use futures_util::FutureExt as _;
use tokio::io::AsyncReadExt as _;
use twinlock::{DecryptError, Decryptor, file, read_header};

/// What an entry point released, and how it ended.
pub(crate) struct Outcome {
    pub(crate) released: Released,
    pub(crate) result: Result<(), DecryptError>,
}

/// Plaintext, and in which way it came out.
pub(crate) enum Released {
    /// After all of it was verified.
    AtOnce(Vec<u8>),
    /// Segment by segment, from the start.
    Streaming(Vec<u8>),
    /// Segment by segment, by what the size says.
    BySeeking(Vec<u8>),
}

pub(crate) type EntryPoint = fn(&Decryptor, &[u8]) -> Outcome;

/// All of them.
pub(crate) const ENTRY_POINTS: &[(&str, EntryPoint)] = &[
    ("slice", slice),
    ("file", whole_file),
    ("stream", stream),
    ("tokio stream", tokio_stream),
    ("seek", seek),
    ("seek, length first", seek_length_first),
];

fn slice(decryptor: &Decryptor, envelope: &[u8]) -> Outcome {
    let result = now(decryptor.decrypt_slice(envelope));
    let (released, result) = match result {
        Ok(plaintext) => (plaintext, Ok(())),
        Err(error) => (Vec::new(), Err(error)),
    };
    Outcome { released: Released::AtOnce(released), result }
}

fn whole_file(decryptor: &Decryptor, envelope: &[u8]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&from, envelope).unwrap();
    let result = now(file::decrypt_file(decryptor, &from, &to, false));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), if result.is_ok() { 2 } else { 1 }, "a file is left");
    Outcome {
        released: Released::AtOnce(fs::read(&to).unwrap_or_default()),
        result: result.map(drop),
    }
}

fn stream(decryptor: &Decryptor, envelope: &[u8]) -> Outcome {
    let mut released = Vec::new();
    let result = now(decryptor.reader(envelope))
        .and_then(|mut reader| Ok(reader.read_to_end(&mut released)?));
    Outcome { released: Released::Streaming(released), result: result.map(drop) }
}

fn tokio_stream(decryptor: &Decryptor, envelope: &[u8]) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        let mut reader = decryptor.async_reader(envelope).await?;
        Ok(reader.read_to_end(&mut released).await?)
    });
    Outcome { released: Released::Streaming(released), result: result.map(drop) }
}

fn seek(decryptor: &Decryptor, envelope: &[u8]) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        let mut input = Cursor::new(envelope);
        let opened = decryptor.open(read_header(&mut input)?).await?;
        Ok(opened.seek_reader(input)?.read_to_end(&mut released)?)
    });
    Outcome { released: Released::BySeeking(released), result: result.map(drop) }
}

fn seek_length_first(decryptor: &Decryptor, envelope: &[u8]) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        let mut input = Cursor::new(envelope);
        let opened = decryptor.open(read_header(&mut input)?).await?;
        let mut reader = opened.seek_reader(input)?;
        let len = reader.seek(SeekFrom::End(0))?;
        reader.rewind()?;
        reader.read_to_end(&mut released)?;
        assert_eq!(released.len() as u64, len);
        Ok(len)
    });
    Outcome { released: Released::BySeeking(released), result: result.map(drop) }
}

/// Runs what waits for nothing: holders in memory and in files.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing here waits")
}
