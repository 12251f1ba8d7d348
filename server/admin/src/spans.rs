//! Spans for a collector that speaks OTLP over gRPC. They are made of what was measured, when the work is over: while it goes on,
//! nothing is done for them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{self as otlp, ResourceSpans, ScopeSpans, Status, span::SpanKind, status::StatusCode},
};
use suf_net::Target;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use crate::{
    Registry,
    readings::{Reading, read_at_each_scrape},
};

/// Traces that wait for the collector. What comes while so many wait is lost, and counted.
const WAITING: usize = 64;

/// How long a connection, or one request, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Spans of one request: some hundred kilobytes, and collectors take 4 MiB.
const SPANS_PER_REQUEST: usize = 2000;

/// What the collector is told of this program.
const SCOPE: &str = "suf";

/// The address of a collector: `http://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorAddress(String);

/// One trace, as one process saw it: spans within each other, the outermost first.
#[derive(Clone, Debug)]
pub struct Trace {
    id: [u8; 16],
    base: u64,
    parent: Option<u64>,
    spans: Vec<Span>,
}

/// A stretch of time in which something was done.
#[derive(Clone, Debug)]
pub struct Span {
    /// What was done.
    pub name: String,
    /// The number of the span that it is within, by the order in which they were added; none for the outermost.
    pub within: Option<usize>,
    /// From when until when.
    pub stretch: (Instant, Instant),
    /// What else is to be said.
    pub facts: Vec<(&'static str, Fact)>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Something to say of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

/// Where traces are handed in. Clones share the queue.
#[derive(Clone)]
pub struct Collector {
    queue: mpsc::Sender<Trace>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    told: AtomicU64,
    lost: AtomicU64,
}

impl std::str::FromStr for CollectorAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write for example \"http://127.0.0.1:4317\"";
        let Some(target) = text.strip_prefix("http://") else {
            return Err(format!(
                "{text:?} does not begin with http://; {example}, and let a collector on this host go on with TLS"
            ));
        };
        target.parse::<Target>().map_err(|error| format!("{error}; {example}"))?;
        Ok(Self(text.to_owned()))
    }
}

impl Trace {
    /// A trace with the id `id`. Spans are numbered from `base` on, so that processes with other bases can share the trace. `parent`
    /// is the number of the span, in another process, that the outermost one is within.
    ///
    /// An id that a client can know must not be used: whoever reads the collector could then tell whose trace it is.
    #[must_use]
    pub fn new(id: [u8; 16], base: u64, parent: Option<u64>) -> Self {
        Self { id, base, parent, spans: Vec::new() }
    }

    /// Adds a span; its number in [`Span::within`].
    pub fn add(&mut self, span: Span) -> usize {
        self.spans.push(span);
        self.spans.len() - 1
    }

    fn encoded(&self, now: (Instant, SystemTime)) -> Vec<otlp::Span> {
        let number = |index: usize| self.base.wrapping_add(index as u64).to_be_bytes().to_vec();
        let spans = self.spans.iter().enumerate();
        let encode = |(index, span): (usize, &Span)| {
            let parent = match (span.within, self.parent) {
                (Some(within), _) => number(within),
                (None, Some(parent)) => parent.to_be_bytes().to_vec(),
                (None, None) => Vec::new(),
            };
            otlp::Span {
                trace_id: self.id.to_vec(),
                span_id: number(index),
                parent_span_id: parent,
                name: span.name.clone(),
                kind: SpanKind::Internal.into(),
                start_time_unix_nano: unix_ns(span.stretch.0, now),
                end_time_unix_nano: unix_ns(span.stretch.1, now),
                attributes: span.facts.iter().map(|(key, fact)| fact.of(key)).collect(),
                status: span
                    .failure
                    .clone()
                    .map(|message| Status { message, code: StatusCode::Error.into() }),
                ..otlp::Span::default()
            }
        };
        spans.map(encode).collect()
    }
}

impl Fact {
    fn of(&self, key: &str) -> KeyValue {
        let value = match self {
            Self::Number(number) => any_value::Value::IntValue(i64::try_from(*number).unwrap_or(i64::MAX)),
            Self::Text(text) => any_value::Value::StringValue(text.clone()),
        };
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }
}

