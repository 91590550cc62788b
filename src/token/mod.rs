//! Floor 1: what keystonemiddleware writes into its cache, told from the bytes alone.
//!
//! Pure functions without I/O, clock or store. `packing` asks [`value`] what a value is and what of it
//! must not outlive it; the engine asks [`class`] what to count it as.
//!
//! Source: keystonemiddleware `auth_token/_cache.py`, class `TokenCache`.

pub mod class;
pub mod value;
