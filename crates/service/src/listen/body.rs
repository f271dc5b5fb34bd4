//! Request bodies, within a number of bytes and a time.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body, Bytes};

/// Reads a body of at most `max` bytes, within this time. What is announced to
/// be longer is refused before anything is read, and no more than `max` bytes
/// are ever kept.
///
/// # Errors
/// When it is too long, takes too long, or ends before its announced end.
pub async fn read_body<B>(body: B, max: usize, within: Duration) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > max as u64 {
        return Err(BodyError::TooLong);
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let read = tokio::time::timeout(within, read_all(body, max)).await;
    read.unwrap_or(Err(BodyError::TooSlow))
}

async fn read_all<B>(mut body: B, max: usize) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    // Mostly there is one piece, which needs no copy.
    let first = next(&mut body).await?.unwrap_or_default();
    if first.len() > max {
        return Err(BodyError::TooLong);
    }
    if body.is_end_stream() {
        return Ok(first);
    }
    let announced = usize::try_from(body.size_hint().lower()).map_err(|_| BodyError::TooLong)?;
    let mut all = Vec::with_capacity((first.len() + announced).min(max));
    all.extend_from_slice(&first);
    while let Some(piece) = next(&mut body).await? {
        if piece.len() > max - all.len() {
            return Err(BodyError::TooLong);
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.into())
}

/// The next piece; trailers are passed over.
async fn next<B>(body: &mut B) -> Result<Option<Bytes>, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        if let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Why a body was not read: the client's fault in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// More bytes than any request has.
    #[error("the request's body is too long")]
    TooLong,
    /// It did not come in time.
    #[error("the request's body did not come in time")]
    TooSlow,
    /// The connection ended, or its framing was wrong.
    #[error("the request's body ended too early")]
    Broken,
}
