//! Policies by name, as the command line gives them.

use std::fmt;

use super::Policy;
use super::belady::{Belady, Future};
use super::infinite::Infinite;
use super::memcached::Memcached;
use super::moka::{Kind, Moka};
use super::queue::{Order, Queue};
use super::quick_cache::QuickCache;
use super::residents::Expired;
use super::s3_fifo::S3Fifo;
use super::sieve::Sieve;
use super::tokencached::Tokencached;
use crate::nearest::nearest;
use crate::store::{Eviction, MEMORY_LIMIT_BYTES_MIN};
use crate::tool::Error;

/// All names, with what each is.
pub const NAMES: &[(&str, &str)] = &[
    (
        "tokencached",
        "the real store; tokencached:probation-min=30,ghost=100 tries other parameters",
    ),
    ("lru", "least recently used"),
    ("fifo", "first in, first out"),
    ("sieve", "SIEVE"),
    ("s3-fifo", "S3-FIFO"),
    (
        "lru+x",
        "LRU, expired entries freed first; fifo+x, sieve+x and s3-fifo+x likewise",
    ),
    (
        "moka-lru",
        "LRU of the moka crate, expired entries freed first",
    ),
    (
        "moka-tinylfu",
        "TinyLFU of the moka crate, expired entries freed first",
    ),
    (
        "quick-cache",
        "the quick_cache crate, expired entries freed first",
    ),
    (
        "memcached",
        "a model of memcached: slab classes, hot, warm and cold",
    ),
    (
        "belady",
        "knows the future: what could be done with the memory",
    ),
    (
        "infinite",
        "never lets anything go before its time: the bound",
    ),
];

/// What the report compares if nothing else is said.
pub const DEFAULTS: &str = "tokencached,s3-fifo+x,lru+x,sieve+x,fifo+x,moka-lru,moka-tinylfu,quick-cache,memcached,belady,infinite";

/// A policy to be replayed, with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// As it was given.
    pub name: String,
    choice: Choice,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    Tokencached(Eviction),
    Queue(Order, Expired),
    Sieve(Expired),
    S3Fifo(Expired),
    Moka(Kind),
    QuickCache,
    Memcached,
    Belady,
    Infinite,
}

/// What a policy is made for.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// The cache's memory.
    pub memory_bytes: u64,
    /// Tokens that will be asked for.
    pub tokens: usize,
    /// What their values have, on average.
    pub value_bytes: u32,
    /// For what is drawn at random.
    pub seed: u64,
}

impl Spec {
    /// The policy of this name.
    ///
    /// # Errors
    /// [`Error::Options`] if there is none, or if its parameters make no sense.
    pub fn parse(given: &str) -> Result<Spec, Error> {
        let (name, parameters) = given.split_once(':').unwrap_or((given, ""));
        let (plain, expired) = match name.strip_suffix("+x") {
            Some(plain) => (plain, Expired::First),
            None => (name, Expired::Stay),
        };
        let choice = match plain {
            "lru" => Choice::Queue(Order::Used, expired),
            "fifo" => Choice::Queue(Order::Put, expired),
            "sieve" => Choice::Sieve(expired),
            "s3-fifo" => Choice::S3Fifo(expired),
            _ => Choice::of_one_form(name, parameters)?,
        };
        if !parameters.is_empty() && !matches!(choice, Choice::Tokencached(_)) {
            return Err(Error::Options(format!(
                "policy {given:?}: {name} has no parameters"
            )));
        }
        Ok(Spec {
            name: given.to_owned(),
            choice,
        })
    }

    /// An empty cache. `future` is what will be asked of it, for the one that must know.
    ///
    /// # Errors
    /// [`Error::Options`] if the policy cannot do with so little memory, [`Error::System`] if there
    /// is no memory for it.
    pub fn build(
        &self,
        frame: &Frame,
        future: impl FnOnce() -> Future,
    ) -> Result<Box<dyn Policy>, Error> {
        let Frame {
            memory_bytes,
            tokens,
            ..
        } = *frame;
        Ok(match &self.choice {
            Choice::Tokencached(eviction) => {
                let store = Tokencached::new(memory_bytes, eviction.clone(), frame.seed)
                    .map_err(|why| Error::System("make a store to simulate", why))?;
                Box::new(store)
            }
            Choice::Queue(order, expired) => {
                Box::new(Queue::new(*order, memory_bytes, tokens, *expired))
            }
            Choice::Sieve(expired) => Box::new(Sieve::new(memory_bytes, tokens, *expired)),
            Choice::S3Fifo(expired) => Box::new(S3Fifo::new(memory_bytes, tokens, *expired)),
            Choice::Moka(kind) => Box::new(Moka::new(*kind, memory_bytes, tokens)),
            Choice::QuickCache => {
                Box::new(QuickCache::new(memory_bytes, tokens, frame.value_bytes))
            }
            Choice::Memcached => Box::new(Memcached::new(memory_bytes, tokens)),
            Choice::Belady => Box::new(Belady::new(memory_bytes, tokens, future())),
            Choice::Infinite => Box::new(Infinite::new(tokens)),
        })
    }

    /// Whether memory and the lengths of values make no difference.
    pub fn is_unbounded(&self) -> bool {
        self.choice == Choice::Infinite
    }

