//! Inputs and outputs that do not do as they should.

use std::io::{self, BufRead as _, Cursor, ErrorKind, Read, Seek as _, SeekFrom, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use twinlock::{Decryptor, Encryptor, Envelope, PayloadError, read_header};

use crate::entry_points::now;
use crate::people::{People, context};

/// The plaintext of a full segment of 4 KiB.
const FULL: usize = 4064;
const HEADER: usize = 2048;

#[test]
fn an_output_that_fails_at_any_byte_ends_the_writing() {
    let people = People::new();
    let plaintext = vec![1; 2 * FULL + 9];
    let len = people.envelope(&plaintext).len();
    for limit in (0..len).step_by(97).chain([HEADER - 1, HEADER, len - 1]) {
        let Ok(mut writer) = encryptor(&people).writer(Limited { limit, written: vec![] }) else {
            assert!(limit < HEADER + 74);
            continue;
        };
        let written = writer.write_all(&plaintext);
        if written.is_err() {
            assert!(writer.write_all(b"more").is_err(), "a failure is final");
            assert!(writer.read_from(&mut &b"more"[..]).is_err(), "a failure is final");
        }
        assert!(writer.finish().is_err(), "{limit}");
    }
}

#[test]
fn an_asynchronous_output_that_fails_at_any_byte_ends_the_writing() {
    let people = People::new();
    let plaintext = vec![1; 2 * FULL + 9];
    let len = people.envelope(&plaintext).len();
    for limit in (0..len).step_by(97).chain([HEADER - 1, HEADER, len - 1]) {
        let limited = Stuttering { inner: Limited { limit, written: vec![] }, ready: true };
        let ended = wait(async {
            let mut writer = encryptor(&people).async_writer(limited).await?;
            let written = writer.write_all(&plaintext).await;
            if written.is_err() {
                assert!(writer.write_all(b"more").await.is_err(), "a failure is final");
                assert!(writer.shutdown().await.is_err(), "a failure is final");
            }
            writer.finish().await.map(drop)
        });
        assert!(ended.is_err(), "{limit}");
    }
}

#[test]
fn what_reached_a_failing_output_does_not_open() {
    let people = People::new();
    for limit in [HEADER + 74, HEADER + 74 + 4096, HEADER + 74 + 4096 + 5] {
        let mut output = Limited { limit, written: vec![] };
        encryptor(&people).encrypt(&[1; 2 * FULL][..], &mut output).unwrap_err();
        let error = now(decryptor(&people).decrypt_slice(&output.written)).unwrap_err();
        assert!(error.to_string().contains("cut short"), "{error}");
    }
}

#[test]
fn a_writer_that_is_dropped_leaves_a_truncated_envelope() {
    let people = People::new();
    let mut written = Vec::new();
    let mut writer = encryptor(&people).writer(&mut written).unwrap();
    writer.write_all(&[1; 2 * FULL]).unwrap();
    drop(writer);
    let error = now(decryptor(&people).decrypt_slice(&written)).unwrap_err();
    assert!(error.to_string().contains("cut short"), "{error}");
}

#[test]
fn an_input_may_stutter() {
    let people = People::new();
    let plaintext = vec![1; 2 * FULL + 9];
    let mut envelope = Vec::new();
    let input = Stutter::new(&plaintext, ErrorKind::Interrupted);
    encryptor(&people).encrypt(input, &mut envelope).unwrap();

    let input = Stutter::new(&envelope, ErrorKind::Interrupted);
    let mut back = Vec::new();
    now(decryptor(&people).reader(input)).unwrap().read_to_end(&mut back).unwrap();
    assert!(back == plaintext);

    let input = Stuttering { inner: Cursor::new(&envelope), ready: true };
    let back = wait(async {
        let mut back = Vec::new();
        let mut reader = decryptor(&people).async_reader(input).await.unwrap();
        reader.read_to_end(&mut back).await.unwrap();
        back
    });
    assert!(back == plaintext);
}

#[test]
fn an_asynchronous_output_may_take_one_byte_at_a_time() {
    let people = People::new();
    let output = Stuttering { inner: Vec::new(), ready: true };
    let envelope = wait(async {
        let mut writer = encryptor(&people).async_writer(output).await.unwrap();
        writer.write_all(&[1; FULL + 9]).await.unwrap();
        writer.shutdown().await.unwrap();
        writer.shutdown().await.unwrap(); // again: it is finished already
        writer.finish().await.unwrap().inner
    });
    let back = now(decryptor(&people).decrypt_slice(&envelope)).unwrap();
    assert!(back == [1; FULL + 9]);
}

#[test]
fn after_would_block_a_reader_and_a_writer_go_on() {
    let people = People::new();
    let plaintext = vec![1; 2 * FULL + 9];
    let mut writer = encryptor(&people).writer(Vec::new()).unwrap();
    let mut input = Stutter::new(&plaintext, ErrorKind::WouldBlock);
    until_it_goes_on(|| writer.read_from(&mut input));
    let envelope = writer.finish().unwrap();

    let input = Stutter::new(&envelope[HEADER + 74..], ErrorKind::WouldBlock);
    let input = Read::chain(&envelope[HEADER..HEADER + 74], input);
    let mut reader = open(&people, &envelope).reader(input).unwrap();
    let mut back = Vec::new();
    until_it_goes_on(|| reader.read_to_end(&mut back));
    assert!(back == plaintext);
}

#[test]
fn an_input_that_fails_is_not_the_envelopes_fault() {
    let people = People::new();
    let envelope = people.envelope(&[1; 2 * FULL]);
    for (healthy, what) in
        [(7, "prefix"), (500, "header"), (HEADER + 5, "FLOE header"), (5000, "segment")]
    {
        let input = Read::chain(&envelope[..healthy], Broken);
        let result = now(decryptor(&people).reader(input))
            .and_then(|mut reader| Ok(reader.read_to_end(&mut Vec::new())?));
        assert_eq!(result.unwrap_err().to_string(), "the cable is out", "{what}");
    }
}

#[test]
fn an_error_of_the_payload_comes_again_on_every_read() {
    let people = People::new();
    let mut envelope = people.envelope(&[1; 2 * FULL + 9]);
    envelope[HEADER + 74 + 4096 + 100] ^= 1;
    let expected = PayloadError::Segment { segment: 1, offset: (HEADER + 74 + 4096) as u64 };
    let opened = open(&people, &envelope);

    let mut reader = opened.reader(&envelope[HEADER..]).unwrap();
    assert_eq!(
        io::copy(&mut reader.by_ref().take(FULL as u64), &mut io::sink()).unwrap(),
        FULL as u64
    );
    for _ in 0..3 {
        assert_eq!(PayloadError::of(&reader.read(&mut [0; 9]).unwrap_err()), Some(&expected));
        assert_eq!(PayloadError::of(&reader.fill_buf().unwrap_err()), Some(&expected));
    }

    let mut reader = now(opened.async_reader(&envelope[HEADER..])).unwrap();
    now(reader.read_exact(&mut [0; FULL])).unwrap();
    for _ in 0..3 {
        let error = now(reader.read(&mut [0; 9])).unwrap_err();
        assert_eq!(PayloadError::of(&error), Some(&expected));
    }

    let mut reader = opened.seek_reader(Cursor::new(&envelope)).unwrap();
    for _ in 0..3 {
        reader.seek(SeekFrom::Start(FULL as u64 + 3)).unwrap();
        assert_eq!(PayloadError::of(&reader.read(&mut [0; 9]).unwrap_err()), Some(&expected));
        // The segments around it are as good as ever.
        for place in [0, 2 * FULL as u64] {
            reader.seek(SeekFrom::Start(place)).unwrap();
            assert_eq!(reader.read(&mut [0; 9]).unwrap(), 9);
        }
    }
}

#[test]
fn a_seeking_reader_asks_for_the_segments_it_needs_and_the_last() {
    let people = People::new();
    let envelope = people.envelope(&vec![1; 9 * FULL]);
    let opened = open(&people, &envelope);
    let counted = Counted { inner: Cursor::new(&envelope), read: 0 };
    let mut reader = opened.seek_reader(counted).unwrap();
    reader.seek(SeekFrom::Start(4 * FULL as u64 + 1)).unwrap();
    reader.read_exact(&mut [0; 10]).unwrap();
    reader.read_exact(&mut [0; 10]).unwrap();
    assert_eq!(reader.into_inner().read, 74 + 4096);
}

#[test]
fn a_file_cut_while_it_is_read_is_an_error() {
    let people = People::new();
    let envelope = people.envelope(&vec![1; 3 * FULL]);
    let opened = open(&people, &envelope);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &envelope).unwrap();
    let mut reader = opened.seek_reader(file.reopen().unwrap()).unwrap();
    reader.read_exact(&mut [0; 10]).unwrap();
    file.as_file().set_len((HEADER + 74 + 4096 + 7) as u64).unwrap();
    let error = reader.seek(SeekFrom::End(0)).unwrap_err();
    assert!(matches!(PayloadError::of(&error), Some(PayloadError::Truncated { .. })), "{error}");
}

