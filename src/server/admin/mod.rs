//! What the server shows people and their programs, over HTTP: the status page and its figures as JSON, `/metrics` for
//! Prometheus, `/healthz` for whoever restarts servers.
//!
//! [`Admin`] answers; `http_port` asks it for anybody on this machine, `unix_socket` for root and the server's own user,
//! who may `watch` as well. All of it runs in the main thread, apart from the workers. Nothing in it names a key or shows
//! a value.
//!
//! Invariant: page, status and metrics are made at most ten times a second, however often they are asked for; all who ask
//! meanwhile share one text. Who does not read keeps the one that was asked for, so that there are at most as many as
//! connections.

mod connections;
pub mod http_port;
pub mod unix_socket;
mod watch;

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use parking_lot::Mutex;

use super::page;
use crate::clock::{Clock, Now};
use crate::engine::Engine;

/// How long a text is served before another is made.
const FRESH_NANOS: u64 = 100_000_000;

const HTML: &str = "text/html; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";
const PATHS: &str = "try /, /api/status, /metrics or /healthz\n";
const METHODS: &str = "GET, HEAD";

/// What is shown.
pub struct Admin {
    engine: Arc<Engine>,
    page: Latest,
    metrics: Latest,
    status: Latest,
}

/// The latest text that was made of something.
#[derive(Default)]
struct Latest(Mutex<Option<Made>>);

/// A text, and when it was made.
struct Made {
    nanos: u64,
    text: Bytes,
}

impl Latest {
    /// The latest text while it is fresh, or else a new one.
    fn get(
        &self,
        now: Now,
        make: impl FnOnce(Now) -> Result<String, String>,
    ) -> Result<Bytes, String> {
        let mut latest = self.0.lock();
        if let Some(made) = &*latest
            && now.nanos.saturating_sub(made.nanos) < FRESH_NANOS
        {
            return Ok(made.text.clone());
        }
        let text = Bytes::from(make(now)?);
        *latest = Some(Made {
            nanos: now.nanos,
            text: text.clone(),
        });
        Ok(text)
    }
}

impl Admin {
    /// Shows what there is to tell of the engine.
    pub fn new(engine: Arc<Engine>) -> Admin {
        Admin {
            engine,
            page: Latest::default(),
            metrics: Latest::default(),
            status: Latest::default(),
        }
    }

    /// The answer to a request. Takes as long as making a text does, milliseconds at most.
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            let allowed = HeaderValue::from_static(METHODS);
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        match request.uri().path() {
            "/" => guarded(made(HTML, self.page(Clock::System.now()))),
            "/metrics" => made(METRICS, self.metrics(Clock::System.now())),
            "/api/status" => made(JSON, self.status(Clock::System.now())),
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            _ => plain(StatusCode::NOT_FOUND, PATHS),
        }
    }

    fn page(&self, now: Now) -> Result<Bytes, String> {
        self.page
            .get(now, |now| page::render(&self.engine.status(now)))
    }

    fn metrics(&self, now: Now) -> Result<Bytes, String> {
        self.metrics.get(now, |now| self.engine.metrics(now))
    }

    fn status(&self, now: Now) -> Result<Bytes, String> {
        let write = |now| serde_json::to_string(&self.engine.status(now));
        self.status
            .get(now, |now| write(now).map_err(|error| error.to_string()))
    }
}

/// A text that was made, or an apology for the client and a line for the log.
fn made(content_type: &'static str, text: Result<Bytes, String>) -> Response<Full<Bytes>> {
    match text {
        Ok(text) => response(StatusCode::OK, content_type, text),
        Err(error) => {
            tracing::error!(%error, "what is counted cannot be shown");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "see the server's log\n")
        }
    }
}

/// A page with what a browser is told to keep it from.
fn guarded(mut page: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let headers = page.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, page::policy()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    page
}

fn plain(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    response(status, PLAIN, Bytes::from_static(body.as_bytes()))
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    typed(response, content_type)
}

/// Says what an answer is, and that nobody keeps it.
fn typed<B>(mut response: Response<B>, content_type: &'static str) -> Response<B> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::engine::Options;
    use crate::stats::memcached::Process;
    use crate::store::{self, Store};

    fn admin() -> Admin {
        let process = Process {
            started: Clock::manual().now(),
            connections_max: 1,
            threads: 1,
        };
        let store = Store::new(&store::Options::default()).unwrap();
        let engine = Engine::new(store, Options::default(), process);
        Admin::new(Arc::new(engine))
    }

    fn at(nanos: u64) -> Now {
        Now {
            nanos,
            ..Clock::manual().now()
        }
    }

    #[test]
    fn who_asks_again_at_once_gets_the_same_text_and_later_a_new_one() {
        let admin = admin();
        let first = admin.metrics(at(1_000)).unwrap();
        let counters = admin.engine.stats().register_worker();
        counters.get_hits.add(7);
        let again = admin.metrics(at(1_000 + FRESH_NANOS - 1)).unwrap();
        assert_eq!(again.as_ptr(), first.as_ptr(), "shared, not copied");
        let later = admin.metrics(at(1_000 + FRESH_NANOS)).unwrap();
        let line = r#"memcached_commands_total{command="get",status="hit"} 7"#;
        assert!(String::from_utf8_lossy(&later).contains(line));
    }
}
