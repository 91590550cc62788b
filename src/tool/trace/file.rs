//! A trace in a file.
//!
//! # Layout
//!
//! ```text
//! 8 bytes   "tctrace\n"
//! 4         version, little endian
//! 4         length of what follows
//! ...       JSON: name, seed, parameters, duration, services, what it was recorded from, number of tokens and of requests
//! ...       for each token: kind (1 byte), source, value bytes, packed bytes, TTL in seconds
//! ...       for each request and change: milliseconds since the one before, token, and the service times four, plus 0
//!           for a look-up, or the number of what was done
//! 4         CRC-32 of all before, little endian
//! ```
//!
//! Numbers without a length given are LEB128.
//!
//! Invariant: what is read is a whole trace as it was written, or an error; nothing in a file is trusted
//! before it was checked, and a file's claims take no memory that its bytes do not pay for.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{About, Change, Kind, Op, Recorded, Request, SERVICES_MAX, Token, Trace};
use crate::tool::Error;

const MAGIC: &[u8; 8] = b"tctrace\n";

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 2;

/// Longest name of a trace, and longest assignment to a parameter.
const NAME_BYTES_MAX: usize = 100;

const HEAD_BYTES_MAX: u32 = 1 << 20;

/// Bits of what was done, below the service.
const OP_BITS: u32 = 2;
const LOOK_UP: u32 = 0;

#[derive(Serialize, Deserialize)]
struct Head {
    name: String,
    seed: u64,
    parameters: Vec<String>,
    millis: u32,
    services: Vec<String>,
    recorded: Option<Recorded>,
    tokens: u64,
    /// And changes.
    requests: u64,
}

/// Writes a trace to a new file at `path`, or over one that is there; a trace that could not be
/// written whole leaves nothing.
///
/// # Errors
/// [`Error::File`].
pub fn write(path: &Path, trace: &Trace) -> Result<(), Error> {
    crate::tool::files::replace(path, |file| write_to(file, trace))
}

/// Reads the trace in the file at `path`.
///
/// # Errors
/// [`Error::File`]: it cannot be read, is no trace, is of another version, cut short or damaged.
pub fn read(path: &Path) -> Result<Trace, Error> {
    let wrong = |what: String| Error::File(path.to_owned(), what);
    let file = File::open(path).map_err(|why| wrong(format!("cannot be read: {why}")))?;
    read_from(file).map_err(|fault| wrong(fault.to_string()))
}

/// Looks at the head of the file at `path`, before the work for others is done.
///
/// # Errors
/// [`Error::File`]: it cannot be read, is no trace or of another version.
pub fn check(path: &Path) -> Result<(), Error> {
    // What cannot be read twice, such as a pipe, is left for the real reading.
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return Ok(());
    }
    let wrong = |what: String| Error::File(path.to_owned(), what);
    let mut file = File::open(path).map_err(|why| wrong(format!("cannot be read: {why}")))?;
    read_head(&mut file)
        .map(drop)
        .map_err(|fault| wrong(fault.to_string()))
}

