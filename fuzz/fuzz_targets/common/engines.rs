//! Engines with small memory, and conversations with them.
//!
//! Invariant: all engines of one input begin alike, hash alike (which keys the ghost has no room for follows
//! from it) and count CAS uniques up from the same number.

#[path = "../../../tests/common/conversation.rs"]
mod conversation;

pub use conversation::Conversation;

use tokencached::clock::Clock;
use tokencached::engine::{Engine, Options};
use tokencached::stats::memcached::Process;
use tokencached::store::{self, Store};

pub fn engine() -> Engine {
    let store = store::Options {
        memory_limit_bytes: 8 << 20,
        memory_ceiling_bytes: 16 << 20,
        hash_seed: Some(1),
        ..store::Options::default()
    };
    let process = Process {
        started: Clock::manual().now(),
        connections_max: 1,
        threads: 1,
    };
    let store = Store::new(&store).expect("there is memory for a store");
    Engine::new(store, Options::default(), process)
}
