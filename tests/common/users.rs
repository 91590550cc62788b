//! What a server is given so that it knows the users of a transcript: the file of `-Y`, and for memcached's SASL a
//! database of libsasl's.
//!
//! Invariant: everything is in temporary files, which go with the value that is returned.

#![allow(dead_code)] // Every test binary that includes this file uses its own part of it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::{NamedTempFile, TempDir};

/// A file of the lines `user:password`.
pub fn file(users: &[String]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("there is room for a file of users");
    for user in users {
        writeln!(file, "{user}").expect("a file of users is written");
    }
    file
}

/// A folder for `SASL_CONF_PATH`: the mechanism PLAIN, and a database of the users. An error says what is missing.
pub fn sasl_folder(users: &[String]) -> Result<TempDir, String> {
    let program = find_saslpasswd2().ok_or("saslpasswd2 is not installed (Debian's sasl2-bin)")?;
    let folder = TempDir::new().expect("there is room for a database of users");
    let database = folder.path().join("users.db");
    let config = format!("mech_list: plain\nsasldb_path: {}\n", database.display());
    fs::write(folder.path().join("memcached.conf"), config).expect("the settings are written");
    for user in users {
        let (name, password) = user.split_once(':').expect("user:password");
        add(&program, &database, name, password)?;
    }
    Ok(folder)
}

fn add(program: &Path, database: &Path, name: &str, password: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(["-p", "-c", "-a", "memcached", "-f"]);
    command.arg(database).arg(name).stdin(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut input = child.stdin.take().expect("it was asked for");
    let written = input.write_all(password.as_bytes());
    drop(input);
    let status = child.wait().map_err(|error| error.to_string())?;
    match written.is_ok() && status.success() {
        true => Ok(()),
        false => Err(format!("saslpasswd2 does not take {name}: {status}")),
    }
}

fn find_saslpasswd2() -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"];
    let mut candidates = folders.map(|folder| Path::new(folder).join("saslpasswd2"));
    let found = candidates.iter_mut().find(|path| path.is_file());
    found.map(std::mem::take)
}
