//! One item in the heap: header, key, value.
//!
//! [`Header`] reads and writes the header's words in place; the rest of the store never computes an
//! offset into an item itself.
//!
//! # Layout
//!
//! Eleven 32-bit words, then the key, then the value, padded to a multiple of 4:
//!
//! ```text
//! word 0   key length (8 bits) | life (2) and marks (5) | room in units of 4 bytes (17)
//! word 1   value length
//! word 2   client flags
//! word 3   expiry, in seconds of `clock::Now`; 0 never, 1 at once
//! word 4   seconds from its writing to its last access (26 bits) | reads (6)
//! word 5   written at, seconds
//! word 6-7 CAS unique
//! word 8-9 write sequence (48 bits) | packing (13) | class (3)
//! word 10  checksum
//! ```
//!
//! Room is what the item was reserved; one that was overwritten by a shorter one leaves some unused. It is
//! 0 for an item that owns whole segments.
//!
//! Invariants:
//! - the room is set when it is reserved and stays, so a segment can be walked item by item whatever
//!   state its items are in, and whenever its writer ends;
//! - the checksum covers what does not change after writing: key, value, client flags, write sequence,
//!   packing and class. Expiry, last access, reads, marks and CAS unique change while the item lives.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, compiler_fence};

use super::heap::Heap;
use super::packing::Packing;

/// Bytes in front of the key.
pub const HEADER_BYTES: usize = 4 * WORDS;

/// Words of a header.
const WORDS: usize = 11;

/// An expiry that never comes.
pub const NEVER: u32 = 0;

/// An expiry that has always come already.
pub const AT_ONCE: u32 = 1;

/// Bits of a write sequence.
pub const SEQUENCE_BITS: u64 = 48;

/// Classes that an item's caller can tell apart.
pub const CLASSES: u8 = 1 << 3;
const CLASS_SHIFT: u32 = Packing::BITS;

/// Reads of an item are counted up to here.
pub const READS_MAX: u32 = (1 << 6) - 1;
const READS_SHIFT: u32 = 26;
/// Two years: an item that is read later counts as one that was read then.
const ACCESS_SECONDS_MAX: u32 = (1 << READS_SHIFT) - 1;

const STATE_SHIFT: u32 = 8;
const ROOM_SHIFT: u32 = 15;
const LIFE_MASK: u32 = 0b11;
const FETCHED: u32 = 0b100;
const PROVEN: u32 = 0b1000;
const STALE: u32 = 0b1_0000;
const TOKEN_SENT: u32 = 0b10_0000;
const BINARY_KEY: u32 = 0b100_0000;
const ALL_MARKS: u32 = FETCHED | PROVEN | STALE | TOKEN_SENT | BINARY_KEY;

/// Where an item is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Reserved; its bytes are not complete.
    Writing = 1,
    /// Complete, and the newest of its key.
    Live = 2,
    /// Deleted, replaced, evicted, expired, or never finished.
    Dead = 3,
}

/// What is noted of an item beside its value; a new one has none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// It was read since it was written.
    pub fetched: bool,
    /// It was invalidated and may be served until a client has made it anew.
    pub stale: bool,
    /// A client has been told that it is the one to make it anew.
    pub token_sent: bool,
    /// Its key is written in base64 where a reply shows it.
    pub binary_key: bool,
}

impl Marks {
    fn bits(self) -> u32 {
        let bit = |is: bool, bit: u32| if is { bit } else { 0 };
        bit(self.fetched, FETCHED)
            | bit(self.stale, STALE)
            | bit(self.token_sent, TOKEN_SENT)
            | bit(self.binary_key, BINARY_KEY)
    }
}

/// What an item is given when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Opaque to the server.
    pub client_flags: u32,
    /// What `cas` compares.
    pub cas_unique: u64,
    /// Position in the order of all writes.
    pub sequence: u64,
    /// How the value is packed.
    pub packing: Packing,
    /// What its caller takes it for; below [`CLASSES`], opaque to the store.
    pub class: u8,
}

