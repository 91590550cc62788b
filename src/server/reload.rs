//! SIGHUP: what can change while the server runs is read again and put in force.
//!
//! `main.rs` gives [`run`](super::run) a [`Reload`], which reads the configuration anew; the server does
//! not know where from. Then certificates, users and passwords are read again, and memory limit,
//! verbosity and access rules become what the configuration says now. What else it changes is named,
//! a line each, as it takes a restart.
//!
//! Invariants:
//! - a configuration that cannot be used changes nothing, and is one line in the log;
//! - reading it, which may block, holds nobody up: it has a thread of its own;
//! - only what the configuration changes is changed: a limit or verbosity that a client has set stays
//!   until the configuration says another one;
//! - a connection that new rules refuse is closed, whatever it is doing.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::access::{Access, Decision, Refusal, Rules};
use super::auth::Users;
use super::handover::Role;
use super::handover::fd_store::FdStore;
use super::handover::files::Files;
use super::peer::Ends;
use super::tls::Tls;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::stats::connections::Connection;

/// How long reading may take, of the configuration and of the files that it names.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// What a configuration that was read again says of all that can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// `-m`, in bytes.
    pub memory_limit_bytes: u64,
    /// `-v`
    pub verbosity: u32,
    /// `[access]`
    pub access: Option<Rules>,
    /// Lines about what takes a restart, and what the operator should know.
    pub remarks: Vec<String>,
    /// Whether part of it takes a restart.
    pub takes_restart: bool,
    /// All of it, in a form that a successor can go on with if its own cannot be used.
    pub record: Vec<u8>,
}

/// Reads the configuration again; an error is one line.
pub type Reload = dyn Fn() -> Result<Fresh, String> + Send + Sync;

/// Carries SIGHUP out.
pub struct Reloader {
    /// How to read the configuration, and what it said last.
    pub source: (Arc<Reload>, Fresh),
    /// What has limit, verbosity and certificates.
    pub engine: Arc<Engine>,
    /// Users and passwords, where there are any.
    pub users: Option<Arc<Users>>,
    /// Certificates and key, where there are some.
    pub tls: Option<Arc<Tls>>,
    /// The rules in force.
    pub access: Arc<Access>,
    /// What keeps the configuration for a successor.
    pub fd_store: Arc<FdStore>,
}

impl Reloader {
    /// Reads everything again. What comes of it is logged.
    pub async fn reload(&mut self) {
        let reading = tokio::time::timeout(READ_WITHIN, self.read()).await;
        let fresh = match reading.unwrap_or_else(|_| Err(too_slow("the configuration"))) {
            Ok(fresh) => fresh,
            Err(line) => {
                tracing::error!("{line} (nothing has changed)");
                return;
            }
        };
        if tokio::time::timeout(READ_WITHIN, self.renew_files())
            .await
            .is_err()
        {
            let what = too_slow("certificates or the file of -Y");
            tracing::error!("{what} (those read before stay in force)");
        }
        self.fd_store.keep_files(&self.files());
        self.apply(fresh).await;
    }

    /// The files in force, for a successor.
    pub fn files(&self) -> Files {
        Files::of(self.users.as_deref(), self.tls.as_deref())
    }

    /// Has certificates, users and passwords read again.
    async fn renew_files(&self) {
        let (engine, users) = (Arc::clone(&self.engine), self.users.clone());
        let renewing = tokio::task::spawn_blocking(move || {
            // What comes of it is logged.
            drop(engine.refresh_certs(Clock::System.now()));
            match users.as_deref().map(Users::reload) {
                None => {}
                Some(Ok(())) => tracing::info!("users and passwords are read again"),
                Some(Err(error)) => tracing::error!("{error}; those read before stay in force"),
            }
        });
        // A panic has been reported already.
        let _ = renewing.await;
    }

