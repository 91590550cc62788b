//! A load of all commands, by clients that know what every answer has to be.
//!
//! Each client has keys of its own, so that what it has said alone decides what it hears: it says some
//! commands at once, in any pieces, and compares every byte. `model` has what commands do, `classic`, `meta`
//! and `binary` how they are said, `wire` the connection.
//!
//! A connection may break where a process is killed. What the server had done by then is everything up to
//! some command and nothing behind it; the item that it was just writing may be lost, and no other.

mod binary;
mod classic;
mod meta;
mod model;
mod wire;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use crate::corpus::{Cloud, Random, recorded};
use model::{ITEMS, Item, Mode, Model};
use wire::Part;
pub use wire::Wire;

static TOKENS: LazyLock<Cloud> = LazyLock::new(|| Cloud::new(&recorded(), 0));

/// Longer values are not added to, so that none becomes too large.
const EXTENDED_BYTES_MAX: usize = 200_000;

/// A request and its answer.
type Said = (Vec<u8>, Vec<Part>);

/// Whose contents a CAS unique is of: a client's number and its version. No two share one, ever.
pub type Uniques = Arc<Mutex<HashMap<u64, (usize, u64)>>>;

/// A command that was said.
pub struct Step {
    said: Vec<u8>,
    answer: Vec<Part>,
    key: u8,
    /// What the key's item is behind it.
    after: Option<Item>,
    /// It is another than before.
    writes: bool,
}

/// What is found under a key: value, flags, and CAS unique.
type Found = HashMap<u8, (Vec<u8>, u32, u64)>;

/// One client of the load.
pub struct Knowing {
    number: usize,
    random: Random,
    model: Model,
    /// The last version whose CAS unique was shown, and that, for each key.
    seen: HashMap<u8, (u64, u64)>,
    uniques: Uniques,
    opaques: u32,
}

impl Knowing {
    pub fn new(number: usize, uniques: &Uniques) -> Knowing {
        Knowing {
            number,
            random: Random::new(number as u64 + 1),
            model: Model::default(),
            seen: HashMap::new(),
            uniques: Arc::clone(uniques),
            opaques: 0,
        }
    }

    /// Says some commands at once, in any pieces, and hears their answers.
    ///
    /// # Errors
    /// The connection broke: the commands of which nothing was heard, for [`Knowing::settle`].
    pub fn talk(&mut self, wire: &mut Wire) -> Result<(), Vec<Step>> {
        let before = self.model.items.clone();
        let mut steps: Vec<Step> = (0..self.random.below(11)).map(|_| self.step()).collect();
        // The last has an answer: it is the answer to those before it that have none.
        while steps.last().is_none_or(|last| last.answer.is_empty()) {
            steps.push(self.step());
        }
        let said: Vec<&[u8]> = steps.iter().map(|step| &step.said[..]).collect();
        // Even where not all could be said, some of it may have been answered.
        let whole = wire.say(&said.concat(), &mut self.random);
        let (done, heard) = self.hear(wire, &steps);
        if whole.and(heard).is_ok() {
            return Ok(());
        }
        let unanswered = steps.split_off(done);
        self.model.items = before;
        for step in steps {
            self.apply(&step);
        }
        Err(unanswered)
    }

    /// Hears answers. Gives the number of commands that were carried out for certain: the last of which
    /// anything was heard, and all before it.
    fn hear(&mut self, wire: &mut Wire, steps: &[Step]) -> (usize, io::Result<()>) {
        let mut done = 0;
        for (index, step) in steps.iter().enumerate() {
            let before = wire.heard;
            let said = String::from_utf8_lossy(&step.said[..step.said.len().min(60)]);
            let heard = wire.hear(&step.answer, &said, |version, unique| {
                self.learn(step.key, version, unique);
            });
            if wire.heard > before {
                done = index + 1;
            }
            if heard.is_err() {
                return (done, heard);
            }
        }
        (done, Ok(()))
    }

    fn step(&mut self) -> Step {
        let key = self.key();
        let before = self.model.version(key);
        let (said, answer) = match (self.number % 4, self.random.below(2)) {
            (0, _) => binary::command(self, key),
            (_, 0) => classic::command(self, key),
            _ => meta::command(self, key),
        };
        Step {
            said,
            answer,
            key,
            after: self.model.get(key).cloned(),
            writes: self.model.version(key) != before,
        }
    }

    fn apply(&mut self, step: &Step) {
        match step.after.clone() {
            Some(item) => self.model.items.insert(step.key, item),
            None => self.model.items.remove(&step.key),
        };
    }

    fn learn(&mut self, key: u8, version: u64, unique: u64) {
        let whose = (self.number, version);
        let first = *self.uniques.lock().unwrap().entry(unique).or_insert(whose);
        assert_eq!(
            first, whose,
            "the CAS unique {unique} came back for other contents"
        );
        let before = self.seen.insert(key, (version, unique));
        let same = before.is_none_or(|(other, known)| other != version || known == unique);
        assert!(same, "what was not written has another CAS unique");
    }

    /// Everything was flushed.
    pub fn flushed(&mut self) {
        self.model.items.clear();
    }

