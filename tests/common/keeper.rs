//! A packer with a stand-in for the store: it takes the dictionaries that are offered, numbers them and
//! gives them back, as the engine does.

#![allow(dead_code)] // Every program that includes this file uses its own part of it.

use std::sync::Mutex;

use tokencached::packing::{Damaged, Digest, Offer, Packing, Room, Value};
use tokencached::store::{self, DICTIONARIES_MAX, DictionaryNumber};

/// What the store would hold: the value as it came, or packed.
#[derive(Clone, Debug)]
pub struct Stored {
    pub how: store::Packing,
    pub bytes: Vec<u8>,
}

impl Stored {
    pub fn is_packed(&self) -> bool {
        self.how != store::Packing::NONE
    }
}

#[derive(Default)]
pub struct Keeper {
    pub packing: Packing,
    offered: Mutex<Vec<Vec<u8>>>,
}

/// The number of the dictionary that is offered as the first, the second...
pub fn number(at: usize) -> DictionaryNumber {
    DictionaryNumber::new((DICTIONARIES_MAX + at) as u16).unwrap()
}

impl Keeper {
    /// Packs a value as it would be stored; takes a dictionary that is offered.
    pub fn pack(&self, value: &Value<'_>, room: &mut Room) -> Stored {
        let outcome = self.packing.pack(value, 0, room);
        let stored = match outcome.packed {
            Some((how, bytes)) => Stored {
                how,
                bytes: bytes.to_vec(),
            },
            None => Stored {
                how: store::Packing::NONE,
                bytes: value.bytes.to_vec(),
            },
        };
        if let Some(offer) = outcome.offer {
            self.take(offer);
        }
        stored
    }

    fn take(&self, offer: Offer) {
        let mut offered = self.offered.lock().unwrap();
        if offered.len() < DICTIONARIES_MAX {
            let digest = Digest::new(&offer.dictionary).unwrap();
            self.packing.add(number(offered.len()), digest, 0);
            if let Some(superseded) = offer.supersedes {
                self.packing.supersede(superseded);
            }
        } else {
            self.packing.turn_down(true, 0);
        }
        offered.push(offer.dictionary);
    }

    /// Reads what is stored.
    pub fn read(&self, stored: &Stored) -> Result<Vec<u8>, Damaged> {
        if !stored.is_packed() {
            return Ok(stored.bytes.clone());
        }
        let mut value = Vec::new();
        self.packing
            .unpack(stored.how, &stored.bytes, &mut value)
            .map(|()| value)
    }

    /// All dictionaries that were offered.
    pub fn offered(&self) -> Vec<Vec<u8>> {
        self.offered.lock().unwrap().clone()
    }
}
