//! Runs the transcripts (`scripts/`) in process, through `server::session`: whole,
//! cut in two at every byte, byte by byte, and parked at every byte to be resumed as by another process.
//! The same bytes in other pieces, or to another process, must give the same replies.
//!
//! Every run has an engine of its own, made from the flags that the script's header names, and a clock of its own, which
//! `wait` turns.

#[path = "common/conversation.rs"]
mod conversation;
#[path = "common/script.rs"]
mod script;
#[path = "common/users.rs"]
mod users;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;

use conversation::Conversation;
use script::{Action, Block, Captures, Match, Script, Step, Target, escape};
use tokencached::clock::Clock;
use tokencached::config::{self, Config, Machine};
use tokencached::engine::Engine;
use tokencached::server::auth::Users;
use tokencached::server::session::Rules;
use tokencached::stats::memcached::Process;
use tokencached::store::Store;

/// Blocks that send more than this are cut at a sample of positions.
const CUT_EVERYWHERE_BYTES_MAX: usize = 4 << 10;

#[test]
fn the_transcripts_hold_whole() {
    hold_whole(script::TEXT);
}

#[test]
fn the_transcripts_hold_cut_at_every_byte() {
    hold_cut_at_every_byte(script::TEXT);
}

#[test]
fn the_transcripts_hold_byte_by_byte() {
    hold_byte_by_byte(script::TEXT);
}

#[test]
fn the_transcripts_hold_parked_at_every_byte() {
    hold_parked_at_every_byte(script::TEXT);
}

#[test]
fn the_binary_transcripts_hold_whole() {
    hold_whole(script::BINARY);
}

#[test]
fn the_binary_transcripts_hold_cut_at_every_byte() {
    hold_cut_at_every_byte(script::BINARY);
}

#[test]
fn the_binary_transcripts_hold_byte_by_byte() {
    hold_byte_by_byte(script::BINARY);
}

#[test]
fn the_binary_transcripts_hold_parked_at_every_byte() {
    hold_parked_at_every_byte(script::BINARY);
}

#[test]
fn the_transcripts_of_users_hold_whole() {
    hold_whole(script::AUTH);
}

#[test]
fn the_transcripts_of_users_hold_cut_at_every_byte() {
    hold_cut_at_every_byte(script::AUTH);
}

#[test]
fn the_transcripts_of_users_hold_byte_by_byte() {
    hold_byte_by_byte(script::AUTH);
}

#[test]
fn the_transcripts_of_users_hold_parked_at_every_byte() {
    hold_parked_at_every_byte(script::AUTH);
}

fn hold_whole(folders: &[&str]) {
    run_all(folders, |config, block| {
        run(config, block, Pieces::Whole).map(drop)
    });
}

fn hold_cut_at_every_byte(folders: &[&str]) {
    hold_at_every_byte(folders, "cut", Pieces::CutAt);
}

fn hold_parked_at_every_byte(folders: &[&str]) {
    hold_at_every_byte(folders, "parked", Pieces::ParkedAt);
}

fn hold_at_every_byte(folders: &[&str], how: &str, pieces: fn(usize) -> Pieces) {
    run_all(folders, |config, block| {
        let whole = run(config, block, Pieces::Whole)?;
        for position in cuts(&whole) {
            let cut = run(config, block, pieces(position));
            let at = |error| format!("{how} at {position}: {error}");
            same_replies(&whole, &cut.map_err(at)?).map_err(at)?;
        }
        Ok(())
    });
}

fn hold_byte_by_byte(folders: &[&str]) {
    run_all(folders, |config, block| {
        let whole = run(config, block, Pieces::Whole)?;
        same_replies(&whole, &run(config, block, Pieces::Single)?)
    });
}

/// Checks every block that is for tokencached, and panics with all that failed.
fn run_all(folders: &[&str], check: impl Fn(&Config, &Block) -> Result<(), String>) {
    let mut failures = Vec::new();
    let mut blocks = 0;
    for (file, script) in script::read_all(folders) {
        let users = users::file(&script.users);
        let config = configure(&script, users.path());
        let blocks_of_ours = |block: &&Block| block.skip_reason(Target::Tokencached).is_none();
        for block in script.blocks.iter().filter(blocks_of_ours) {
            blocks += 1;
            if let Err(error) = check(&config, block) {
                failures.push(format!("{file}: {}: {error}", block.name));
            }
        }
    }
    report(&failures, blocks);
}