fn encryptor(people: &People) -> Encryptor {
    now(people.builder().prepare()).unwrap()
}

fn decryptor(people: &People) -> Decryptor {
    people.having_both(Decryptor::expecting(context()))
}

fn open(people: &People, mut envelope: &[u8]) -> Envelope {
    now(decryptor(people).open(read_header(&mut envelope).unwrap())).unwrap()
}

fn until_it_goes_on<T>(mut go_on: impl FnMut() -> io::Result<T>) -> T {
    loop {
        match go_on() {
            Ok(value) => return value,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Takes so many bytes, a few at a time, and then no more.
struct Limited {
    limit: usize,
    written: Vec<u8>,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.limit - self.written.len()).min(1000);
        if len == 0 {
            return Err(io::Error::new(ErrorKind::StorageFull, "the disk is full"));
        }
        self.written.extend(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fails on every other call, and gives a few bytes on the others.
struct Stutter<'a> {
    bytes: &'a [u8],
    kind: ErrorKind,
    fails: bool,
}

impl<'a> Stutter<'a> {
    fn new(bytes: &'a [u8], kind: ErrorKind) -> Self {
        Self { bytes, kind, fails: false }
    }
}

impl Read for Stutter<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fails = !self.fails;
        if self.fails {
            return Err(self.kind.into());
        }
        let len = buffer.len().min(7);
        Read::read(&mut self.bytes, &mut buffer[..len])
    }
}

/// The same for `tokio`: pending on every other call.
struct Stuttering<T> {
    inner: T,
    ready: bool,
}

impl<T> Stuttering<T> {
    fn stutter(&mut self, context: &Context<'_>) -> Poll<()> {
        self.ready = !self.ready;
        if self.ready {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: Read + Unpin> AsyncRead for Stuttering<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.stutter(context));
        let len = buffer.remaining().min(7);
        let read = self.inner.read(buffer.initialize_unfilled_to(len))?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> AsyncWrite for Stuttering<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.stutter(context));
        Poll::Ready(self.inner.write(&bytes[..bytes.len().min(7)]))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.stutter(context));
        Poll::Ready(self.inner.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the cable is out"))
    }
}

struct Counted<R> {
    inner: R,
    read: usize,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read;
        Ok(read)
    }
}

impl<R: io::Seek> io::Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
