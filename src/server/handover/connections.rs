//! Connections on their way to a successor, and their arrival there.
//!
//! At a planned end the acceptor has every plain connection parked; its task leaves it in the [`Lot`], and
//! once all have, [`Lot::hand_on`] writes the state and puts the sockets into a queue. The successor takes both
//! ([`Arrived::take`]), and `acceptor` goes on with each connection that [`Arrived`] gives.
//!
//! Invariants:
//! - a socket is gone on with at the byte where it stands, or closed; without a state that can be read, only
//!   one on which nothing was begun;
//! - the numbers of the state's connections are the places of their sockets in the queue.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;

use super::fd_store::FdStore;
use super::queue::{self, Queue, Rest};
use super::state::{self, Client, State, Writer};
use super::{Inherited, Role};
use crate::server::connection::ParkedConnection;
use crate::stats::Totals;

/// How often it is looked whether all have left.
const LOOK: Duration = Duration::from_millis(1);

/// How long a connection may take to come to the end of its turn.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Where connections are left that are parked.
#[derive(Debug, Default)]
pub struct Lot {
    /// Connections that may still be left here.
    under_way: AtomicUsize,
    left: Mutex<Vec<Left>>,
}

/// A connection without its task.
#[derive(Debug)]
struct Left {
    socket: OwnedFd,
    client: Client,
    parked: ParkedConnection,
}

/// A connection that may be left in the lot, for as long as this is kept.
#[derive(Debug)]
pub struct UnderWay(Arc<Lot>);

impl UnderWay {
    /// Of a connection that begins.
    pub fn new(lot: &Arc<Lot>) -> UnderWay {
        lot.under_way.fetch_add(1, Relaxed);
        UnderWay(Arc::clone(lot))
    }

    /// Leaves it.
    pub fn leave(&self, socket: OwnedFd, client: Client, parked: ParkedConnection) {
        self.0.left.lock().push(Left {
            socket,
            client,
            parked,
        });
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

impl Lot {
    /// Waits until every plain connection has been left here or has ended, for a second at most.
    pub async fn wait_for_all(&self) {
        let all = async {
            while self.under_way.load(Relaxed) > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(LEAVE_WITHIN, all).await.is_err() {
            let count = self.under_way.load(Relaxed);
            tracing::warn!("{count} connections could not be parked in time and are closed");
        }
    }

    /// Keeps all that were left, of so many, and the totals, for the successor. Blocks until the manager has
    /// it.
    pub fn hand_on(&self, all: usize, totals: Totals, fd_store: &FdStore) {
        let left = std::mem::take(&mut *self.left.lock());
        match pack(&left, totals) {
            Ok((file, queue)) => {
                fd_store.keep(Role::State, file);
                fd_store.keep(Role::Connections, queue.into_receiver());
                fd_store.barrier();
                let closed = match all.saturating_sub(left.len()) {
                    0 => String::new(),
                    count => format!("; {count} with TLS, or that have ended, are closed"),
                };
                tracing::info!("connections handed on: {}{closed}", left.len());
            }
            Err(error) => tracing::error!(
                "connections cannot be handed on: {error}; all {} are closed",
                left.len()
            ),
        }
    }
}

fn pack(left: &[Left], totals: Totals) -> io::Result<(File, Queue)> {
    let mut writer = Writer::new()?;
    let mut sockets = Vec::with_capacity(left.len());
    for connection in left {
        writer.add(connection.client.clone(), &connection.parked)?;
        let rest = match connection.parked.is_at_rest() {
            true => Rest::Idle,
            false => Rest::Busy,
        };
        sockets.push((connection.socket.as_fd(), rest));
    }
    let file = writer.finish(totals)?;
    let queue = Queue::new()?;
    if let Err((went, error)) = queue.put(&sockets) {
        let count = sockets.len() - went;
        tracing::warn!("{count} connections cannot be handed on and are closed: {error}");
    }
    Ok((file, queue))
}

/// What has come from the process before.
#[derive(Debug, Default)]
pub struct Arrived {
    state: Option<State>,
    sockets: VecDeque<(Option<OwnedFd>, Rest)>,
    /// The place of the next socket.
    number: usize,
}

/// A connection that has come.
#[derive(Debug)]
pub struct Newcomer {
    /// Its socket.
    pub socket: OwnedFd,
    /// Whose it is and where it stands; without, it begins anew.
    pub known: Option<(Client, Box<ParkedConnection>)>,
}

impl Arrived {
    /// Takes what there is, and has the manager forget it: it serves once. What cannot be read is said in a
    /// line.
    pub fn take(inherited: &mut Inherited, fd_store: &FdStore) -> Arrived {
        let (connections, state) = inherited.take_connections();
        if connections.is_none() && state.is_none() {
            return Arrived::default();
        }
        let state = state.and_then(|file| {
            let read = state::read(file.into());
            let why = |why| {
                tracing::warn!("{why}: connections on which something was begun are closed");
            };
            read.map_err(why).ok()
        });
        let taken = connections.map(queue::take_all).transpose();
        let sockets = taken.unwrap_or_else(|error| {
            tracing::warn!("the connections that were handed over cannot be taken: {error}");
            None
        });
        fd_store.forget(Role::Connections);
        fd_store.forget(Role::State);
        Arrived {
            state,
            sockets: sockets.unwrap_or_default().into(),
            number: 0,
        }
    }

    /// What the processes before have counted.
    pub fn totals(&self) -> Option<&Totals> {
        self.state.as_ref().map(State::totals)
    }

    fn newcomer(&self, number: usize, socket: OwnedFd, rest: Rest) -> Option<Newcomer> {
        let Some(state) = &self.state else {
            let known = None;
            return (rest == Rest::Idle).then_some(Newcomer { socket, known });
        };
        let client = state.clients().nth(number)?.clone();
        let parked = state.connection(number).ok()?;
        let known = Some((client, Box::new(parked)));
        Some(Newcomer { socket, known })
    }
}

/// One after another; `None` stands for one that is closed.
impl Iterator for Arrived {
    type Item = Option<Newcomer>;

    fn next(&mut self) -> Option<Option<Newcomer>> {
        let (socket, rest) = self.sockets.pop_front()?;
        let number = self.number;
        self.number += 1;
        Some(socket.and_then(|socket| self.newcomer(number, socket, rest)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.sockets.len(), Some(self.sockets.len()))
    }
}

impl ExactSizeIterator for Arrived {}
