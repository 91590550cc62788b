//! Golden transcripts: their file format, their parsed form and the matcher of replies.
//!
//! Nothing here reads a clock, and only [`read_all`] reads files. A runner feeds the sends to a server (over a socket, or to the protocol code
//! in process, cut anywhere) and asks [`Pattern::matches`] about the bytes that came back.
//!
//! A file is a header and blocks, each opened by `== name of the behaviour protected`:
//!
//! ```text
//! # comment, anywhere
//! args: -I 1024             header: server flags the script needs
//! users: alice:secret       header: a line of the file of users, which makes one and names it to the server
//! frames: yes               header: `>` and `<` are frames of the binary protocol, as frame.rs has them
//!
//! == cas stores only over the unique it was given
//! > set k 0 0 1             sends the text and CRLF
//! >> 1\r\n                  sends exactly the text
//! < STORED                  expects the text and CRLF
//! > gets k
//! < VALUE k 0 1 {u:u64}     captures a number ({_:u64} matches one and forgets it)
//! << 1\r\nEND\r\n           expects exactly the text
//! > stats
//! <* STAT pid {_:u64}       passes over lines up to and including this one
//! <close                    expects the end of the connection and nothing before it
//! connect                   opens a new connection and drops the old one
//! wait 2                    lets two seconds pass; `wait 0` only ends a write
//! open                      at the end: leaves out the sentinel, as a request is unfinished
//! ```
//!
//! `{30s}` expects 30 seconds: exactly, where the test turns the clock, and else one more or less, since the clock may
//! tick in between.
//!
//! Texts know the escapes `\r \n \0 \t \\ \{ \xNN`, the repetition `{a*1000}` (of any text), and `{u}`, which recalls a
//! capture. Write a trailing space only in the exact forms, where an editor cannot strip it. Among frames `>>` and `<<`
//! are still exact texts, and `<*` passes over frames.
//!
//! An expectation may name the servers it holds for: `<[18] ERROR` is for the memcached oracle before 1.6.27 (Debian
//! 12's 1.6.18) alone, `<[!18]` for everything else, `[45]` means newer memcached. `skip[45]: reason` in a block
//! leaves it out for an oracle, and in the header the whole file.
//!
//! Invariants: *one write*: sends with no other step between them are pipelined in one write. *Sentinel*: a block that
//! does not end in `<close` or `open` ends with `version` and its answer, among frames with those of VERSION, so a reply that should not have come is found.
//! *Alone*: a block begins on a fresh connection and uses keys of its own, so any one can be run by itself.

#![allow(dead_code)] // Every test binary that includes this file uses its own part of it.

pub mod frame;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use frame::Frame;
use text::{Progress, Text};

pub use text::{Captures, Clock, escape};

/// Who answers: tokencached itself, or one of the two generations of memcached that serve as oracles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Tokencached,
    /// memcached before 1.6.27; labelled `18`.
    MemcachedOld,
    /// memcached from 1.6.27; labelled `45`.
    MemcachedNew,
}

/// One transcript file.
#[derive(Debug)]
pub struct Script {
    /// Server flags the script needs, from the `args:` line.
    pub args: Vec<String>,
    /// Lines `user:password` of the file for `-Y`; without any there is none.
    pub users: Vec<String>,
    pub blocks: Vec<Block>,
    notation: Notation,
    /// Skips from the header; every block has them too.
    skips: Vec<Skip>,
}

/// What `>` and `<` stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notation {
    /// Lines.
    Text,
    /// Frames of the binary protocol.
    Frames,
}

/// The oracles a block is not for, and why.
type Skip = (Targets, String);

/// One protected behaviour: a conversation that begins on a fresh connection.
#[derive(Debug)]
pub struct Block {
    pub name: String,
    /// Line of the `==` heading, counted from 1.
    pub line: usize,
    pub steps: Vec<Step>,
    notation: Notation,
    skips: Vec<Skip>,
    /// The block ends in the middle of a request, so no sentinel can follow.
    ends_open: bool,
}

