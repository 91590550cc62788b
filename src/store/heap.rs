//! The memory file that holds every item: mapping, word access, byte access.
//!
//! The lowest room of the store. `segment` cuts the file into segments, `item` lays items out in
//! them; nothing else touches it. The file is a sparse memfd, sized once to its ceiling and sealed
//! against growing and shrinking, kept out of core dumps. It holds positions and plain bytes, never
//! pointers, so that another process can map it and read what this one wrote.
//!
//! # Layout
//!
//! ```text
//! 0            SUPERBLOCK_BYTES                 + segment_bytes
//! | superblock | dictionaries | segment 0       | segment 1 ...
//! ```
//!
//! # Soundness
//!
//! All `unsafe` code of the store is in this file. Headers are read and written only as atomic words
//! ([`Heap::word`], [`Heap::words`], [`Heap::long`]), so no interleaving of threads, nor another process, makes a data
//! race of them. Item bytes are read through [`Heap::bytes`] and written through [`Heap::write`] and
//! [`Heap::copy`]; these are visible to the store alone, which keeps three rules:
//! 1. bytes are written only between reserving and publishing an item, when no other thread knows
//!    their position, or, when overwriting in place, under the exclusive lock of the item's shard and
//!    only while the segment has no pin;
//! 2. bytes are read only by who holds that shard's lock or a pin on the segment taken under it, or,
//!    before the item is published, by who writes it;
//! 3. a segment is used again only once no index entry leads into it and its pins are zero.
//!
//! Dictionaries are written and read under a lock of their own.
//!
//! A slice is therefore never read and written at once. Every position is checked against the
//! mapping, so a damaged heap can give wrong bytes (which the checksum tells) but no access outside.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Room in front of everything else; one page, so that what lies behind can be punched out whole.
pub const SUPERBLOCK_BYTES: u64 = 4096;

/// A mapped memory file.
#[derive(Debug)]
pub struct Heap {
    file: OwnedFd,
    base: NonNull<u8>,
    bytes: u64,
}

// SAFETY: the mapping lives as long as `Heap` and is plain shared memory; the module header says
// why concurrent use is free of data races.
unsafe impl Send for Heap {}
// SAFETY: as above.
unsafe impl Sync for Heap {}

impl Heap {
    /// Makes an empty heap of `bytes` (rounded up to pages), none of which takes memory yet.
    ///
    /// # Errors
    /// Those of memfd_create, ftruncate, fcntl and mmap.
    pub fn create(bytes: u64) -> io::Result<Heap> {
        let bytes = bytes.next_multiple_of(SUPERBLOCK_BYTES);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("tokencached-heap", flags)?;
        rustix::fs::ftruncate(&file, bytes)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Heap::map(file, bytes)
    }