/// What is wrong with a file.
#[derive(Debug)]
enum Fault {
    NoTrace,
    Version(u32),
    CutShort,
    Damaged(&'static str),
    Io(io::Error),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::NoTrace => f.write_str("is no trace; tokencached-tool generate makes one"),
            Fault::Version(version) => write!(
                f,
                "is a trace of version {version}, and this tool reads version {VERSION}; use the tool that wrote it, or generate it anew"
            ),
            Fault::CutShort => f.write_str("is cut short; copy or generate it anew"),
            Fault::Damaged(what) => write!(f, "is damaged ({what}); copy or generate it anew"),
            Fault::Io(why) => write!(f, "cannot be read: {why}"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(why: io::Error) -> Fault {
        match why.kind() {
            io::ErrorKind::UnexpectedEof => Fault::CutShort,
            _ => Fault::Io(why),
        }
    }
}

fn write_to(file: &mut dyn Write, trace: &Trace) -> io::Result<()> {
    let mut out = Summed::new(BufWriter::with_capacity(1 << 20, file));
    let head = Head {
        name: trace.about.name.clone(),
        seed: trace.about.seed,
        parameters: trace.about.parameters.clone(),
        millis: trace.about.millis,
        tokens: trace.tokens.len() as u64,
        services: trace.services.clone(),
        recorded: trace.about.recorded,
        requests: (trace.requests.len() + trace.changes.len()) as u64,
    };
    let head = serde_json::to_vec(&head)?;
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&(head.len() as u32).to_le_bytes())?;
    out.write_all(&head)?;
    for token in &trace.tokens {
        out.write_all(&[token.kind as u8])?;
        [
            token.source,
            token.value_bytes,
            token.packed_bytes,
            token.ttl_seconds,
        ]
        .into_iter()
        .try_for_each(|number| write_number(&mut out, number))?;
    }
    let mut before = 0;
    for (request, op) in by_time(trace) {
        let kind = u32::from(request.service) << OP_BITS | op.map_or(LOOK_UP, |op| op as u32);
        write_number(&mut out, request.millis - before)?;
        write_number(&mut out, request.token)?;
        write_number(&mut out, kind)?;
        before = request.millis;
    }
    let sum = out.sum.clone().finalize();
    out.write_all(&sum.to_le_bytes())?;
    out.flush()
}

/// Requests and changes in the order of their time.
fn by_time(trace: &Trace) -> impl Iterator<Item = (Request, Option<Op>)> {
    let mut requests = trace.requests.iter().peekable();
    let mut changes = trace.changes.iter().peekable();
    std::iter::from_fn(move || {
        let until = requests.peek().map_or(u32::MAX, |request| request.millis);
        match changes.next_if(|change| change.request.millis < until || requests.len() == 0) {
            Some(change) => Some((change.request, Some(change.op))),
            None => requests.next().map(|request| (*request, None)),
        }
    })
}

fn read_from(file: impl Read) -> Result<Trace, Fault> {
    let mut from = Summed::new(BufReader::with_capacity(1 << 20, file));
    let head = read_head(&mut from)?;
    let mut tokens = Vec::new();
    for _ in 0..head.tokens {
        tokens.push(read_token(&mut from)?);
    }
    let (mut requests, mut changes) = (Vec::new(), Vec::new());
    let mut millis = 0u32;
    for _ in 0..head.requests {
        millis = millis
            .checked_add(read_number(&mut from)?)
            .filter(|millis| *millis <= head.millis)
            .ok_or(Fault::Damaged("a request after its end"))?;
        let token = read_number(&mut from)?;
        if token as usize >= tokens.len() {
            return Err(Fault::Damaged("a request with an unknown token"));
        }
        let kind = read_number(&mut from)?;
        let service = u8::try_from(kind >> OP_BITS).unwrap_or(u8::MAX);
        if usize::from(service) >= head.services.len() {
            return Err(Fault::Damaged("a request of an unknown service"));
        }
        let request = Request {
            millis,
            token,
            service,
        };
        let op = kind & ((1 << OP_BITS) - 1);
        match Op::ALL.into_iter().find(|known| *known as u32 == op) {
            Some(op) => changes.push(Change { request, op }),
            None => requests.push(request),
        }
    }
    let sum = from.sum.clone().finalize();
    if u32::from_le_bytes(read_bytes(&mut from)?) != sum {
        return Err(Fault::Damaged("its checksum is another one"));
    }
    if from.inner.read(&mut [0])? != 0 {
        return Err(Fault::Damaged("it goes on after its end"));
    }
    let Head {
        name,
        seed,
        parameters,
        millis,
        services,
        recorded,
        ..
    } = head;
    Ok(Trace {
        about: About {
            name,
            seed,
            parameters,
            millis,
            recorded,
        },
        tokens,
        requests,
        services,
        changes,
    })
}

fn read_head(from: &mut impl Read) -> Result<Head, Fault> {
    match read_bytes(from) {
        Ok(magic) if magic == *MAGIC => {}
        Ok(_) | Err(Fault::CutShort) => return Err(Fault::NoTrace),
        Err(fault) => return Err(fault),
    }
    let version = u32::from_le_bytes(read_bytes(from)?);
    if version != VERSION {
        return Err(Fault::Version(version));
    }
    let length = u32::from_le_bytes(read_bytes(from)?);
    if length > HEAD_BYTES_MAX {
        return Err(Fault::Damaged("its head is too long"));
    }
    let mut head = vec![0; length as usize];
    from.read_exact(&mut head)?;
    let head: Head = serde_json::from_slice(&head)
        .map_err(|_| Fault::Damaged("its head cannot be understood"))?;
    let is_plain = |text: &String| text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control);
    let names = head.parameters.iter().chain(&head.services);
    if !is_plain(&head.name) || !names.into_iter().all(is_plain) {
        return Err(Fault::Damaged("its name is no name"));
    }
    match head.services.len() <= SERVICES_MAX {
        true => Ok(head),
        false => Err(Fault::Damaged("it has too many services")),
    }
}