fn report(failures: &[String], blocks: usize) {
    let count = failures.len();
    assert!(blocks > 20, "the scripts are where they were");
    assert!(
        failures.is_empty(),
        "{count} failures\n{}",
        failures.join("\n")
    );
}

/// What the server would be told by the script's flags.
fn configure(script: &Script, users: &Path) -> Config {
    let machine = Machine {
        memory: None,
        root: false,
        port_file: None,
        runtime_directory: None,
        user_known: |_| true,
        uid_of: |_| None,
        gid_of: |_| None,
        system_uid_max: 999,
        addresses_of: |_, _| Ok(Vec::new()),
    };
    let mut args: Vec<OsString> = script.args.iter().map(OsString::from).collect();
    if !script.users.is_empty() {
        args.extend(["-Y".into(), users.into()]);
    }
    match config::load(args, &machine) {
        Ok(config::Action::Run(config)) => config,
        Ok(config::Action::Print(_)) => panic!("a script's flags print nothing"),
        Err(error) => panic!("{error}"),
    }
}

/// How a block's bytes arrive.
#[derive(Clone, Copy)]
enum Pieces {
    /// As the script sends them.
    Whole,
    /// Besides, cut before the byte of this number, counted over the block.
    CutAt(usize),
    /// The same, and between the two another process takes over.
    ParkedAt(usize),
    /// One by one.
    Single,
}

/// What was said.
struct Ran {
    sends: Vec<Vec<u8>>,
    replies: Vec<u8>,
}

fn run(config: &Config, block: &Block, pieces: Pieces) -> Result<Ran, String> {
    let clock = Clock::manual();
    let process = Process {
        started: clock.now(),
        connections_max: config.server.connections_max,
        threads: config.server.threads,
    };
    let store = Store::new(&config.store).expect("there is memory for a store");
    let engine = Engine::new(store, config.engine.clone(), process);
    let counters = engine.stats().register_worker();
    let users = config.server.auth_file.as_deref().map(Users::load);
    let users = users.transpose().map_err(|error| error.to_string())?;
    let rules = Rules {
        protocol: config.server.listen[0].protocol,
        binary_strict: config.server.binary_strict,
        users: users.as_ref(),
        sasl: config.server.sasl,
    };
    let connect = || Conversation::under(rules, &engine, &counters);
    let mut client = Client {
        clock: &clock,
        connect,
        conversation: connect(),
        pieces,
        unsent: Vec::new(),
        sent: 0,
        consumed: 0,
        captures: Captures::new(),
        ran: Ran {
            sends: Vec::new(),
            replies: Vec::new(),
        },
    };
    for step in block.steps_for(Target::Tokencached) {
        let line = step.line;
        let taken = client.take(step);
        taken.map_err(|error| format!("line {line}: {error}"))?;
    }
    client.flush();
    client.keep_replies();
    Ok(client.ran)
}

/// The client's end of a conversation.
struct Client<'e, C> {
    clock: &'e Clock,
    connect: C,
    conversation: Conversation<'e>,
    pieces: Pieces,
    /// Sends that wait for a step of another kind, so that they arrive at once.
    unsent: Vec<u8>,
    /// Bytes sent in the whole block.
    sent: usize,
    /// How much of the connection's replies has been expected.
    consumed: usize,
    captures: Captures,
    ran: Ran,
}

