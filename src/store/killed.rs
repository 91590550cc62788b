//! What a process leaves that is killed, wherever that happens: each operation is looked at before every
//! single access that it makes to the heap, as a successor would find it.
//!
//! `heap` calls [`before_access`]; the file is copied then, and opened by another store.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::heap::Heap;
use super::segment::Chain;
use super::{
    AT_ONCE, Condition, Fetch, Invalidation, Marks, NEVER, Options, Packing, Put, Recovered, Store,
};

thread_local! {
    /// What is done before each access of this thread to any heap.
    static BEFORE_ACCESS: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

/// Lets a test look at the heap. What the test does itself is not looked at.
pub fn before_access() {
    if let Some(mut look) = BEFORE_ACCESS.take() {
        look();
        BEFORE_ACCESS.set(Some(look));
    }
}

const NOW: u32 = 100;

type Items = HashMap<&'static str, Vec<u8>>;

/// A store, and what it holds.
struct Looked {
    store: Store,
    items: Items,
}

impl Looked {
    fn new(evict: bool) -> Looked {
        let options = options(evict);
        Looked {
            store: Store::new(&options).unwrap(),
            items: Items::new(),
        }
    }

    /// Carries an operation out, which leaves `after` under the key. At any point of it a successor finds
    /// that or what was there before; if the operation writes an item, that may be missing. All others are
    /// found.
    fn does(
        &mut self,
        key: &'static str,
        after: Option<Vec<u8>>,
        writes: bool,
        operation: impl FnOnce(&Store),
    ) {
        let before = self.items.remove(key);
        let others = self.items.clone();
        let evicts = self.store.evicts();
        let file = File::from(self.store.file().try_clone_to_owned().unwrap());
        let (was, is) = (before, after.clone());
        BEFORE_ACCESS.set(Some(Box::new(move || {
            let (store, recovered) = successor(&file, evicts);
            assert_eq!(recovered.damaged, 0);
            for (other, value) in &others {
                assert_eq!(get(&store, other).as_ref(), Some(value), "{other} in {key}");
            }
            let found = get(&store, key);
            let expected = found == was || found == is || (found.is_none() && writes);
            assert!(expected, "{key}: neither old nor new");
            store.audit().unwrap();
        })));
        operation(&self.store);
        BEFORE_ACCESS.take();
        self.items.extend(after.map(|value| (key, value)));
        self.look(key);
    }

    /// Compares all that a successor finds.
    fn look(&self, what: &str) {
        let file = File::from(self.store.file().try_clone_to_owned().unwrap());
        let (store, recovered) = successor(&file, self.store.evicts());
        assert_eq!(recovered.items, self.items.len() as u64, "{what}");
        for (key, value) in &self.items {
            assert_eq!(get(&store, key).as_ref(), Some(value), "{key} after {what}");
        }
    }

    fn puts(&mut self, key: &'static str, value: Vec<u8>) {
        let new = Some(value.clone());
        self.does(key, new, true, |store| put(store, key, &value));
    }

    fn removes(&mut self, key: &'static str, operation: impl FnOnce(&Store)) {
        self.does(key, None, false, operation);
    }

    /// Does what changes no value.
    fn keeps(&mut self, key: &'static str, operation: impl FnOnce(&Store)) {
        let value = self.items.get(key).cloned();
        self.does(key, value, false, operation);
    }
}

fn options(evict: bool) -> Options {
    Options {
        memory_limit_bytes: 8 << 20,
        memory_ceiling_bytes: 8 << 20,
        evict,
        ..Options::default()
    }
}

/// A store over a copy of the heap as it is now.
fn successor(file: &File, evict: bool) -> (Store, Recovered) {
    let copy = Heap::create(file.metadata().unwrap().len()).unwrap();
    let mut used = vec![0; 3 << 20];
    file.read_exact_at(&mut used, 0).unwrap();
    copy.write(0, &used);
    let copy = copy.file().try_clone_to_owned().unwrap();
    Store::open(copy, &options(evict), NOW).unwrap()
}

fn get(store: &Store, key: &str) -> Option<Vec<u8>> {
    let item = store.get(key.as_bytes(), NOW).ok()?;
    let mut value = Vec::new();
    while value.len() < item.len() {
        value.extend_from_slice(item.piece(value.len()));
    }
    Some(value)
}

fn put(store: &Store, key: &str, value: &[u8]) {
    let put = Put {
        key: key.as_bytes(),
        value: &[value],
        packing: Packing::NONE,
        class: 0,
        client_flags: 0,
        expiry: Some(NEVER),
        condition: Condition::Always,
        cas_unique: None,
        marks: Marks::default(),
    };
    store.put(&put, NOW).unwrap();
}

#[test]
fn an_item_is_old_or_new_or_lost_in_the_writing_and_no_other_is() {
    let mut looked = Looked::new(true);
    looked.puts("first", vec![1; 100]);
    looked.puts("second", vec![2; 100]);
    looked.puts("third", vec![3; 100]);
    for length in [10, 90, 0, 100, 1_000, 7] {
        looked.puts("second", vec![length as u8; length]);
    }
    // Of segments of their own, with fewer and more of them than before.
    for length in [40_000, 100_000, 30_000, 200_000, 5] {
        looked.puts("second", vec![length as u8; length]);
    }
    // Segments that had items before are used again, for either kind.
    looked.store.housekeep(NOW);
    for length in [150_000, 20_000, 20_001, 20_002, 20_003] {
        looked.puts("third", vec![length as u8; length]);
    }
}

#[test]
fn what_is_gone_does_not_come_back_and_takes_nothing_along() {
    let mut looked = Looked::new(true);
    for key in ["a", "b", "c", "d"] {
        looked.puts(key, vec![b'x'; 100]);
    }
    looked.puts("large", vec![b'x'; 100_000]);
    looked.removes("b", |store| assert!(store.delete(b"b", NOW)));
    looked.removes("large", |store| assert!(store.delete(b"large", NOW)));
    looked.removes("c", |store| {
        let fetch = Fetch {
            expiry: Some(AT_ONCE),
            ..Fetch::default()
        };
        assert!(store.fetch(b"c", &fetch, NOW).is_ok());
    });
    looked.keeps("d", |store| {
        assert!(store.get_and_touch(b"d", NOW + 10, NOW).is_ok());
    });
    looked.keeps("d", |store| {
        let done = store.invalidate(b"d", &Invalidation::default(), NOW);
        assert!(done.is_ok());
    });
    looked.removes("a", |store| assert!(store.delete(b"a", NOW)));
    looked.removes("d", |store| store.flush(None, NOW));
    looked.keeps("d", |store| store.housekeep(NOW));
    looked.puts("d", vec![b'y'; 100]);
}

#[test]
fn an_item_that_moves_is_never_lost() {
    let mut looked = Looked::new(false);
    for (key, length) in [("a", 1_000), ("b", 2_000), ("c", 3_000), ("d", 500)] {
        looked.puts(key, vec![b'x'; length]);
    }
    // Less than its room.
    looked.puts("b", vec![b'y'; 1_500]);
    looked.removes("c", |store| assert!(store.delete(b"c", NOW)));
    looked.keeps("a", |store| {
        let segments = store.segments();
        let mut log = store.log.lock();
        log.seal_all(segments);
        let sealed = &mut log.chains[Chain::Probation as usize].sealed;
        let segment = sealed.pop_front();
        store.set_evacuation(&mut log, segment);
        while log.evacuation.is_some() {
            store.evacuate_step(&mut log, true, NOW).unwrap();
        }
    });
    assert_eq!(looked.store.counts().moved, 3);
}