fn read_token(from: &mut impl Read) -> Result<Token, Fault> {
    let [kind] = read_bytes(from)?;
    let kind = [Kind::Legitimate, Kind::Attack, Kind::Lasting]
        .into_iter()
        .find(|known| *known as u8 == kind)
        .ok_or(Fault::Damaged("a token of an unknown kind"))?;
    Ok(Token {
        kind,
        source: read_number(from)?,
        value_bytes: read_number(from)?,
        packed_bytes: read_number(from)?,
        ttl_seconds: read_number(from)?,
    })
}

fn read_bytes<const N: usize>(from: &mut impl Read) -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn write_number(out: &mut impl Write, mut number: u32) -> io::Result<()> {
    let mut bytes = [0; 5];
    let mut length = 0;
    loop {
        bytes[length] = (number & 0x7f) as u8;
        number >>= 7;
        length += 1;
        if number == 0 {
            return out.write_all(&bytes[..length]);
        }
        bytes[length - 1] |= 0x80;
    }
}

fn read_number(from: &mut impl Read) -> Result<u32, Fault> {
    let mut number = 0u64;
    for shift in [0, 7, 14, 21, 28] {
        let [byte] = read_bytes(from)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(number).map_err(|_| Fault::Damaged("a number too large"));
        }
    }
    Err(Fault::Damaged("a number too long"))
}

/// Sums up what goes through.
struct Summed<T> {
    inner: T,
    sum: crc32fast::Hasher,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Summed<T> {
        Summed {
            inner,
            sum: crc32fast::Hasher::new(),
        }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.sum.update(&bytes[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::generate::{Scenario, generate};

    fn small() -> Trace {
        let mut scenario = Scenario::named("mint-once").unwrap();
        scenario.set("hours=0.02").unwrap();
        generate(&scenario, 3, |_| ())
    }

    fn bytes(trace: &Trace) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_to(&mut bytes, trace).unwrap();
        bytes
    }

    fn fault(bytes: &[u8]) -> String {
        read_from(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_is_read() {
        let trace = small();
        assert!(trace.requests.len() > 10_000);
        assert!(read_from(&bytes(&trace)[..]).unwrap() == trace);
    }

    #[test]
    fn what_was_recorded_is_read_with_its_services_and_changes() {
        let mut trace = small();
        trace.services = vec!["nova".into(), "glance".into()];
        trace.about.recorded = Some(Recorded {
            warm_up_millis: 5_000,
            ttl_seconds: 300,
            validation_millis: 40,
            memory_bytes: 64 << 20,
            look_ups: 10,
            hits: 9,
            left_out: 2,
            lost: 1,
        });
        let request = |millis, service| Request {
            millis,
            token: 1,
            service,
        };
        let last = trace.requests.last().unwrap().millis;
        trace.requests[5].service = 1;
        trace.changes = [(0, Op::Set), (last / 2, Op::Delete), (last, Op::Touch)]
            .map(|(millis, op)| Change {
                request: request(millis, 1),
                op,
            })
            .into();
        assert!(read_from(&bytes(&trace)[..]).unwrap() == trace);
        trace.changes[0].request.service = 2;
        assert!(fault(&bytes(&trace)).contains("unknown service"));
    }

    #[test]
    fn a_trace_cut_anywhere_is_told_from_a_whole_one() {
        let whole = bytes(&small());
        assert!(fault(&[]).contains("no trace"));
        for length in [1, 7] {
            assert!(fault(&whole[..length]).contains("no trace"));
        }
        for length in [8, 12, 40, whole.len() / 2, whole.len() - 1] {
            assert!(fault(&whole[..length]).contains("cut short"), "{length}");
        }
        assert!(fault(&[&whole[..], b"x"].concat()).contains("after its end"));
    }

    #[test]
    fn other_files_other_versions_and_damage_are_told() {
        let whole = bytes(&small());
        assert!(fault(b"#!/bin/sh\necho").contains("no trace"));
        let mut newer = whole.clone();
        newer[8] = 3;
        assert!(fault(&newer).contains("version 3"));
        for at in (16..whole.len()).step_by(997) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert!(read_from(&damaged[..]).is_err(), "byte {at}");
        }
    }

    #[test]
    fn numbers_of_every_length_come_back() {
        for number in [0, 127, 128, 16_383, 16_384, u32::MAX] {
            let mut bytes = Vec::new();
            write_number(&mut bytes, number).unwrap();
            assert_eq!(read_number(&mut &bytes[..]).unwrap(), number);
        }
        assert!(read_number(&mut &[0xff; 6][..]).is_err());
    }
}
