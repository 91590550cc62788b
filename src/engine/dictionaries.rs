//! The dictionaries of packed values, between the store that keeps them and the packer that uses them.
//!
//! The packer finds out that another dictionary would pay; it is adopted on the spot, so that the next
//! token is packed with it already. The background thread lets go what nothing needs any more.
//!
//! Invariants:
//! - a dictionary is in the store before a value is packed with it, and known to the packer until the
//!   store has freed it;
//! - no item leaves for a new dictionary while all that are alive pack new values: only one that has
//!   packed and unpacked nothing for a minute makes room, one at a time, and the items that need it leave;
//!   under `-M` none does.

use super::Engine;
use crate::clock::Now;
use crate::packing::{Digest, Offer};

impl Engine {
    /// Takes a dictionary into use, or, where there are as many as there may be, makes room for the
    /// next one that is found.
    pub(super) fn adopt(&self, offer: &Offer, now: Now) {
        let Some(digest) = Digest::new(&offer.dictionary) else {
            return;
        };
        let added =
            self.store
                .add_dictionary(&offer.dictionary, digest.memory_bytes(), now.seconds);
        let Some(number) = added else {
            return self.packing.turn_down(self.store.evicts(), now.seconds);
        };
        self.packing.add(number, digest, now.seconds);
        if let Some(superseded) = offer.supersedes {
            self.packing.supersede(superseded);
        }
    }

    /// Makes the dictionaries ready that a store brought with it from another process.
    pub(super) fn take_over_dictionaries(&self, now: Now) {
        for (number, dictionary) in self.store.dictionaries() {
            if let Some(digest) = Digest::new(&dictionary) {
                self.store.charge_dictionary(number, digest.memory_bytes());
                self.packing.add(number, digest, now.seconds);
            }
        }
    }

    /// Lets dictionaries go that nothing needs, and items that need one which has to go.
    pub(super) fn let_dictionaries_go(&self, now: Now) {
        let usage = self.store.usage();
        if usage.dictionary_bytes > usage.limit_bytes / 4 && self.store.evicts() {
            self.packing.shed(now.seconds);
        }
        for spare in self.packing.spare_dictionaries(now.seconds) {
            if spare.leaves && self.store.dictionary_items(spare.number) > 0 {
                self.store.evict_dictionary(spare.number, now.seconds);
            }
            if self.store.dictionary_items(spare.number) == 0 {
                self.store.close_dictionary(spare.number);
            }
        }
        for number in self.store.free_dictionaries() {
            self.packing.remove(number);
        }
    }
}
