//! The admin socket: what is not for every user of the machine.
//!
//! A unix socket that speaks HTTP, as the HTTP port does, and lets its peers `watch`. The operator's tool connects to it.
//!
//! Invariants:
//! - none but root and the server's own user are served: the file's mode keeps others out, and the kernel is asked whose
//!   a connection is;
//! - bounded: 16 connections, and who comes then is closed; a peer that takes nothing of what it watches for a minute
//!   loses its connection.

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};

use super::connections::{Connections, PAUSE, http};
use super::watch::{Progress, Watch};
use super::{Admin, plain, typed};
use crate::clock::Clock;
use crate::protocol::codec::Protocol;
use crate::server::UnixSocket;
use crate::server::listener::Listener;
use crate::server::socket_file::SocketFile;

const CONNECTIONS_MAX: usize = 16;
const BACKLOG: i32 = 16;
const MODE: u32 = 0o600;

const LINES: &str = "application/x-ndjson";

/// What a peer is answered.
type Body = Either<Full<Bytes>, Watch>;

/// The socket, listening; its file is removed with it.
#[derive(Debug)]
pub struct AdminSocket {
    /// Removed before the socket is closed.
    file: SocketFile,
    listener: StdListener,
}

impl AdminSocket {
    /// Listens at this path. A socket file that nobody listens on any more is replaced; anything else there is left alone.
    ///
    /// # Errors
    /// Those of the socket calls; `AddrInUse` if a server listens there, `AlreadyExists` if the path is no socket.
    pub fn bind(path: &Path) -> io::Result<AdminSocket> {
        let options = UnixSocket {
            path: path.to_owned(),
            mode: MODE,
            protocol: Protocol::Auto,
        };
        let (listener, file) = Listener::bind_unix(&options, BACKLOG)?;
        Ok(AdminSocket {
            file,
            listener: listener.socket().try_clone_to_owned()?.into(),
        })
    }

    /// Serves until its future is dropped.
    ///
    /// # Errors
    /// Those of handing the socket to the runtime.
    pub async fn serve(self, admin: Arc<Admin>) -> io::Result<()> {
        let AdminSocket { file, listener } = self;
        let listener = UnixListener::from_std(listener)?;
        // Dropped before the listener.
        let _file = file;
        let mut connections = Connections::default();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
            if !is_allowed(uid) {
                tracing::warn!(
                    uid,
                    "refused on the admin socket, which is for root and this server's user"
                );
            } else if connections.has_room(CONNECTIONS_MAX) {
                connections.begin(serve_connection(Arc::clone(&admin), stream));
            }
        }
    }
}

/// Whether this is root, or the user that this server runs as.
fn is_allowed(uid: Option<u32>) -> bool {
    uid.is_some_and(|uid| uid == 0 || uid == geteuid().as_raw())
}

async fn serve_connection(admin: Arc<Admin>, stream: UnixStream) {
    let progress = Progress::default();
    let answer = |request: Request<Incoming>| {
        let response = respond(&admin, &request, &progress);
        async move { Ok::<_, Infallible>(response) }
    };
    let served = http().serve_connection(TokioIo::new(stream), service_fn(answer));
    // However it ended, there is nobody to tell.
    tokio::select! {
        _ = served => {}
        () = progress.stalled() => {}
    }
}

fn respond<B>(admin: &Admin, request: &Request<B>, progress: &Progress) -> Response<Body> {
    if request.method() != Method::GET || request.uri().path() != "/watch" {
        return admin.answer(request).map(Either::Left);
    }
    let engine = Arc::clone(&admin.engine);
    match Watch::begin(engine, Clock::System.now(), progress.clone()) {
        Ok(watch) => typed(Response::new(Either::Right(watch)), LINES),
        Err(full) => {
            let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "");
            *response.body_mut() = Full::from(format!("{full}\n"));
            response.map(Either::Left)
        }
    }
}
