//! Operations on the store and on a plain map side by side, in virtual time.
//!
//! After every step the store's account equals the sum over its segments, the limit holds, and
//! nothing that expired, was deleted or was flushed is returned. Items may leave for room at any
//! time, so an absent item is right whenever the store evicts; a present one must be the model's,
//! byte for byte. At any step the heap may be taken over by a new store, which must give the same
//! items. Part of the tests and of the fuzzers.

use std::collections::{BTreeMap, HashMap};

use tokencached::store::{
    AT_ONCE, Condition, DICTIONARIES_MAX, DICTIONARY_BYTES_MAX, DictionaryNumber, Marks, NEVER,
    Options, Outcome, Packing, Put, Refusal, Store,
};

/// A small store.
pub fn options(evict: bool) -> Options {
    Options {
        memory_limit_bytes: 8 << 20,
        memory_ceiling_bytes: 32 << 20,
        item_bytes_max: 1 << 20,
        evict,
        ..Options::default()
    }
}

#[derive(Clone, Debug)]
pub enum Step {
    Put {
        key: u8,
        value_bytes: usize,
        seed: u8,
        ttl: Ttl,
        condition: Kind,
        /// Which form and which of the dictionaries the value claims to be packed with; 0 is none.
        packed: u8,
    },
    Get(u8),
    Touch(u8, Ttl),
    Delete(u8),
    Flush(Option<u32>),
    Wait(u32),
    Housekeep,
    Limit(u64),
    Upload {
        key: u8,
        value_bytes: usize,
        seed: u8,
        finish: bool,
    },
    /// A dictionary of so many bytes.
    AddDictionary(u16),
    CloseDictionary(u8),
    /// Closes it and lets all items leave that need it.
    EvictDictionary(u8),
    FreeDictionaries,
    TakeOver,
}

#[derive(Clone, Copy, Debug)]
pub enum Ttl {
    Never,
    AtOnce,
    Seconds(u32),
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Always,
    Absent,
    Present,
    RightUnique,
    WrongUnique,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    value: Vec<u8>,
    client_flags: u32,
    expiry: u32,
    unique: u64,
    packing: Packing,
}

pub const START: u32 = 10_000;

fn value(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| (at as u8).wrapping_mul(31) ^ seed)
        .collect()
}

fn key(number: u8) -> Vec<u8> {
    let mut key = format!("tokens/{number}").into_bytes();
    key.resize(key.len() + usize::from(number), b'k');
    key.truncate(250);
    key
}

pub struct Run {
    store: Store,
    options: Options,
    model: HashMap<u8, Entry>,
    /// Dictionaries that have not been freed, and their bytes.
    dictionaries: BTreeMap<DictionaryNumber, Vec<u8>>,
    now: u32,
    flush_at: Option<u32>,
}

impl Run {
    /// An empty store and an empty model.
    pub fn new(options: Options) -> Run {
        Run {
            store: Store::new(&options).unwrap(),
            options,
            model: HashMap::new(),
            dictionaries: BTreeMap::new(),
            now: START,
            flush_at: None,
        }
    }

    fn expiry(&self, ttl: Ttl) -> u32 {
        match ttl {
            Ttl::Never => NEVER,
            Ttl::AtOnce => AT_ONCE,
            Ttl::Seconds(seconds) => self.now + seconds,
        }
    }

    /// Forgets in the model what time and flushes have ended.
    fn settle(&mut self) {
        if self.flush_at.is_some_and(|second| second <= self.now) {
            self.model.clear();
            self.flush_at = None;
        }
        let now = self.now;
        self.model
            .retain(|_, entry| entry.expiry == NEVER || entry.expiry > now);
    }

    /// What the store holds of a key; checked against the model.
    fn look(&mut self, number: u8) -> Option<Entry> {
        let found = self.store.peek(&key(number), self.now).ok()?;
        let mut bytes = Vec::new();
        while bytes.len() < found.len() {
            bytes.extend_from_slice(found.piece(bytes.len()));
        }
        let expected = self
            .model
            .get(&number)
            .expect("the store holds only what the model holds");
        assert_eq!(bytes, expected.value);
        assert_eq!(found.client_flags(), expected.client_flags);
        assert_eq!(found.cas_unique(), expected.unique);
        assert_eq!(found.packing(), expected.packing);
        if let Some(number) = found.packing().dictionary() {
            assert!(
                self.dictionaries.contains_key(&number),
                "what is needed is kept"
            );
        }
        Some(expected.clone())
    }

    /// The dictionary that `choice` falls on.
    fn chosen(&self, choice: u8) -> Option<DictionaryNumber> {
        let numbers: Vec<DictionaryNumber> = self.dictionaries.keys().copied().collect();
        (!numbers.is_empty()).then(|| numbers[usize::from(choice) % numbers.len()])
    }

