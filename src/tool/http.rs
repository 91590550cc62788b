//! HTTP from the tool's end: one GET over TCP or a unix socket, its answer whole ([`get`]) or line by line ([`lines`]).
//!
//! [`status`](super::status) asks through it. Blocking, a connection of its own for each request; hyper speaks the
//! protocol.
//!
//! Invariants: *bounded*, five seconds from the connection to the end of an answer that is taken whole, or to the
//! beginning of one that is taken by lines; four MiB of an answer or a line; *nothing else than asked*, an answer is
//! one with status 200, redirections are not followed.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::{Error, Target, shown};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of an answer, or of a line.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The body of the answer to a GET of `path`.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::Lost`]; [`Error::Answer`] for any status but 200, an answer that is too long and
/// what is no HTTP.
pub fn get(target: &Target, path: &str) -> Result<Vec<u8>, Error> {
    runtime()?.block_on(async {
        let answer = async { whole(target, ask(target, path).await?).await };
        in_time(target, answer).await
    })
}

/// The lines of the answer to a GET of `path`, as they come.
///
/// # Errors
/// Those of [`get`], until the answer begins.
pub fn lines(target: &Target, path: &str) -> Result<Lines, Error> {
    let runtime = runtime()?;
    let asked = runtime.block_on(in_time(target, ask(target, path)))?;
    Ok(Lines {
        target: target.clone(),
        asked,
        received: BytesMut::new(),
        is_over: false,
        runtime,
    })
}

/// What is answered, line by line without their ends, as long as the server sends; it may be silent between them for
/// as long as it likes. The last item is the error that ended it, if one did: [`Error::Lost`], or [`Error::Answer`]
/// for a line that is too long.
#[derive(Debug)]
pub struct Lines {
    target: Target,
    asked: Asked,
    received: BytesMut,
    is_over: bool,
    runtime: Runtime,
}

impl Iterator for Lines {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(next) = self.within(Duration::MAX) {
                return next;
            }
        }
    }
}

impl Lines {
    /// The next line, as [`Iterator::next`] has it, or `None` if nothing has come within so long.
    pub fn within(&mut self, patience: Duration) -> Option<Option<Result<String, Error>>> {
        let mut searched = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.received[searched..]) {
                return Some(Some(Ok(self.taken(searched + end + 1))));
            }
            if self.is_over {
                let rest = self.received.len();
                return Some((rest > 0).then(|| Ok(self.taken(rest))));
            }
            searched = self.received.len();
            if let Err(error) = self.receive(patience)? {
                self.is_over = true;
                self.received.clear();
                return Some(Some(Err(error)));
            }
        }
    }

    /// Waits for more of the answer; `None` if nothing has come.
    fn receive(&mut self, patience: Duration) -> Option<Result<(), Error>> {
        let body = self.asked.body();
        let frame = async { timeout(patience, body.frame()).await.ok() };
        Some(match self.runtime.block_on(frame)? {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                add(&mut self.received, &data, &self.target)
            }
            Some(Err(why)) => Err(broken(&self.target, why)),
            None => {
                self.is_over = true;
                Ok(())
            }
        })
    }

    /// The first so many bytes that were received, as a line without its end.
    fn taken(&mut self, bytes: usize) -> String {
        let line = self.received.split_to(bytes);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        String::from_utf8_lossy(line).into_owned()
    }
}

/// An answer that has begun; the connection lives as long as its sender.
#[derive(Debug)]
struct Asked {
    response: Response<Incoming>,
    _sender: SendRequest<Empty<Bytes>>,
}

impl Asked {
    fn body(&mut self) -> &mut Incoming {
        self.response.body_mut()
    }
}

fn runtime() -> Result<Runtime, Error> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|why| Error::System("start a runtime for the network", why))
}

async fn in_time<T>(
    target: &Target,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let silent = |_| Err(Error::Lost(target.clone(), too_late()));
    timeout(PATIENCE, answer).await.unwrap_or_else(silent)
}

fn too_late() -> io::Error {
    let why = format!("no answer within {} s", PATIENCE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// Connects, asks, and gives the answer once its head is there.
async fn ask(target: &Target, path: &str) -> Result<Asked, Error> {
    let unreachable = |why| Error::Unreachable(target.clone(), why);
    let mut asked = match target {
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(unreachable)?;
            send(stream, &address.to_string(), path).await
        }
        Target::Unix(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
            send(stream, "localhost", path).await
        }
    }
    .map_err(|why| broken(target, why))?;
    match asked.response.status() {
        StatusCode::OK => Ok(asked),
        status => {
            let words = asked.body().frame().await;
            let words = words.and_then(Result::ok).map(|f| f.into_data());
            let words = shown(&words.and_then(Result::ok).unwrap_or_default());
            Err(Error::Answer(target.clone(), refusal(status, path, &words)))
        }
    }
}

async fn send<S>(stream: S, host: &str, path: &str) -> Result<Asked, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors are those of the request, which are told there.
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, host).body(Empty::new());
    let request = request.expect("paths and addresses are written as HTTP wants them");
    let response = sender.send_request(request).await?;
    Ok(Asked {
        response,
        _sender: sender,
    })
}

fn refusal(status: StatusCode, path: &str, words: &str) -> String {
    match status {
        StatusCode::NOT_FOUND => {
            format!("has no {path}: is it a tokencached of this tool's release? (404: {words:?})")
        }
        _ => format!(
            "answered {} to {path}: {words:?}; is it a tokencached of this tool's release?",
            status.as_u16()
        ),
    }
}

