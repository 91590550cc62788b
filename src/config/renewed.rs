//! The configuration read again while the server runs: what of it can be put in force, and what cannot.
//!
//! `main.rs` calls [`Config::renewed`] for each SIGHUP, with the arguments and the [`Machine`] of the
//! start. Memory limit, verbosity and access rules are the server's to compare and apply; files of users,
//! passwords and certificates are read again by the server under the names that it started with. Whatever
//! else differs from the start is a line that says so.
//!
//! Invariant: a setting is named as changed by what an operator wrote, not by what follows from another:
//! one that is a default in both is passed over.

use std::ffi::OsString;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

use super::machine::Machine;
use super::show::Shown;
use super::{Action, Config, ConfigError, load_with};
use crate::server::reload::Fresh;

/// Settings that are put in force while running.
const LIVE: [&str; 3] = ["memory_limit", "verbose", "access"];

impl Config {
    /// Reads the configuration again, this one being the one at the start. The record of it is the caller's
    /// to add (`Source::recording`).
    ///
    /// # Errors
    /// Those of [`super::load`].
    pub fn renewed(
        &self,
        args: impl IntoIterator<Item = OsString>,
        machine: &Machine,
        read: impl Fn(&str) -> io::Result<Vec<u8>>,
    ) -> Result<Fresh, ConfigError> {
        match load_with(args, machine, read)? {
            Action::Run(config) => {
                let mut remarks = self.restarts(&config);
                let takes_restart = !remarks.is_empty();
                remarks.extend(self.new_warnings(&config));
                Ok(Fresh {
                    memory_limit_bytes: config.store.memory_limit_bytes,
                    verbosity: config.engine.verbosity.load(Relaxed),
                    access: config.server.access.clone(),
                    remarks,
                    takes_restart,
                    record: Vec::new(),
                })
            }
            // The same arguments started the server, so they ask for nothing to be printed.
            Action::Print(_) => Ok(Fresh {
                memory_limit_bytes: self.store.memory_limit_bytes,
                verbosity: self.verbosity.into(),
                access: self.server.access.clone(),
                remarks: Vec::new(),
                takes_restart: false,
                record: Vec::new(),
            }),
        }
    }

    /// What differs in `newer` and takes a restart.
    fn restarts(&self, newer: &Config) -> Vec<String> {
        let mut remarks: Vec<String> = newer
            .settings
            .iter()
            .filter(|shown| !LIVE.contains(&shown.key))
            .filter_map(|shown| self.changed(shown))
            .collect();
        if self.server.tls != newer.server.tls {
            remarks.push(restart("extended: other settings of TLS"));
        }
        if self.server.idle_timeout_seconds != newer.server.idle_timeout_seconds {
            remarks.push(restart("extended: another idle_timeout"));
        }
        remarks
    }

    /// What `newer` warns of and this one does not.
    fn new_warnings<'c>(&'c self, newer: &'c Config) -> impl Iterator<Item = String> + 'c {
        let is_new = |line: &&String| !self.warnings.contains(line);
        newer.warnings.iter().filter(is_new).cloned()
    }

    fn changed(&self, newer: &Shown) -> Option<String> {
        let older = self.settings.iter().find(|shown| shown.key == newer.key)?;
        let follows = older.source == "default" && newer.source == "default";
        let is_changed = older.value != newer.value && !follows;
        is_changed.then(|| restart(&format!("{newer}: was \"{}\"", older.value.escape_debug())))
    }
}

fn restart(what: &str) -> String {
    format!("{what}; it takes a restart")
}