    fn add_dictionary(&mut self, bytes: u16) {
        let dictionary = value(bytes as u8, usize::from(bytes) * 3);
        let number = self
            .store
            .add_dictionary(&dictionary, usize::from(bytes), self.now);
        match number {
            Some(number) => {
                let before = self.dictionaries.insert(number, dictionary);
                assert!(
                    before.is_none(),
                    "a number that is in use is not given out again"
                );
                assert!(self.dictionaries.len() <= DICTIONARIES_MAX);
            }
            None => {
                let held: usize = self.dictionaries.values().map(Vec::len).sum();
                // More than a quarter of the memory, or near it: whole pages count.
                let much = (held + dictionary.len()) * 4 / 3 + (9 << 13) > 2 << 20;
                let full = self.dictionaries.len() == DICTIONARIES_MAX;
                let too_long = dictionary.len() > DICTIONARY_BYTES_MAX;
                assert!(much || full || bytes == 0 || too_long || !self.options.evict);
            }
        }
    }

    fn free_dictionaries(&mut self) {
        for number in self.store.free_dictionaries() {
            assert!(self.dictionaries.remove(&number).is_some());
        }
        let kept: BTreeMap<_, _> = self.store.dictionaries().into_iter().collect();
        assert_eq!(kept, self.dictionaries);
    }

    fn put(&mut self, number: u8, bytes: Vec<u8>, ttl: Ttl, kind: Kind, packed: u8) {
        let present = self.look(number);
        if present.is_none() {
            self.model.remove(&number);
        }
        let condition = match (kind, &present) {
            (Kind::Always, _) => Condition::Always,
            (Kind::Absent, _) => Condition::Absent,
            (Kind::Present, _) => Condition::Present,
            (Kind::RightUnique, Some(entry)) => Condition::Unique(entry.unique),
            (Kind::RightUnique, None) | (Kind::WrongUnique, _) => Condition::Unique(u64::MAX),
        };
        let expected_met = match (kind, &present) {
            (Kind::Always, _) => true,
            (Kind::Absent, present) => present.is_none(),
            (Kind::Present | Kind::RightUnique, present) => present.is_some(),
            (Kind::WrongUnique, _) => false,
        };
        let expiry = self.expiry(ttl);
        let client_flags = u32::from(number) * 7;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        // A dictionary that nothing needs any more cannot be held, and must not be named then.
        let held = self
            .chosen(packed / 4)
            .filter(|_| packed > 3)
            .and_then(|number| Some((number, self.store.hold_dictionary(number)?)));
        let packing = Packing::new(packed % 4, held.as_ref().map(|held| held.0));
        let put = Put {
            key: &key(number),
            value: &[first, second],
            packing,
            class: 0,
            client_flags,
            expiry: Some(expiry),
            condition,
            cas_unique: None,
            marks: Marks::default(),
        };
        match self.store.put(&put, self.now) {
            Ok(Outcome::Stored {
                cas_unique: unique, ..
            }) => {
                assert!(expected_met);
                let entry = Entry {
                    value: bytes,
                    client_flags,
                    expiry,
                    unique,
                    packing,
                };
                self.model.insert(number, entry);
            }
            Ok(_) => assert!(!expected_met),
            Err(Refusal::TooLarge) => {
                assert!(!self.store.item_fits(key(number).len(), bytes.len()))
            }
            Err(Refusal::OutOfMemory) => {
                assert!(!self.options.evict, "an evicting store finds room")
            }
        }
    }

    fn upload(&mut self, number: u8, bytes: Vec<u8>, finish: bool) {
        let name = key(number);
        if !self.store.is_large(name.len(), bytes.len()) {
            return;
        }
        // Of every other key only if there is none.
        let is_absent = self.look(number).is_none();
        let condition = [Condition::Always, Condition::Absent][usize::from(number % 2)];
        let expected_met = is_absent || condition == Condition::Always;
        let put = Put {
            key: &name,
            value: &[],
            packing: Packing::NONE,
            class: 0,
            client_flags: 9,
            expiry: Some(NEVER),
            condition,
            cas_unique: None,
            marks: Marks::default(),
        };
        let counts_before = self.store.counts();
        let mut arriving = match self.store.begin_upload(&put, bytes.len(), self.now) {
            Ok(arriving) => arriving,
            Err(refusal) => {
                let needs_room = expected_met || refusal == Refusal::TooLarge;
                assert!(needs_room, "what is not stored needs none");
                return;
            }
        };
        for piece in bytes.chunks(40_000) {
            arriving.write(piece);
        }
        assert_eq!(arriving.missing(), 0);
        if !finish {
            return;
        }
        let unique = match arriving.finish(&put, self.now) {
            Outcome::Stored { cas_unique, .. } => cas_unique,
            outcome => {
                assert_eq!((outcome, expected_met), (Outcome::NotStored, false));
                assert_eq!(self.store.counts(), counts_before);
                return;
            }
        };
        assert!(expected_met);
        let entry = Entry {
            value: bytes,
            client_flags: 9,
            expiry: NEVER,
            unique,
            packing: Packing::NONE,
        };
        self.model.insert(number, entry);
    }

