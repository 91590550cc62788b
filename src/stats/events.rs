//! What a watcher is told: each command about an item, anonymised, as it is carried out.
//!
//! Whoever watches asks for [`Events::subscribe`] and takes what has gathered, some twenty times a second. The
//! engine asks [`Events::is_on`] after each command, and tells what it did while somebody watches.
//! `watch_line` writes events down.
//!
//! Invariants:
//! - a worker never waits for a watcher: what finds a queue full is dropped, and counted as lost;
//! - bounded: [`WATCHERS_MAX`] watchers, [`EVENTS_MAX`] events for each;
//! - no key leaves: each watcher gets hashes with a salt of its own, so that no hash can be turned back, and what
//!   two watchers were told cannot be joined.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::by_class::MissCause;
use super::services::Service;
use crate::clock::Now;
use crate::token::class::Class;

/// Most that watch at once.
pub const WATCHERS_MAX: usize = 4;

/// Events that wait for a watcher, at most; a quarter of a megabyte.
pub const EVENTS_MAX: usize = 4_096;

/// What a client asked for. Commands of all protocols go by the name of the classic one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// A value: `get`, `gets`, `mg`.
    Get,
    /// A value, and another expiry for it: `gat`, `gats`, `mg` with `T`.
    Gat,
    /// Another expiry alone.
    Touch,
    /// `set`, and `ms` likewise in its mode, as the following.
    Set,
    /// `add`
    Add,
    /// `replace`
    Replace,
    /// `append`
    Append,
    /// `prepend`
    Prepend,
    /// `cas`
    Cas,
    /// `delete`, and `md` that does not invalidate.
    Delete,
    /// `md` with `I`: the item becomes stale.
    Invalidate,
    /// `incr`, and `ma` likewise.
    Incr,
    /// `decr`, and `ma` likewise.
    Decr,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 13] = [
        Op::Get,
        Op::Gat,
        Op::Touch,
        Op::Set,
        Op::Add,
        Op::Replace,
        Op::Append,
        Op::Prepend,
        Op::Cas,
        Op::Delete,
        Op::Invalidate,
        Op::Incr,
        Op::Decr,
    ];

    /// Its one word, as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Op::Get => "get",
            Op::Gat => "gat",
            Op::Touch => "touch",
            Op::Set => "set",
            Op::Add => "add",
            Op::Replace => "replace",
            Op::Append => "append",
            Op::Prepend => "prepend",
            Op::Cas => "cas",
            Op::Delete => "delete",
            Op::Invalidate => "invalidate",
            Op::Incr => "incr",
            Op::Decr => "decr",
        }
    }
}

/// What a client got. Lengths are in bytes, times in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The item was there, to be read, touched or counted up.
    Hit {
        /// Since it was written.
        age_seconds: u32,
        /// Until it expires, as the command leaves it; `None` for never.
        ttl_seconds: Option<u32>,
        /// Length of the value as clients see it.
        value_bytes: u64,
        /// What it is stored in.
        stored_bytes: u64,
    },
    /// It was not.
    Miss {
        /// Why not, as far as is remembered.
        cause: MissCause,
    },
    /// A value was stored.
    Stored {
        /// Until it expires; `None` for never.
        ttl_seconds: Option<u32>,
        /// Length of the whole value as clients see it, also where a part of it was sent.
        value_bytes: u64,
        /// What it is stored in.
        stored_bytes: u64,
    },
    /// A condition was not met, or no room could be had.
    NotStored {
        /// Length of the value that was sent; 0 where none was.
        value_bytes: u64,
    },
    /// The item was there, and is deleted or stale.
    Deleted,
    /// There was none to delete.
    NotFound,
}

/// A key, hashed with the salt of one watcher: of use only to tell keys apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub u64);

