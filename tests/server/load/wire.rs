//! A client's connection: requests go out in any pieces, and every byte that comes is what it has to be.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::corpus::Random;
use crate::daemon::LIMIT;

/// A part of an answer.
pub enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The CAS unique of this version of the item, in digits.
    Digits(u64),
    /// The same in eight bytes.
    Long(u64),
}

/// The parts of an answer that is known; none if nothing is answered.
pub fn text(answer: impl Into<Vec<u8>>) -> Vec<Part> {
    let answer = answer.into();
    if answer.is_empty() {
        Vec::new()
    } else {
        vec![Part::Bytes(answer)]
    }
}

/// An error of it is a connection that broke; what is wrong panics.
pub struct Wire {
    stream: BufReader<TcpStream>,
    /// Bytes that have come.
    pub heard: u64,
}

impl Wire {
    /// Nobody is refused, whether there is a process or not.
    pub fn to(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect(address).expect("nobody is refused");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Wire {
            stream: BufReader::with_capacity(64 << 10, stream),
            heard: 0,
        }
    }

    /// Says something, split wherever it happens.
    pub fn say(&mut self, mut rest: &[u8], random: &mut Random) -> io::Result<()> {
        while !rest.is_empty() {
            let most = [3, 100, 100_000, 1_000_000][random.below(4)];
            let length = (random.below(most) + 1).min(rest.len());
            self.stream
                .get_ref()
                .write_all(&rest[..length])
                .or_else(broken)?;
            rest = &rest[length..];
        }
        Ok(())
    }

    /// Waits for more, unless there is some that was not looked at.
    fn more(&mut self) -> io::Result<&[u8]> {
        match self.stream.fill_buf() {
            Ok([]) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(self.stream.buffer()),
            Err(error) => broken(error).map(|()| &[][..]),
        }
    }

    fn take(&mut self, count: usize) {
        self.stream.consume(count);
        self.heard += count as u64;
    }

    /// Hears exactly these bytes. Panics with `said` at the first that is wrong.
    pub fn expect(&mut self, mut rest: &[u8], said: &str) -> io::Result<()> {
        while !rest.is_empty() {
            let heard = self.more()?;
            let count = heard.len().min(rest.len());
            if heard[..count] != rest[..count] {
                let shown =
                    |bytes: &[u8]| String::from_utf8_lossy(&bytes[..count.min(80)]).into_owned();
                panic!("{said:?}: {:?} instead of {:?}", shown(heard), shown(rest));
            }
            self.take(count);
            rest = &rest[count..];
        }
        Ok(())
    }

    /// So many bytes, whatever they are.
    pub fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).or_else(broken)?;
        self.heard += count as u64;
        Ok(bytes)
    }

    pub fn digits(&mut self) -> io::Result<u64> {
        let mut number = 0;
        loop {
            let next = self.more()?[0];
            if !next.is_ascii_digit() {
                return Ok(number);
            }
            number = number * 10 + u64::from(next - b'0');
            self.take(1);
        }
    }

    /// A line, without its end.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream
            .read_line(&mut line)
            .or_else(|error| broken(error).map(|()| 0))?;
        self.heard += line.len() as u64;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Hears an answer; `learn` is told each CAS unique and the version that it is of.
    pub fn hear(
        &mut self,
        answer: &[Part],
        said: &str,
        mut learn: impl FnMut(u64, u64),
    ) -> io::Result<()> {
        for part in answer {
            match part {
                Part::Bytes(bytes) => self.expect(bytes, said)?,
                Part::Digits(version) => learn(*version, self.digits()?),
                Part::Long(version) => {
                    let bytes = self.exactly(8)?.try_into().unwrap();
                    learn(*version, u64::from_be_bytes(bytes));
                }
            }
        }
        Ok(())
    }
}

/// The ways in which a connection may break; none of them is that no answer comes.
fn broken(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Err(error),
        _ => panic!("no answer: {error}"),
    }
}
