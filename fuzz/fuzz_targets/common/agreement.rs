//! Two engines with small memory and the same clock, of which the first gets all bytes of one moment at
//! once and the second the same in pieces: the replies have to agree to the byte, CAS uniques too, which
//! count up from the same number in both.

#[path = "engines.rs"]
mod engines;

use std::borrow::Cow;

use engines::{Conversation, engine};
use tokencached::clock::Clock;

/// What a client sends, and how it reads what comes back.
pub trait Client {
    /// What is sent for a part of the script, on a connection on which this many bytes have been sent.
    fn spell(act: &[u8], _sent_bytes: usize) -> Cow<'_, [u8]> {
        Cow::Borrowed(act)
    }

    /// The parts of replies that have to agree: of the text protocols, lines.
    fn parts(replies: &[u8]) -> Vec<&[u8]> {
        lines(replies)
    }

    /// Looks at all that was sent on one connection and at what came back, which is known to agree.
    fn look(_sent: &[u8], _replies: &[u8], _closed: bool) {}
}

/// What `stats` shows that differs from one run to the next: CPU times, and with those the length of the
/// replies.
const DIFFERENT_STATS: [&[u8]; 4] = [
    b"rusage_",
    b"pack_cpu_us",
    b"unpack_cpu_us",
    b"bytes_written",
];

/// Whether a line of `stats` of this name has to agree.
pub fn agrees(name: &[u8]) -> bool {
    !DIFFERENT_STATS
        .iter()
        .any(|different| name.starts_with(different))
}

/// The lines of the text protocols that have to agree.
pub fn lines(replies: &[u8]) -> Vec<&[u8]> {
    replies
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| line.strip_prefix(b"STAT ").is_none_or(agrees))
        .collect()
}

/// Says `script` to both; in it byte 0x00 lets seconds pass and opens a new connection if the next byte is
/// odd, and everything else goes through the client and is sent.
pub fn agree<C: Client>(seed: u8, script: &[u8]) {
    let (whole, cut) = (engine(), engine());
    let counters = (
        whole.stats().register_worker(),
        cut.stats().register_worker(),
    );
    let mut pieces = Pieces(u32::from(seed) + 1);
    let connect = || Both {
        whole: Conversation::new(&whole, &counters.0),
        cut: Conversation::new(&cut, &counters.1),
        sent: Vec::new(),
    };
    let clock = Clock::manual();
    let mut both = connect();
    for (number, act) in script.split(|&byte| byte == 0).enumerate() {
        let act = match act {
            [pause, act @ ..] if number > 0 => {
                clock.advance(u32::from(pause / 2));
                if pause % 2 == 1 {
                    both.look::<C>();
                    both = connect();
                }
                act
            }
            act => act,
        };
        both.say(&C::spell(act, both.sent.len()), &mut pieces, &clock);
        both.compare::<C>();
    }
    both.look::<C>();
}

/// One connection to each engine.
struct Both<'e> {
    whole: Conversation<'e>,
    cut: Conversation<'e>,
    sent: Vec<u8>,
}

impl Both<'_> {
    fn say(&mut self, bytes: &[u8], pieces: &mut Pieces, clock: &Clock) {
        self.whole.feed(bytes, clock.now());
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(pieces.next(rest.len()));
            self.cut.feed(piece, clock.now());
            rest = behind;
        }
        self.sent.extend_from_slice(bytes);
    }

    fn compare<C: Client>(&self) {
        let (whole, cut) = (&self.whole, &self.cut);
        let parts = (C::parts(&whole.replies), C::parts(&cut.replies));
        for (whole, cut) in parts.0.iter().zip(&parts.1) {
            let shown = || [whole.escape_ascii(), cut.escape_ascii()];
            assert!(whole == cut, "{:?}", shown().map(|part| part.to_string()));
        }
        assert_eq!(parts.0.len(), parts.1.len());
        assert_eq!(whole.closed, cut.closed);
        assert!(whole.closed || whole.is_idle() == cut.is_idle());
    }

    fn look<C: Client>(&self) {
        C::look(&self.sent, &self.whole.replies, self.whole.closed);
    }
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