/// `moment` by the wall clock, in nanoseconds since the Unix epoch.
fn unix_ns(moment: Instant, (now, clock): (Instant, SystemTime)) -> u64 {
    let then = clock.checked_sub(now.saturating_duration_since(moment)).unwrap_or(SystemTime::UNIX_EPOCH);
    let since = then.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Collector {
    /// Hands traces of the process `instance`, such as `party0`, on to the collector at `address`. Must be called within a tokio
    /// runtime.
    #[must_use]
    pub fn start(address: &CollectorAddress, instance: &'static str) -> Self {
        let (queue, traces) = mpsc::channel(WAITING);
        let counts = Arc::new(Counts::default());
        let endpoint = Endpoint::from_shared(address.0.clone()).expect("the address was checked");
        let channel = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE).connect_lazy();
        tokio::spawn(hand_on(traces, TraceServiceClient::new(channel), instance, Arc::clone(&counts)));
        Self { queue, counts }
    }

    /// Hands a trace in. It is lost if too many wait.
    pub fn tell(&self, trace: Trace) {
        if self.queue.try_send(trace).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts what became of the traces into `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let counts = Arc::clone(&self.counts);
        read_at_each_scrape(registry, move || {
            let of = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
            let traces = Reading::counter("traces", "Traces, by whether the collector took them", None);
            vec![
                traces
                    .with([("outcome", "told")], of(&counts.told))
                    .with([("outcome", "lost")], of(&counts.lost)),
            ]
        });
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

async fn hand_on(
    mut traces: mpsc::Receiver<Trace>,
    mut client: TraceServiceClient<Channel>,
    instance: &'static str,
    counts: Arc<Counts>,
) {
    let mut takes = true;
    while let Some(trace) = traces.recv().await {
        let outcome = export(&mut client, &trace, instance).await;
        let count = if outcome.is_ok() { &counts.told } else { &counts.lost };
        count.fetch_add(1, Ordering::Relaxed);
        // Said once for each time that it changes.
        match &outcome {
            Ok(()) if !takes => tracing::info!("the collector of spans takes them again"),
            Err(why) if takes => tracing::warn!(why, "the collector of spans (otlp) does not take a trace"),
            _ => {}
        }
        takes = outcome.is_ok();
    }
}

async fn export(
    client: &mut TraceServiceClient<Channel>,
    trace: &Trace,
    instance: &str,
) -> Result<(), String> {
    let text = |key, value: &str| Fact::Text(value.to_owned()).of(key);
    let resource = Resource {
        attributes: vec![text("service.name", SCOPE), text("service.instance.id", instance)],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: SCOPE.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    };
    for spans in trace.encoded((Instant::now(), SystemTime::now())).chunks(SPANS_PER_REQUEST) {
        let scope_spans =
            vec![ScopeSpans { scope: Some(scope.clone()), spans: spans.to_vec(), ..ScopeSpans::default() }];
        let of_process =
            ResourceSpans { resource: Some(resource.clone()), scope_spans, ..ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![of_process] };
        let answer = client.export(request).await.map_err(|status| status.message().to_owned())?;
        if let Some(part) = answer.into_inner().partial_success.filter(|part| part.rejected_spans > 0) {
            return Err(format!("{} spans were rejected: {}", part.rejected_spans, part.error_message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_collectors_are_plain_http() {
        for good in ["http://127.0.0.1:4317", "http://[::1]:4317", "http://collector:4317"] {
            assert!(good.parse::<CollectorAddress>().is_ok(), "{good}");
        }
        for (bad, words) in [
            ("https://collector:4317", "http://"),
            ("collector:4317", "http://"),
            ("http://collector", "no port"),
            ("http://collector:4317/v1/traces", "http://127.0.0.1:4317"),
        ] {
            let error = bad.parse::<CollectorAddress>().expect_err(bad);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn spans_are_within_each_other_and_keep_their_lengths() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut trace = Trace::new([7; 16], 100, Some(55));
        let span = |within, stretch| Span {
            name: "work".into(),
            within,
            stretch,
            facts: vec![("node", Fact::Number(3))],
            failure: None,
        };
        let outermost = trace.add(span(None, (at(0), at(40))));
        let inner =
            trace.add(Span { failure: Some("peer".into()), ..span(Some(outermost), (at(10), at(30))) });
        assert_eq!((outermost, inner), (0, 1));
        let encoded = trace.encoded((at(50), SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
        assert!(encoded.iter().all(|span| span.trace_id == [7; 16]));
        assert_eq!(encoded[0].parent_span_id, 55_u64.to_be_bytes());
        assert_eq!(encoded[0].span_id, 100_u64.to_be_bytes());
        assert_eq!(encoded[1].parent_span_id, encoded[0].span_id);
        assert_eq!(
            (encoded[0].start_time_unix_nano, encoded[0].end_time_unix_nano),
            (950_000_000, 990_000_000)
        );
        assert_eq!(encoded[1].status.as_ref().map(|status| &*status.message), Some("peer"));
    }
}
