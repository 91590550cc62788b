//! The memcached that tests compare with: the program in `MEMCACHED`, or `memcached` in `PATH`.

use std::env;
use std::path::PathBuf;

/// Where it is; `None` where none is installed.
pub fn find_memcached() -> Option<PathBuf> {
    if let Some(path) = env::var_os("MEMCACHED") {
        return Some(PathBuf::from(path));
    }
    let folders = env::var_os("PATH")?;
    let mut candidates = env::split_paths(&folders).map(|folder| folder.join("memcached"));
    candidates.find(|path| path.is_file())
}
