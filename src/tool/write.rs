//! Files that are there whole or not at all.
//!
//! Called with what a command has made, when it is complete.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use super::Error;

/// Makes `contents` the contents of the file at `path`, which nobody ever sees half written.
///
/// They are written beside it and then take its place, with the permissions of what was there; the file
/// that a symbolic link leads to is replaced, not the link. What is no file, `/dev/stdout` or a pipe, is
/// written to as it is. After a failure, what was at `path` is still there, and nothing beside it. Does
/// not wait for the disk.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let written = match fs::metadata(path) {
        Ok(there) if there.is_file() => {
            fs::canonicalize(path).and_then(|path| replace(&path, Some(&there), contents))
        }
        Ok(_) => fs::write(path, contents),
        Err(_) => replace(path, None, contents),
    };
    written.map_err(|why| Error::Write(path.to_owned(), why))
}

fn replace(path: &Path, there: Option<&Metadata>, contents: &[u8]) -> io::Result<()> {
    let beside = beside(path)?;
    let mut file = File::create_new(&beside)?;
    let mut fill = || {
        file.write_all(contents)?;
        if let Some(there) = there {
            file.set_permissions(there.permissions())?;
        }
        fs::rename(&beside, path)
    };
    fill().inspect_err(|_| {
        // The first failure is the one to tell of.
        let _ = fs::remove_file(&beside);
    })
}

/// A hidden name in the same folder, that no other process uses.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name();
    let name = name.ok_or_else(|| io::Error::other("there is no file's name in it"))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", process::id()));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A folder of a test's own, empty.
    fn folder(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("write-{test}-{}", process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_is_made_and_replaced() {
        let folder = folder("replaced");
        let path = folder.join("page.html");
        write_whole(&path, b"first, and longer").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write_whole(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(names(&folder), ["page.html"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = folder("link");
        let (file, link) = (folder.join("file"), folder.join("link"));
        fs::write(&file, "old").unwrap();
        symlink("file", &link).unwrap();
        write_whole(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_no_file_is_written_to() {
        write_whole(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_failure_leaves_nothing_and_is_explained_in_one_line() {
        let folder = folder("failure");
        let taken = folder.join("taken");
        fs::create_dir(&taken).unwrap();
        for path in [
            taken.as_path(),
            &folder.join("missing/page.html"),
            Path::new(""),
        ] {
            let message = write_whole(path, b"x").unwrap_err().to_string();
            let start = format!("cannot write {path:?}: ");
            assert!(message.starts_with(&start), "{message}");
            assert!(
                message.ends_with("; give the path of a file in a folder that you may write to")
            );
            assert!(!message.contains('\n'));
        }
        assert_eq!(names(&folder), ["taken"]);
        assert!(names(&taken).is_empty());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_could_not_take_its_place_is_taken_away() {
        let folder = folder("place");
        let taken = folder.join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(replace(&taken, None, b"x").is_err());
        assert_eq!(names(&folder), ["taken"]);
        fs::remove_dir_all(folder).unwrap();
    }
}