impl Identity {
    /// Packing and class in one.
    fn form_bits(&self) -> u16 {
        debug_assert!(self.class < CLASSES);
        self.packing.bits() | u16::from(self.class) << CLASS_SHIFT
    }
}

/// Bytes that an item of these lengths takes, padding included.
pub fn footprint(key_bytes: usize, value_bytes: usize) -> usize {
    (HEADER_BYTES + key_bytes + value_bytes).next_multiple_of(4)
}

/// The header of the item at one position of a heap.
#[derive(Clone, Copy, Debug)]
pub struct Header<'h> {
    heap: &'h Heap,
    position: u64,
    words: &'h [AtomicU32; WORDS],
}

// Relaxed throughout: what one thread writes here another learns of through the lock of the item's
// shard or the heap lock, which order the accesses.
impl<'h> Header<'h> {
    /// The item at `position`. What is read of it then is read without a further check.
    ///
    /// # Panics
    /// If the heap has no room for a header there.
    #[inline]
    pub fn at(heap: &'h Heap, position: u64) -> Header<'h> {
        let words = heap.words(position);
        Header {
            heap,
            position,
            words,
        }
    }

    /// Where the item begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    #[inline]
    fn load(&self, word: usize) -> u32 {
        self.words[word].load(Relaxed)
    }

    #[inline]
    fn store(&self, word: usize, value: u32) {
        #[cfg(test)]
        super::killed::before_access();
        self.words[word].store(value, Relaxed);
    }

    #[inline]
    fn load_long(&self, word: usize) -> u64 {
        u64::from(self.load(word)) | u64::from(self.load(word + 1)) << 32
    }

    fn store_long(&self, word: usize, value: u64) {
        self.store(word, value as u32);
        self.store(word + 1, (value >> 32) as u32);
    }

    /// Lays out a new item that is still being written, in so much room; 0 if it owns whole segments.
    pub fn reserve(&self, key_bytes: usize, value_bytes: usize, room: usize) {
        debug_assert!(key_bytes <= 255 && room / 4 < 1 << (32 - ROOM_SHIFT));
        let state = (Life::Writing as u32) << STATE_SHIFT;
        self.store(
            0,
            key_bytes as u32 | state | ((room / 4) as u32) << ROOM_SHIFT,
        );
        self.store(1, value_bytes as u32);
    }

    /// Fills in everything but the state, which [`Header::set_life`] makes live.
    pub fn identify(&self, identity: Identity, expiry: u32, now_seconds: u32, checksum: u32) {
        self.store(2, identity.client_flags);
        self.store(3, expiry);
        self.store(4, 0);
        self.store(5, now_seconds);
        self.store_long(6, identity.cas_unique);
        let form = u64::from(identity.form_bits()) << SEQUENCE_BITS;
        self.store_long(8, identity.sequence | form);
        self.store(10, checksum);
    }

    /// Reads what [`Header::identify`] wrote.
    pub fn identity(&self) -> Identity {
        Identity {
            client_flags: self.client_flags(),
            cas_unique: self.cas_unique(),
            sequence: self.sequence(),
            packing: self.packing(),
            class: self.class(),
        }
    }

    /// Length of the key.
    pub fn key_bytes(&self) -> usize {
        (self.load(0) & 0xff) as usize
    }

    /// Length of the value as it is stored.
    pub fn value_bytes(&self) -> usize {
        self.load(1) as usize
    }

    /// The key. The caller keeps the item from being written (`heap`, rule 2).
    pub fn key(&self) -> &'h [u8] {
        self.heap.bytes(self.key_position(), self.key_bytes())
    }

    /// Where the key begins.
    pub fn key_position(&self) -> u64 {
        self.position + HEADER_BYTES as u64
    }

    /// Where the value begins.
    pub fn value_position(&self) -> u64 {
        self.key_position() + self.key_bytes() as u64
    }

