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
//! capture. Write a trailing space only in the exact forms, where an editor cannot strip it.
//!
//! An expectation may name the servers it holds for: `<[18] ERROR` is for the memcached oracle before 1.6.27 (Debian
//! 12's 1.6.18) alone, `<[!18]` for everything else, `[45]` means newer memcached. `skip[45]: reason` in a block
//! leaves it out for an oracle, and in the header the whole file.
//!
//! Invariants: *one write*: sends with no other step between them are pipelined in one write. *Sentinel*: a block that
//! does not end in `<close` or `open` ends with `version` and its answer, so a reply that should not have come is found.
//! *Alone*: a block begins on a fresh connection and uses keys of its own, so any one can be run by itself.

#![allow(dead_code)] // Every test binary that includes this file uses its own part of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

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
    pub blocks: Vec<Block>,
    /// Skips from the header; every block has them too.
    skips: Vec<Skip>,
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

/// Numbers captured from replies, as they were spelt.
pub type Captures = BTreeMap<String, Vec<u8>>;

/// Bytes to send, in which captures may be recalled.
#[derive(Debug)]
pub struct Template(Vec<Part>);

/// What a reply must be.
#[derive(Debug)]
pub struct Pattern {
    parts: Vec<Part>,
    /// Lines that do not match are passed over (`<*`).
    skips_lines: bool,
}

/// Whether seconds pass by themselves while a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// They do.
    Runs,
    /// Only `wait` lets them.
    Stands,
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

/// The transcripts of the classic text protocol and of the meta commands, each with its folder's and
/// file's name. Panics where one cannot be read.
pub fn read_all() -> Vec<(String, Script)> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = |folder: &str| {
        fs::read_dir(scripts.join(folder)).expect("the scripts are part of the repository")
    };
    let entries = entries("classic").chain(entries("meta"));
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
            blocks: Vec::new(),
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
        let args = text.strip_prefix("args: ");
        let args = args.ok_or("neither `args:` nor `skip` nor a block")?;
        self.args
            .extend(args.split_whitespace().map(str::to_string));
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
            Some(rest) => parse_expectation(rest)?,
            None => (Targets::ALL, parse_command(text)?),
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
        for action in [
            Action::Send(Template(parse_parts("version\\r\\n")?)),
            Action::Expect(Pattern {
                parts: parse_parts("VERSION {_:u64}.{_:u64}.{_:u64}\\r\\n")?,
                skips_lines: false,
            }),
        ] {
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
        let mut bytes = Vec::new();
        for part in &self.0 {
            bytes.extend_from_slice(part.literal(captures));
        }
        bytes
    }
}

impl Pattern {
    /// Compares `received` with what is expected, and on a complete match remembers what was captured.
    pub fn matches(&self, received: &[u8], captures: &mut Captures, clock: Clock) -> Match {
        let mut start = 0;
        loop {
            let mut found = captures.clone();
            match self.match_once(&received[start..], &mut found, clock) {
                Match::Complete { consumed } => {
                    *captures = found;
                    return Match::Complete {
                        consumed: start + consumed,
                    };
                }
                Match::Mismatch(_) if self.skips_lines => {
                    match received[start..].iter().position(|&byte| byte == b'\n') {
                        Some(newline) => start += newline + 1,
                        None => return Match::Incomplete,
                    }
                }
                verdict => return verdict,
            }
        }
    }

    /// What is expected, in the notation of the scripts.
    pub fn describe(&self, captures: &Captures) -> String {
        let mut text = String::from(if self.skips_lines { "... " } else { "" });
        for part in &self.parts {
            match part {
                Part::Number(name) => write!(text, "{{{name}:u64}}").expect("a String takes all"),
                Part::Seconds(count) => write!(text, "{{{count}s}}").expect("a String takes all"),
                literal => text.push_str(&escape(literal.literal(captures))),
            }
        }
        text
    }

    fn match_once(&self, received: &[u8], captures: &mut Captures, clock: Clock) -> Match {
        let mut rest = received;
        for part in &self.parts {
            let wanted = match part {
                Part::Number(_) | Part::Seconds(_) => {
                    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    if digits == rest.len() {
                        return Match::Incomplete;
                    }
                    if digits == 0 {
                        return self.mismatch(received, captures);
                    }
                    let (number, behind) = rest.split_at(digits);
                    if !part.takes(number, captures, clock) {
                        return self.mismatch(received, captures);
                    }
                    rest = behind;
                    continue;
                }
                literal => literal.literal(captures),
            };
            let common = wanted.len().min(rest.len());
            if wanted[..common] != rest[..common] {
                return self.mismatch(received, captures);
            }
            if common < wanted.len() {
                return Match::Incomplete;
            }
            rest = &rest[common..];
        }
        Match::Complete {
            consumed: received.len() - rest.len(),
        }
    }

    fn mismatch(&self, received: &[u8], captures: &Captures) -> Match {
        Match::Mismatch(format!(
            "expected \"{}\", got \"{}\"",
            self.describe(captures),
            escape(received)
        ))
    }
}

