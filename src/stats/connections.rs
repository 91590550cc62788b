//! The register of open connections, for `stats conns`.
//!
//! The server enters each connection when it is accepted and takes it out when it closes; entries
//! are updated by their own connection only. A map that many tasks share: dashmap.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use dashmap::DashMap;

use crate::protocol::reply::Stat;

/// What is known of one connection.
#[derive(Debug)]
pub struct Connection {
    /// The peer, as `tcp:127.0.0.1:40000` or `unix:/path`.
    pub peer: Box<str>,
    /// The address it came in on, shared by all its connections.
    pub local: Arc<str>,
    /// The second of the last command.
    pub last_command: AtomicU32,
}

/// All open connections by number.
#[derive(Debug, Default)]
pub struct Connections {
    open: DashMap<u64, Arc<Connection>>,
    next: AtomicU64,
}

impl Connections {
    /// Enters a connection; gives its number, by which it is taken out again.
    pub fn enter(&self, connection: Arc<Connection>) -> u64 {
        let number = self.next.fetch_add(1, Relaxed);
        self.open.insert(number, connection);
        number
    }

    /// Takes a connection out.
    pub fn leave(&self, number: u64) {
        self.open.remove(&number);
    }

    /// `stats conns`: address, listening address, state and idle time of each.
    pub fn stats(&self, now_seconds: u32) -> Vec<Stat> {
        let mut open: Vec<(u64, Arc<Connection>)> = self
            .open
            .iter()
            .map(|entry| (*entry.key(), Arc::clone(entry.value())))
            .collect();
        open.sort_unstable_by_key(|&(number, _)| number);
        let lines = |(number, connection): (u64, Arc<Connection>)| {
            let idle = now_seconds.saturating_sub(connection.last_command.load(Relaxed));
            let stat = |name: &str, value: &str| Stat::new(format!("{number}:{name}"), value);
            [
                stat("addr", &connection.peer),
                stat("listen_addr", &connection.local),
                stat("state", "conn_read"),
                stat("secs_since_last_cmd", &idle.to_string()),
            ]
        };
        open.into_iter().flat_map(lines).collect()
    }
}
