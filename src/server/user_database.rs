//! What the user database says of a user: the name, for lines of the log and labels of metrics, and the groups.
//!
//! Called by `access` and `acceptor` from threads that may block: the database may be far away.

use std::ffi::CString;
use std::io;

use nix::unistd::{Uid, User, getgrouplist};

/// The name of a user; `None` if the database does not know one that is not empty, or does not answer. May block.
pub fn name_of(uid: u32) -> Option<String> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map(|user| user.name).filter(|name| !name.is_empty())
}

/// All groups of a user; none of one that the database does not know. May block.
///
/// # Errors
/// If the database does not answer.
pub fn gids_of(uid: u32) -> io::Result<Vec<u32>> {
    let Some(user) = User::from_uid(Uid::from_raw(uid))? else {
        return Ok(Vec::new());
    };
    let name = CString::new(user.name).map_err(|_| io::ErrorKind::InvalidData)?;
    let gids = getgrouplist(&name, user.gid)?;
    Ok(gids.into_iter().map(|gid| gid.as_raw()).collect())
}
