//! Hit rates in virtual time: traces replayed through caches.

pub mod policy;
pub mod report;
