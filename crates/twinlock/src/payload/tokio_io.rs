//! The same streams for `tokio::io`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use twinlock_floe::{OpenKey, SealKey};

use super::PayloadError;
use super::meter::Meter;
use super::open::SegmentOpener;
use super::seal::SegmentSealer;
use super::writer::failed_before;

/// [`DecryptReader`](super::DecryptReader) for `tokio`: the same promises.
///
/// A segment is opened on the polling thread, which takes some tens of
/// microseconds for the default length.
pub struct AsyncDecryptReader<R> {
    input: R,
    opener: SegmentOpener,
    failed: Option<PayloadError>,
}

impl<R: AsyncRead + Unpin> AsyncDecryptReader<R> {
    pub(crate) fn new(input: R, key: &OpenKey, offset: u64, meter: Meter) -> Self {
        Self { input, opener: SegmentOpener::new(key, offset, meter), failed: None }
    }

    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed {
            return Poll::Ready(Err(error.into()));
        }
        while self.opener.wants_segment() {
            ready!(self.poll_fill(context))?;
            if let Err(error) = self.opener.open() {
                self.failed = Some(error);
                return Poll::Ready(Err(error.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut room = ReadBuf::new(self.opener.room());
            if room.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut self.input).poll_read(context, &mut room))?;
            match room.filled().len() {
                0 => return Poll::Ready(Ok(())),
                len => self.opener.fill(len),
            }
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncBufRead for AsyncDecryptReader<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_open(context))?;
        Poll::Ready(Ok(this.opener.plaintext()))
    }

    fn consume(self: Pin<&mut Self>, len: usize) {
        self.get_mut().opener.consume(len);
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for AsyncDecryptReader<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_open(context))?;
        let plaintext = this.opener.plaintext();
        let len = plaintext.len().min(buffer.remaining());
        buffer.put_slice(&plaintext[..len]);
        this.opener.consume(len);
        Poll::Ready(Ok(()))
    }
}

/// [`EncryptWriter`](super::EncryptWriter) for `tokio`: the same promises.
///
/// `poll_shutdown` finishes the envelope and then shuts the output down;
/// [`AsyncEncryptWriter::finish`] finishes it and gives the output back.
pub struct AsyncEncryptWriter<W> {
    output: W,
    /// `None` after an error, and when finished.
    sealer: Option<SegmentSealer>,
    /// Sealed bytes on their way to the output.
    sealed: Vec<u8>,
    written: usize,
    finished: bool,
}

impl<W: AsyncWrite + Unpin> AsyncEncryptWriter<W> {
    pub(crate) fn new(output: W, key: &SealKey, meter: Meter) -> Self {
        Self {
            output,
            sealer: Some(SegmentSealer::new(key, meter)),
            sealed: Vec::new(),
            written: 0,
            finished: false,
        }
    }

    /// Seals the last segment and returns the output, flushed.
    ///
    /// # Errors
    /// When writing fails, or has failed before.
    pub async fn finish(mut self) -> io::Result<W> {
        std::future::poll_fn(|context| self.poll_finish(context)).await?;
        self.output.flush().await?;
        Ok(self.output)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        if !self.finished {
            let sealer = self.sealer.take().ok_or_else(failed_before)?;
            self.sealed = sealer.seal_last()?;
            self.written = 0;
            self.finished = true;
        }
        self.poll_drain(context)
    }

    /// Writes out what was sealed. A failure is final.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.sealed.len() {
            let rest = &self.sealed[self.written..];
            match ready!(Pin::new(&mut self.output).poll_write(context, rest)) {
                Ok(0) => return self.fail(io::ErrorKind::WriteZero.into()),
                Ok(len) => self.written += len,
                Err(error) => return self.fail(error),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn fail(&mut self, error: io::Error) -> Poll<io::Result<()>> {
        self.sealer = None;
        self.finished = false;
        self.written = self.sealed.len();
        Poll::Ready(Err(error))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for AsyncEncryptWriter<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        plaintext: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_drain(context))?;
        let mut sealer = this.sealer.take().ok_or_else(failed_before)?;
        if sealer.is_full() && !plaintext.is_empty() {
            let segment = sealer.seal_next()?;
            this.sealed.clear();
            this.sealed.extend_from_slice(segment);
            this.written = 0;
        }
        let room = this.sealer.insert(sealer).room();
        let len = room.len().min(plaintext.len());
        room[..len].copy_from_slice(&plaintext[..len]);
        this.sealer.as_mut().expect("inserted above").fill(len);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(context))?;
        Pin::new(&mut this.output).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_finish(context))?;
        Pin::new(&mut this.output).poll_shutdown(context)
    }
}
