//! The ways to decrypt, as functions of one form, so that every test can take
//! them all.

use std::fs;
use std::io::{Cursor, Read as _, Seek as _, SeekFrom, Write as _};
use std::thread;

use futures_util::FutureExt as _;
use tokio::io::AsyncReadExt as _;
use twinlock::{
    DecryptError, DecryptSliceError, Decryptor, Envelope, file, read_detached_header, read_header,
};

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
    /// Segment by segment, in no order; zeros elsewhere.
    InPlaces(Vec<u8>),
}

/// An envelope as storage has it.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    /// The header, if it is kept apart.
    pub(crate) header: Option<&'a [u8]>,
    /// The envelope, or else the payload.
    pub(crate) bytes: &'a [u8],
}

impl<'a> From<&'a Vec<u8>> for Stored<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl<'a> From<&'a [u8]> for Stored<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { header: None, bytes }
    }
}

impl<'a> Stored<'a> {
    /// Opens it, and returns what a reader of its payload is given.
    async fn open(
        self,
        decryptor: &Decryptor,
    ) -> Result<(Envelope, Cursor<&'a [u8]>), DecryptError> {
        let mut input = Cursor::new(self.bytes);
        let envelope = match self.header {
            Some(mut header) => {
                decryptor.open(read_detached_header(&mut header)?).await?.detached()
            }
            None => decryptor.open(read_header(&mut input)?).await?,
        };
        Ok((envelope, input))
    }
}

pub(crate) type EntryPoint = fn(&Decryptor, Stored<'_>) -> Outcome;

/// All of them.
pub(crate) const ENTRY_POINTS: &[(&str, EntryPoint)] = &[
    ("slice", slice),
    ("into a slice", into_a_slice),
    ("in place", in_place),
    ("file", whole_file),
    ("file in places", file_in_places),
    ("pipeline", pipeline),
    ("stream", stream),
    ("tokio stream", tokio_stream),
    ("seek", seek),
    ("seek, length first", seek_length_first),
    ("range", range),
    ("ranges of several threads", ranges_of_threads),
];

fn slice(decryptor: &Decryptor, stored: Stored<'_>) -> Outcome {
    let result = now(async {
        if stored.header.is_none() {
            return decryptor.decrypt_slice(stored.bytes).await;
        }
        let (envelope, input) = stored.open(decryptor).await?;
        let mut plaintext = Vec::new();
        envelope.reader(input)?.read_to_end(&mut plaintext)?;
        Ok(plaintext)
    });
    let (released, result) = match result {
        Ok(plaintext) => (plaintext, Ok(())),
        Err(error) => (Vec::new(), Err(error)),
    };
    Outcome { released: Released::AtOnce(released), result }
}

/// Also: an error leaves nothing of what was decrypted.
fn into_a_slice(decryptor: &Decryptor, stored: Stored<'_>) -> Outcome {
    let mut buffer = vec![0xEE; stored.bytes.len() + 3];
    let result = now(async {
        let (envelope, _) = stored.open(decryptor).await?;
        envelope.decrypt_into(stored.bytes, &mut buffer).map_err(|error| match error {
            DecryptSliceError::Payload(error) => error.into(),
            error => panic!("the buffer is long enough: {error}"),
        })
    });
    let len = *result.as_ref().unwrap_or(&0);
    let behind = &buffer[len..];
    let zeros = behind.iter().take_while(|&&byte| byte == 0 && result.is_err()).count();
    assert!(behind[zeros..].iter().all(|&byte| byte == 0xEE), "more than the plaintext is written");
    Outcome { released: Released::AtOnce(buffer[..len].to_vec()), result: result.map(drop) }
}

/// Also: an error leaves nothing of what was decrypted, and a success nothing
/// behind the plaintext.
fn in_place(decryptor: &Decryptor, stored: Stored<'_>) -> Outcome {
    let mut buffer = stored.bytes.to_vec();
    let result: Result<usize, DecryptError> = now(async {
        let (envelope, _) = stored.open(decryptor).await?;
        Ok(envelope.decrypt_in_place(&mut buffer)?.len())
    });
    let is_wiped = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
    let len = match result {
        Ok(len) => len,
        Err(_) => 0,
    };
    let is_untouched = result.is_err() && buffer == stored.bytes;
    assert!(is_untouched || is_wiped(&buffer[len..]), "something is left in the buffer");
    Outcome { released: Released::AtOnce(buffer[..len].to_vec()), result: result.map(drop) }
}

fn whole_file(decryptor: &Decryptor, stored: Stored<'_>) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let [from, header, to] = ["in", "header", "out"].map(|name| folder.path().join(name));
    fs::write(&from, stored.bytes).unwrap();
    let result = match stored.header {
        Some(bytes) => {
            fs::write(&header, bytes).unwrap();
            now(file::decrypt_file_detached(decryptor, &header, &from, &to, false))
        }
        None => now(file::decrypt_file(decryptor, &from, &to, false)),
    };
    let inputs = 1 + usize::from(stored.header.is_some());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), inputs + usize::from(result.is_ok()), "a file is left");
    Outcome {
        released: Released::AtOnce(fs::read(&to).unwrap_or_default()),
        result: result.map(drop),
    }
}

