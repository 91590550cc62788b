//! Reading files that a running server is told to read again: never anything that could keep it waiting.
//!
//! Invariant: what is no regular file is not read, and no more than the caller allows.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Why a file was not read.
#[derive(Debug)]
pub enum Unread {
    /// The system said so.
    Failed(io::Error),
    /// It is a folder, a FIFO or a device.
    NoFile,
    /// It has more bytes than are read.
    TooLarge,
}

impl From<Unread> for io::Error {
    fn from(unread: Unread) -> io::Error {
        match unread {
            Unread::Failed(error) => error,
            Unread::NoFile => io::Error::other("it is no regular file"),
            Unread::TooLarge => io::Error::other("it is too large"),
        }
    }
}

/// Reads a file of at most `bytes_max`, and gives what is known of it. May block on a slow disk.
///
/// # Errors
/// Why it was not read.
pub fn read(path: &Path, bytes_max: u64) -> Result<(Vec<u8>, Metadata), Unread> {
    let mut options = OpenOptions::new();
    // A FIFO would wait for its other end.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    options.read(true).custom_flags(nonblocking);
    let mut file = options.open(path).map_err(Unread::Failed)?;
    let about = file.metadata().map_err(Unread::Failed)?;
    if !about.is_file() {
        return Err(Unread::NoFile);
    }
    let mut bytes = Vec::new();
    let mut limited = file.by_ref().take(bytes_max + 1);
    limited.read_to_end(&mut bytes).map_err(Unread::Failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Unread::TooLarge);
    }
    Ok((bytes, about))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_never_ends_is_not_read() {
        assert!(matches!(
            read(Path::new("/dev/zero"), 10),
            Err(Unread::NoFile)
        ));
        assert!(matches!(read(Path::new("/"), 10), Err(Unread::NoFile)));
        assert!(matches!(
            read(Path::new("/proc/self/maps"), 10),
            Err(Unread::TooLarge)
        ));
        let own = Path::new(file!());
        assert!(matches!(read(own, 1 << 20), Ok((bytes, _)) if !bytes.is_empty()));
    }
}
