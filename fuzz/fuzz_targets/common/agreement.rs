//! Two engines with small memory and the same clock, of which the first gets all bytes of one moment at
//! once and the second the same in pieces: the replies have to agree to the byte, CAS uniques too, which
//! count up from the same number in both.

#[path = "../../../tests/common/conversation.rs"]
mod conversation;

use std::borrow::Cow;

use conversation::Conversation;
use tokencached::clock::Clock;
use tokencached::engine::{Engine, Options};
use tokencached::stats::memcached::Process;
use tokencached::store::{self, Store};

/// Says `script` to both; in it byte 0x00 lets seconds pass and opens a new connection if the next byte is
/// odd, and everything else goes through `client` and is sent. What is answered to each connection's bytes
/// is shown to `look`, once it is known to agree.
pub fn agree<'s>(
    seed: u8,
    script: &'s [u8],
    client: impl Fn(&'s [u8]) -> Cow<'s, [u8]>,
    look: impl Fn(&[u8]),
) {
    let (whole, cut) = (engine(), engine());
    let counters = (
        whole.stats().register_worker(),
        cut.stats().register_worker(),
    );
    let mut pieces = Pieces(u32::from(seed) + 1);
    let connect = || {
        (
            Conversation::new(&whole, &counters.0),
            Conversation::new(&cut, &counters.1),
        )
    };
    let clock = Clock::manual();
    let mut conversations = connect();
    for (number, act) in script.split(|&byte| byte == 0).enumerate() {
        let act = match act {
            [pause, act @ ..] if number > 0 => {
                clock.advance(u32::from(pause / 2));
                if pause % 2 == 1 {
                    look(&conversations.0.replies);
                    conversations = connect();
                }
                act
            }
            act => act,
        };
        let act = client(act);
        conversations.0.feed(&act, clock.now());
        let mut rest = &act[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(pieces.next(rest.len()));
            conversations.1.feed(piece, clock.now());
            rest = behind;
        }
        compare(&conversations.0, &conversations.1);
    }
    look(&conversations.0.replies);
}

fn engine() -> Engine {
    let store = store::Options {
        memory_limit_bytes: 8 << 20,
        memory_ceiling_bytes: 16 << 20,
        ..store::Options::default()
    };
    let process = Process {
        started: Clock::manual().now(),
        connections_max: 1,
        threads: 1,
    };
    let store = Store::new(&store).expect("there is memory for a store");
    Engine::new(store, Options::default(), process)
}

fn compare(whole: &Conversation<'_>, cut: &Conversation<'_>) {
    let replies = (comparable(&whole.replies), comparable(&cut.replies));
    for (whole, cut) in replies.0.iter().zip(&replies.1) {
        assert_eq!(whole, cut);
    }
    assert_eq!(replies.0.len(), replies.1.len());
    assert_eq!(whole.closed, cut.closed);
    assert!(whole.closed || whole.is_idle() == cut.is_idle());
}

/// The lines of replies that have to agree. CPU times differ from one run to the next, and so does
/// the length of the line that tells them; each store hashes differently.
fn comparable(replies: &[u8]) -> Vec<Cow<'_, str>> {
    const DIFFERENT: [&[u8]; 5] = [
        b"STAT rusage_",
        b"STAT hash_",
        b"STAT pack_cpu_us ",
        b"STAT unpack_cpu_us ",
        b"STAT bytes_written ",
    ];
    replies
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| !DIFFERENT.iter().any(|name| line.starts_with(name)))
        .map(String::from_utf8_lossy)
        .collect()
}

/// Lengths of pieces, from a seed: often one byte, sometimes many.
struct Pieces(u32);

impl Pieces {
    fn next(&mut self, length: usize) -> usize {
        // Marsaglia's xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        let longest = match self.0 % 4 {
            0 => 1,
            1 => 4,
            2 => 40,
            _ => 4_000,
        };
        ((self.0 >> 8) as usize % longest + 1).min(length)
    }
}
