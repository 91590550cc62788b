//! What a server hands on to the process that comes next, so that a restart is a pause and no more.
//!
//! `connection` parks what it serves; [`state`] writes that down, with the totals that were counted, in a
//! memory file which the successor reads.
//!
//! Invariants:
//! - nothing that is handed over is trusted: what cannot be read is said in one line, and done without;
//! - formats carry a version, and a newer one is told from a damaged one.

pub mod state;