/// One line of a block.
#[derive(Debug)]
pub struct Step {
    /// Counted from 1; a sentinel bears the line of its block's heading.
    pub line: usize,
    pub action: Action,
    targets: Targets,
}

#[derive(Debug)]
pub enum Action {
    Send(Template),
    Expect(Pattern),
    /// The server ends the connection without sending anything more.
    Close,
    /// This many seconds pass.
    Wait(u64),
    /// A new connection takes the place of the old one.
    Connect,
}

/// Bytes to send, in which captures may be recalled.
#[derive(Debug)]
pub struct Template(Content);

/// What a reply must be.
#[derive(Debug)]
pub struct Pattern {
    content: Content,
    /// Lines or frames that do not match are passed over (`<*`).
    passes_over: bool,
}

/// The two notations.
#[derive(Debug)]
enum Content {
    Text(Text),
    Frame(Frame),
}

/// The matcher's verdict on the bytes received so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Match {
    /// The first `consumed` bytes are what was expected.
    Complete { consumed: usize },
    /// A beginning of what was expected; more bytes decide.
    Incomplete,
    /// No further bytes can make it match. Says what was expected and what came.
    Mismatch(String),
}

/// The folders of the transcripts that begin in the text protocols.
pub const TEXT: &[&str] = &["classic", "meta"];
/// The folder of those of the binary protocol.
pub const BINARY: &[&str] = &["binary"];
/// The folder of those of servers that know users, in both protocols.
pub const AUTH: &[&str] = &["auth"];

/// The transcripts in these folders, each with its folder's and file's name. Panics where one cannot be read.
pub fn read_all(folders: &[&str]) -> Vec<(String, Script)> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = |folder: &&str| {
        fs::read_dir(scripts.join(folder)).expect("the scripts are part of the repository")
    };
    let entries = folders.iter().flat_map(entries);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let parse = |path: PathBuf| {
        let file = path.strip_prefix(&scripts).unwrap();
        let file = file.to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        match Script::parse(&text) {
            Ok(script) => (file, script),
            Err(error) => panic!("{file}: {error}"),
        }
    };
    paths.into_iter().map(parse).collect()
}

impl Script {
    /// Parses a transcript file. An error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut script = Script {
            args: Vec::new(),
            users: Vec::new(),
            blocks: Vec::new(),
            notation: Notation::Text,
            skips: Vec::new(),
        };
        for (line, text) in (1..).zip(text.lines()) {
            script
                .parse_line(line, text)
                .map_err(|error| format!("line {line}: {error}"))?;
        }
        for block in &mut script.blocks {
            block
                .close_with_sentinel()
                .map_err(|error| format!("line {}: {error}", block.line))?;
        }
        Ok(script)
    }

    fn parse_line(&mut self, line: usize, text: &str) -> Result<(), String> {
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        if let Some(name) = text.strip_prefix("== ") {
            self.blocks.push(Block {
                name: name.to_string(),
                line,
                steps: Vec::new(),
                notation: self.notation,
                skips: self.skips.clone(),
                ends_open: false,
            });
            return Ok(());
        }
        if let Some(block) = self.blocks.last_mut() {
            return block.parse_line(line, text);
        }
        if let Some(skip) = text.strip_prefix("skip") {
            self.skips.push(parse_skip(skip)?);
            return Ok(());
        }
        match text.split_once(": ") {
            Some(("args", args)) => {
                let args = args.split_whitespace().map(str::to_string);
                self.args.extend(args);
            }
            Some(("users", user)) => self.users.push(user.to_string()),
            Some(("frames", "yes")) => self.notation = Notation::Frames,
            _ => return Err("no `args:`, `users:`, `frames: yes`, `skip` or block".to_string()),
        }
        Ok(())
    }
}

