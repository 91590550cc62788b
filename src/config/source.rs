//! Where a configuration is read from, and what was read: to read it again, and to go on with it when what is
//! there now cannot be used.
//!
//! `main.rs` has one [`Source`], the process's own, and hands a [`Record`] of the configuration that works to
//! the server, which keeps it for its successor.
//!
//! Invariants:
//! - a record holds the bytes of every file that decided anything, so that it means the same later; files that
//!   the server reads itself, of users and certificates, are named in it, and kept by `handover::files`;
//! - a record that comes from another process is not trusted: it is read as any configuration is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::{Action, ConfigError, load_with};
use crate::regular_file;

/// Longest configuration file that is read again.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The form of a record; another one is not read.
const VERSION: u32 = 1;

/// A command line, and where its relative paths begin.
#[derive(Clone, Debug)]
pub struct Source {
    /// The arguments, without the program's name.
    pub args: Vec<OsString>,
    /// In the background the working folder is another one.
    pub folder: PathBuf,
}

impl Source {
    /// That of this process, as long as it has not changed its folder.
    pub fn of_this_process() -> Source {
        Source {
            args: std::env::args_os().skip(1).collect(),
            folder: std::env::current_dir().unwrap_or_default(),
        }
    }

    /// Reads the configuration, as [`super::load`] does.
    ///
    /// # Errors
    /// Those of [`super::load`].
    pub fn load(&self, machine: &Machine) -> Result<(Action, Record), ConfigError> {
        let read = |path: &Path| std::fs::read(path);
        self.recording(read, |args, read| load_with(args, machine, read))
    }

    /// Has `load` read the configuration again, from files that keep nobody waiting; else as
    /// `Source::recording`.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn again<T>(
        &self,
        load: impl FnOnce(Vec<OsString>, &dyn Fn(&str) -> io::Result<Vec<u8>>) -> Result<T, ConfigError>,
    ) -> Result<(T, Record), ConfigError> {
        let read = |path: &Path| {
            let (bytes, _) = regular_file::read(path, FILE_BYTES_MAX)?;
            Ok(bytes)
        };
        self.recording(read, load)
    }

    /// Has `load` read the configuration with the arguments and the reader of files that it is given, and
    /// records what it reads.
    fn recording<T>(
        &self,
        file: impl Fn(&Path) -> io::Result<Vec<u8>>,
        load: impl FnOnce(Vec<OsString>, &dyn Fn(&str) -> io::Result<Vec<u8>>) -> Result<T, ConfigError>,
    ) -> Result<(T, Record), ConfigError> {
        let files = RefCell::new(BTreeMap::new());
        let read = |path: &str| {
            let bytes = file(&self.folder.join(path))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            files.borrow_mut().insert(path.to_owned(), text);
            Ok(bytes)
        };
        let loaded = load(self.args.clone(), &read)?;
        let words = self
            .args
            .iter()
            .map(|arg| arg.to_string_lossy().into_owned());
        let record = Record {
            version: VERSION,
            args: words.collect(),
            folder: self.folder.to_string_lossy().into_owned(),
            files: files.into_inner(),
        };
        Ok((loaded, record))
    }
}

/// All that a configuration was read from. Of one that works every word is UTF-8, as anything else is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    args: Vec<String>,
    folder: String,
    files: BTreeMap<String, String>,
}

impl Record {
    /// As bytes, for another process.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Text and numbers have a form in JSON; if one had not, there would be no record.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From such bytes.
    ///
    /// # Errors
    /// One line: it is no record, or another release's.
    pub fn from_bytes(bytes: &[u8]) -> Result<Record, String> {
        #[derive(Deserialize)]
        struct Form {
            version: u32,
        }
        let damaged = |error| format!("the last good configuration cannot be read: {error}");
        let Form { version } = serde_json::from_slice(bytes).map_err(damaged)?;
        if version != VERSION {
            return Err(format!(
                "the last good configuration has the form {version}, this release reads {VERSION}"
            ));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// Where its relative paths begin.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone().into()
    }

    /// Reads the configuration from it.
    ///
    /// # Errors
    /// Those of [`super::load`].
    pub fn load(&self, machine: &Machine) -> Result<Action, ConfigError> {
        let args = self.args.iter().map(OsString::from);
        load_with(args, machine, |path| {
            let text = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
            Ok(text.clone().into_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            memory: None,
            ..Machine::detect()
        }
    }

    #[test]
    fn a_record_of_what_was_read_means_the_same_when_the_files_are_gone() {
        let folder =
            std::env::temp_dir().join(format!("tokencached-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let toml = "memory_limit = 48 # m\u{e9}moire\n";
        std::fs::write(folder.join("toml"), toml).unwrap();
        let source = Source {
            args: ["-u", "root", "--config", "toml", "-t", "2"]
                .map(OsString::from)
                .to_vec(),
            folder: folder.clone(),
        };
        let (_, record) = source
            .load(&machine())
            .unwrap_or_else(|error| panic!("{error}"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(source.load(&machine()).is_err());
        let again = Record::from_bytes(&record.to_bytes()).unwrap();
        assert_eq!((&again, again.folder()), (&record, folder));
        match again.load(&machine()) {
            Ok(Action::Run(config)) => {
                assert_eq!(config.store.memory_limit_bytes, 48 << 20);
                assert_eq!(config.server.threads, 2);
            }
            Ok(Action::Print(text)) => panic!("{text}"),
            Err(error) => panic!("{error}"),
        }
        let cut = record.to_bytes();
        for length in 0..cut.len() {
            let line = Record::from_bytes(&cut[..length]).unwrap_err();
            assert!(
                line.contains("cannot be read") && !line.contains('\n'),
                "{line}"
            );
        }
    }
}
