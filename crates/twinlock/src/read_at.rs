//! Inputs that are read at any place, by many at a time: files, bytes in
//! memory, and what applications make of their object stores.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// An object whose bytes can be read from any place, by several threads at a
/// time.
///
/// Implement it for an object store, and [`Envelope::range_reader`] reads parts
/// of its objects. It is implemented for files, for bytes in memory, for
/// whatever refers to one of them, and for a
/// [`RangeReader`](crate::RangeReader), whose object is the plaintext.
///
/// What an implementation returns is not trusted: the worst that a wrong size
/// or wrong bytes bring about is an error. So an object that *changes* between
/// two reads gives no wrong plaintext either. But a read may then fail as
/// tampered with (or, by luck, not at all), and whoever is told so wakes the
/// wrong people. An implementation that can tell the versions of an object apart
/// returns an error of its own instead, as below with `If-Match`.
///
/// The trait is synchronous, as all of the bulk path is. Of an asynchronous
/// client, a `read_at` waits for the answer (`tokio::runtime::Handle::block_on`),
/// and the reader is used where waiting is allowed
/// (`tokio::task::spawn_blocking`). Each call is one request: a
/// [`RangeReader`](crate::RangeReader) asks for neighbouring segments at once.
///
/// ```
/// use std::io;
/// use twinlock::ReadAt;
///
/// # struct Client;
/// # struct Refused { status: u16 }
/// # impl Client {
/// #     fn get_object(&self, _: &str, _: &str, _: String) -> Result<Vec<u8>, Refused> {
/// #         Err(Refused { status: 412 })
/// #     }
/// # }
/// /// One version of an object.
/// struct Object {
///     client: Client,
///     key: String,
///     size: u64,    // both from
///     etag: String, // HeadObject
/// }
///
/// impl ReadAt for Object {
///     fn size(&self) -> io::Result<u64> {
///         Ok(self.size)
///     }
///
///     fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
///         // A store refuses a range that is empty or begins at the end.
///         let end = self.size.min(offset.saturating_add(buffer.len() as u64));
///         if offset >= end {
///             return Ok(0);
///         }
///         let range = format!("bytes={offset}-{}", end - 1); // `Range` counts the last byte in
///         let bytes = self.client.get_object(&self.key, &self.etag, range).map_err(|refused| {
///             match refused.status {
///                 412 => io::Error::other(format!("{} was replaced meanwhile", self.key)),
///                 status => io::Error::other(format!("{}: status {status}", self.key)),
///             }
///         })?;
///         let len = bytes.len().min(buffer.len());
///         buffer[..len].copy_from_slice(&bytes[..len]);
///         Ok(len)
///     }
/// }
/// # let object = Object { client: Client, key: "a".into(), size: 9, etag: "1".into() };
/// # assert!(object.read_at(&mut [0; 4], 0).is_err());
/// # assert_eq!(object.read_at(&mut [0; 4], 9).unwrap(), 0);
/// ```
///
/// [`Envelope::range_reader`]: crate::Envelope::range_reader
pub trait ReadAt: Send + Sync {
    /// The object's length in bytes. A reader asks once.
    ///
    /// # Errors
    /// When it cannot be learnt.
    fn size(&self) -> io::Result<u64>;

    /// Reads bytes from `offset` on into `buffer`, and returns how many.
    ///
    /// Fewer than the buffer holds mean nothing: whoever needs the rest asks
    /// again. None mean that the object ends at `offset` or before, or that the
    /// buffer is empty.
    ///
    /// # Errors
    /// When the object cannot be read. After [`io::ErrorKind::Interrupted`] a
    /// reader asks again; to retry for other reasons is up to the
    /// implementation.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// Reads from `offset` on until `buffer` is full or the object ends; returns how
/// many bytes that were.
pub(crate) fn read_up_to_at(
    input: &impl ReadAt,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let Some(at) = offset.checked_add(filled as u64) else { break };
        let room = &mut buffer[filled..];
        match input.read_at(room, at) {
            Ok(0) => break,
            Ok(len) if len <= room.len() => filled += len,
            Ok(_) => return Err(io::Error::other("an input claims to have read more than asked")),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Of a regular file. Its own position stays where it is.
#[cfg(unix)]
impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // No file is longer, and systems refuse to be asked for more.
        let room = usize::try_from((i64::MAX as u64).saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = buffer.len().min(room);
        match len {
            0 => Ok(0),
            _ => std::os::unix::fs::FileExt::read_at(self, &mut buffer[..len], offset),
        }
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.get(offset..).unwrap_or_default().read(buffer)
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        self.as_slice().size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buffer, offset)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Arc<R> {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Box<R> {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }
}

/// A [`ReadAt`] as [`Read`] and [`Seek`], with a position of its own: for
/// [`read_header`](crate::read_header), or for a parser that reads the plaintext
/// of a [`RangeReader`](crate::RangeReader).
///
/// ```
/// use std::io::{Read, Seek, SeekFrom};
/// use twinlock::ReadAtCursor;
///
/// let mut cursor = ReadAtCursor::new(&b"attack at dawn"[..]);
/// cursor.seek(SeekFrom::End(-4))?;
/// let mut when = String::new();
/// cursor.read_to_string(&mut when)?;
/// assert_eq!(when, "dawn");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReadAtCursor<R> {
    input: R,
    position: u64,
}

impl<R: ReadAt> ReadAtCursor<R> {
    /// Stands at the beginning.
    pub fn new(input: R) -> Self {
        Self { input, position: 0 }
    }

    /// The input.
    pub fn into_inner(self) -> R {
        self.input
    }
}

impl<R: ReadAt> Read for ReadAtCursor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read_at(buffer, self.position)?;
        self.position += len as u64;
        Ok(len)
    }
}

impl<R: ReadAt> Seek for ReadAtCursor<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
            SeekFrom::End(delta) => self.input.size()?.checked_add_signed(delta),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a seek to before the beginning")
        })?;
        Ok(self.position)
    }
}
