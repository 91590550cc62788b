//! The texts of golden transcripts: escapes, repetitions, captures.
//!
//! A text is literal but for `\r \n \0 \t \\ \{ \xNN`, the repetition `{a*1000}`, `{u:u64}` and `{_:u64}`, which match
//! digits and capture or forget them, `{30s}`, a number of seconds, and `{u}`, which recalls a capture.
//!
//! Invariant: nothing here knows of lines or frames; a text is bytes.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Numbers captured from replies, as they are spelt in decimal.
pub type Captures = BTreeMap<String, Vec<u8>>;

/// Whether seconds pass by themselves while a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// They do.
    Runs,
    /// Only `wait` lets them.
    Stands,
}

/// How far bytes follow a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// The first `consumed` bytes are the text.
    Complete {
        consumed: usize,
    },
    Incomplete,
    Mismatch,
}

/// Bytes to send or to expect.
#[derive(Debug, Default)]
pub struct Text(Vec<Part>);

impl Text {
    pub fn parse(text: &str) -> Result<Self, String> {
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
        Ok(Text(parts))
    }

    /// The bytes to send. Panics where the script recalls what it has not captured.
    pub fn render(&self, captures: &Captures) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in &self.0 {
            bytes.extend_from_slice(part.literal(captures));
        }
        bytes
    }

    /// How far `received`, of which more may come, follows this text. Numbers are captured along the way.
    pub fn follow(&self, received: &[u8], captures: &mut Captures, clock: Clock) -> Progress {
        self.advance(received, false, captures, clock)
    }

    /// Whether `whole` is this text, from its beginning to its end.
    pub fn is(&self, whole: &[u8], captures: &mut Captures, clock: Clock) -> bool {
        let consumed = whole.len();
        self.advance(whole, true, captures, clock) == Progress::Complete { consumed }
    }

    /// The text in the notation of the scripts.
    pub fn describe(&self, captures: &Captures) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Number(name) => write!(text, "{{{name}:u64}}").expect("a String takes all"),
                Part::Seconds(count) => write!(text, "{{{count}s}}").expect("a String takes all"),
                literal => text.push_str(&escape(literal.literal(captures))),
            }
        }
        text
    }

    fn advance(
        &self,
        received: &[u8],
        ended: bool,
        captures: &mut Captures,
        clock: Clock,
    ) -> Progress {
        let mut rest = received;
        for part in &self.0 {
            let wanted = match part {
                Part::Number(_) | Part::Seconds(_) => {
                    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    if digits == rest.len() && !ended {
                        return Progress::Incomplete;
                    }
                    let (number, behind) = rest.split_at(digits);
                    if digits == 0 || !part.takes(number, captures, clock) {
                        return Progress::Mismatch;
                    }
                    rest = behind;
                    continue;
                }
                literal => literal.literal(captures),
            };
            let common = wanted.len().min(rest.len());
            if wanted[..common] != rest[..common] {
                return Progress::Mismatch;
            }
            if common < wanted.len() {
                return Progress::Incomplete;
            }
            rest = &rest[common..];
        }
        Progress::Complete {
            consumed: received.len() - rest.len(),
        }
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

/// Where `wanted` stands without a backslash before it.
pub fn find_unescaped(text: &str, wanted: char) -> Option<usize> {
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
