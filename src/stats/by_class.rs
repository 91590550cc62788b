//! What is counted by class of item: which commands, what they found, and why not.
//!
//! The engine counts into the [`ByClass`] of its worker and the connection's service; `services` adds them up.
//!
//! Invariant: counting takes no lock: a counter has one writer.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::Counter;
use crate::store::{Cause, Miss, Shortfall};
use crate::token::class::Class;

/// Declares what is counted by class once: the counters, and their sums.
macro_rules! by_class {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What one worker counts for one service and class.
        #[derive(Debug, Default)]
        struct ClassCounters {
            $($(#[doc = $doc])+ $name: Counter,)+
        }

        /// The sums of a class.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct ClassSums {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl ClassSums {
            fn count(&mut self, counters: &ClassCounters) {
                $(self.$name += counters.$name.get();)+
            }

            /// Adds what others have counted.
            pub(super) fn add(&mut self, others: &ClassSums) {
                $(self.$name = self.$name.saturating_add(others.$name);)+
            }
        }
    };
}

by_class! {
    /// Look-ups for a value that found it.
    hits,
    /// Bytes of those values, as their clients gave them.
    hit_bytes,
    /// Look-ups of a key that was never there, as far as is remembered.
    missed_never_seen,
    /// Of one that had expired.
    missed_expired,
    /// Of one that had left for others.
    missed_evicted,
    /// Those of them that an eighth more memory would have found.
    lacked_eighth,
    /// That a quarter more would have, and no less.
    lacked_quarter,
    /// That half as much again would have.
    lacked_half,
    /// That twice the memory would have.
    lacked_double,
    /// That three times the memory would have.
    lacked_triple,
    /// Of one that was there before a `flush_all`.
    missed_flushed,
    /// Of one that a client had deleted.
    missed_deleted,
    /// Storage commands.
    sets,
    /// Bytes of their values.
    set_bytes,
    /// Values stored whose key had left for others before its time was over.
    returned_evicted,
    /// Whose key had left by a `flush_all`.
    returned_flushed,
    /// Whose key a client had deleted.
    returned_deleted,
    /// Deletions, of what is not there too.
    deletes,
    /// `touch` commands.
    touches,
    /// `incr`, `decr` and `ma` commands.
    arithmetic,
    /// All others.
    others,
}

/// Why a key that was looked up is not there, as far as is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissCause {
    /// It was never there.
    NeverSeen,
    /// Its time was over.
    Expired,
    /// It had left for others.
    Evicted,
    /// It was there before a `flush_all`.
    Flushed,
    /// A client had deleted it.
    Deleted,
}

impl MissCause {
    /// All of them.
    pub const ALL: [MissCause; 5] = [
        MissCause::NeverSeen,
        MissCause::Expired,
        MissCause::Evicted,
        MissCause::Flushed,
        MissCause::Deleted,
    ];

    /// What the store remembers of a key.
    pub fn of(left: Option<Cause>) -> MissCause {
        match left {
            None | Some(Cause::Replaced | Cause::Revoked) => MissCause::NeverSeen,
            Some(Cause::Expired) => MissCause::Expired,
            Some(Cause::Evicted) => MissCause::Evicted,
            Some(Cause::Flushed) => MissCause::Flushed,
            Some(Cause::Deleted) => MissCause::Deleted,
        }
    }

    /// Its one word.
    pub fn name(self) -> &'static str {
        match self {
            MissCause::NeverSeen => "never_seen",
            MissCause::Expired => "expired",
            MissCause::Evicted => "evicted",
            MissCause::Flushed => "flushed",
            MissCause::Deleted => "deleted",
        }
    }
}

impl ClassSums {
    /// Look-ups for a value.
    pub fn gets(&self) -> u64 {
        let missed = self.missed().iter().map(|(_, missed)| missed).sum::<u64>();
        self.hits.saturating_add(missed)
    }

