//! The register of open connections and of listening sockets, for `stats conns`.
//!
//! The server enters each when it is accepted or bound, and takes it out when it closes; entries
//! are updated by their own connection only, but for what access rules say of it. Beside what is shown
//! they hold what the server needs to hold a connection against other rules, and to close it. A map
//! that many tasks share: dashmap.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, fence};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

use dashmap::DashMap;

use super::services::Service;
use crate::protocol::reply::Stat;

/// At least one whole second.
const SLOW_SECONDS: u32 = 2;

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

    /// memcached's word for it.
    pub fn name(self) -> &'static str {
        State::NAMES[self as usize]
    }
}

/// What a connection has been told from outside. A later one of these overrules an earlier one, never the
/// other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// To go on.
    Serve,
    /// To be parked between two turns, where that can be.
    Park,
    /// To end at once.
    Close,
}

impl Order {
    const ALL: [Order; 3] = [Order::Serve, Order::Park, Order::Close];
}

/// Where a connection comes from; of a listening socket, where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The peer on TCP, shown as `tcp:127.0.0.1:40000`.
    Tcp(SocketAddr),
    /// A name as it is shown, such as `unix:/path`.
    Named(Arc<str>),
}

impl Address {
    /// The peer, if that is on TCP.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(addr) => Some(*addr),
            Address::Named(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(addr) => write!(formatter, "tcp:{addr}"),
            Address::Named(name) => formatter.write_str(name),
        }
    }
}

/// What is known of one connection.
#[derive(Debug)]
pub struct Connection {
    /// The peer; of a listening socket, its own address.
    pub peer: Address,
    /// The address it came in on, shared by all its connections; a listening socket has none.
    pub local: Option<Arc<str>>,
    /// The second of the last command.
    pub last_command: AtomicU32,
    state: AtomicU8,
    /// Its peer may only read; read by the connection at each turn.
    pub read_only: AtomicBool,
    /// The peer's user, where that is known.
    pub uid: OnceLock<u32>,
    /// The service that it counts for.
    pub service: Service,
    order: AtomicU8,
    /// Wakes the task that serves it.
    waker: OnceLock<Waker>,
}

impl Connection {
    /// One that is entered at this second.
    pub fn new(
        peer: Address,
        local: Option<Arc<str>>,
        state: State,
        now_seconds: u32,
    ) -> Connection {
        Connection {
            peer,
            local,
            last_command: AtomicU32::new(now_seconds),
            state: AtomicU8::new(state as u8),
            read_only: AtomicBool::new(false),
            uid: OnceLock::new(),
            service: Service::UNKNOWN,
            order: AtomicU8::new(Order::Serve as u8),
            waker: OnceLock::new(),
        }
    }

    /// Notes how to wake the task that serves it, which looks at [`Connection::order`] afterwards, and
    /// whenever it is polled.
    pub fn is_woken_by(&self, waker: &Waker) {
        // There is one task, from its beginning to its end.
        let _ = self.waker.set(waker.clone());
        // Pairs with that in `tell`: one of the two sees what the other has written.
        fence(SeqCst);
    }

    /// Whether it has been told anything but to go on. Costs a load.
    #[inline]
    pub fn is_told(&self) -> bool {
        self.order.load(Relaxed) != Order::Serve as u8
    }

    /// What it has been told.
    pub fn order(&self) -> Order {
        // Relaxed: it is woken after each change.
        Order::ALL[usize::from(self.order.load(Relaxed))]
    }

    /// Does `work` of its task, which is dropped once the connection is to be closed; `None` then.
    pub async fn while_open<F: Future + Unpin>(&self, mut work: F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            self.is_woken_by(context.waker());
            match self.order() {
                Order::Close => Poll::Ready(None),
                Order::Serve | Order::Park => Pin::new(&mut work).poll(context).map(Some),
            }
        })
        .await
    }

    /// Has it closed, at once and whatever it is doing.
    pub fn close(&self) {
        self.tell(Order::Close);
    }

    /// Has it parked between two turns; one that cannot be is left alone.
    pub fn park(&self) {
        self.tell(Order::Park);
    }

    fn tell(&self, order: Order) {
        self.order.fetch_max(order as u8, Relaxed);
        fence(SeqCst);
        self.waker.get().into_iter().for_each(Waker::wake_by_ref);
    }

    /// Notes what it is doing now. Costs a store.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    /// Whether its peer has not taken its replies for a second: nothing is executed meanwhile, so that its last
    /// command is older. Whole seconds are counted, so that it may be two before it is known.
    fn is_slow(&self, now_seconds: u32) -> bool {
        let last_command = self.last_command.load(Relaxed);
        self.state.load(Relaxed) == State::Mwrite as u8
            && now_seconds.saturating_sub(last_command) >= SLOW_SECONDS
    }

    /// What it is doing, in memcached's word.
    pub fn state_name(&self) -> &'static str {
        State::NAMES[usize::from(self.state.load(Relaxed))]
    }

    fn stats(&self, number: u64, now_seconds: u32) -> Vec<Stat> {
        let idle = now_seconds.saturating_sub(self.last_command.load(Relaxed));
        let state = self.state_name();
        let stat = |name: &str, value: &str| Stat::new(format!("{number}:{name}"), value);
        let mut lines = vec![stat("addr", &self.peer.to_string())];
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

    /// The connections that there are now, without the listening sockets.
    pub fn clients(&self) -> Vec<Arc<Connection>> {
        let all = self.open.iter().map(|entry| Arc::clone(entry.value()));
        all.filter(|connection| connection.local.is_some())
            .collect()
    }

    /// How many have not taken their replies for a second. Goes through all of them, some nanoseconds each, with a
    /// short lock on a part of the register at a time.
    pub fn slow(&self, now_seconds: u32) -> usize {
        let is_slow = |connection: &Connection| connection.is_slow(now_seconds);
        self.open.iter().filter(|entry| is_slow(entry)).count()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_take_replies_for_a_second_is_slow_and_who_is_silent_is_not() {
        let connections = Connections::default();
        let enter = |state| {
            let peer = Address::Named("unix:/path".into());
            let connection = Arc::new(Connection::new(peer, None, state, 10));
            connections.enter(Arc::clone(&connection));
            connection
        };
        let (stuck, _silent) = (enter(State::Mwrite), enter(State::Read));
        assert_eq!(connections.slow(11), 0);
        assert_eq!(connections.slow(12), 1);
        stuck.last_command.store(12, Relaxed);
        assert_eq!(connections.slow(13), 0);
        assert_eq!(connections.slow(20), 1);
        stuck.set_state(State::Read);
        assert_eq!(connections.slow(20), 0);
    }
}