async fn whole(target: &Target, mut asked: Asked) -> Result<Vec<u8>, Error> {
    let mut received = BytesMut::new();
    while let Some(frame) = asked.body().frame().await {
        let data = frame.map_err(|why| broken(target, why))?.into_data();
        add(&mut received, &data.unwrap_or_default(), target)?;
    }
    Ok(received.into())
}

fn add(received: &mut BytesMut, data: &[u8], target: &Target) -> Result<(), Error> {
    if received.len() + data.len() > ANSWER_BYTES_MAX {
        let most = ANSWER_BYTES_MAX >> 20;
        let what = format!("answered more than {most} MiB: does a tokencached listen there?");
        return Err(Error::Answer(target.clone(), what));
    }
    received.extend_from_slice(data);
    Ok(())
}

fn broken(target: &Target, why: hyper::Error) -> Error {
    let what = if why.is_parse() {
        "answers in something else than HTTP: is this where the server has its --http?"
    } else if why.is_incomplete_message() {
        "closes the connection without an answer: is this where the server has its --http?"
    } else {
        return Error::Lost(target.clone(), io::Error::other(why));
    };
    Error::Answer(target.clone(), what.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";

    /// Answers one request with this, and closes; gives where.
    fn answering(answer: impl Into<Vec<u8>>) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let answer = answer.into();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            serve(stream, &answer);
        });
        target
    }

    /// A client that has heard enough may have gone.
    fn serve(mut stream: impl Read + Write, answer: &[u8]) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
            head.extend_from_slice(&byte);
        }
        assert!(head.starts_with(b"GET /x HTTP/1.1\r\n"));
        let _ = stream.write_all(answer);
    }

    fn why(answer: impl Into<Vec<u8>>) -> String {
        let message = get(&answering(answer), "/x").unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn an_answer_comes_whole_over_tcp_and_over_a_unix_socket() {
        let answer = format!("{HEAD}some\nlines");
        let body = get(&answering(answer.clone()), "/x").unwrap();
        assert_eq!(body, b"some\nlines");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || serve(listener.accept().unwrap().0, answer.as_bytes()));
        assert_eq!(get(&Target::Unix(path), "/x").unwrap(), b"some\nlines");
        server.join().unwrap();
    }

    #[test]
    fn who_is_not_there_is_told_with_what_to_look_at() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        drop(listener);
        let message = get(&target, "/x").unwrap_err().to_string();
        assert!(message.contains("refused"), "{message}");
        assert!(message.contains("--http"), "{message}");
        let missing = Target::Unix("/nowhere/admin.sock".into());
        let message = get(&missing, "/x").unwrap_err().to_string();
        assert!(message.contains("unix:/nowhere/admin.sock"), "{message}");
    }

    #[test]
    fn another_status_is_told_with_the_servers_words() {
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\ntry \x1b/metrics";
        let message = why(answer);
        assert!(message.contains("has no /x"), "{message}");
        assert!(message.contains("try ?/metrics"), "{message}");
        let message = why("HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n");
        assert!(message.contains("answered 302"), "{message}");
    }

    #[test]
    fn what_is_no_http_is_told() {
        let message = why("ERROR\r\n");
        assert!(message.contains("something else than HTTP"), "{message}");
        let message = why([0xff; 100]);
        assert!(message.contains("something else than HTTP"), "{message}");
    }

    #[test]
    fn an_answer_that_breaks_off_is_no_answer() {
        let message = why("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        assert!(message.contains("lost the connection"), "{message}");
        assert!(why("").contains("without an answer"));
    }

    #[test]
    fn an_answer_has_an_end() {
        let mut answer = HEAD.as_bytes().to_vec();
        answer.resize(HEAD.len() + ANSWER_BYTES_MAX, b'x');
        let most = get(&answering(answer.clone()), "/x").unwrap();
        assert_eq!(most.len(), ANSWER_BYTES_MAX);
        answer.push(b'x');
        let message = why(answer.clone());
        assert!(message.contains("more than 4 MiB"), "{message}");
        let mut lines = lines(&answering(answer), "/x").unwrap();
        assert!(lines.next().unwrap().is_err());
        assert!(lines.next().is_none(), "nothing after the error");
    }

    #[test]
    fn silence_is_waited_out_for_a_bounded_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let message = get(&target, "/x").unwrap_err().to_string();
        assert!(message.contains("no answer within 5 s"), "{message}");
    }

    #[test]
    fn lines_come_when_they_are_sent_however_they_are_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let (goes_on, is_told) = std::sync::mpsc::channel::<()>();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            serve(&stream, head.as_bytes());
            let mut stream = &stream;
            stream.write_all(b"8\r\none\ntwo\n\r\n").unwrap();
            is_told.recv().unwrap();
            for piece in ["2\r\nth\r\n", "5\r\nree\r\n\r\n", "4\r\nlast\r\n0\r\n\r\n"] {
                stream.write_all(piece.as_bytes()).unwrap();
            }
        });
        let mut lines = lines(&target, "/x").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "one");
        assert_eq!(lines.next().unwrap().unwrap(), "two");
        goes_on.send(()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "three");
        assert_eq!(lines.next().unwrap().unwrap(), "last");
        assert!(lines.next().is_none());
        server.join().unwrap();
    }
}
