//! The file that tells others this process's number (`-P`).
//!
//! Opened as root, since its directory is often only root's to write, and written when everything
//! that may fail has succeeded, by which time the process may be another one (`-d`).
//!
//! A program that was executed in this one's place has the same number, and may no longer be allowed to open the file: one that
//! has the number already is left as it is.
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
    /// Without one, the file has this process's number.
    file: Option<File>,
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
            Ok(file) => (Some(file), true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (open_or_own(&options, path)?, false)
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
        if let Some(file) = &mut self.file {
            file.set_len(0)?;
            file.write_all(own_line().as_bytes())?;
        }
        self.is_new = false;
        Ok(())
    }

    fn is_ours(&self) -> bool {
        self.is_new || is_own(&self.path)
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

fn open_or_own(options: &OpenOptions, path: &Path) -> io::Result<Option<File>> {
    match options.open(path) {
        Err(_) if is_own(path) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Whether the file has this process's number.
fn is_own(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text == own_line())
}

fn own_line() -> String {
    format!("{}\n", std::process::id())
}