    /// Bytes that belong to the item in its segment. Not for an item that owns whole segments.
    pub fn room(&self) -> usize {
        (self.load(0) >> ROOM_SHIFT) as usize * 4
    }

    /// Sets the value's length within the item's room, for an overwrite in place.
    pub fn resize(&self, value_bytes: usize) {
        self.store(1, value_bytes as u32);
    }

    /// The state; `None` if it is none of the three, which only damage makes.
    pub fn life(&self) -> Option<Life> {
        match (self.load(0) >> STATE_SHIFT) & LIFE_MASK {
            1 => Some(Life::Writing),
            2 => Some(Life::Live),
            3 => Some(Life::Dead),
            _ => None,
        }
    }

    /// Changes the state. The caller holds the shard's lock exclusively, or the item is not
    /// published.
    pub fn set_life(&self, life: Life) {
        // Whoever finds the heap of a process that was killed sees its stores in the order in which they were
        // made, so they are to be made in that of the program.
        compiler_fence(SeqCst);
        let others = self.load(0) & !(LIFE_MASK << STATE_SHIFT);
        self.store(0, others | (life as u32) << STATE_SHIFT);
        compiler_fence(SeqCst);
    }

    fn marked(&self, mark: u32) -> bool {
        self.load(0) & (mark << STATE_SHIFT) != 0
    }

    fn mark(&self, mark: u32) {
        if !self.marked(mark) {
            // Many readers may mark at once; marks are only taken away under the exclusive lock.
            self.set_bit(mark << STATE_SHIFT);
        }
    }

    /// Sets a bit of the first word; gives what the word was.
    fn set_bit(&self, bit: u32) -> u32 {
        #[cfg(test)]
        super::killed::before_access();
        self.words[0].fetch_or(bit, Relaxed)
    }

    /// Whether the item was read since it was written.
    pub fn fetched(&self) -> bool {
        self.marked(FETCHED)
    }

    /// Whether the item was read late enough after its writing, and since its last move, to count
    /// as one that is in use.
    pub fn proven(&self) -> bool {
        self.marked(PROVEN)
    }

    /// Notes a read. Needs the shard's lock, shared is enough; of two at once one may go uncounted. Writes only
    /// what changes, so that what is read over and over stays in the caches of all cores.
    #[inline]
    pub fn access(&self, now_seconds: u32, proves_after_seconds: u32) {
        self.mark(FETCHED);
        let seconds = now_seconds.saturating_sub(self.written_at());
        if seconds > proves_after_seconds {
            self.mark(PROVEN);
        }
        let before = self.load(4);
        let reads = ((before >> READS_SHIFT) + 1).min(READS_MAX);
        let after = seconds.min(ACCESS_SECONDS_MAX) | reads << READS_SHIFT;
        if after != before {
            self.store(4, after);
        }
    }

    /// How often it was read since it was written, up to [`READS_MAX`].
    pub fn reads(&self) -> u32 {
        self.load(4) >> READS_SHIFT
    }

    /// Takes the mark of being in use away: after a move it has to be earned anew.
    pub fn unprove(&self) {
        let word = self.load(0);
        self.store(0, word & !(PROVEN << STATE_SHIFT));
    }

    /// Puts these marks in the place of all that there are: what an overwritten item was read for is
    /// gone. The caller holds the shard's lock exclusively, or the item is not published.
    pub fn set_marks(&self, marks: Marks) {
        let others = self.load(0) & !(ALL_MARKS << STATE_SHIFT);
        self.store(0, others | marks.bits() << STATE_SHIFT);
    }

    /// The marks, without that of being in use.
    pub fn marks(&self) -> Marks {
        Marks {
            fetched: self.marked(FETCHED),
            stale: self.marked(STALE),
            token_sent: self.marked(TOKEN_SENT),
            binary_key: self.marked(BINARY_KEY),
        }
    }

