//! The admin address: four pages over plain HTTP/1.1. Each connection carries one request.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use suf_net::{Admission, Permit, network_of};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    health::Health,
    readings::{Reading, encode, read_at_each_scrape},
};

/// Connections at once, in all and from one network: a scraper, a probe, a person, and room for a burst of each.
const CONNECTIONS: usize = 32;
const CONNECTIONS_PER_ADDRESS: usize = 16;

/// How long a connection may live, from its first byte to the last of the answer. A request is one packet, and an answer some.
const CONNECTION_TIME: Duration = Duration::from_secs(5);

/// Bytes of a request's line and headers, and headers: the least that the library allows, and more than any scraper sends.
const REQUEST_BYTES: usize = 8 << 10;
const HEADERS: usize = 32;

/// Pause after an accept that failed, such as for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What stands on the pages.
pub struct Pages {
    health: Health,
    registry: Registry,
    status: Box<dyn Fn() -> Value + Send + Sync>,
}

/// Where the pages are, and what was refused there.
struct Place {
    pages: Pages,
    /// Callers come from this host alone.
    local: bool,
}

type Answer = Response<Full<Bytes>>;

impl Pages {
    /// Pages that show `health`, the metrics of `registry`, and what `status` says: an object.
    #[must_use]
    pub fn new(
        health: Health,
        registry: Registry,
        status: impl Fn() -> Value + Send + Sync + 'static,
    ) -> Self {
        Self { health, registry, status: Box::new(status) }
    }

    /// Serves on `listener` until `shutdown`.
    pub async fn serve(mut self, listener: TcpListener, shutdown: CancellationToken) {
        let refused = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&refused);
        let readiness = self.health.clone();
        read_at_each_scrape(&mut self.registry, move || own_readings(&readiness, &counted));
        let local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let place = Arc::new(Place { pages: self, local });
        let places = Admission::new(CONNECTIONS_PER_ADDRESS, CONNECTIONS);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accept(&listener, &place, &places, &refused) => {}
        }
    }
}

async fn accept(
    listener: &TcpListener,
    place: &Arc<Place>,
    places: &Arc<Admission<IpAddr>>,
    refused: &AtomicU64,
) {
    loop {
        let (stream, remote): (TcpStream, SocketAddr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin address; trying again");
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Some(permit) = places.admit(network_of(remote.ip())) else {
            refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        tokio::spawn(answer_one(stream, Arc::clone(place), permit));
    }
}

/// Answers one request. What goes wrong with a connection is its caller's affair: nothing is logged of it.
async fn answer_one(stream: TcpStream, place: Arc<Place>, _permit: Permit<IpAddr>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let place = Arc::clone(&place);
        async move { Ok::<_, Infallible>(place.answer(&request)) }
    });
    let mut builder = http1::Builder::new();
    builder
        .keep_alive(false)
        .max_headers(HEADERS)
        .max_buf_size(REQUEST_BYTES)
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIME);
    let _ = timeout(CONNECTION_TIME, builder.serve_connection(TokioIo::new(stream), service)).await;
}

impl Place {
    fn answer<B>(&self, request: &Request<B>) -> Answer {
        if self.local && !names_this_host(request.headers().get(HOST)) {
            // A page in a browser on this host may have given its own name this address.
            return page(
                StatusCode::FORBIDDEN,
                TEXT,
                "call this address by number, or as localhost\n".into(),
            );
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "the pages are only read\n".into());
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let Pages { health, registry, status } = &self.pages;
        match request.uri().path() {
            "/livez" => page(StatusCode::OK, TEXT, "alive\n".into()),
            "/readyz" => readiness(health),
            "/metrics" => page(StatusCode::OK, OPEN_METRICS, encode(registry)),
            "/status.json" => {
                let mut status = status();
                status["ready"] = json!(health.is_ready());
                status["checks"] = health.found().iter().map(|(name, found)| check(name, found)).collect();
                page(StatusCode::OK, JSON, format!("{status:#}\n"))
            }
            _ => page(
                StatusCode::NOT_FOUND,
                TEXT,
                "there are /livez, /readyz, /metrics and /status.json\n".into(),
            ),
        }
    }
}

/// 200 and a line for each check, or 503 and the reasons.
fn readiness(health: &Health) -> Answer {
    let found = health.found();
    let lines = found.iter().map(|(name, found)| match found {
        Ok(()) => format!("ok: {name}\n"),
        Err(problem) => format!("failed: {name}: {problem}\n"),
    });
    let lines: String = lines.collect();
    let ready = found.iter().all(|(_, found)| found.is_ok());
    if ready {
        page(StatusCode::OK, TEXT, format!("ready\n{lines}"))
    } else {
        page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready\n{lines}"))
    }
}

fn check(name: &str, found: &crate::Found) -> Value {
    match found {
        Ok(()) => json!({ "name": name, "good": true }),
        Err(problem) => {
            json!({ "name": name, "good": false, "problem": problem.what, "advice": problem.advice })
        }
    }
}

fn own_readings(health: &Health, refused: &AtomicU64) -> Vec<Reading> {
    let mut checks = Reading::gauge("check_good", "Whether a check of readiness has passed", None);
    for (name, found) in health.found() {
        checks = checks.with([("check", name)], f64::from(u8::from(found.is_ok())));
    }
    let ready = Reading::gauge("ready", "Whether all checks of readiness have passed", None);
    let refusals = Reading::counter(
        "admin_refused_connections",
        "Connections to the admin address beyond its limits",
        None,
    );
    vec![
        checks,
        ready.of(f64::from(u8::from(health.is_ready()))),
        refusals.of(refused.load(Ordering::Relaxed) as f64),
    ]
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Whether a `Host` header is an address or `localhost`, with or without a port. A request of HTTP/1.0 need not have one.
fn names_this_host(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests;