    /// What the server has of this client's items.
    ///
    /// # Errors
    /// The connection broke.
    pub fn look(&mut self, wire: &mut Wire) -> io::Result<Found> {
        let names: Vec<String> = (0..ITEMS).map(|key| self.name(key)).collect();
        wire.say(
            format!("gets {}\r\n", names.join(" ")).as_bytes(),
            &mut self.random,
        )?;
        let mut found = Found::new();
        loop {
            let line = wire.line()?;
            if line == "END" {
                return Ok(found);
            }
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!((words.len(), words[0]), (5, "VALUE"), "{line}");
            let key = names.iter().position(|name| name == words[1]);
            let key = key.expect("only what was asked for is found") as u8;
            let value = wire.exactly(words[3].parse().unwrap())?;
            let (flags, unique) = (words[2].parse().unwrap(), words[4].parse().unwrap());
            wire.expect(b"\r\n", "gets")?;
            assert!(
                found.insert(key, (value, flags, unique)).is_none(),
                "found twice"
            );
        }
    }

    /// Finds out from what is there how far the server had come with commands that were not answered.
    /// Panics if nothing explains it.
    pub fn settle(&mut self, unanswered: &[Step], found: &Found) {
        let known = self.model.items.clone();
        for done in 0..=unanswered.len() {
            if done > 0 {
                self.apply(&unanswered[done - 1]);
            }
            // Just being written when the process ended.
            let next = unanswered.get(done).filter(|step| step.writes);
            let lost = next
                .map(|step| step.key)
                .filter(|key| !found.contains_key(key));
            if (0..ITEMS).all(|key| Some(key) == lost || self.is_found(key, found)) {
                self.model.items.retain(|&key, _| Some(key) != lost);
                return self.learn_all(found);
            }
        }
        panic!("{}", self.difference(&known, unanswered, found));
    }

    fn is_found(&self, key: u8, found: &Found) -> bool {
        match (self.model.get(key), found.get(&key)) {
            (Some(item), Some((value, flags, unique))) => {
                let known = self.seen.get(&key).filter(|seen| seen.0 == item.version);
                *item.value == **value
                    && item.flags == *flags
                    && known.is_none_or(|known| known.1 == *unique)
            }
            (None, None) => true,
            _ => false,
        }
    }

    fn learn_all(&mut self, found: &Found) {
        for (&key, &(_, _, unique)) in found {
            self.learn(key, self.model.version(key), unique);
        }
    }

    /// What a failure has to say: lengths and numbers, for each key.
    fn difference(&self, known: &HashMap<u8, Item>, unanswered: &[Step], found: &Found) -> String {
        let shown = |item: &Item| (item.value.len(), item.value.first().copied(), item.flags);
        let mut text = format!("nothing explains what client {} finds:", self.number);
        for key in 0..ITEMS {
            let before = known.get(&key).map(shown);
            let steps = unanswered
                .iter()
                .filter(|step| step.key == key && step.writes);
            let after: Vec<_> = steps.map(|step| step.after.as_ref().map(shown)).collect();
            let there = found.get(&key);
            let there =
                there.map(|(value, flags, _)| (value.len(), value.first().copied(), *flags));
            text += &format!("\n{key}: {before:?}, then {after:?}; found {there:?}");
        }
        text
    }

    fn name(&self, key: u8) -> String {
        format!("c{}-{key}", self.number)
    }

    fn key(&mut self) -> u8 {
        self.random.below(ITEMS.into()) as u8
    }

    /// A time that does not come while the test runs.
    fn exptime(&mut self) -> u32 {
        [0, 1_000, 100_000][self.random.below(3)]
    }

    fn delta(&mut self) -> u64 {
        self.random.below(120) as u64
    }

    fn opaque(&mut self) -> u32 {
        self.opaques += 1;
        self.opaques
    }

    /// A version of the key's item and its CAS unique; at worst one that no item has.
    fn last_seen(&self, key: u8) -> (u64, u64) {
        self.seen.get(&key).copied().unwrap_or((0, u64::MAX))
    }

    fn mode(&mut self, key: u8) -> Mode {
        let length = self.model.get(key).map_or(0, |item| item.value.len());
        match self.random.below(8) {
            0 => Mode::Add,
            1 => Mode::Replace,
            2 if length < EXTENDED_BYTES_MAX => Mode::Append,
            3 if length < EXTENDED_BYTES_MAX => Mode::Prepend,
            _ => Mode::Set,
        }
    }

    /// A value of one of the kinds, with flags: long and short ones, numbers, and tokens, which are packed.
    fn value(&mut self, mode: Mode) -> (Vec<u8>, u32) {
        let flags = [0, 7, 0xffff][self.random.below(3)];
        let length = match self.random.below(100) {
            0 if !matches!(mode, Mode::Append | Mode::Prepend) => 600_000,
            0..3 => 70_000,
            3..20 => 5_000,
            20..40 => return (TOKENS.token(self.random.below(1_000)), flags),
            40..60 => return (self.random.below(1_000).to_string().into(), flags),
            _ => 20,
        };
        (vec![b'a' + self.random.below(26) as u8; length], flags)
    }
}
