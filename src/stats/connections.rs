//! The register of open connections and of listening sockets, for `stats conns`.
//!
//! The server enters each when it is accepted or bound, and takes it out when it closes; entries
//! are updated by their own connection only. A map that many tasks share: dashmap.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use dashmap::DashMap;

use crate::protocol::reply::Stat;

/// What a connection is doing, in memcached's words (`memcached.c`, `state_text`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It waits for a request.
    Read,
    /// It carries one out.
    ParseCmd,
    /// It waits for the rest of a value.
    Nread,
    /// It passes over a value that was refused.
    Swallow,
    /// It waits for its peer to take replies.
    Mwrite,
    /// It is no connection but a listening socket.
    Listening,
}

impl State {
    const NAMES: [&str; 6] = [
        "conn_read",
        "conn_parse_cmd",
        "conn_nread",
        "conn_swallow",
        "conn_mwrite",
        "conn_listening",
    ];
}

/// What is known of one connection.
#[derive(Debug)]
pub struct Connection {
    /// The peer, as `tcp:127.0.0.1:40000` or `unix:/path`; of a listening socket, its own address.
    pub peer: Box<str>,
    /// The address it came in on, shared by all its connections; a listening socket has none.
    pub local: Option<Arc<str>>,
    /// The second of the last command.
    pub last_command: AtomicU32,
    state: AtomicU8,
}

impl Connection {
    /// One that is entered at this second.
    pub fn new(
        peer: Box<str>,
        local: Option<Arc<str>>,
        state: State,
        now_seconds: u32,
    ) -> Connection {
        Connection {
            peer,
            local,
            last_command: AtomicU32::new(now_seconds),
            state: AtomicU8::new(state as u8),
        }
    }

    /// Notes what it is doing now. Costs a store.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    fn stats(&self, number: u64, now_seconds: u32) -> Vec<Stat> {
        let idle = now_seconds.saturating_sub(self.last_command.load(Relaxed));
        let state = State::NAMES[usize::from(self.state.load(Relaxed))];
        let stat = |name: &str, value: &str| Stat::new(format!("{number}:{name}"), value);
        let mut lines = vec![stat("addr", &self.peer)];
        lines.extend(self.local.iter().map(|local| stat("listen_addr", local)));
        lines.push(stat("state", state));
        lines.push(stat("secs_since_last_cmd", &idle.to_string()));
        lines
    }
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

    /// `stats conns`, with memcached's columns (`memcached.c`, `process_stats_conns`).
    pub fn stats(&self, now_seconds: u32) -> Vec<Stat> {
        let mut open: Vec<(u64, Arc<Connection>)> = self
            .open
            .iter()
            .map(|entry| (*entry.key(), Arc::clone(entry.value())))
            .collect();
        open.sort_unstable_by_key(|&(number, _)| number);
        open.into_iter()
            .flat_map(|(number, connection)| connection.stats(number, now_seconds))
            .collect()
    }
}