/// One command about one key. `S` is what stands for the service: its number, or where it is written or read, its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<S = Service> {
    /// Milliseconds since its watcher has begun.
    pub at_ms: u64,
    /// What was asked for.
    pub op: Op,
    /// Which key.
    pub key: KeyHash,
    /// Whose connection it came from.
    pub service: S,
    /// What kind of item it is; of one that is not there, what its key tells.
    pub class: Class,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Event {
    /// One whose key and time [`Events::tell`] fills in, as each watcher is to see them.
    pub fn new(op: Op, service: Service, class: Class, outcome: Outcome) -> Event {
        Event {
            at_ms: 0,
            op,
            key: KeyHash::default(),
            service,
            class,
            outcome,
        }
    }
}

impl<S> Event<S> {
    /// The same with something else for its service.
    pub fn with_service<T>(self, service: T) -> Event<T> {
        Event {
            at_ms: self.at_ms,
            op: self.op,
            key: self.key,
            service,
            class: self.class,
            outcome: self.outcome,
        }
    }
}

/// Who watches, and the way to tell them.
#[derive(Debug, Default)]
pub struct Events(Arc<Register>);

#[derive(Debug, Default)]
struct Register {
    /// Whether there are any; a hint, so that a command may go by without a look at the list.
    is_on: AtomicBool,
    queues: RwLock<Vec<Arc<Queue>>>,
}

/// What leads to one watcher.
#[derive(Debug)]
struct Queue {
    salt: RandomState,
    began: Now,
    events: SyncSender<Event>,
    lost: AtomicU64,
}

impl Events {
    /// Whether anybody watches. Costs a load.
    #[inline]
    pub fn is_on(&self) -> bool {
        // Relaxed: an event more or less when a watcher comes or goes.
        self.0.is_on.load(Relaxed)
    }

    /// How many watch. Takes a short lock.
    pub fn watchers(&self) -> usize {
        self.0.queues.read().len()
    }

    /// Begins to watch; until the watcher is dropped. Takes a quarter of a megabyte, and a short lock.
    ///
    /// # Errors
    /// As many watch as may.
    pub fn subscribe(&self, now: Now) -> Result<Watcher, Full> {
        let mut queues = self.0.queues.write();
        if queues.len() >= WATCHERS_MAX {
            return Err(Full);
        }
        let (sender, events) = sync_channel(EVENTS_MAX);
        let queue = Arc::new(Queue {
            salt: RandomState::new(),
            began: now,
            events: sender,
            lost: AtomicU64::new(0),
        });
        queues.push(Arc::clone(&queue));
        self.0.is_on.store(true, Relaxed);
        Ok(Watcher {
            register: Arc::clone(&self.0),
            queue,
            events,
        })
    }

    /// Tells all watchers what was done to a key. Costs a hash and a copy for each, and waits for none of them; who
    /// comes or goes meanwhile holds it up for a moment.
    pub fn tell(&self, key: &[u8], event: Event, now: Now) {
        for queue in self.0.queues.read().iter() {
            queue.tell(key, event, now);
        }
    }
}

impl Queue {
    fn tell(&self, key: &[u8], event: Event, now: Now) {
        let mut hasher = self.salt.build_hasher();
        hasher.write(key);
        let event = Event {
            key: KeyHash(hasher.finish()),
            // A command that was under way when the watcher came may have an earlier time.
            at_ms: now.nanos.saturating_sub(self.began.nanos) / 1_000_000,
            ..event
        };
        if self.events.try_send(event).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

/// One that watches; it is told no more once this is dropped.
#[derive(Debug)]
pub struct Watcher {
    register: Arc<Register>,
    queue: Arc<Queue>,
    events: Receiver<Event>,
}

/// What a watcher was told since it last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In the order in which they were told.
    pub events: Vec<Event>,
    /// Events that were dropped since there was no room for them.
    pub lost: u64,
}

impl Watcher {
    /// When it has begun.
    pub fn began(&self) -> Now {
        self.queue.began
    }