    async fn read(&self) -> Result<Fresh, String> {
        let reload = Arc::clone(&self.source.0);
        let read = tokio::task::spawn_blocking(move || reload()).await;
        read.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn apply(&mut self, fresh: Fresh) {
        tracing::info!("the configuration is read again");
        for remark in &fresh.remarks {
            tracing::warn!("{remark}");
        }
        let last = std::mem::replace(&mut self.source.1, fresh.clone());
        if fresh.memory_limit_bytes != last.memory_limit_bytes
            && !self.limit_memory(fresh.memory_limit_bytes)
        {
            // Still to be said the next time.
            self.source.1.memory_limit_bytes = last.memory_limit_bytes;
        }
        if fresh.verbosity != last.verbosity {
            self.engine.set_verbosity(fresh.verbosity);
            tracing::info!("verbosity is {}", fresh.verbosity);
        }
        let had_rules = last.access.is_some();
        match self.access.replace(fresh.access.clone()) {
            Ok(()) => {
                // One that is not in force yet is not known to work.
                if !fresh.takes_restart {
                    self.fd_store.keep_bytes(Role::Config, &fresh.record);
                }
                // Groups may have changed where rules have not.
                if had_rules || fresh.access.is_some() {
                    self.review().await;
                }
            }
            Err(error) => {
                tracing::error!(
                    "access: who is on loopback cannot be looked up: {error}; allow AF_NETLINK (the rules before stay in force)"
                );
                self.source.1.access = last.access;
            }
        }
    }

    fn limit_memory(&self, bytes: u64) -> bool {
        let mib = bytes >> 20;
        let is_set = self.engine.set_memory_limit(bytes, Clock::System.now());
        if is_set {
            tracing::info!("the memory limit is {mib} MiB");
        } else {
            tracing::warn!(
                "memory_limit: {mib} MiB is beyond what the memory file was made for; it takes a restart, with a higher memory_ceiling if need be"
            );
        }
        is_set
    }

    /// Holds every connection against the rules.
    async fn review(&self) {
        let stats = self.engine.stats();
        let mut closed = 0;
        // Whose groups could not be looked up is not waited for again.
        let mut unknown = HashSet::new();
        for connection in stats.connections.clients() {
            if self.access.asks() && connection.uid.get().is_none() {
                stats.server.peer_lookups.fetch_add(1, Relaxed);
            }
            let ends = ends_of(&connection);
            let uid = connection.uid.get().copied();
            let decided = match self.access.reconsider(uid, ends) {
                Decision::AskGroups(uid) if unknown.contains(&uid) => {
                    Err(Refusal::Groups(uid, io::ErrorKind::TimedOut.into()))
                }
                decision => self.access.settle(decision).await,
            };
            if let Err(Refusal::Groups(uid, _)) = decided {
                unknown.insert(uid);
            }
            match decided {
                Ok(admission) => {
                    if let Some(uid) = admission.uid {
                        // Known before, or never.
                        let _ = connection.uid.set(uid);
                    }
                    connection.read_only.store(admission.read_only, Relaxed);
                }
                Err(refusal) => {
                    closed += 1;
                    stats.server.access_closed.fetch_add(1, Relaxed);
                    let nowhere = || Arc::from("");
                    let listener = connection.local.clone().unwrap_or_else(nowhere);
                    self.access.complain("closed", refusal, &listener);
                    connection.close();
                }
            }
        }
        self.access.tell();
        tracing::info!("connections closed by the access rules: {closed}");
    }
}

fn too_slow(what: &str) -> String {
    let seconds = READ_WITHIN.as_secs();
    format!("{what} could not be read within {seconds} s: is the disk there?")
}

/// Both addresses of a connection over TCP. One that came in on a wildcard address does not know its own.
fn ends_of(connection: &Connection) -> Option<Ends> {
    let peer = connection.peer.tcp()?;
    let local = connection.local.as_deref()?.strip_prefix("tcp:")?;
    Some(Ends::new(peer, local.parse().ok()?))
}
