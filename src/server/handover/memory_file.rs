//! Memory files that are written once and read by a successor: the configuration, the state of connections.
//!
//! Invariant: what is read can no longer be changed or cut short by anybody, since the file is sealed.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

/// The seals of a file that nobody can change.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE)
    .union(SealFlags::SEAL);

/// Makes a sealed file with these bytes; `name` is what /proc shows of it.
///
/// # Errors
/// Those of memfd_create, write and fcntl.
pub fn seal(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = empty(name)?;
    file.write_all(bytes)?;
    close(&file)?;
    Ok(file.into())
}

/// A file that nothing has been written to.
///
/// # Errors
/// Those of memfd_create.
pub fn empty(name: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(rustix::fs::memfd_create(name, flags)?.into())
}

/// Lets nobody change a file any more.
///
/// # Errors
/// Those of fcntl: it is mapped for writing.
pub fn close(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fcntl_add_seals(file, SEALS)?)
}

/// Whether this is a file that nobody can change.
pub fn is_sealed(file: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SEALS))
}

/// All of a sealed file.
///
/// # Errors
/// Those of reading; `InvalidData` if it is longer than `bytes_max`, and `PermissionDenied` if it is not
/// sealed.
pub fn read(file: impl AsFd, bytes_max: u64) -> io::Result<Vec<u8>> {
    if !is_sealed(&file) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut file = File::from(file.as_fd().try_clone_to_owned()?);
    let length = file.metadata()?.len();
    if length > bytes_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // The position is shared with whoever wrote it.
    file.rewind()?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_again_and_again_and_cannot_be_changed() {
        let file = seal("test", b"bytes").unwrap();
        for _ in 0..2 {
            assert_eq!(read(&file, 5).unwrap(), b"bytes");
        }
        assert_eq!(
            read(&file, 4).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        let mut file = File::from(file);
        assert!(file.write_all(b"x").is_err());
    }

    #[test]
    fn a_file_that_can_be_changed_is_not_read() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("test", flags).unwrap();
        assert_eq!(
            read(&file, 9).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        assert!(!is_sealed(File::open("/proc/self/stat").unwrap()));
    }
}