    /// What has gathered, at most [`EVENTS_MAX`] events. Never waits; to be called some twenty times a second, so that
    /// little is lost.
    pub fn take(&mut self) -> Batch {
        Batch {
            events: self.events.try_iter().take(EVENTS_MAX).collect(),
            lost: self.queue.lost.swap(0, Relaxed),
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut queues = self.register.queues.write();
        queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        // Under the lock, so that it says what the list does.
        self.register.is_on.store(!queues.is_empty(), Relaxed);
    }
}

/// As many watch as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{WATCHERS_MAX} watchers are there, and no more may be: end one of them first"
        )
    }
}

impl std::error::Error for Full {}

#[cfg(test)]
mod tests {
    use super::*;

    const MISS: Outcome = Outcome::Miss {
        cause: MissCause::NeverSeen,
    };

    fn missed() -> Event {
        Event::new(Op::Get, Service::UNKNOWN, Class::Token, MISS)
    }

    fn now() -> Now {
        Now::at(1_000, 0)
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_says_how_much() {
        let events = Events::default();
        let mut watcher = events.subscribe(now()).unwrap();
        (0..EVENTS_MAX + 3).for_each(|_| events.tell(b"k", missed(), now()));
        let batch = watcher.take();
        assert_eq!((batch.events.len(), batch.lost), (EVENTS_MAX, 3));
        assert_eq!(watcher.take(), Batch::default());
        events.tell(b"k", missed(), now());
        let batch = watcher.take();
        assert_eq!((batch.events.len(), batch.lost), (1, 0));
    }

    #[test]
    fn a_key_has_one_hash_for_a_watcher_and_another_for_the_next() {
        let events = Events::default();
        let [mut one, mut two] = [(); 2].map(|()| events.subscribe(now()).unwrap());
        for key in [b"tokens/1".as_slice(), b"tokens/2", b"tokens/1"] {
            events.tell(key, missed(), now());
        }
        let keys = |watcher: &mut Watcher| -> Vec<KeyHash> {
            let events = watcher.take().events.into_iter();
            events.map(|event| event.key).collect()
        };
        let (one, two) = (keys(&mut one), keys(&mut two));
        assert_eq!(one[0], one[2]);
        assert_ne!(one[0], one[1]);
        assert!(one.iter().all(|key| !two.contains(key)));
    }

    #[test]
    fn it_is_on_from_the_first_watcher_to_the_last() {
        let events = Events::default();
        assert!(!events.is_on());
        let one = events.subscribe(now()).unwrap();
        let two = events.subscribe(now()).unwrap();
        drop(one);
        assert!(events.is_on());
        drop(two);
        assert!(!events.is_on());
    }

    #[test]
    fn who_comes_when_all_places_are_taken_is_refused_until_one_is_free() {
        let events = Events::default();
        let mut watchers: Vec<Watcher> = (0..WATCHERS_MAX)
            .map(|_| events.subscribe(now()).unwrap())
            .collect();
        assert_eq!(events.subscribe(now()).unwrap_err(), Full);
        watchers.pop();
        assert!(events.subscribe(now()).is_ok());
    }

    #[test]
    fn times_count_from_where_a_watcher_began() {
        let events = Events::default();
        let mut watcher = events.subscribe(now()).unwrap();
        let later = Now {
            nanos: now().nanos + 1_234_999_999,
            ..now()
        };
        let earlier = Now::at(999, 0);
        for at in [later, earlier] {
            events.tell(b"k", missed(), at);
        }
        let times: Vec<u64> = watcher.take().events.iter().map(|it| it.at_ms).collect();
        assert_eq!(times, [1_234, 0]);
    }

    #[test]
    fn each_watcher_is_told_what_happens_in_its_time_alone() {
        let events = Events::default();
        events.tell(b"k", missed(), now());
        let mut one = events.subscribe(now()).unwrap();
        events.tell(b"k", missed(), now());
        let mut two = events.subscribe(now()).unwrap();
        events.tell(b"k", missed(), now());
        assert_eq!(one.take().events.len(), 2);
        assert_eq!(two.take().events.len(), 1);
    }
}
