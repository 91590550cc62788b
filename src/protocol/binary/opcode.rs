//! The opcodes of the binary protocol, and the shape that a request of each has.
//!
//! Source: memcached's `doc/protocol-binary.xml` ("Command Opcodes") and `protocol_binary.h`.

use crate::protocol::command::{Direction, Mode};

/// What an opcode asks for, without how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Look a key up.
    Get,
    /// Look a key up and renew its expiry, for its value or for the renewal alone.
    Touch,
    /// Store a value, with flags and expiry.
    Store(Mode),
    /// Add to a value.
    Extend(Mode),
    /// Remove an item.
    Delete,
    /// Count up or down.
    Count(Direction),
    /// Make all items invalid.
    Flush,
    /// Answer.
    Noop,
    /// Name the release.
    Version,
    /// Show counters.
    Stat,
    /// Change how much is logged.
    Verbosity,
    /// Close.
    Quit,
    /// SASL: name the mechanisms.
    ListMechanisms,
    /// SASL: begin.
    Start,
    /// SASL: go on.
    Step,
}

/// An opcode, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opcode {
    /// What it asks for.
    pub operation: Operation,
    /// It is one of the quiet forms.
    pub quiet: bool,
    /// The key is answered with the value.
    pub with_key: bool,
    /// The value is answered.
    pub with_value: bool,
}

impl Opcode {
    /// Takes an opcode apart; `None` for one that is not known.
    pub fn read(code: u8) -> Option<Opcode> {
        use Operation::{
            Count, Delete, Extend, Flush, Get, ListMechanisms, Noop, Quit, Start, Stat, Step,
            Store, Touch, Verbosity, Version,
        };
        let (operation, is_quiet_form) = match code {
            0x00 | 0x0c => (Get, false),
            0x09 | 0x0d => (Get, true),
            0x01 | 0x11 => (Store(Mode::Set), code == 0x11),
            0x02 | 0x12 => (Store(Mode::Add), code == 0x12),
            0x03 | 0x13 => (Store(Mode::Replace), code == 0x13),
            0x04 | 0x14 => (Delete, code == 0x14),
            0x05 | 0x15 => (Count(Direction::Up), code == 0x15),
            0x06 | 0x16 => (Count(Direction::Down), code == 0x16),
            0x07 | 0x17 => (Quit, code == 0x17),
            0x08 | 0x18 => (Flush, code == 0x18),
            0x0a => (Noop, false),
            0x0b => (Version, false),
            0x0e | 0x19 => (Extend(Mode::Append), code == 0x19),
            0x0f | 0x1a => (Extend(Mode::Prepend), code == 0x1a),
            0x10 => (Stat, false),
            0x1b => (Verbosity, false),
            0x1c | 0x1d | 0x23 => (Touch, false),
            0x1e | 0x24 => (Touch, true),
            0x20 => (ListMechanisms, false),
            0x21 => (Start, false),
            0x22 => (Step, false),
            _ => return None,
        };
        Some(Opcode {
            operation,
            quiet: is_quiet_form,
            with_key: matches!(code, 0x0c | 0x0d | 0x23 | 0x24),
            with_value: code != 0x1c,
        })
    }

    /// Whether a request may have extras, a key and a value of these lengths.
    pub fn takes(self, extras: u8, key: u16, value: u32) -> bool {
        use Operation::{
            Count, Delete, Extend, Flush, Get, ListMechanisms, Noop, Quit, Start, Stat, Step,
            Store, Touch, Verbosity, Version,
        };
        match self.operation {
            Get | Delete => extras == 0 && key > 0 && value == 0,
            Touch => extras == 4 && key > 0 && value == 0,
            Store(_) => extras == 8 && key > 0,
            Extend(_) => extras == 0 && key > 0,
            Count(_) => extras == 20 && key > 0 && value == 0,
            Flush => matches!(extras, 0 | 4) && key == 0 && value == 0,
            Verbosity => extras == 4 && key == 0 && value == 0,
            Noop | Version | Quit | ListMechanisms => extras == 0 && key == 0 && value == 0,
            Stat => extras == 0 && value == 0,
            Start | Step => extras == 0 && key > 0,
        }
    }
}