impl<'e, C: Fn() -> Conversation<'e>> Client<'e, C> {
    fn take(&mut self, step: &Step) -> Result<(), String> {
        if let Action::Send(template) = &step.action {
            self.unsent.extend(template.render(&self.captures));
            return Ok(());
        }
        self.flush();
        match &step.action {
            Action::Send(_) => Ok(()),
            Action::Expect(pattern) => {
                let received = &self.conversation.replies[self.consumed..];
                match pattern.matches(received, &mut self.captures, script::Clock::Stands) {
                    Match::Complete { consumed } => {
                        self.consumed += consumed;
                        Ok(())
                    }
                    Match::Mismatch(message) => Err(message),
                    Match::Incomplete => Err(format!(
                        "expected \"{}\", got only \"{}\"",
                        pattern.describe(&self.captures),
                        escape(received)
                    )),
                }
            }
            Action::Close => self.expect_close(),
            Action::Wait(seconds) => {
                self.clock.advance(*seconds as u32);
                Ok(())
            }
            Action::Connect => {
                self.keep_replies();
                self.conversation = (self.connect)();
                Ok(())
            }
        }
    }

    fn expect_close(&self) -> Result<(), String> {
        let rest = &self.conversation.replies[self.consumed..];
        if !rest.is_empty() {
            return Err(format!("expected a close, got \"{}\"", escape(rest)));
        }
        match self.conversation.closed {
            true => Ok(()),
            false => Err("the connection stayed open".to_owned()),
        }
    }

    /// Sends what waits, in the pieces asked for.
    fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.unsent);
        let range = self.sent..self.sent + bytes.len();
        for piece in self.pieces.of(range) {
            if matches!(self.pieces, Pieces::ParkedAt(at) if at == piece.start) {
                self.conversation.change_hands(self.clock.now());
            }
            let piece = &bytes[piece.start - self.sent..piece.end - self.sent];
            self.conversation.feed(piece, self.clock.now());
        }
        self.sent += bytes.len();
        self.ran.sends.push(bytes);
    }

    fn keep_replies(&mut self) {
        self.consumed = 0;
        self.ran.replies.append(&mut self.conversation.replies);
    }
}

impl Pieces {
    fn of(self, range: Range<usize>) -> Vec<Range<usize>> {
        match self {
            Pieces::CutAt(at) | Pieces::ParkedAt(at) if range.contains(&at) => {
                vec![range.start..at, at..range.end]
            }
            Pieces::Whole | Pieces::CutAt(_) | Pieces::ParkedAt(_) => vec![range],
            Pieces::Single => range.map(|at| at..at + 1).collect(),
        }
    }
}

/// Where to cut: everywhere, or about 200 positions, among them those around line ends and the beginnings of sends.
fn cuts(whole: &Ran) -> BTreeSet<usize> {
    const SAMPLES: usize = 100;
    const LINE_ENDS: usize = 20;
    /// More than a frame's header with extras and a short key.
    const BEGINNING: usize = 64;
    let bytes = whole.sends.concat();
    if bytes.len() <= CUT_EVERYWHERE_BYTES_MAX {
        return (1..bytes.len()).collect();
    }
    let is_line_end = |&at: &usize| bytes[at] == b'\n';
    let line_ends: Vec<usize> = (0..bytes.len()).filter(is_line_end).collect();
    let some_line_ends = line_ends
        .iter()
        .step_by(line_ends.len().div_ceil(LINE_ENDS).max(1));
    let spread = (0..bytes.len()).step_by(bytes.len().div_ceil(SAMPLES));
    let last = line_ends.iter().rev().take(LINE_ENDS / 2);
    let around = some_line_ends
        .chain(last)
        .flat_map(|&end| end.saturating_sub(2)..end + 3);
    let mut start = 0;
    let beginnings = whole.sends.iter().flat_map(|send| {
        let beginning = start..start + send.len().min(BEGINNING);
        start += send.len();
        beginning
    });
    spread
        .chain(around)
        .chain(beginnings)
        .filter(|&at| at > 0 && at < bytes.len())
        .collect()
}

/// Replies are the same but for the process's own times.
fn same_replies(whole: &Ran, other: &Ran) -> Result<(), String> {
    let units = |ran: &Ran| -> Vec<Vec<u8>> {
        let units = script::frame::split(&ran.replies).into_iter();
        let is_time = |unit: &[u8]| {
            let beginning = &unit[..unit.len().min(40)];
            beginning.windows(7).any(|window| window == b"rusage_")
        };
        let fixed = units.filter(|unit| !is_time(unit));
        fixed.map(<[u8]>::to_vec).collect()
    };
    let (whole, other) = (units(whole), units(other));
    for (expected, got) in whole.iter().zip(&other) {
        if expected != got {
            let (expected, got) = (escape(expected), escape(got));
            return Err(format!("whole it is \"{expected}\", in pieces \"{got}\""));
        }
    }
    match whole.len() == other.len() {
        true => Ok(()),
        false => Err("whole and in pieces there are not as many replies".to_owned()),
    }
}