fn file_in_places(decryptor: &Decryptor, stored: Stored<'_>) -> Outcome {
    let (mut input, mut output) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    input.write_all(stored.bytes).unwrap();
    let result = now(async {
        let (envelope, _) = stored.open(decryptor).await?;
        Ok(envelope.decrypt_file(&input, &output)?)
    });
    let mut released = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut released).unwrap();
    Outcome { released: Released::InPlaces(released), result: result.map(drop) }
}

fn pipeline(decryptor: &Decryptor, stored: Stored<'_>) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        let (envelope, input) = stored.open(decryptor).await?;
        Ok(envelope.decrypt(input, &mut released)?)
    });
    Outcome { released: Released::Streaming(released), result: result.map(drop) }
}

fn stream(decryptor: &Decryptor, stored: Stored<'_>) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        if stored.header.is_none() {
            let mut reader = decryptor.reader(stored.bytes).await?;
            return Ok(reader.read_to_end(&mut released)?);
        }
        let (envelope, input) = stored.open(decryptor).await?;
        Ok(envelope.reader(input)?.read_to_end(&mut released)?)
    });
    Outcome { released: Released::Streaming(released), result: result.map(drop) }
}

fn tokio_stream(decryptor: &Decryptor, stored: Stored<'_>) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        if stored.header.is_none() {
            let mut reader = decryptor.async_reader(stored.bytes).await?;
            return Ok(reader.read_to_end(&mut released).await?);
        }
        let (envelope, _) = stored.open(decryptor).await?;
        let mut reader = envelope.async_reader(stored.bytes).await?;
        Ok(reader.read_to_end(&mut released).await?)
    });
    Outcome { released: Released::Streaming(released), result: result.map(drop) }
}

fn seek(decryptor: &Decryptor, stored: Stored<'_>) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        let (envelope, input) = stored.open(decryptor).await?;
        Ok(envelope.seek_reader(input)?.read_to_end(&mut released)?)
    });
    Outcome { released: Released::BySeeking(released), result: result.map(drop) }
}

fn seek_length_first(decryptor: &Decryptor, stored: Stored<'_>) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        let (envelope, input) = stored.open(decryptor).await?;
        let mut reader = envelope.seek_reader(input)?;
        let len = reader.seek(SeekFrom::End(0))?;
        reader.rewind()?;
        reader.read_to_end(&mut released)?;
        assert_eq!(released.len() as u64, len);
        Ok(len)
    });
    Outcome { released: Released::BySeeking(released), result: result.map(drop) }
}

fn range(decryptor: &Decryptor, stored: Stored<'_>) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        let (envelope, input) = stored.open(decryptor).await?;
        let reader = envelope.range_reader(input.into_inner())?;
        Ok(reader.write_range_to(.., &mut released)?)
    });
    Outcome { released: Released::BySeeking(released), result: result.map(drop) }
}

/// What each of two threads read, one behind the other, up to the first error.
fn ranges_of_threads(decryptor: &Decryptor, stored: Stored<'_>) -> Outcome {
    let mut released = Vec::new();
    let result = now(async {
        let (envelope, input) = stored.open(decryptor).await?;
        let reader = envelope.range_reader(input.into_inner())?;
        let middle = stored.bytes.len() as u64 / 2;
        let write = |range| {
            let mut released = Vec::new();
            let result = reader.write_range_to(range, &mut released);
            (released, result)
        };
        let (front, back) = thread::scope(|scope| {
            let back = scope.spawn(|| write(middle..u64::MAX));
            (write(0..middle), back.join().expect("it does not panic"))
        });
        released.extend(front.0);
        front.1?;
        released.extend(back.0);
        Ok(back.1?)
    });
    Outcome { released: Released::BySeeking(released), result: result.map(drop) }
}

/// Runs what waits for nothing: holders in memory and in files.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing here waits")
}
