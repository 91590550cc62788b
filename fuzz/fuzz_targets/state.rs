//! Any bytes as the state that was handed over: what can be read can be gone on with, whatever a client
//! says then, and written again it is read as the same. Nothing panics.
//!
//! The layout of an input: the first two bytes say how long the head is, which is what comes next; the rest
//! is buffers. As they are, and under a header that fits, since nobody guesses a checksum.

#![no_main]

#[path = "common/engines.rs"]
mod engines;

use std::fs::File;
use std::os::unix::fs::FileExt;

use engines::{Conversation, engine};
use libfuzzer_sys::fuzz_target;
use tokencached::clock::Clock;
use tokencached::server::handover::memory_file;
use tokencached::server::handover::state::{self, State, Unreadable, Writer};
use tokencached::server::session::Rules;

fuzz_target!(|data: &[u8]| {
    let _ = read(data);
    let Some((length, rest)) = data.split_first_chunk() else {
        return;
    };
    let head_bytes = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (head, buffers) = rest.split_at(head_bytes);
    if let Ok(state) = read(&fitting(buffers, head)) {
        go_on(&state);
        let written = write(&state);
        let again =
            state::read(written.try_clone().unwrap()).expect("what was written can be read");
        assert_eq!(bytes_of(&written), bytes_of(&write(&again)));
        assert!(state.clients().eq(again.clients()));
    }
});

fn read(bytes: &[u8]) -> Result<State, Unreadable> {
    let file = memory_file::empty("state").unwrap();
    file.write_all_at(bytes, 0).unwrap();
    state::read(file)
}

/// A file of these parts whose header is right.
fn fitting(buffers: &[u8], head: &[u8]) -> Vec<u8> {
    let lengths = [buffers.len() as u64, head.len() as u64].map(u64::to_le_bytes);
    let mut sum = crc32fast::Hasher::new();
    for part in [buffers, head, lengths.as_flattened()] {
        sum.update(part);
    }
    [
        b"tokstate",
        &1u32.to_le_bytes()[..],
        &sum.finalize().to_le_bytes(),
        lengths.as_flattened(),
        buffers,
        head,
    ]
    .concat()
}

/// Resumes every connection, and says something on it.
fn go_on(state: &State) {
    let engine = engine();
    engine.stats().inherit(state.totals());
    let counters = engine.stats().register_worker();
    let now = Clock::manual().now();
    for number in 0..state.clients().len() {
        let parked = state.connection(number).expect("it is there");
        let resumed = Conversation::resume(Rules::default(), &engine, &counters, parked, now);
        if let Some(mut conversation) = resumed {
            conversation.feed(b"k\r\nget k\r\nstats\r\n", now);
        }
    }
    assert_eq!(engine.totals(), engine.totals());
}

fn write(state: &State) -> File {
    let mut writer = Writer::new().unwrap();
    for (number, client) in state.clients().enumerate() {
        let parked = state.connection(number).expect("it is there");
        writer.add(client.clone(), &parked).unwrap();
    }
    writer.finish(state.totals().clone()).unwrap()
}

fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}
