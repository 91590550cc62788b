//! Files that are whole or not there.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Error;

/// Writes a file by `write` and puts it in the place of `path` when it is complete. What is no regular file,
/// such as /dev/stdout, is written as it is.
///
/// # Errors
/// [`Error::File`]; then whatever was at `path` is unchanged.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let done = match path.metadata() {
        Ok(there) if !there.is_file() => into_special(path, write),
        _ => into_regular(path, write),
    };
    done.map_err(|why| Error::File(path.to_owned(), format!("cannot be written: {why}")))
}

fn into_special(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    write(&mut file)
}

fn into_regular(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".tokencached-")
        // The process's umask takes away from it, as for any new file.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    write(file.as_file_mut())?;
    file.persist(path).map(drop).map_err(|failed| failed.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_half_way_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        replace(&path, |file| file.write_all(b"whole")).unwrap();
        let fails = |file: &mut dyn Write| {
            file.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        let message = replace(&path, fails).unwrap_err().to_string();
        assert!(message.contains("report: cannot be written") && !message.contains('\n'));
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn devices_are_written_as_they_are() {
        replace(Path::new("/dev/null"), |file| file.write_all(b"x")).unwrap();
        assert!(!Path::new("/dev/null").is_file());
    }
}