    /// Maps a heap that another process made.
    ///
    /// # Errors
    /// Those of fstat and mmap; `InvalidData` if the file could still change its size, since a
    /// mapping that loses its file ends the process.
    pub fn open(file: OwnedFd) -> io::Result<Heap> {
        let seals = rustix::fs::fcntl_get_seals(&file)?;
        let bytes = rustix::fs::fstat(&file)?.st_size as u64;
        if !seals.contains(SealFlags::SHRINK) || bytes < SUPERBLOCK_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the heap's file is not sealed against shrinking, or too short",
            ));
        }
        Heap::map(file, bytes)
    }

    fn map(file: OwnedFd, bytes: u64) -> io::Result<Heap> {
        let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing; the file is
        // `bytes` long and sealed, so every byte of the mapping is backed for its whole life.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &file,
                0,
            )?
        };
        // SAFETY: exactly the mapping just made; the advice changes what core dumps contain only.
        unsafe { rustix::mm::madvise(base, length, Advice::LinuxDontDump)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Heap { file, base, bytes })
    }

    /// Length of the file.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// The file, for handing it on to another process.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The 32-bit word at `position`.
    ///
    /// # Panics
    /// If it lies outside the heap or not on a multiple of 4.
    pub fn word(&self, position: u64) -> &AtomicU32 {
        let address = self.address(position, 4);
        assert!(position.is_multiple_of(4), "words lie on multiples of 4");
        // SAFETY: `address` checked that four bytes lie within the mapping, which lives as long as
        // `self`; the base is page-aligned, so the word is aligned; header words are only ever
        // accessed as atomics.
        unsafe { AtomicU32::from_ptr(address.cast()) }
    }

    /// `N` 32-bit words from `position` on: one check for all of them.
    ///
    /// # Panics
    /// If they lie outside the heap or not on a multiple of 4.
    #[inline]
    pub fn words<const N: usize>(&self, position: u64) -> &[AtomicU32; N] {
        let address = self.address(position, 4 * N);
        assert!(position.is_multiple_of(4), "words lie on multiples of 4");
        // SAFETY: as in `word`, for each of them: `address` checked that they all lie within the mapping.
        unsafe { &*address.cast() }
    }

    /// The 64-bit word at `position`.
    ///
    /// # Panics
    /// If it lies outside the heap or not on a multiple of 8.
    pub fn long(&self, position: u64) -> &AtomicU64 {
        let address = self.address(position, 8);
        assert!(position.is_multiple_of(8), "longs lie on multiples of 8");
        // SAFETY: as in `word`.
        unsafe { AtomicU64::from_ptr(address.cast()) }
    }

    /// The bytes at `position`. The caller holds a lock or pin that keeps them from being written
    /// (module header, rule 2).
    ///
    /// # Panics
    /// If they lie outside the heap.
    #[inline]
    pub(super) fn bytes(&self, position: u64, length: usize) -> &[u8] {
        let address = self.address(position, length);
        // SAFETY: within the mapping (checked); initialised, since a memfd begins as zeroes; not
        // written while borrowed by rule 2.
        unsafe { std::slice::from_raw_parts(address, length) }
    }

    /// Copies `bytes` to `position`, which nobody else may be reading (module header, rule 1).
    ///
    /// # Panics
    /// If they would lie outside the heap.
    pub(super) fn write(&self, position: u64, bytes: &[u8]) {
        let address = self.address(position, bytes.len());
        // SAFETY: the target lies within the mapping (checked) and is not read or written by anyone
        // else by rule 1; `bytes` is a shared borrow, so by rule 2 it does not overlap the target.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address, bytes.len()) }
    }

    /// Copies `length` bytes within the heap; the ranges do not overlap, `to` is reserved by the
    /// caller and `from` is kept from changing by a lock.
    ///
    /// # Panics
    /// If either range lies outside the heap.
    pub(super) fn copy(&self, from: u64, to: u64, length: usize) {
        let source = self.address(from, length);
        let target = self.address(to, length);
        assert!(from.abs_diff(to) >= length as u64, "ranges do not overlap");
        // SAFETY: both ranges lie within the mapping and do not overlap (checked); rules 1 and 2
        // for who else uses them.
        unsafe { std::ptr::copy_nonoverlapping(source, target, length) }
    }

    /// Gives the memory of whole pages back to the system; they read as zeroes afterwards.
    ///
    /// # Errors
    /// Those of fallocate.
    pub(super) fn punch(&self, position: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.file, flags, position, length)?;
        // To the compiler the call only reads memory; what was written before must not be taken for
        // what is there now.
        compiler_fence(Ordering::SeqCst);
        Ok(())
    }

    #[inline]
    fn address(&self, position: u64, length: usize) -> *mut u8 {
        #[cfg(test)]
        super::killed::before_access();
        let end = position.checked_add(length as u64);
        assert!(
            end.is_some_and(|end| end <= self.bytes),
            "{length} bytes at {position} lie outside the heap"
        );
        // SAFETY: the offset is within the mapping, and mappings are at most isize::MAX long.
        unsafe { self.base.as_ptr().add(position as usize) }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this address and length, and every borrow of
        // it borrows `self`. A failure leaves a mapping behind and nothing else.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes as usize) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_second_mapping_reads_what_the_first_wrote() {
        let heap = Heap::create(1 << 20).unwrap();
        heap.write(70_000, b"bytes");
        heap.word(4096).store(7, Ordering::Relaxed);
        let copy = heap.file().try_clone_to_owned().unwrap();
        let other = Heap::open(copy).unwrap();
        assert_eq!(other.bytes(70_000, 5), b"bytes");
        assert_eq!(other.word(4096).load(Ordering::Relaxed), 7);
    }

    #[test]
    fn a_file_that_could_shrink_is_refused() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("unsealed", flags).unwrap();
        rustix::fs::ftruncate(&file, 1 << 20).unwrap();
        assert_eq!(
            Heap::open(file).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn punched_pages_read_as_zeroes() {
        let heap = Heap::create(1 << 20).unwrap();
        heap.write(8192, b"bytes");
        heap.punch(8192, 4096).unwrap();
        assert_eq!(heap.bytes(8192, 5), [0; 5]);
    }

    #[test]
    #[should_panic(expected = "outside the heap")]
    fn nothing_outside_the_heap_is_reachable() {
        let heap = Heap::create(4096).unwrap();
        heap.bytes(4095, 2);
    }
}
