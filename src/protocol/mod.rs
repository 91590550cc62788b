//! Floor 1: bytes on the wire to commands, and replies to bytes.
//!
//! Pure functions: no socket, no clock, no store, no logging. `server::session` feeds a buffer to
//! [`classic::Classic::decode`], hands the [`command::Command`] to the engine and lets
//! [`classic::Classic::encode`] write the [`reply::Reply`]; [`meta`] does both for the lines of meta
//! commands. One command model serves every protocol; what only the wire needs (noreply, whether a
//! `get` was the last of its line, which flags are to be answered) travels in the [`command::Envelope`].
//!
//! Invariants:
//! - "need more bytes" is a value, never an error, and decoding the same bytes in other pieces gives
//!   the same commands;
//! - every bad input says how to go on: [`command::Recovery`];
//! - a decoded command borrows the buffer and names at most one key;
//! - keys and values never appear in a `Debug` output.
//!
//! Source of the meaning: memcached's `doc/protocol.txt`.

pub mod auth;
pub mod binary;
pub mod classic;
pub mod codec;
pub mod command;
pub mod error;
mod graphic;
mod line;
pub mod meta;
pub mod number;
pub mod reply;

/// Longest key, in bytes (protocol.txt, "Keys").
pub const KEY_BYTES_MAX: usize = 250;

/// The memcached release whose answers are given: what clients compare in `version`.
pub const MEMCACHED_VERSION: &str = "1.6.45";
