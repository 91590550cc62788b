//! tokencached: a memcached-compatible cache that sits beside an OpenStack API service and serves
//! keystonemiddleware's token cache. One sentence to steer by: *an API unit never notices its cache*.
//!
//! # Floors
//!
//! Imports go down only; `tests/layout.rs` keeps it so.
//!
//! | floor | module | what it is |
//! |---|---|---|
//! | 4 | [`server`] | sockets, threads, signals, HTTP |
//! | 3 | [`engine`] | a command meets the store, the only place where it does |
//! | 2 | [`stats`] | counters and their views, and what watchers are told |
//! | 2 | [`packing`] | the same value in fewer bytes |
//! | 1 | [`protocol`] | bytes to commands, replies to bytes |
//! | 1 | [`store`] | items in a bounded heap |
//! | 1 | [`token`] | what keystonemiddleware writes |
//! | 0 | [`clock`] | time as an argument |
//! | 0 | [`histogram`] | how values are spread |
//! | 0 | [`regular_file`] | files that can be read without waiting |
//!
//! Beside them, imported by the binaries alone: [`config`], which fills the `Options` that each module
//! declares, and [`tool`], what the operator's tool does.
//!
//! # The life of a get
//!
//! 1. `server::connection` wakes when its socket is readable and reads once, into its thread's buffer.
//! 2. [`server::session`] lets [`protocol::classic`] decode the front of the buffer into a
//!    [`protocol::command::Command`], which borrows it.
//! 3. [`engine::Engine::execute`] asks [`store::Store::get`]: hash, shard, full key, expiry, flush; the
//!    item's segment is pinned and the lock let go. One line of statistics is counted.
//! 4. The reply is encoded behind the others of the batch: a packed value is unpacked right there, a
//!    small one is copied, a larger one goes out by reference. When no complete request is left, one `send` takes all of it.
//!
//! A hit allocates nothing, and nothing of it crosses to another thread.
//!
//! # The life of a set
//!
//! The decoder waits for header and data block; a value over half a segment that is too long to be
//! packed is written into segments of its own as it arrives. [`packing::Packing::pack`] makes fewer
//! bytes of it where it can, under no lock. [`store::Store::put`] overwrites the key's present item in place if the
//! new value fits there, or reserves room (letting others leave if it must), copies the bytes once
//! under no lock, and publishes the item under its shard's lock: the old copy dies before the new one
//! lives.
//!
//! # Lexicon
//!
//! - *item*: header, key, value, at one place of the heap. *segment*: equal parts of the heap, filled
//!   one after another. *chain*: probation or main, segments first in, first out. *ghost*: keys that
//!   left not long ago.
//! - *packed*: stored in fewer bytes than the client gave. *dictionary*: what packed values share, kept in
//!   the heap. *head*: of a packed value, its length and checksum; of a token, what stands before its
//!   catalogue.
//! - *class*: what kind of thing a client keeps, told by the shapes of key and value. *service*: the user at
//!   the other end of a connection. Both are for statistics.
//! - Ways out, one word each ([`store::Cause`]): expired, evicted, deleted, replaced, flushed, revoked.
//! - *seconds* are [`clock::Now`]'s: since boot, never running backwards, the same in every process.

#![warn(missing_docs)]

pub mod clock;
pub mod config;
pub mod engine;
pub mod histogram;
mod nearest;
pub mod packing;
pub mod protocol;
pub mod regular_file;
pub mod server;
pub mod stats;
pub mod store;
pub mod token;
pub mod tool;
