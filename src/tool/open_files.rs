//! How many files the tool may have open, which is what its connections are.

use super::Error;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files the tool needs besides the connections.
const OTHER_FILES: u64 = 64;

/// Raises the soft limit of open files to what so many connections need, never above the hard one.
///
/// # Errors
/// [`Error::Options`] if the hard limit is too low, [`Error::System`] if the soft one cannot be raised.
pub fn allow(connections: u64) -> Result<(), Error> {
    let wanted = connections.saturating_add(OTHER_FILES);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let limit = Rlimit {
        current: Some(wanted.min(maximum.unwrap_or(u64::MAX))),
        maximum,
    };
    setrlimit(Resource::Nofile, limit)
        .map_err(|why| Error::System("raise the limit of open files", why.into()))?;
    match maximum {
        Some(most) if most < wanted => Err(Error::Options(format!(
            "{wanted} open files are needed and the hard limit is {most}: raise it (ulimit -Hn) or open fewer connections"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_within_the_limit_are_allowed_and_absurd_ones_are_not() {
        assert!(allow(1).is_ok());
        if getrlimit(Resource::Nofile).maximum.is_some() {
            assert!(allow(u64::MAX).is_err());
        }
    }
}
