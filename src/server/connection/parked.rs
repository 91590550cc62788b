//! A connection between two turns, parked for another process to go on with.
//!
//! When its server hands over, [`Connection::serve`] ends with a [`ParkedConnection`]: the conversation, what
//! has been read and not executed, what has been answered and not sent. What the client has sent
//! and nobody has read stays in the socket, which goes to the successor by itself. There
//! [`Connection::resume`] begins with it.
//!
//! Invariants:
//! - no byte is lost and none comes twice;
//! - what is gone on with counts as what is kept does, so connections that were parked take no more memory
//!   than others may: one that finds no room is closed, and counted. A large value is gone
//!   on with in the first turn, which writes it where it belongs, and is not counted before.

use std::fmt;
use std::io;

use super::Connection;
use crate::engine::Found;
use crate::protocol::codec::Protocol;
use crate::server::auth;
use crate::server::output::Output;
use crate::server::session::{self, Rules, Session};
use crate::server::worker::Worker;
use crate::stats::connections;

/// What it takes to go on with a connection, beside its socket; by default, one on which nothing was said. Its
/// `Debug` shows lengths alone.
#[derive(Default)]
pub struct ParkedConnection {
    /// The conversation.
    pub session: session::Parked,
    /// What the conversation goes on with, before anything that the socket holds.
    pub input: Vec<u8>,
    /// What is to be sent before anything else.
    pub unsent: Vec<u8>,
    /// The connection is over once it is sent.
    pub closing: bool,
    /// It waits before it is sent, since somebody showed a wrong password.
    pub paused: bool,
}

impl ParkedConnection {
    /// Whether nothing is lost if its socket alone is gone on with, as a new connection would be.
    pub fn is_at_rest(&self) -> bool {
        let nothing_waits = self.input.is_empty() && self.unsent.is_empty();
        nothing_waits && !self.closing && !self.paused && self.session.is_as_new()
    }
}

impl fmt::Debug for ParkedConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ParkedConnection")
            .field("session", &self.session)
            .field("input_bytes", &self.input.len())
            .field("unsent_bytes", &self.unsent.len())
            .field("closing", &self.closing)
            .field("paused", &self.paused)
            .finish()
    }
}

