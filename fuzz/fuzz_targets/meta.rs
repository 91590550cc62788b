//! Meta commands, in any pieces, at any time: the replies are those to the same bytes in one piece, and
//! can be read by a client whatever its keys and values are.
//!
//! The layout of an input is that of `classic`, but bytes from 0x80 on stand for words of the protocol, so
//! that what is mutated stays near to it.

#![no_main]

#[path = "common/agreement.rs"]
mod agreement;

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((&seed, script)) = data.split_first() {
        agreement::agree::<Meta>(seed, script);
    }
});

#[rustfmt::skip]
const WORDS: &[&str] = &[
    "mg ", "ms ", "md ", "ma ", "me ", "mn\r\n", "\r\n", "a", "b", "Zm9v", "AAEK", "foo", " b", " c",
    " f", " h", " k", " l", " q", " s", " t", " u", " v", " x", " I", " C", " C1", " C9", " E5",
    " E9", " E18446744073709551615", " F7", " N0", " N-1", " N3", " R0", " R9", " R-1", " T0", " T5",
    " T-1", " T9", " O123", " M", " ME", " MA", " MP", " MR", " MS", " MI", " MD", " J10", " D3",
    " 0\r\n\r\n", " 2", "10\r\n", "xy\r\n", " 300", "get a\r\n", "set a 5 9 2\r\n", "append a 0 0 2\r\n",
    "incr a 1\r\n", "flush_all\r\n", "delete a\r\n", "touch a 5\r\n", "gat 5 a b\r\n", " 70000\r\n",
];

struct Meta;

impl agreement::Client for Meta {
    fn spell(act: &[u8], _: usize) -> Cow<'_, [u8]> {
        let word = |byte: &u8| -> Vec<u8> {
            match byte.checked_sub(0x80) {
                Some(number) => WORDS[usize::from(number) % WORDS.len()].into(),
                None => vec![*byte],
            }
        };
        act.iter().flat_map(word).collect()
    }

    fn look(_: &[u8], replies: &[u8], _: bool) {
        read(replies);
    }
}

/// Reads all replies to one connection as a client would, by their first words and lengths.
fn read(mut replies: &[u8]) {
    while !replies.is_empty() {
        let end = replies.windows(2).position(|two| two == b"\r\n");
        let (line, rest) = replies.split_at(end.expect("a reply's line has an end") + 2);
        let words: Vec<_> = line[..line.len() - 2].split(|&byte| byte == b' ').collect();
        let value_bytes = match (words[0], &words[1..]) {
            (b"VA", [length, flags @ ..]) => {
                read_flags(flags);
                Some(number(length))
            }
            (b"HD" | b"EN" | b"NF" | b"NS" | b"EX", flags) => {
                read_flags(flags);
                None
            }
            (b"VALUE", [_, _, length, ..]) => Some(number(length)),
            (b"MN", flags) => {
                assert!(flags.is_empty());
                None
            }
            (name, _) => {
                assert!(is_known(name), "{}", line.escape_ascii());
                None
            }
        };
        let block_bytes = value_bytes.map_or(0, |bytes| bytes + 2);
        let (block, rest) = rest.split_at(block_bytes);
        assert!(block.is_empty() || block.ends_with(b"\r\n"));
        replies = rest;
    }
}

fn read_flags(flags: &[&[u8]]) {
    for flag in flags {
        let (letter, token) = flag.split_first().expect("words are apart by one space");
        match letter {
            b's' | b'f' | b'h' | b'l' | b'c' => _ = number(token),
            b't' => assert!(token == b"-1" || number(token) < usize::MAX),
            b'k' | b'O' => {}
            b'b' | b'W' | b'X' | b'Z' => assert!(token.is_empty()),
            _ => panic!("no flag is answered so: {}", flag.escape_ascii()),
        }
    }
}

fn number(digits: &[u8]) -> usize {
    let digits = std::str::from_utf8(digits).expect("a number is of digits");
    digits.parse().expect("a number is of digits")
}

fn is_known(name: &[u8]) -> bool {
    const NAMES: &str = "ME END STORED NOT_STORED EXISTS NOT_FOUND DELETED TOUCHED OK RESET VERSION STAT \
        PREFIX ERROR CLIENT_ERROR SERVER_ERROR SERVER_ERROR: MEMLIMIT_TOO_SMALL MEMLIMIT_ADJUST_FAILED";
    let is_number = !name.is_empty() && name.iter().all(u8::is_ascii_digit);
    is_number || NAMES.split(' ').any(|known| known.as_bytes() == name)
}
