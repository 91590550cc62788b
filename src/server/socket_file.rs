//! The file of a unix socket, which is there as long as somebody serves it.
//!
//! Invariant: it is removed before the socket is closed, so as long as the file is there nobody takes it for a
//! dead one and puts another in its place.

use std::io;
use std::path::{Path, PathBuf};

/// The file; removed when dropped, unless it is left to others.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    is_left: bool,
}

impl SocketFile {
    /// That of the socket bound to this path.
    ///
    /// # Errors
    /// There is no working folder.
    pub fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile {
            // The working folder is another one in the background.
            path: std::path::absolute(path)?,
            is_left: false,
        })
    }

    /// Leaves it to a successor, who goes on with the socket.
    pub fn leave(&mut self) {
        self.is_left = true;
    }

    /// Takes it from the process before, which had left it.
    pub fn take(&mut self) {
        self.is_left = false;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.is_left {
            // Somebody else may have removed it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