    /// Notes that a client was told to make the item anew; says whether it is the first. Needs the
    /// shard's lock, shared is enough.
    pub fn send_token(&self) -> bool {
        let bit = TOKEN_SENT << STATE_SHIFT;
        self.set_bit(bit) & bit == 0
    }

    /// Marks the item stale and gives it another CAS unique; the next client to read it is the one to
    /// make it anew. The caller holds the shard's lock exclusively.
    pub fn invalidate(&self, cas_unique: u64) {
        let word = self.load(0) & !(TOKEN_SENT << STATE_SHIFT);
        self.store(0, word | STALE << STATE_SHIFT);
        self.store_long(6, cas_unique);
    }

    /// Opaque to the server.
    pub fn client_flags(&self) -> u32 {
        self.load(2)
    }

    /// What `cas` compares.
    pub fn cas_unique(&self) -> u64 {
        self.load_long(6)
    }

    /// Position in the order of all writes.
    pub fn sequence(&self) -> u64 {
        self.load_long(8) & ((1 << SEQUENCE_BITS) - 1)
    }

    /// How the value is packed.
    pub fn packing(&self) -> Packing {
        Packing::from_bits((self.load(9) >> 16) as u16)
    }

    /// What its caller takes it for.
    pub fn class(&self) -> u8 {
        (self.load(9) >> (16 + CLASS_SHIFT)) as u8
    }

    /// When the item was last read, or else written, in seconds.
    pub fn accessed_at(&self) -> u32 {
        let seconds = self.load(4) & ACCESS_SECONDS_MAX;
        self.written_at().saturating_add(seconds)
    }

    /// When the item was written, in seconds.
    pub fn written_at(&self) -> u32 {
        self.load(5)
    }

    /// When the item expires, in seconds; [`NEVER`] and [`AT_ONCE`] are special.
    pub fn expiry(&self) -> u32 {
        self.load(3)
    }

    /// Renews the expiry. The caller holds the shard's lock exclusively.
    pub fn set_expiry(&self, expiry: u32) {
        self.store(3, expiry);
    }

    /// Whether the item's time is over.
    pub fn expired(&self, now_seconds: u32) -> bool {
        let expiry = self.expiry();
        expiry != NEVER && expiry <= now_seconds
    }

    /// The checksum as it was written.
    pub fn checksum(&self) -> u32 {
        self.load(10)
    }

    /// Copies all but the lengths and the state to `target`, an item of the same lengths that is still
    /// being written. What it was read for, it has to be again to count as one that is in use.
    pub fn copy_to(&self, target: &Header<'_>) {
        target.set_marks(self.marks());
        for word in 2..WORDS {
            target.store(word, self.load(word));
        }
    }
}

