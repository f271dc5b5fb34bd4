//! The payload as streams: what is written is sealed, what is read was
//! verified.

mod error;
mod meter;
mod open;
mod range;
mod reader;
mod seal;
mod seek;
mod segments;
#[cfg(feature = "tokio")]
mod tokio_io;
mod writer;

pub use error::PayloadError;
pub use meter::Progress;
pub(crate) use meter::{Counter, Meter};
pub(crate) use open::open_floe;
pub use range::RangeReader;
pub use reader::DecryptReader;
pub use seek::SeekReader;
pub(crate) use segments::Segments;
#[cfg(feature = "tokio")]
pub use tokio_io::{AsyncDecryptReader, AsyncEncryptWriter};
pub use writer::EncryptWriter;
