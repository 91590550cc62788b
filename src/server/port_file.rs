//! The file that tells whoever started the server on any free port which one it is
//! (`MEMCACHED_PORT_FILENAME`, as the test suites of memcached's clients use it).
//!
//! Written once, when TCP is bound.
//!
//! Invariant: the file is there only with all its lines, since it is renamed into its place.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// Writes a line for each address, in memcached's words (`memcached.c`, `server_socket`).
///
/// # Errors
/// Those of writing the file beside its place, and of renaming it.
pub fn write(path: &Path, addresses: impl Iterator<Item = SocketAddr>) -> io::Result<()> {
    let mut text = String::new();
    for address in addresses {
        let family = if address.is_ipv4() { "INET" } else { "INET6" };
        // A string takes everything.
        let _ = writeln!(text, "TCP {family}: {}", address.port());
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lck");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path)
}