/// A checksum under way: key and value first, the identity last, since the latter is known only
/// when the item is published.
#[derive(Clone, Debug, Default)]
pub struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// Adds bytes of the key or the value.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum with the item's lengths and identity. Costs some 20 ns.
    pub fn finish(mut self, key_bytes: usize, value_bytes: usize, identity: &Identity) -> u32 {
        let mut tail = [0u8; 24];
        tail[..4].copy_from_slice(&(key_bytes as u32).to_le_bytes());
        tail[4..8].copy_from_slice(&(value_bytes as u32).to_le_bytes());
        tail[8..12].copy_from_slice(&identity.client_flags.to_le_bytes());
        tail[12..20].copy_from_slice(&identity.sequence.to_le_bytes());
        tail[20..22].copy_from_slice(&identity.form_bits().to_le_bytes());
        self.0.update(&tail);
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            client_flags: 24,
            cas_unique: u64::MAX - 1,
            sequence: (1 << 48) - 2,
            packing: Packing::from_bits(513),
            class: CLASSES - 1,
        }
    }

    #[test]
    fn a_header_gives_back_what_was_written() {
        let heap = Heap::create(8192).unwrap();
        let header = Header::at(&heap, 4100);
        header.reserve(71, 13_000, footprint(71, 13_000) + 40);
        header.identify(identity(), 500, 200, 99);
        header.set_life(Life::Live);
        assert_eq!(header.identity(), identity());
        assert_eq!((header.key_bytes(), header.value_bytes()), (71, 13_000));
        assert_eq!(header.room(), footprint(71, 13_000) + 40);
        assert_eq!(header.life(), Some(Life::Live));
        assert_eq!(header.checksum(), 99);
        assert!(!header.expired(499) && header.expired(500));
    }

    #[test]
    fn a_read_proves_an_item_only_some_seconds_after_its_writing() {
        let heap = Heap::create(8192).unwrap();
        let header = Header::at(&heap, 4096);
        header.reserve(1, 1, 0);
        header.identify(identity(), NEVER, 200, 0);
        header.access(205, 5);
        assert!(header.fetched() && !header.proven());
        header.access(206, 5);
        assert!(header.proven());
        header.unprove();
        assert!(header.fetched() && !header.proven());
    }

    #[test]
    fn reads_are_counted_as_far_as_they_go_and_do_not_disturb_when_they_were() {
        let heap = Heap::create(8192).unwrap();
        let header = Header::at(&heap, 4096);
        header.reserve(1, 1, 0);
        header.identify(identity(), NEVER, 200, 0);
        assert_eq!((header.reads(), header.accessed_at()), (0, 200));
        for read in 1..=READS_MAX + 2 {
            header.access(200 + 10 * read, 5);
            assert_eq!(header.reads(), read.min(READS_MAX));
            assert_eq!(header.accessed_at(), 200 + 10 * read);
        }
        header.access(u32::MAX, 5);
        let held = (header.reads(), header.accessed_at());
        assert_eq!(held, (READS_MAX, 200 + ACCESS_SECONDS_MAX));
        header.access(100, 5);
        assert_eq!(header.accessed_at(), 200, "a clock behind");
    }

    #[test]
    fn resizing_keeps_the_items_room() {
        let heap = Heap::create(8192).unwrap();
        let header = Header::at(&heap, 4096);
        header.reserve(3, 100, footprint(3, 100) + 8);
        let room = header.room();
        header.resize(7);
        assert_eq!((header.room(), header.value_bytes()), (room, 7));
        header.resize(100);
        assert_eq!(header.room(), room);
    }

    #[test]
    fn an_invalidated_item_sends_one_token() {
        let heap = Heap::create(8192).unwrap();
        let header = Header::at(&heap, 4096);
        header.reserve(1, 1, 0);
        header.identify(identity(), NEVER, 200, 0);
        header.set_life(Life::Live);
        let binary = Marks {
            binary_key: true,
            ..Marks::default()
        };
        header.set_marks(binary);
        assert!(header.send_token() && !header.send_token());
        header.invalidate(7);
        assert_eq!((header.cas_unique(), header.key_bytes()), (7, 1));
        let stale = Marks {
            stale: true,
            ..binary
        };
        assert_eq!(header.marks(), stale);
        assert!(header.send_token() && !header.send_token());
        header.set_marks(Marks::default());
        assert_eq!(header.marks(), Marks::default());
        assert_eq!(header.life(), Some(Life::Live));
    }

    #[test]
    fn the_checksum_sees_all_of_the_identity_but_the_cas_unique() {
        let whole = Checksum::default().finish(1, 2, &identity());
        let others = [
            Identity {
                client_flags: 25,
                ..identity()
            },
            Identity {
                sequence: 1,
                ..identity()
            },
            Identity {
                packing: Packing::from_bits(1),
                ..identity()
            },
            Identity {
                class: 0,
                ..identity()
            },
        ];
        for other in others {
            assert_ne!(Checksum::default().finish(1, 2, &other), whole);
        }
        assert_ne!(Checksum::default().finish(2, 1, &identity()), whole);
        let other = Identity {
            cas_unique: 1,
            ..identity()
        };
        assert_eq!(Checksum::default().finish(1, 2, &other), whole);
    }
}
