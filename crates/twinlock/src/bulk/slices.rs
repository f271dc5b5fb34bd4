//! Reading into several buffers, and writing from several, whole.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};

/// Fills `slices` one after the other, as far as there is input. Returns the
/// number of bytes.
pub(super) fn read_slices(
    input: &mut impl Read,
    mut slices: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let mut filled = 0;
    while !slices.is_empty() {
        match input.read_vectored(slices) {
            Ok(0) => break,
            Ok(len) => {
                filled += len;
                IoSliceMut::advance_slices(&mut slices, len);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes all of `slices`, one after the other.
pub(super) fn write_slices(
    output: &mut impl Write,
    mut slices: &mut [IoSlice<'_>],
) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0); // past empty ones
    while !slices.is_empty() {
        match output.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => IoSlice::advance_slices(&mut slices, len),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A place in a file, to read from and write to without moving the file's own.
pub(crate) struct FileAt<'a> {
    pub(crate) file: &'a File,
    pub(crate) offset: u64,
}

impl Read for FileAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buffer)])
    }

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let len = read_at(self.file, slices, self.offset)?;
        self.offset += len as u64;
        Ok(len)
    }
}

impl Write for FileAt<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = write_at(self.file, slices, self.offset)?;
        self.offset += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn read_at(file: &File, slices: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::preadv(file, slices, offset)?)
}

#[cfg(target_os = "linux")]
fn write_at(file: &File, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::pwritev(file, slices, offset)?)
}

#[cfg(not(target_os = "linux"))]
fn read_at(file: &File, slices: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
    use std::os::unix::fs::FileExt as _;
    let first = slices.iter_mut().find(|slice| !slice.is_empty());
    first.map_or(Ok(0), |slice| file.read_at(slice, offset))
}

#[cfg(not(target_os = "linux"))]
fn write_at(file: &File, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    use std::os::unix::fs::FileExt as _;
    let first = slices.iter().find(|slice| !slice.is_empty());
    first.map_or(Ok(0), |slice| file.write_at(slice, offset))
}
