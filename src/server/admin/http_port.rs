//! The HTTP port: open to whoever is on this machine.
//!
//! It listens on loopback unless told otherwise, and answers who means it (`hosts`).
//!
//! Invariant: at most 32 connections at a time; the oldest makes room for a new one, and each has a deadline, so that
//! nobody can hold the port for others.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::connections::{Connections, PAUSE, http};
use super::{Admin, plain};
use crate::server::hosts::{Fault, Hosts};

const CONNECTIONS_MAX: usize = 32;
const CONNECTION_DEADLINE: Duration = Duration::from_secs(300);

/// Who is served under which names.
pub struct HttpPort {
    admin: Arc<Admin>,
    hosts: Hosts,
}

impl HttpPort {
    /// Serves what is shown under these names.
    pub fn new(admin: Arc<Admin>, hosts: Hosts) -> HttpPort {
        HttpPort { admin, hosts }
    }

    /// Serves until its future is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let port = Arc::new(self);
        let mut connections = Connections::default();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let served = Arc::clone(&port).serve_connection(stream);
            if !connections.has_room(CONNECTIONS_MAX) {
                connections.end_oldest();
            }
            connections.begin(async move {
                // An error, or the deadline, ends the connection; neither is of interest here.
                let _ = tokio::time::timeout(CONNECTION_DEADLINE, served).await;
            });
        }
    }

    async fn serve_connection(self: Arc<HttpPort>, stream: TcpStream) {
        let Ok(local) = stream.local_addr() else {
            // It has ended.
            return;
        };
        let answer = |request: Request<Incoming>| {
            let response = self.respond(&request, local.ip());
            async move { Ok::<_, Infallible>(response) }
        };
        let served = http().serve_connection(TokioIo::new(stream), service_fn(answer));
        // However it ended, there is nobody to tell.
        drop(served.await);
    }

    fn respond<B>(&self, request: &Request<B>, local: IpAddr) -> Response<Full<Bytes>> {
        let addressed = (request.version(), request.uri(), request.headers());
        match self.hosts.check(addressed, local) {
            Ok(()) => self.admin.answer(request),
            Err(Fault::Unclear) => plain(StatusCode::BAD_REQUEST, "say one Host\n"),
            Err(Fault::Elsewhere) => {
                let why = "not under this name; --http-hosts allows others\n";
                plain(StatusCode::MISDIRECTED_REQUEST, why)
            }
        }
    }
}