/// Shows bytes in the escapes of the scripts; what is long is cut.
pub fn escape(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 300;
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let mut text = shown.escape_ascii().to_string();
    if shown.len() < bytes.len() {
        write!(text, "... ({} bytes)", bytes.len()).expect("a String takes all");
    }
    text
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

/// A piece of a text once its escapes and repetitions are resolved.
#[derive(Debug)]
enum Part {
    Bytes(Vec<u8>),
    /// `{name:u64}`: one or more digits.
    Number(String),
    /// `{30s}`: a number of seconds.
    Seconds(u64),
    /// `{name}`: what was captured under the name.
    Recall(String),
}

impl Part {
    /// Whether a number is one that this part expects; one to capture is captured.
    fn takes(&self, number: &[u8], captures: &mut Captures, clock: Clock) -> bool {
        match self {
            Part::Seconds(count) => {
                let number = String::from_utf8_lossy(number).parse::<u64>();
                let ticks = u64::from(clock == Clock::Runs);
                number.is_ok_and(|number| number.abs_diff(*count) <= ticks)
            }
            Part::Number(name) => {
                captures.insert(name.clone(), number.to_vec());
                true
            }
            Part::Bytes(_) | Part::Recall(_) => false,
        }
    }

    /// The bytes this part stands for. Panics on a number to capture, and on a name nothing was captured under.
    fn literal<'a>(&'a self, captures: &'a Captures) -> &'a [u8] {
        match self {
            Part::Bytes(bytes) => bytes,
            Part::Recall(name) => captures
                .get(name)
                .unwrap_or_else(|| panic!("the script recalls {{{name}}} before capturing it")),
            Part::Seconds(count) => panic!("the script cannot send the pattern {{{count}s}}"),
            Part::Number(name) => panic!("the script cannot send the pattern {{{name}:u64}}"),
        }
    }
}

/// Parses what follows the word `skip`.
fn parse_skip(text: &str) -> Result<Skip, String> {
    let (targets, text) = Targets::parse_prefix(text)?;
    let reason = text.strip_prefix(": ").ok_or("a skip states its reason")?;
    Ok((targets, reason.to_string()))
}

/// Parses what follows the first `<` of an expectation.
fn parse_expectation(text: &str) -> Result<(Targets, Action), String> {
    if text == "close" {
        return Ok((Targets::ALL, Action::Close));
    }
    let (exact, text) = strip_flag(text, '<');
    let (skips_lines, text) = strip_flag(text, '*');
    let (targets, text) = Targets::parse_prefix(text)?;
    let parts = parse_text(text, exact)?;
    Ok((targets, Action::Expect(Pattern { parts, skips_lines })))
}

fn parse_command(text: &str) -> Result<Action, String> {
    if let Some(text) = text.strip_prefix('>') {
        let (exact, text) = strip_flag(text, '>');
        return parse_text(text, exact).map(|parts| Action::Send(Template(parts)));
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

/// Parses the text of a send or an expectation, and adds CRLF unless it is `exact`.
fn parse_text(text: &str, exact: bool) -> Result<Vec<Part>, String> {
    if text.is_empty() && !exact {
        return parse_parts("\\r\\n");
    }
    let text = text.strip_prefix(' ').ok_or("no space before the text")?;
    match exact {
        true => parse_parts(text),
        false => parse_parts(&format!("{text}\\r\\n")),
    }
}

fn parse_parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let brace = find_unescaped(rest, '{').unwrap_or(rest.len());
        if brace > 0 {
            parts.push(Part::Bytes(unescape(&rest[..brace])?));
        }
        rest = &rest[brace..];
        if let Some(inner) = rest.strip_prefix('{') {
            let (inner, after) = inner.split_once('}').ok_or("no } after {")?;
            parts.push(parse_braces(inner)?);
            rest = after;
        }
    }
    Ok(parts)
}

fn parse_braces(inner: &str) -> Result<Part, String> {
    if let Some((text, times)) = inner.rsplit_once('*') {
        let times = times.parse().map_err(|_| "no number after *")?;
        return Ok(Part::Bytes(unescape(text)?.repeat(times)));
    }
    match inner.split_once(':') {
        Some((name, "u64")) => Ok(Part::Number(name.to_string())),
        Some((_, kind)) => Err(format!("cannot capture a {kind}")),
        None => match inner.strip_suffix('s').map(str::parse) {
            Some(Ok(count)) => Ok(Part::Seconds(count)),
            _ => Ok(Part::Recall(inner.to_string())),
        },
    }
}

fn find_unescaped(text: &str, wanted: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, char)| {
        let found = char == wanted && !escaped;
        escaped = char == '\\' && !escaped;
        found.then_some(at)
    })
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut input = text.bytes();
    while let Some(byte) = input.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match input.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(same @ (b'\\' | b'{')) => same,
            Some(b'x') => {
                let digits: String = input.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).map_err(|_| "\\x takes two hexadecimal digits")?
            }
            _ => return Err("unknown escape".to_string()),
        });
    }
    Ok(bytes)
}
