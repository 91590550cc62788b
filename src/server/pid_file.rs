//! The file that tells others this process's number (`-P`).
//!
//! Opened as root, since its directory is often only root's to write, and written when everything
//! that may fail has succeeded, by which time the process may be another one (`-d`).
//!
//! Invariant: a file that names another process is never emptied by a start that fails, nor removed
//! by an end that comes late.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file; removed when dropped, if it is this process's.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
    /// It was not there before, and nothing has been written to it.
    is_new: bool,
}

impl PidFile {
    /// Opens the file, or makes it, and leaves what it says alone.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open(path: &Path) -> io::Result<PidFile> {
        let mut options = OpenOptions::new();
        options.write(true);
        let (file, is_new) = match options.clone().create_new(true).open(path) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (options.open(path)?, false)
            }
            Err(error) => return Err(error),
        };
        Ok(PidFile {
            // The working folder is another one in the background.
            path: std::path::absolute(path)?,
            file,
            is_new,
        })
    }

    /// Writes this process's number.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all(own_line().as_bytes())?;
        self.is_new = false;
        Ok(())
    }

    fn is_ours(&self) -> bool {
        self.is_new || std::fs::read_to_string(&self.path).is_ok_and(|text| text == own_line())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.is_ours() {
            // The directory may be only root's, who this is no longer.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn own_line() -> String {
    format!("{}\n", std::process::id())
}
