//! The same commands in the classic, the meta and the binary protocol, each to an engine of its own: they
//! have the same outcome, and leave the same items behind.
//!
//! Where a protocol lacks a command it says what a client of it would: an `incr` that makes its number is
//! an `incr` and an `add`. What it does not tell is not compared; all items are, after every command, as
//! `mg` shows them, CAS uniques included.

#![no_main]

#[path = "cross/act.rs"]
mod act;
#[path = "cross/binary.rs"]
mod binary;
#[path = "cross/classic.rs"]
mod classic;
#[path = "cross/command.rs"]
mod command;
#[path = "common/engines.rs"]
mod engines;
#[path = "common/frames.rs"]
mod frames;
#[path = "cross/meta.rs"]
mod meta;

use act::Act;
use command::{Answer, Ask, Command, KEYS, Outcome};
use engines::{Conversation, engine};
use libfuzzer_sys::fuzz_target;
use tokencached::clock::{Clock, Now};
use tokencached::engine::Engine;
use tokencached::stats::Counters;

/// Beyond this an input only takes longer.
const ACTS_MAX: usize = 200;

/// Says a command in one protocol, in as many requests as that takes, and reads what comes back.
type Say = fn(&Command, Ask<'_>) -> Answer;

const PROTOCOLS: [(&str, Say); 3] = [
    ("classic", classic::say),
    ("meta", meta::say),
    ("binary", binary::say),
];

fuzz_target!(|acts: Vec<Act>| {
    let engines = PROTOCOLS.map(|_| engine());
    let counters = engines
        .each_ref()
        .map(|engine| engine.stats().register_worker());
    let mut peers: Vec<_> = engines
        .iter()
        .zip(&counters)
        .map(|(engine, counters)| Peer::new(engine, counters))
        .collect();
    let clock = Clock::manual();
    let mut items = Items::default();
    for act in acts.iter().take(ACTS_MAX) {
        if let Act::Wait(seconds) = act {
            clock.advance((*seconds).into());
            items = look(&mut peers, clock.now());
            continue;
        }
        let command = act.command(&items.uniques());
        let answers = say(&command, &mut peers, clock.now());
        items = look(&mut peers, clock.now());
        compare(&command, &answers, &items);
    }
});

/// Two connections to an engine: one on which commands are said, and one to look at the items.
struct Peer<'e> {
    commands: Conversation<'e>,
    looks: Conversation<'e>,
}

impl<'e> Peer<'e> {
    fn new(engine: &'e Engine, counters: &'e Counters) -> Peer<'e> {
        Peer {
            commands: Conversation::new(engine, counters),
            looks: Conversation::new(engine, counters),
        }
    }
}

fn ask(conversation: &mut Conversation<'_>, request: &[u8], now: Now) -> Vec<u8> {
    conversation.feed(request, now);
    assert!(!conversation.closed && conversation.is_idle());
    std::mem::take(&mut conversation.replies)
}

fn say(command: &Command, peers: &mut [Peer<'_>], now: Now) -> Vec<Answer> {
    let said = PROTOCOLS.iter().zip(peers);
    said.map(|((_, say), peer)| {
        say(command, &mut |request| {
            ask(&mut peer.commands, request, now)
        })
    })
    .collect()
}

/// What `mg` shows of every key, which is the same everywhere.
#[derive(Default)]
struct Items(Vec<Vec<u8>>);

impl Items {
    /// The CAS unique of each key; `None` where there is no item.
    fn uniques(&self) -> Vec<Option<u64>> {
        self.0.iter().map(|shown| meta::unique(shown)).collect()
    }
}

fn look(peers: &mut [Peer<'_>], now: Now) -> Items {
    Items(KEYS.iter().map(|key| look_at(key, peers, now)).collect())
}

fn look_at(key: &str, peers: &mut [Peer<'_>], now: Now) -> Vec<u8> {
    let request = format!("mg {key} s v f t c\r\n");
    let mut shown = peers
        .iter_mut()
        .map(|peer| ask(&mut peer.looks, request.as_bytes(), now));
    let first = shown.next().unwrap_or_default();
    for ((name, _), other) in PROTOCOLS[1..].iter().zip(shown) {
        let differ = || [&first, &other].map(|shown| shown.escape_ascii().to_string());
        assert!(first == other, "{key}, {name}: {:?}", differ());
    }
    first
}

/// The outcomes are the same, among those who tell them; so are the CAS uniques, and what is there now has
/// them.
fn compare(command: &Command, answers: &[Answer], items: &Items) {
    if command.quiet {
        return;
    }
    let told: Vec<_> = answers
        .iter()
        .filter(|answer| answer.outcome != Outcome::Untold)
        .collect();
    for two in told.windows(2) {
        assert_eq!(two[0].outcome, two[1].outcome, "{command:?}");
    }
    let mut uniques: Vec<_> = told.iter().filter_map(|answer| answer.unique).collect();
    if !uniques.is_empty() {
        uniques.extend(items.uniques()[command.key]);
    }
    let all_same = uniques.windows(2).all(|two| two[0] == two[1]);
    assert!(all_same, "{uniques:?}: {command:?}");
}
