//! How a value is packed, as an item's header says it in 13 bits.
//!
//! Two bits of form, which the store passes on and does not understand, and the number of the
//! dictionary that is needed to read the value; `dictionary` keeps those.

use std::num::NonZeroU16;

use super::geometry::DICTIONARIES_MAX;

/// The name of a dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DictionaryNumber(NonZeroU16);

impl DictionaryNumber {
    const MAX: u16 = (1 << 11) - 1;

    /// The dictionary of this number; `None` for 0 and beyond 11 bits.
    pub fn new(number: u16) -> Option<DictionaryNumber> {
        let number = NonZeroU16::new(number).filter(|number| number.get() <= Self::MAX)?;
        Some(DictionaryNumber(number))
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }

    /// Which of the [`DICTIONARIES_MAX`] places it has.
    pub fn slot(self) -> usize {
        usize::from(self.get()) % DICTIONARIES_MAX
    }

    /// The next number of the same slot.
    pub(super) fn after(last: u16, slot: usize) -> Option<DictionaryNumber> {
        let step = DICTIONARIES_MAX as u16;
        // A damaged one may be beyond all numbers.
        let next = (last.min(Self::MAX) / step + 1) * step + slot as u16;
        DictionaryNumber::new(next).or_else(|| DictionaryNumber::new(step + slot as u16))
    }
}

/// How a value is packed: a form, which the store passes on and does not understand, and the
/// dictionary that is needed to read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packing(u16);

impl Packing {
    /// As it came.
    pub const NONE: Packing = Packing(0);

    /// A form from 1 to 3; 0 and no dictionary is [`Packing::NONE`].
    pub fn new(form: u8, dictionary: Option<DictionaryNumber>) -> Packing {
        debug_assert!(form <= 3, "a form has two bits");
        let number = dictionary.map_or(0, DictionaryNumber::get);
        Packing(number << 2 | u16::from(form & 3))
    }

    /// Bits that it takes in an item's header.
    pub(super) const BITS: u32 = 13;

    /// As it stands in an item's header.
    pub(super) fn from_bits(bits: u16) -> Packing {
        Packing(bits & ((1 << Packing::BITS) - 1))
    }

    pub(super) fn bits(self) -> u16 {
        self.0
    }

    /// The form.
    pub fn form(self) -> u8 {
        (self.0 & 3) as u8
    }

    /// The dictionary that it needs.
    pub fn dictionary(self) -> Option<DictionaryNumber> {
        DictionaryNumber::new(self.0 >> 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_slot_follow_one_another_and_begin_anew_after_the_last() {
        for slot in 0..DICTIONARIES_MAX {
            let mut number = DictionaryNumber::after(0, slot).unwrap();
            let first = number;
            for _ in 1..255 {
                let next = DictionaryNumber::after(number.get(), slot).unwrap();
                assert!(next > number && next.slot() == slot);
                number = next;
            }
            assert_eq!(DictionaryNumber::after(number.get(), slot), Some(first));
            let damaged = DictionaryNumber::after(u16::MAX, slot);
            assert_eq!(damaged, Some(first), "what was damaged");
        }
    }

    #[test]
    fn form_and_dictionary_are_told_apart() {
        let number = DictionaryNumber::new(DictionaryNumber::MAX);
        for form in 0..4 {
            let packing = Packing::from_bits(Packing::new(form, number).bits());
            assert_eq!((packing.form(), packing.dictionary()), (form, number));
        }
        assert_eq!(Packing::new(0, None), Packing::NONE);
    }
}
