//! The files of users and certificates, as they were when they were last good: a successor that finds them
//! unusable, or may not read them any more, goes on with these.
//!
//! `server::run` and `reload` keep them, `start` looks at them where a file itself fails.
//!
//! Invariant: they are credentials, and are shown nowhere.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::server::auth::Users;
use crate::server::tls::Tls;

/// The form; another one is not read.
const VERSION: u32 = 1;

/// Files by their absolute paths. `Debug` shows how many.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    version: u32,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl fmt::Debug for Files {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Files({})", self.files.len())
    }
}

impl Files {
    /// Those in force.
    pub fn of(users: Option<&Users>, tls: Option<&Tls>) -> Files {
        let users = users.map(Users::file);
        let tls = tls.map(Tls::files).unwrap_or_default();
        Files {
            version: VERSION,
            files: users.into_iter().chain(tls).collect(),
        }
    }

    /// The file at this path.
    pub fn get(&self, path: &Path) -> Option<&[u8]> {
        let path = std::path::absolute(path).ok()?;
        self.files.get(&path).map(Vec::as_slice)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// As bytes, for another process.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A path that is no UTF-8, which `config` refuses, has no form in JSON; then there are no copies.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From such bytes; none from what is none, or another release's.
    pub fn from_bytes(bytes: &[u8]) -> Files {
        let files: Files = serde_json::from_slice(bytes).unwrap_or_default();
        match files.version {
            VERSION => files,
            _ => Files::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_there_again_and_is_not_shown() {
        let files = Files {
            version: VERSION,
            files: BTreeMap::from([("/etc/users".into(), b"api:secret\n\xff".to_vec())]),
        };
        let again = Files::from_bytes(&files.to_bytes());
        assert_eq!(again, files);
        assert_eq!(
            again.get(Path::new("/etc/users")).unwrap(),
            b"api:secret\n\xff"
        );
        assert_eq!(again.get(Path::new("/etc/others")), None);
        assert!(!format!("{again:?}").contains("secret"));
        for other in [
            &b"no such thing"[..],
            br#"{"version":2,"files":{"/a":[1]}}"#,
        ] {
            assert!(Files::from_bytes(other).is_empty());
        }
    }
}