impl Block {
    /// The reason to leave this block out for `target`, if there is one.
    pub fn skip_reason(&self, target: Target) -> Option<&str> {
        let skip = self.skips.iter().find(|(targets, _)| targets.hold(target));
        skip.map(|(_, reason)| reason.as_str())
    }

    /// The steps that hold for `target`, in order.
    pub fn steps_for(&self, target: Target) -> impl Iterator<Item = &Step> {
        self.steps
            .iter()
            .filter(move |step| step.targets.hold(target))
    }

    fn parse_line(&mut self, line: usize, text: &str) -> Result<(), String> {
        if let Some(skip) = text.strip_prefix("skip") {
            self.skips.push(parse_skip(skip)?);
            return Ok(());
        }
        if text == "open" {
            self.ends_open = true;
            return Ok(());
        }
        let (targets, action) = match text.strip_prefix('<') {
            Some(rest) => parse_expectation(rest, self.notation)?,
            None => (Targets::ALL, parse_command(text, self.notation)?),
        };
        self.steps.push(Step {
            line,
            action,
            targets,
        });
        Ok(())
    }

    fn close_with_sentinel(&mut self) -> Result<(), String> {
        let Some(last) = self.steps.last() else {
            return Err("a block without steps".to_string());
        };
        if self.ends_open || matches!(last.action, Action::Close) {
            return Ok(());
        }
        let (request, answer) = match self.notation {
            Notation::Text => ("version", "VERSION {_:u64}.{_:u64}.{_:u64}"),
            Notation::Frames => ("VERSION", "VERSION value={_:u64}.{_:u64}.{_:u64}"),
        };
        let content = |text: &str| parse_content(&format!(" {text}"), false, self.notation);
        let send = Action::Send(Template(content(request)?));
        let expect = Action::Expect(Pattern {
            content: content(answer)?,
            passes_over: false,
        });
        for action in [send, expect] {
            self.steps.push(Step {
                line: self.line,
                action,
                targets: Targets::ALL,
            });
        }
        Ok(())
    }
}

impl Template {
    /// The bytes to send. Panics where the script recalls what it has not captured.
    pub fn render(&self, captures: &Captures) -> Vec<u8> {
        match &self.0 {
            Content::Text(text) => text.render(captures),
            Content::Frame(frame) => frame.render(captures),
        }
    }
}

impl Pattern {
    /// Compares `received` with what is expected, and on a complete match remembers what was captured.
    pub fn matches(&self, received: &[u8], captures: &mut Captures, clock: Clock) -> Match {
        let mut start = 0;
        loop {
            let rest = &received[start..];
            let mut found = captures.clone();
            match self.content.follow(rest, &mut found, clock) {
                Progress::Complete { consumed } => {
                    *captures = found;
                    return Match::Complete {
                        consumed: start + consumed,
                    };
                }
                Progress::Incomplete => return Match::Incomplete,
                Progress::Mismatch if self.passes_over => match self.content.unit(rest) {
                    Some(length) => start += length,
                    None => return Match::Incomplete,
                },
                Progress::Mismatch => return self.mismatch(rest, captures),
            }
        }
    }

    /// What is expected, in the notation of the scripts.
    pub fn describe(&self, captures: &Captures) -> String {
        let dots = if self.passes_over { "... " } else { "" };
        match &self.content {
            Content::Text(text) => format!("{dots}{}", text.describe(captures)),
            Content::Frame(frame) => format!("{dots}{}", frame.describe(captures)),
        }
    }

    fn mismatch(&self, received: &[u8], captures: &Captures) -> Match {
        let got = match self.content {
            Content::Text(_) => escape(received),
            Content::Frame(_) => frame::describe_received(received),
        };
        let expected = self.describe(captures);
        Match::Mismatch(format!("expected \"{expected}\", got \"{got}\""))
    }
}

impl Content {
    fn follow(&self, received: &[u8], captures: &mut Captures, clock: Clock) -> Progress {
        match self {
            Content::Text(text) => text.follow(received, captures, clock),
            Content::Frame(frame) => frame.follow(received, captures, clock),
        }
    }

