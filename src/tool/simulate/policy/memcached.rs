//! A stand-in.
use super::lru::Lru;
use super::residents::Expired;
/// A stand-in.
#[derive(Debug)]
pub struct Memcached(Lru);
impl Memcached {
    /// A stand-in.
    pub fn new(memory_bytes: u64, tokens: usize) -> Memcached {
        Memcached(Lru::new(memory_bytes, tokens, Expired::Stay))
    }
}
impl super::Policy for Memcached {
    fn get(&mut self, token: u32, now: u32) -> bool {
        self.0.get(token, now)
    }
    fn put(&mut self, token: u32, entry: super::Entry, now: u32) {
        self.0.put(token, entry, now)
    }
}
