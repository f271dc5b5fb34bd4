//! The payload as streams: what is written is sealed, what is read was
//! verified.

mod error;
mod meter;
mod open;
mod reader;
mod seal;
mod seek;
#[cfg(feature = "tokio")]
mod tokio_io;
mod writer;

pub use error::PayloadError;
pub use meter::Progress;
pub(crate) use meter::{Counter, Meter};
pub(crate) use open::open_floe;
pub use reader::DecryptReader;
pub use seek::SeekReader;
#[cfg(feature = "tokio")]
pub use tokio_io::{AsyncDecryptReader, AsyncEncryptWriter};
pub use writer::EncryptWriter;
