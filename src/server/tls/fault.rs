//! What is wrong with certificates: which of them, where, why, and what would do.
//!
//! `tls` finds it, `start` and `reload` say it, and so does the answer to `refresh_certs`.
//!
//! Invariant: nothing of what is in the files is said.

use std::fmt;
use std::path::{Path, PathBuf};

/// What cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The server's certificates.
    Chain,
    /// Their key.
    Key,
    /// Each can be read, and they do not belong together.
    Pair,
    /// The server's certificate can be read, and not used.
    Certificate,
    /// Who vouches for clients.
    Ca,
}

/// Why certificates cannot be used: which, where, and why. Nothing of what is in the files is said.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    part: Part,
    /// The file.
    pub path: PathBuf,
    why: String,
}

impl Fault {
    /// A fault of this part, which is in this file.
    pub fn new(part: Part, path: &Path, why: impl fmt::Display) -> Fault {
        Fault {
            part,
            path: path.to_owned(),
            why: why.to_string(),
        }
    }

    /// The option of `-o` that names the file.
    pub fn option(&self) -> &'static str {
        match self.part {
            Part::Chain | Part::Certificate => "ssl_chain_cert",
            Part::Key | Part::Pair => "ssl_key",
            Part::Ca => "ssl_ca_cert",
        }
    }

    /// The file, and why it cannot be used.
    pub fn told(&self) -> String {
        format!("{}: {}", self.path.display(), self.why)
    }

    /// What would do.
    pub fn remedy(&self) -> &'static str {
        match self.part {
            Part::Chain => {
                "name a PEM file of certificates that the server may read with -o ssl_chain_cert=FILE"
            }
            Part::Key => {
                "name a PEM file with an unencrypted key that the server may read with -o ssl_key=FILE"
            }
            Part::Pair => {
                "name the key that the first certificate of ssl_chain_cert was made for with -o ssl_key=FILE"
            }
            Part::Certificate => "name a certificate of version 3 with -o ssl_chain_cert=FILE",
            Part::Ca => {
                "name a PEM file of certificates that the server may read with -o ssl_ca_cert=FILE"
            }
        }
    }

    /// The line that memcached answers to `refresh_certs`, but for OpenSSL's words in it.
    pub fn answer(&self) -> String {
        let what = match self.part {
            Part::Chain | Part::Certificate => "Error loading the certificate chain",
            Part::Key => "Error loading the key",
            Part::Pair => return format!("Error validating the certificate: {}", self.why),
            Part::Ca => "Error loading the CA certificate",
        };
        format!("{what}: {} : {}", self.path.display(), self.why)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.option(), self.told())
    }
}