    fn take_over(&mut self) {
        let before: Vec<(u8, Entry)> = (0..=u8::MAX)
            .filter_map(|number| self.look(number).map(|entry| (number, entry)))
            .collect();
        let file = self.store.file().try_clone_to_owned().unwrap();
        let options = Options {
            memory_limit_bytes: self.store.usage().limit_bytes,
            ..self.options.clone()
        };
        let (store, recovered) = Store::open(file, &options, self.now).unwrap();
        store.prove();
        assert_eq!(recovered.damaged, 0);
        self.store = store;
        for (number, bytes) in &self.dictionaries {
            self.store.charge_dictionary(*number, bytes.len() / 3);
        }
        let after: Vec<(u8, Entry)> = (0..=u8::MAX)
            .filter_map(|number| self.look(number).map(|entry| (number, entry)))
            .collect();
        assert_eq!(before, after);
        let kept: BTreeMap<_, _> = self.store.dictionaries().into_iter().collect();
        assert_eq!(kept, self.dictionaries);
        assert_eq!(recovered.items, before.len() as u64);
    }

    /// Does one step to both and compares them.
    pub fn step(&mut self, step: &Step) {
        self.settle();
        match *step {
            Step::Put {
                key,
                value_bytes,
                seed,
                ttl,
                condition,
                packed,
            } => {
                self.put(key, value(seed, value_bytes), ttl, condition, packed);
            }
            Step::Get(number) => {
                let _ = self.store.get(&key(number), self.now);
                if self.look(number).is_none() && !self.options.evict {
                    assert!(!self.model.contains_key(&number), "nothing leaves under -M");
                }
            }
            Step::Touch(number, ttl) => {
                let expiry = self.expiry(ttl);
                if self
                    .store
                    .get_and_touch(&key(number), expiry, self.now)
                    .is_ok()
                {
                    self.model.get_mut(&number).unwrap().expiry = expiry;
                }
            }
            Step::Delete(number) => {
                let present = self.look(number).is_some();
                assert_eq!(self.store.delete(&key(number), self.now), present);
                self.model.remove(&number);
            }
            Step::Flush(None) => {
                self.store.flush(None, self.now);
                self.model.clear();
                self.flush_at = None;
            }
            Step::Flush(Some(seconds)) => {
                self.store.flush(Some(self.now + seconds), self.now);
                self.flush_at = Some(self.now + seconds);
            }
            Step::Wait(seconds) => self.now += seconds,
            Step::Housekeep => self.store.housekeep(self.now),
            Step::Limit(megabytes) => {
                let usage = self.store.usage();
                let bytes = megabytes << 20;
                // Under -M nothing leaves for a limit below what is held, so it would not hold.
                if self.options.evict || usage.segment_bytes + usage.table_bytes <= bytes {
                    assert!(self.store.set_memory_limit(bytes, self.now));
                }
            }
            Step::Upload {
                key,
                value_bytes,
                seed,
                finish,
            } => {
                self.upload(key, value(seed, value_bytes), finish);
            }
            Step::AddDictionary(bytes) => self.add_dictionary(bytes),
            Step::CloseDictionary(choice) => {
                if let Some(number) = self.chosen(choice) {
                    self.store.close_dictionary(number);
                }
            }
            Step::EvictDictionary(choice) => {
                if let Some(number) = self.chosen(choice).filter(|_| self.options.evict) {
                    self.store.close_dictionary(number);
                    self.store.evict_dictionary(number, self.now);
                    assert_eq!(self.store.dictionary_items(number), 0);
                    self.free_dictionaries();
                    assert!(!self.dictionaries.contains_key(&number));
                }
            }
            Step::FreeDictionaries => self.free_dictionaries(),
            Step::TakeOver => self.take_over(),
        }
        self.settle();
        let audit = self.store.audit().unwrap();
        let usage = self.store.usage();
        assert_eq!(
            (audit.items, audit.item_bytes),
            (usage.items, usage.item_bytes)
        );
        assert_eq!(audit.damaged, 0);
    }

    /// Compares all keys.
    pub fn look_at_all(&mut self) {
        self.settle();
        for number in 0..=u8::MAX {
            self.look(number);
        }
    }
}