    /// Look-ups that found nothing, with the word for their cause.
    pub fn missed(&self) -> [(&'static str, u64); 5] {
        MissCause::ALL.map(|cause| (cause.name(), self.missed_by(cause)))
    }

    fn missed_by(&self, cause: MissCause) -> u64 {
        match cause {
            MissCause::NeverSeen => self.missed_never_seen,
            MissCause::Expired => self.missed_expired,
            MissCause::Evicted => self.missed_evicted,
            MissCause::Flushed => self.missed_flushed,
            MissCause::Deleted => self.missed_deleted,
        }
    }

    /// Look-ups that so much more memory would have found, and no less, in the order of [`Shortfall::ALL`].
    pub fn lacked(&self) -> [u64; Shortfall::ALL.len()] {
        [
            self.lacked_eighth,
            self.lacked_quarter,
            self.lacked_half,
            self.lacked_double,
            self.lacked_triple,
        ]
    }

    /// All commands, with the word for each.
    pub fn requests(&self) -> [(&'static str, u64); 6] {
        [
            ("get", self.gets()),
            ("set", self.sets),
            ("delete", self.deletes),
            ("touch", self.touches),
            ("arithmetic", self.arithmetic),
            ("other", self.others),
        ]
    }
}

/// The sums of all classes, in the order of [`Class::ALL`].
pub type SumsByClass = [ClassSums; Class::ALL.len()];

/// What one worker counts for one service, by class. Each function costs a few additions.
#[derive(Debug, Default)]
pub struct ByClass {
    classes: [ClassCounters; Class::ALL.len()],
    /// The class of the last protected token that was seen, by number: what a key of one is taken for.
    protected: AtomicU64,
}

impl ByClass {
    /// Adds what was counted to the sums of each class.
    pub(super) fn add_to(&self, sums: &mut SumsByClass) {
        for (sums, counters) in sums.iter_mut().zip(&self.classes) {
            sums.count(counters);
        }
    }

    fn class(&self, class: Class) -> &ClassCounters {
        &self.classes[class as usize]
    }

    /// Counts a value that was found.
    #[inline]
    pub fn hit(&self, class: Class, value_bytes: usize) {
        let counters = self.class(class);
        counters.hits.add(1);
        counters.hit_bytes.add(value_bytes as u64);
        self.note(class);
    }

    /// Counts a key that was looked up for its value and not found.
    pub fn miss(&self, key: &[u8], miss: Miss) {
        let counters = self.class(self.of_missing(key));
        let missed = match MissCause::of(miss.cause()) {
            MissCause::NeverSeen => &counters.missed_never_seen,
            MissCause::Expired => &counters.missed_expired,
            MissCause::Evicted => &counters.missed_evicted,
            MissCause::Flushed => &counters.missed_flushed,
            MissCause::Deleted => &counters.missed_deleted,
        };
        missed.add(1);
        let lacked = miss.shortfall().map(|shortfall| match shortfall {
            Shortfall::Eighth => &counters.lacked_eighth,
            Shortfall::Quarter => &counters.lacked_quarter,
            Shortfall::Half => &counters.lacked_half,
            Shortfall::Double => &counters.lacked_double,
            Shortfall::Triple => &counters.lacked_triple,
        });
        if let Some(lacked) = lacked {
            lacked.add(1);
        }
    }

    /// Counts a storage command.
    pub fn set(&self, class: Class, value_bytes: usize) {
        let counters = self.class(class);
        counters.sets.add(1);
        counters.set_bytes.add(value_bytes as u64);
        self.note(class);
    }

    /// Counts a value that was stored, where its key had left as `left` says.
    pub fn stored(&self, class: Class, left: Option<Cause>) {
        let counters = self.class(class);
        match left {
            Some(Cause::Evicted) => counters.returned_evicted.add(1),
            Some(Cause::Flushed) => counters.returned_flushed.add(1),
            Some(Cause::Deleted) => counters.returned_deleted.add(1),
            None | Some(Cause::Expired | Cause::Replaced | Cause::Revoked) => {}
        }
    }

    /// Counts a deletion.
    pub fn delete(&self, key: &[u8]) {
        self.class(self.of_missing(key)).deletes.add(1);
    }

    /// Counts a `touch`.
    pub fn touch(&self, key: &[u8]) {
        self.class(self.of_missing(key)).touches.add(1);
    }

    /// Counts an `incr`, a `decr` or an `ma`.
    pub fn arithmetic(&self, key: &[u8]) {
        self.class(self.of_missing(key)).arithmetic.add(1);
    }

    /// Counts any other command.
    pub fn other(&self) {
        self.class(Class::Other).others.add(1);
    }

    /// The class of a key that is not there, or of which the key alone is known.
    pub fn of_missing(&self, key: &[u8]) -> Class {
        let number = self.protected.load(Relaxed) as u8;
        let protected = Some(Class::from_number(number)).filter(|class| class.is_protected());
        Class::of_missing(key, protected.unwrap_or(Class::TokenEncrypt))
    }

    fn note(&self, class: Class) {
        if class.is_protected() {
            self.protected.store(class as u64, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Gone;

    fn missed(cause: Option<Cause>) -> Miss {
        let shortfall = None;
        Miss::Absent(cause.map(|cause| Gone { cause, shortfall }))
    }

    #[test]
    fn each_cause_of_a_miss_is_counted_as_itself() {
        let counters = ByClass::default();
        let key = [b"tokens/".as_slice(), &[b'a'; 64]].concat();
        let causes = [
            None,
            Some(Cause::Expired),
            Some(Cause::Evicted),
            Some(Cause::Flushed),
            Some(Cause::Deleted),
        ];
        for (times, cause) in (1..).zip(causes) {
            (0..times).for_each(|_| counters.miss(&key, missed(cause)));
        }
        let mut sums = SumsByClass::default();
        counters.add_to(&mut sums);
        let tokens = sums[Class::Token as usize];
        let expected = [
            ("never_seen", 1),
            ("expired", 2),
            ("evicted", 3),
            ("flushed", 4),
            ("deleted", 5),
        ];
        assert_eq!(tokens.missed(), expected);
        assert_eq!(tokens.requests()[0], ("get", 15));
    }

    #[test]
    fn a_missing_protected_token_is_taken_for_what_the_service_uses() {
        let counters = ByClass::default();
        let key = b"tokens/b'e7PSPGeLAJdlFybzQtwZWQ=='";
        counters.miss(key, missed(None));
        counters.set(Class::TokenMac, 17_000);
        counters.set(Class::Other, 1);
        counters.miss(key, missed(None));
        counters.hit(Class::TokenEncrypt, 17_000);
        (0..3).for_each(|_| counters.miss(key, missed(None)));
        let mut sums = SumsByClass::default();
        counters.add_to(&mut sums);
        assert_eq!(sums[Class::TokenEncrypt as usize].missed()[0].1, 4);
        assert_eq!(sums[Class::TokenMac as usize].missed()[0].1, 1);
    }
}
