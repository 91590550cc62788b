//! What the fuzzer chooses, in few bytes, and the command that it means.

use arbitrary::Arbitrary;

use crate::command::{Command, Count, KEYS, Mode, Store, Verb};

#[derive(Arbitrary, Debug)]
pub enum Act {
    Get(u8),
    Gat(u8, Expiry),
    Touch(u8, Expiry),
    Store(u8, Mode, Value, Flags, Expiry, Terms),
    Delete(u8, Terms),
    Count(u8, bool, Number, Option<(Number, Expiry)>, Terms),
    Flush(Option<Expiry>, bool),
    Wait(u8),
}

/// What is said beside the command itself.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct Terms {
    unique: Unique,
    quiet: bool,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Unique {
    Any,
    /// That of the item, if it is there.
    Held,
    Other(u8),
}

#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Expiry {
    Never,
    Seconds(u8),
    /// The longest that is counted from now.
    Days30,
    /// One more is a date, long ago.
    Past,
    /// A date, about now.
    Date(u8),
}

#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Flags {
    Few(u8),
    Most,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Number {
    Few(u8),
    Many(u64),
    AboutTheLast(u8),
}

#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Value {
    Number(Number),
    Padded(u8, u8),
    Text(u8, u8),
    /// What packing makes less of.
    Json(u8, u8),
    Noise(u16),
    /// Larger than what is waited for in a buffer.
    Large(u8),
}

impl Act {
    /// The command, where the items have these CAS uniques. Of `Wait` there is none.
    pub fn command(&self, held: &[Option<u64>]) -> Command {
        const PLAIN: Terms = Terms {
            unique: Unique::Any,
            quiet: false,
        };
        let (key, verb, terms) = match *self {
            Act::Get(key) => (key, Verb::Get, PLAIN),
            Act::Gat(key, expiry) => (key, Verb::Gat(expiry.exptime()), PLAIN),
            Act::Touch(key, expiry) => (key, Verb::Touch(expiry.exptime()), PLAIN),
            Act::Store(key, mode, value, flags, expiry, terms) => {
                let store = Store {
                    mode,
                    value: value.bytes(),
                    flags: flags.flags(),
                    exptime: expiry.exptime(),
                };
                (key, Verb::Store(store), terms.of(mode))
            }
            Act::Delete(key, terms) => (key, Verb::Delete, terms),
            Act::Count(key, up, delta, made, terms) => {
                let count = Count {
                    up,
                    delta: delta.number(),
                    made: made.map(|(initial, expiry)| (initial.number(), expiry.exptime())),
                };
                (key, Verb::Count(count), terms)
            }
            Act::Flush(at, quiet) => {
                let verb = Verb::Flush(at.map(Expiry::exptime));
                (0, verb, Terms { quiet, ..PLAIN })
            }
            Act::Wait(_) => unreachable!("waiting is no command"),
        };
        let key = usize::from(key) % KEYS.len();
        let held = held.get(key).copied().flatten();
        Command {
            verb,
            key,
            unique: terms.unique.asked(held),
            held,
            quiet: terms.quiet,
        }
    }
}

impl Terms {
    /// ADD and REPLACE with a CAS unique are SET in the binary protocol, and nothing like it in others.
    fn of(self, mode: Mode) -> Terms {
        match mode {
            Mode::Add | Mode::Replace => Terms {
                unique: Unique::Any,
                ..self
            },
            _ => self,
        }
    }
}

impl Unique {
    fn asked(self, held: Option<u64>) -> Option<u64> {
        match self {
            Unique::Any => None,
            Unique::Held => Some(held.unwrap_or(1)),
            Unique::Other(unique) => Some(u64::from(unique) + 1),
        }
    }
}

impl Expiry {
    fn exptime(self) -> u32 {
        match self {
            Expiry::Never => 0,
            Expiry::Seconds(seconds) => u32::from(seconds) + 1,
            Expiry::Days30 => 2_592_000,
            Expiry::Past => 2_592_001,
            // The manual clock begins at 1,790,001,000.
            Expiry::Date(seconds) => 1_790_000_900 + 2 * u32::from(seconds),
        }
    }
}

impl Flags {
    fn flags(self) -> u32 {
        match self {
            Flags::Few(flags) => flags.into(),
            Flags::Most => u32::MAX,
        }
    }
}

impl Number {
    fn number(self) -> u64 {
        match self {
            Number::Few(number) => number.into(),
            Number::Many(number) => number,
            Number::AboutTheLast(number) => u64::MAX - u64::from(number),
        }
    }
}

impl Value {
    fn bytes(self) -> Vec<u8> {
        match self {
            Value::Number(number) => number.number().to_string().into_bytes(),
            Value::Padded(number, width) => {
                format!("{number:^width$}", width = usize::from(width % 8)).into_bytes()
            }
            Value::Text(byte, length) => vec![byte; length.into()],
            Value::Json(seed, count) => {
                let role = format!("{{\"id\": \"{seed:032x}\", \"name\": \"member\"}}, ");
                role.repeat(usize::from(count)).into_bytes()
            }
            Value::Noise(length) => noise(usize::from(length % 8_192)),
            Value::Large(more) => noise(66_000 + usize::from(more)),
        }
    }
}

/// Bytes that nothing makes less of.
fn noise(length: usize) -> Vec<u8> {
    let mut state = length as u32 | 1;
    let next = || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
