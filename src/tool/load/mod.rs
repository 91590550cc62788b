//! `load`: drives a server with gets and sets over some connections, and says what each request cost it.
//!
//! In a closed loop each connection sends a batch, waits for all its replies, checks them, and sends the next; in an
//! open one ([`arrivals`]) batches come at their times. [`driver`] has the threads and the connections, [`plan`] says
//! what they ask, [`compare`] sets two servers against one another.
//!
//! In the flow: the binary fills [`Options`] and calls [`run`], which calls [`exchange`](super::exchange) for each
//! batch and [`process`](super::process) before and after. [`hold`](super::hold) and [`idle`](super::idle) take the
//! same options.

pub mod arrivals;
pub mod compare;
pub mod contender;
pub mod driver;
pub mod options;
pub mod plan;
pub mod popularity;
pub mod report;

pub use options::{Options, Values, parse_value_bytes, parse_values};
pub use report::{Report, ServerUsage};

use super::exchange::{Exchange, Shared};
use super::wire::Connection;
use super::{Error, Target};
use driver::Driver;
use std::future::Future;
use std::time::Duration;

/// Bytes of sets on their way at once while filling.
const FILL_BATCH_BYTES: usize = 64 << 10;

/// Drives a server as the options say; blocks until it is done, and tells meanwhile how many requests were answered,
/// and since when.
/// With neither requests nor duration, for 5 seconds.
///
/// # Errors
/// When the options make no sense, a connection cannot be opened or breaks, or the server falls
/// silent or talks nonsense. Error replies and wrong values are no errors here: they are counted,
/// see [`Report::is_clean`].
pub fn run(options: &Options, tell: impl FnMut(u64, Duration)) -> Result<Report, Error> {
    options.check()?;
    options.allow_files()?;
    let shared = options.shared();
    if options.fill {
        let filled = fill(options, &shared);
        block_on(&options.target, &shared, filled)?;
    }
    // The one at the end is another process, where connections are opened anew.
    let server = match options.reconnect {
        true => None,
        false => driver::runtime()?.block_on(options.server()),
    };
    let driver = Driver::start(options, &shared, server)?;
    driver.burst(options.duration(), tell)
}

/// Sets every key once, in order, over one connection; gives back the connection and what it
/// counted.
///
/// # Errors
/// Those of the connection, and [`Error::Refused`] if a set was.
pub(super) async fn fill(options: &Options, shared: &Shared) -> Result<Exchange, Error> {
    let mut exchange = Exchange::new(Connection::open(&options.target).await?);
    for key in 0..options.keys {
        exchange.push_set(shared, key);
        if exchange.batch_bytes() >= FILL_BATCH_BYTES {
            exchange.run(shared).await?;
        }
    }
    exchange.run(shared).await?;
    match &exchange.counts.first_error {
        Some(said) => Err(Error::Refused(options.target.clone(), said.clone())),
        None => Ok(exchange),
    }
}

/// Runs the work on this thread, and gives it up when no replies come any more.
pub(super) fn block_on<T>(
    target: &Target,
    shared: &Shared,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    driver::runtime()?.block_on(driver::unless_stalled(target, shared, work))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn options() -> Options {
        Options::new("127.0.0.1:1".parse().unwrap())
    }

    /// Answers a get by cutting the connection in the middle of a line, stays away for a while, and then misses.
    fn unsteady() -> (SocketAddr, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let ask = |listener: &TcpListener| {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 100]).unwrap() > 0);
                stream
            };
            let mut stream = ask(&listener);
            // Before the client knows, or it would still be let in.
            drop(listener);
            stream.write_all(b"EN").unwrap();
            drop(stream);
            std::thread::sleep(Duration::from_millis(20));
            let listener = TcpListener::bind(address).unwrap();
            ask(&listener).write_all(b"END\r\n").unwrap();
        });
        (address, server)
    }

    fn connect(address: SocketAddr) -> TcpStream {
        loop {
            if let Ok(stream) = TcpStream::connect(address) {
                return stream;
            }
        }
    }

    #[test]
    fn what_was_asked_when_a_connection_broke_is_asked_again() {
        for reconnect in [true, false] {
            let (address, server) = unsteady();
            let options = Options {
                connections: 1,
                requests: Some(1),
                reconnect,
                ..Options::new(Target::Tcp(address))
            };
            let ran = run(&options, |_, _| ());
            if reconnect {
                let Report { counts, server, .. } = ran.unwrap();
                assert_eq!((counts.requests, counts.misses), (1, 1));
                assert_eq!((counts.connections_lost, server.is_none()), (1, true));
            } else {
                assert!(matches!(ran, Err(Error::Lost(..))));
                // The server waits for somebody else.
                let mut other = connect(address);
                other.write_all(b"get k\r\n").unwrap();
            }
            server.join().unwrap();
        }
    }

    #[test]
    fn sets_are_not_asked_again() {
        let mixed = Options {
            reconnect: true,
            get_percent: 90,
            ..options()
        };
        assert!(matches!(run(&mixed, |_, _| ()), Err(Error::Options(_))));
    }

    #[test]
    fn nobody_listening_is_said_so() {
        let message = run(&options(), |_, _| ()).unwrap_err().to_string();
        assert!(
            message.contains("cannot connect to 127.0.0.1:1"),
            "{message}"
        );
    }
}