impl<'c, S> Connection<'c, S> {
    /// One that has not begun and can be parked, as one without TLS can: `stream` takes and gives the
    /// bytes that are on the wire.
    pub fn plain(
        stream: S,
        protocol: Protocol,
        worker: &'c Worker,
        info: &'c connections::Connection,
    ) -> Connection<'c, S> {
        let mut connection = Connection::new(stream, protocol, worker, info);
        connection.parks = true;
        connection
    }

    /// The same, going on where another has been parked.
    ///
    /// # Errors
    /// `OutOfMemory` where the budget has no room for it, which is counted; `InvalidData` where it does not
    /// fit together. Both are the connection's end.
    pub fn resume(
        stream: S,
        protocol: Protocol,
        worker: &'c Worker,
        info: &'c connections::Connection,
        parked: ParkedConnection,
    ) -> io::Result<Connection<'c, S>> {
        let ParkedConnection {
            session,
            mut input,
            unsent,
            closing,
            paused,
        } = parked;
        let mut connection = Connection::plain(stream, protocol, worker, info);
        let rules = worker.rules(protocol);
        connection.session = Session::resume(&worker.engine, rules, session, &mut input)
            .ok_or(io::ErrorKind::InvalidData)?;
        // What the first turn takes in at once is not kept.
        let is_kept = !unsent.is_empty() || paused;
        if !connection.replies.resize(unsent.len())
            || !connection.requests.resize(input.capacity()) && is_kept
        {
            return Err(connection.out_of_memory());
        }
        if !unsent.is_empty() {
            connection.unsent = Some(Box::new(Output::with_unsent(unsent)));
        }
        connection.input_ready = !input.is_empty();
        connection.input = input;
        connection.closing = closing;
        connection.pause = paused.then(|| Box::pin(tokio::time::sleep(auth::LAST_DELAY)));
        connection.note_busy();
        Ok(connection)
    }

    /// Ends it. Copies values of the store that have not been sent.
    pub(super) fn park(&mut self) -> ParkedConnection {
        let unused = Session::new(&self.worker.engine, Rules::default());
        let session = std::mem::replace(&mut self.session, unused);
        let mut input = std::mem::take(&mut self.input);
        let session = session.park(&mut input);
        // Never both: a turn begins once all is sent that an earlier one has left.
        let output = self.unsent.take().or_else(|| self.carried.take());
        let copy = |output: Box<Output<Found<'_>>>| output.copy_unsent().into_buffer();
        ParkedConnection {
            session,
            input,
            unsent: output.map(copy).unwrap_or_default(),
            closing: self.closing,
            paused: self.pause.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use crate::server::auth::Users;
    use crate::server::budget::Budget;
    use crate::server::connection::serve;
    use crate::server::handover::state::{self, Client, Writer};
    use crate::stats::Totals;
    use crate::stats::connections::{Address, Connection as Info, State};

    fn info() -> Info {
        Info::new(Address::Named("".into()), None, State::Read, 0)
    }

    fn run<F: Future>(future: F) -> F::Output {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        // Time goes on as soon as everybody waits.
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(future)
    }

    /// The same as the successor reads it.
    fn handed_on(parked: &ParkedConnection) -> ParkedConnection {
        let mut writer = Writer::new().unwrap();
        writer.add(Client::of(&info()), parked).unwrap();
        let file = writer.finish(Totals::default()).unwrap();
        state::read(file).unwrap().connection(0).unwrap()
    }

    /// Serves for about so many turns of everybody's, then parks; `None` if it has ended before.
    async fn served_for(
        turns: usize,
        stream: &mut DuplexStream,
        worker: &Worker,
        parked: Option<ParkedConnection>,
    ) -> Option<ParkedConnection> {
        let info = info();
        let parking = async {
            for _ in 0..turns {
                yield_now().await;
            }
            info.park();
        };
        let mut connection = match parked {
            None => Connection::plain(stream, Protocol::Auto, worker, &info),
            Some(parked) => resume(stream, worker, &info, parked).unwrap(),
        };
        let served = tokio::join!(connection.serve(), parking).0;
        served.unwrap().map(|parked| handed_on(&parked))
    }

    fn resume<'c>(
        stream: &'c mut DuplexStream,
        worker: &'c Worker,
        info: &'c Info,
        parked: ParkedConnection,
    ) -> io::Result<Connection<'c, &'c mut DuplexStream>> {
        Connection::resume(stream, Protocol::Auto, worker, info, parked)
    }

    fn stored(value: &[u8]) -> Vec<u8> {
        let header = format!("set k 7 0 {}\r\n", value.len());
        [header.as_bytes(), value, b"\r\n"].concat()
    }

    fn found(value: &[u8]) -> Vec<u8> {
        let header = format!("VALUE k 7 {}\r\n", value.len());
        [header.as_bytes(), value, b"\r\nEND\r\n"].concat()
    }

    fn pattern(bytes: u32) -> Vec<u8> {
        (0..bytes).map(|number| (number % 251) as u8).collect()
    }

    #[test]
    fn what_is_unsent_is_sent_by_the_successor() {
        let worker = Worker::alone(None);
        let value = pattern(300_000);
        let (mut server, mut client) = duplex(1 << 20);
        run(async {
            client.write_all(&stored(&value)).await.unwrap();
            assert!(served_for(50, &mut server, &worker, None).await.is_some());
            let mut answer = [0; 8];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"STORED\r\n");
            client.write_all(&b"get k\r\n".repeat(9)).await.unwrap();
            client.write_all(b"get").await.unwrap();
            let parked = served_for(50, &mut server, &worker, None).await.unwrap();
            assert!(!parked.unsent.is_empty() && !parked.input.is_empty());
            assert!(!parked.is_at_rest());
            let rest = async {
                client.write_all(b" k\r\n").await.unwrap();
                let mut answers = vec![0; 10 * found(&value).len()];
                client.read_exact(&mut answers).await.unwrap();
                drop(client);
                assert!(answers == found(&value).repeat(10));
            };
            let serving = served_for(100_000, &mut server, &worker, Some(parked));
            assert!(tokio::join!(serving, rest).0.is_none());
        });
        assert_eq!(worker.busy.load(Relaxed), 0);
        assert_eq!((worker.requests.used(), worker.replies.used()), (0, 0));
    }

    #[test]
    fn a_connection_parked_again_and_again_says_what_another_does() {
        let worker = Worker::alone(None);
        let value = pattern(200_000);
        let mut script = Vec::new();
        let mut expected = Vec::new();
        for length in [1, 1_000, 30_000, 200_000, 2_000_000] {
            let value = &value[..value.len().min(length)];
            if length > value.len() {
                let header = format!("set k 0 0 {length}\r\n");
                script.extend([header.as_bytes(), &vec![b'\n'; length], b"\r\n"].concat());
                expected.extend(b"SERVER_ERROR object too large for cache\r\nEND\r\n");
            } else {
                script.extend(stored(value));
                expected.extend([b"STORED\r\n", &found(value)[..]].concat());
            }
            script.extend(b"get k\r\n");
        }
        for turns in [1, 2, 3, 10] {
            let (mut server, client) = duplex(3_001);
            let (mut reader, mut writer) = tokio::io::split(client);
            let answered = Cell::new(false);
            let asking = async {
                for piece in script.chunks(1_777) {
                    writer.write_all(piece).await.unwrap();
                }
            };
            let answering = async {
                let mut answers = vec![0; expected.len()];
                reader.read_exact(&mut answers).await.unwrap();
                assert!(answers == expected, "parked after {turns} turns");
                answered.set(true);
            };
            let serving = async {
                let mut parked = None;
                let mut times = 0;
                while !answered.get() {
                    parked = served_for(turns, &mut server, &worker, parked).await;
                    times += 1;
                }
                assert!(times > 5 && parked.unwrap().is_at_rest());
            };
            run(async { tokio::join!(asking, answering, serving) });
        }
    }

    #[test]
    fn who_waits_after_a_wrong_password_waits_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "alice:secret\n").unwrap();
        let worker = Worker::alone(Some(Users::load(file.path()).unwrap()));
        let (mut server, mut client) = duplex(1 << 10);
        run(async {
            let wrong = b"set k 0 0 12\r\nalice wrong!\r\nset k 0 0 12\r\nalice secret\r\n";
            client.write_all(wrong).await.unwrap();
            let parked = served_for(10, &mut server, &worker, None).await.unwrap();
            assert!(parked.paused && !parked.is_at_rest());
            let info = info();
            let mut connection = resume(&mut server, &worker, &info, parked).unwrap();
            let answers = async {
                let mut answer = [0; 64];
                let at_once = timeout(Duration::from_millis(1_999), client.read(&mut answer));
                assert!(at_once.await.is_err());
                let length = client.read(&mut answer).await.unwrap();
                assert!(answer[..length].ends_with(b"\r\nSTORED\r\n"));
                info.park();
            };
            let served = tokio::join!(connection.serve(), answers).0;
            let parked = served.unwrap().unwrap();
            drop(connection);
            assert!(!parked.is_at_rest(), "the successor has to know who it is");
            let served = served_for(10, &mut server, &worker, Some(parked));
            client.write_all(b"get k\r\n").await.unwrap();
            served.await;
            let mut answer = [0; 5];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"END\r\n");
        });
    }

    #[test]
    fn what_is_at_rest_is_told_from_what_is_begun() {
        let worker = Worker::alone(None);
        for (said, at_rest) in [
            (&b""[..], true),
            (b"get k\r\n", true),
            (b"get k", false),
            (b"set k 0 0 3\r\nab", false),
            (b"set k 0 0 9000000\r\nab", false),
            (b"set k 0 0 300000\r\nab", false),
        ] {
            let (mut server, mut client) = duplex(1 << 10);
            run(async {
                client.write_all(said).await.unwrap();
                let parked = served_for(10, &mut server, &worker, None).await;
                assert_eq!(parked.unwrap().is_at_rest(), at_rest, "{said:?}");
            });
        }
    }

    #[test]
    fn a_parked_connection_that_finds_no_room_is_closed_and_counted() {
        let mut worker = Worker::alone(None);
        worker.requests = Budget::new(16 << 10);
        worker.replies = Budget::new(16 << 10);
        let parked = |input: Vec<u8>, unsent: Vec<u8>| {
            let mut nothing = Vec::new();
            let session = Session::new(&worker.engine, Rules::default()).park(&mut nothing);
            ParkedConnection {
                session,
                input,
                unsent,
                closing: false,
                paused: false,
            }
        };
        let half = [b"set k 7 0 300000\r\n", &[b'x'; 200_000][..]].concat();
        let refused = [
            parked(Vec::new(), vec![b'x'; 100_000]),
            parked(half.clone(), b"END\r\n".to_vec()),
        ];
        let (mut server, mut client) = duplex(1 << 20);
        run(async {
            for (parked, closed) in refused.into_iter().zip(1..) {
                let info = info();
                let resumed = resume(&mut server, &worker, &info, parked);
                let error = resumed.map(drop).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
                assert_eq!(worker.counters.closed_for_memory.get(), closed);
                assert_eq!((worker.requests.used(), worker.replies.used()), (0, 0));
            }
            // A large value is written where it belongs.
            let rest = [&[b'x'; 100_000][..], b"\r\n"].concat();
            client.write_all(&rest).await.unwrap();
            let alone = parked(half, Vec::new());
            let parked = served_for(50, &mut server, &worker, Some(alone)).await;
            assert!(parked.unwrap().is_at_rest());
            let mut answer = [0; 8];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"STORED\r\n");
        });
    }

    #[test]
    fn what_does_not_fit_together_is_closed() {
        let worker = Worker::alone(None);
        let (mut server, mut client) = duplex(1 << 20);
        run(async {
            // The rest of a multiget waits for its peer to read.
            client.write_all(&stored(&[b'x'; 100_000])).await.unwrap();
            let gets = [b"get".as_slice(), &b" k".repeat(20), b"\r\n"].concat();
            client.write_all(&gets).await.unwrap();
            let parked = served_for(50, &mut server, &worker, None).await.unwrap();
            assert!(parked.input.starts_with(b"k k"));
            let mut parked = handed_on(&parked);
            parked.input.truncate(2);
            let info = info();
            let resumed = resume(&mut server, &worker, &info, parked);
            let error = resumed.map(drop).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        });
    }

    #[test]
    fn who_is_not_to_be_parked_is_served_on_and_who_is_to_be_closed_is_not() {
        let worker = Worker::alone(None);
        let (mut server, mut client) = duplex(1 << 10);
        let info = info();
        info.park();
        let asking = async {
            client.write_all(b"get k\r\n").await.unwrap();
            let mut answer = [0; 5];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"END\r\n");
            info.close();
            info.park();
        };
        let serving = serve(&mut server, Protocol::Auto, &worker, &info);
        run(async { tokio::join!(asking, serving) }).1.unwrap();
    }
}
