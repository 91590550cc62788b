//! The HTTP port: `/metrics` for Prometheus, `/healthz` for whoever restarts servers.
//!
//! Runs in the main thread, apart from the workers. Nothing in it names a key or shows a value; it
//! listens on loopback unless told otherwise.
//!
//! Invariant: at most 32 connections at a time; the oldest makes room for a new one, and each has a
//! deadline for its request, so that nobody can hold the port for others.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::clock::Clock;
use crate::engine::Engine;

const CONNECTIONS_MAX: usize = 32;
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
const CONNECTION_DEADLINE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(100);

/// Serves HTTP until its future is dropped.
pub async fn serve(listener: TcpListener, engine: Arc<Engine>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let connection = serve_connection(stream, Arc::clone(&engine));
        // An error, or the deadline, ends the connection; neither is of interest here.
        let served = tokio::spawn(tokio::time::timeout(CONNECTION_DEADLINE, connection));
        open.push_back(served.abort_handle());
    }
}

async fn serve_connection(stream: TcpStream, engine: Arc<Engine>) -> hyper::Result<()> {
    let answer = |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &engine);
        async move { Ok::<_, Infallible>(response) }
    };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
}

fn respond(method: &Method, path: &str, engine: &Engine) -> Response<Full<Bytes>> {
    const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
    const PLAIN: &str = "text/plain; charset=utf-8";
    if method != Method::GET && method != Method::HEAD {
        return response(
            StatusCode::METHOD_NOT_ALLOWED,
            PLAIN,
            "only GET and HEAD\n".to_owned(),
        );
    }
    match path {
        "/metrics" => match engine.metrics(Clock::System.now()) {
            Ok(text) => response(StatusCode::OK, METRICS, text),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be shown");
                response(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    PLAIN,
                    "no metrics\n".to_owned(),
                )
            }
        },
        "/healthz" => response(StatusCode::OK, PLAIN, "ok\n".to_owned()),
        _ => response(
            StatusCode::NOT_FOUND,
            PLAIN,
            "try /metrics or /healthz\n".to_owned(),
        ),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