    /// The least memory that it can do with.
    pub fn memory_bytes_min(&self) -> u64 {
        match &self.choice {
            // With fewer segments there is hardly one to evacuate.
            Choice::Tokencached(Eviction {
                segment_bytes: Some(bytes),
                ..
            }) => MEMORY_LIMIT_BYTES_MIN.max(16 * bytes),
            Choice::Tokencached(_) => MEMORY_LIMIT_BYTES_MIN,
            Choice::Memcached => 1 << 20,
            _ => 1,
        }
    }
}

impl Choice {
    fn of_one_form(name: &str, parameters: &str) -> Result<Choice, Error> {
        Ok(match name {
            "tokencached" => Choice::Tokencached(eviction(parameters)?),
            "moka-lru" => Choice::Moka(Kind::Lru),
            "moka-tinylfu" => Choice::Moka(Kind::TinyLfu),
            "quick-cache" => Choice::QuickCache,
            "memcached" => Choice::Memcached,
            "belady" => Choice::Belady,
            "infinite" => Choice::Infinite,
            _ => {
                let near = nearest(name, NAMES.iter().map(|(name, _)| *name));
                let near = near.map(|near| format!("did you mean {near}? "));
                let known: Vec<_> = NAMES
                    .iter()
                    .map(|(name, about)| format!("{name} ({about})"))
                    .collect();
                return Err(Error::Options(format!(
                    "there is no policy {name:?}; {}there are: {}",
                    near.unwrap_or_default(),
                    known.join("; ")
                )));
            }
        })
    }
}

/// The parameters of the store's eviction, some of them set by `NAME=VALUE`, separated by commas.
fn eviction(parameters: &str) -> Result<Eviction, Error> {
    let mut eviction = Eviction::default();
    for assignment in parameters.split(',').filter(|part| !part.is_empty()) {
        let wrong = |what: &str| Error::Options(format!("tokencached:{assignment}: {what}"));
        let (name, value) = assignment
            .split_once('=')
            .ok_or_else(|| wrong("give NAME=VALUE"))?;
        let number: u32 = value.parse().map_err(|_| wrong("give a whole number"))?;
        match name {
            "probation-min" if number <= 100 => eviction.probation_percent_min = number,
            "probation-max" if number <= 100 => eviction.probation_percent_max = number,
            "probation-min" | "probation-max" => {
                return Err(wrong("a share of the memory in percent, at most 100"));
            }
            "regret" if number <= 1_000 => eviction.regret_percent = number,
            "regret" => return Err(wrong("segments in percent of all, at most 1000")),
            "probation-gain" if number <= 1_000 => eviction.probation_gain = number,
            "main-gain" if number <= 1_000 => eviction.main_gain = number,
            "probation-gain" | "main-gain" => {
                return Err(wrong("items that the share moves by, at most 1000"));
            }
            "idle" if number <= 100 => eviction.idle_percent = number,
            "idle" => return Err(wrong("a part of its time in percent, at most 100")),
            "proves-after" => eviction.proves_after_seconds = number,
            "ghost" if number <= 10_000 => eviction.ghost_percent = number,
            "ghost" => return Err(wrong("keys in percent of the items held, at most 10000")),
            "return" => eviction.return_percent = number,
            "work" if number > 0 => eviction.work_per_byte = number,
            "work" => return Err(wrong("at least 1")),
            "lasting-idle" => eviction.lasting_idle_seconds = number,
            "segment-kib" if number.is_power_of_two() && (16..=4096).contains(&number) => {
                eviction.segment_bytes = Some(u64::from(number) << 10);
            }
            "segment-kib" => return Err(wrong("a power of two from 16 to 4096")),
            _ => {
                return Err(wrong(
                    "the parameters are probation-min, probation-max, regret, probation-gain, main-gain, proves-after, idle, ghost, return, work, lasting-idle and segment-kib",
                ));
            }
        }
    }
    if eviction.probation_percent_min > eviction.probation_percent_max {
        let what = "tokencached: probation-min is more than probation-max";
        return Err(Error::Options(what.to_owned()));
    }
    Ok(eviction)
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_policy_that_can_be_built() {
        let frame = Frame {
            memory_bytes: 8 << 20,
            tokens: 10,
            value_bytes: 1_000,
            seed: 1,
        };
        for (name, _) in NAMES {
            let spec = Spec::parse(name).unwrap();
            let future = || Future::of(std::iter::once((3, 1_000)), 10);
            let mut policy = spec.build(&frame, future).unwrap();
            assert!(!policy.get(3, 1_000), "{name}");
        }
        for name in DEFAULTS.split(',') {
            assert_eq!(Spec::parse(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn parameters_reach_the_store_and_wrong_ones_are_explained_in_one_line() {
        let given = "tokencached:probation-min=30,ghost=0,segment-kib=128";
        let Choice::Tokencached(eviction) = Spec::parse(given).unwrap().choice else {
            panic!("another policy");
        };
        let expected = Eviction {
            probation_percent_min: 30,
            ghost_percent: 0,
            segment_bytes: Some(128 << 10),
            ..Eviction::default()
        };
        assert_eq!(eviction, expected);
        let wrong = [
            "tokencached:probation-min=101",
            "tokencached:probation-min",
            "tokencached:probation-min=95",
            "tokencached:work=0",
            "tokencached:segment-kib=100",
            "tokencached:x=1",
            "lru:x=1",
            "moka",
            "moka-lru+x",
        ];
        for given in wrong {
            let message = Spec::parse(given).unwrap_err().to_string();
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
