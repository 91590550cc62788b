//! Sequences of operations on the store and on a plain map, as `tests/common/store_run.rs` compares
//! them: the account is right after every step, and what is returned is what the map holds.
//!
//! Keys are few and values large, so that a short input fills the 8 MiB.

#![no_main]

#[path = "../../tests/common/store_run.rs"]
mod store_run;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use store_run::{Kind, Run, Step, Ttl, options};

/// Beyond this an input only takes longer.
const OPERATIONS_MAX: usize = 400;

#[derive(Arbitrary, Debug)]
struct Input {
    evict: bool,
    operations: Vec<Operation>,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Put(u8, Size, u8, Expiry, Condition, u8),
    /// Several keys in a row, which fills the store quickly.
    Fill(u8, u8, Size),
    Get(u8),
    Touch(u8, Expiry),
    Delete(u8),
    Flush,
    FlushLater(u8),
    Wait(u8),
    Housekeep,
    Limit(u8),
    Upload(u8, u16, bool),
    AddDictionary(u16),
    CloseDictionary(u8),
    EvictDictionary(u8),
    FreeDictionaries,
    TakeOver,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Size {
    Exactly(u8),
    Token(u8),
    HalfSegment(u8),
    Large(u16),
    AboutTheLimit(u8),
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Expiry {
    Never,
    AtOnce,
    Seconds(u8),
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Condition {
    Always,
    Absent,
    Present,
    RightUnique,
    WrongUnique,
}

fuzz_target!(|input: Input| {
    let mut run = Run::new(options(input.evict));
    for operation in input.operations.iter().take(OPERATIONS_MAX) {
        for step in steps(operation) {
            run.step(&step);
        }
    }
    run.look_at_all();
});

fn steps(operation: &Operation) -> Vec<Step> {
    vec![match *operation {
        Operation::Put(key, size, seed, expiry, condition, packed) => Step::Put {
            key,
            value_bytes: size.bytes(),
            seed,
            ttl: expiry.ttl(),
            condition: condition.kind(),
            packed,
        },
        Operation::Fill(first, count, size) => {
            let put = |number: u8| Step::Put {
                key: first.wrapping_add(number),
                value_bytes: size.bytes(),
                seed: number,
                ttl: Ttl::Seconds(60),
                condition: Kind::Always,
                packed: number,
            };
            return (0..count / 4).map(put).collect();
        }
        Operation::Get(key) => Step::Get(key),
        Operation::Touch(key, expiry) => Step::Touch(key, expiry.ttl()),
        Operation::Delete(key) => Step::Delete(key),
        Operation::Flush => Step::Flush(None),
        Operation::FlushLater(seconds) => Step::Flush(Some(u32::from(seconds) + 1)),
        Operation::Wait(seconds) => Step::Wait(u32::from(seconds)),
        Operation::Housekeep => Step::Housekeep,
        Operation::Limit(megabytes) => Step::Limit(8 + u64::from(megabytes % 24)),
        Operation::Upload(key, bytes, finish) => Step::Upload {
            key,
            value_bytes: usize::from(bytes) * 17,
            seed: key,
            finish,
        },
        Operation::AddDictionary(bytes) => Step::AddDictionary(bytes),
        Operation::CloseDictionary(choice) => Step::CloseDictionary(choice),
        Operation::EvictDictionary(choice) => Step::EvictDictionary(choice),
        Operation::FreeDictionaries => Step::FreeDictionaries,
        Operation::TakeOver => Step::TakeOver,
    }]
}

impl Size {
    fn bytes(self) -> usize {
        match self {
            Size::Exactly(bytes) => bytes.into(),
            Size::Token(bytes) => 8_000 + 100 * usize::from(bytes),
            // Segments of this store are 64 KiB.
            Size::HalfSegment(bytes) => (32 << 10) - 128 + usize::from(bytes),
            Size::Large(bytes) => 32_000 + 15 * usize::from(bytes),
            Size::AboutTheLimit(bytes) => (1 << 20) - 350 + 2 * usize::from(bytes),
        }
    }
}

impl Expiry {
    fn ttl(self) -> Ttl {
        match self {
            Expiry::Never => Ttl::Never,
            Expiry::AtOnce => Ttl::AtOnce,
            Expiry::Seconds(seconds) => Ttl::Seconds(u32::from(seconds) + 1),
        }
    }
}

impl Condition {
    fn kind(self) -> Kind {
        match self {
            Condition::Always => Kind::Always,
            Condition::Absent => Kind::Absent,
            Condition::Present => Kind::Present,
            Condition::RightUnique => Kind::RightUnique,
            Condition::WrongUnique => Kind::WrongUnique,
        }
    }
}