    /// The length of the line or frame that `received` begins with, if it is there to its end.
    fn unit(&self, received: &[u8]) -> Option<usize> {
        match self {
            Content::Text(_) => {
                let newline = received.iter().position(|&byte| byte == b'\n');
                newline.map(|newline| newline + 1)
            }
            Content::Frame(_) => frame::length(received),
        }
    }
}

/// A set of targets: all of them, or those named, or all but those named.
#[derive(Clone, Debug)]
struct Targets {
    named: Vec<Target>,
    inverted: bool,
}

impl Targets {
    const ALL: Targets = Targets {
        named: Vec::new(),
        inverted: true,
    };

    fn hold(&self, target: Target) -> bool {
        self.named.contains(&target) != self.inverted
    }

    /// Splits a leading `[18]`, `[45]`, `[18,45]` or `[!...]` off; without one it is all.
    fn parse_prefix(text: &str) -> Result<(Self, &str), String> {
        let Some(list) = text.strip_prefix('[') else {
            return Ok((Targets::ALL, text));
        };
        let (list, rest) = list.split_once(']').ok_or("no ] after [")?;
        let (inverted, list) = match list.strip_prefix('!') {
            Some(list) => (true, list),
            None => (false, list),
        };
        let named = list.split(',').map(|label| match label {
            "18" => Ok(Target::MemcachedOld),
            "45" => Ok(Target::MemcachedNew),
            other => Err(format!("no server is labelled {other:?}")),
        });
        let named = named.collect::<Result<_, _>>()?;
        Ok((Targets { named, inverted }, rest))
    }
}

/// Parses what follows the word `skip`.
fn parse_skip(text: &str) -> Result<Skip, String> {
    let (targets, text) = Targets::parse_prefix(text)?;
    let reason = text.strip_prefix(": ").ok_or("a skip states its reason")?;
    Ok((targets, reason.to_string()))
}

/// Parses what follows the first `<` of an expectation.
fn parse_expectation(text: &str, notation: Notation) -> Result<(Targets, Action), String> {
    let (exact, text) = strip_flag(text, '<');
    let (passes_over, text) = strip_flag(text, '*');
    let (targets, text) = Targets::parse_prefix(text)?;
    if text == "close" {
        return Ok((targets, Action::Close));
    }
    let content = parse_content(text, exact, notation)?;
    let pattern = Pattern {
        content,
        passes_over,
    };
    Ok((targets, Action::Expect(pattern)))
}

fn parse_command(text: &str, notation: Notation) -> Result<Action, String> {
    if let Some(text) = text.strip_prefix('>') {
        let (exact, text) = strip_flag(text, '>');
        let content = parse_content(text, exact, notation)?;
        return Ok(Action::Send(Template(content)));
    }
    match text.split_once(' ') {
        None if text == "connect" => Ok(Action::Connect),
        Some(("wait", seconds)) => match seconds.parse() {
            Ok(seconds) => Ok(Action::Wait(seconds)),
            Err(_) => Err("wait takes whole seconds".to_string()),
        },
        _ => Err(format!("unknown step {text:?}")),
    }
}

fn strip_flag(text: &str, flag: char) -> (bool, &str) {
    match text.strip_prefix(flag) {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

/// Parses what a step sends or expects: in text an `exact` one or a line, and in frames an exact text or a frame.
fn parse_content(text: &str, exact: bool, notation: Notation) -> Result<Content, String> {
    if text.is_empty() && !exact && notation == Notation::Text {
        return Text::parse("\\r\\n").map(Content::Text);
    }
    let text = text.strip_prefix(' ').ok_or("no space before the text")?;
    match (exact, notation) {
        (true, _) => Text::parse(text).map(Content::Text),
        (false, Notation::Text) => Text::parse(&format!("{text}\\r\\n")).map(Content::Text),
        (false, Notation::Frames) => Frame::parse(text).map(Content::Frame),
    }
}
