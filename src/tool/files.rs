//! Files that are whole or not there.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Error;

/// Whether a path names standard output.
pub fn is_standard_output(path: &Path) -> bool {
    path == Path::new("-") || path == Path::new("/dev/stdout")
}

/// Refuses a path at which [`replace`] could put nothing, before the work for it is done.
///
/// # Errors
/// [`Error::File`]; nothing is left there in any case.
pub fn check(path: &Path) -> Result<(), Error> {
    let usable = match path.metadata() {
        _ if is_standard_output(path) => Ok(()),
        Ok(there) if there.is_file() => {
            path.canonicalize().and_then(|path| beside(&path).map(drop))
        }
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(()),
        Err(_) => beside(path).map(drop),
    };
    usable.map_err(|why| explained(path, &why))
}

/// Writes a file by `write` and puts it in the place of `path` when it is complete, with the permissions of
/// what was there; the file that a symbolic link leads to is replaced, not the link. What is no regular
/// file is written as it is, and `-` is standard output. Does not wait for the disk.
///
/// # Errors
/// [`Error::File`]; then whatever was at `path` is unchanged, and nothing is beside it.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let done = match path.metadata() {
        // Its own name, since what it is redirected to must not be replaced.
        _ if is_standard_output(path) => write(&mut io::stdout().lock()),
        Ok(there) if there.is_file() => path
            .canonicalize()
            .and_then(|path| into_regular(&path, Some(there.permissions()), write)),
        Ok(_) => into_special(path, write),
        Err(_) => into_regular(path, None, write),
    };
    done.map_err(|why| explained(path, &why))
}

/// What is the matter, without the name of the file that was to take the path's place.
fn explained(path: &Path, why: &io::Error) -> Error {
    let remedy = match why.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there",
        _ => "give the path of a file in a folder that you may write to",
    };
    let what = format!("cannot be written: {}; {remedy}", why.kind());
    Error::File(path.to_owned(), what)
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
    permissions: Option<Permissions>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = beside(path)?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    write(file.as_file_mut())?;
    file.persist(path).map(drop).map_err(|failed| failed.error)
}

/// An empty file in the folder of `path`, gone when it is dropped.
fn beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    // The process's umask takes away from it, as for any new file.
    const NEW: u32 = 0o666;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.file_name().is_none() {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    tempfile::Builder::new()
        .prefix(".tokencached-")
        .permissions(Permissions::from_mode(NEW))
        .tempfile_in(folder)
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
    fn a_link_stays_a_link_and_permissions_stay_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        replace(&link, |file| file.write_all(b"new")).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn what_is_no_place_for_a_file_is_told_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            folder.path(),
            &folder.path().join("missing/page"),
            Path::new(""),
        ] {
            let message = replace(path, |file| file.write_all(b"x"))
                .unwrap_err()
                .to_string();
            assert!(
                message.contains("cannot be written") && !message.contains('\n'),
                "{message}"
            );
            assert!(!message.contains(".tokencached-"), "{message}");
            assert_eq!(check(path).unwrap_err().to_string(), message);
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_check_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        check(&folder.path().join("new")).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        check(Path::new("-")).unwrap();
        check(Path::new("/dev/null")).unwrap();
    }

    #[test]
    fn devices_are_written_as_they_are() {
        replace(Path::new("/dev/null"), |file| file.write_all(b"x")).unwrap();
        assert!(!Path::new("/dev/null").is_file());
    }
}
