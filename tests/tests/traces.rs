//! Traces of real runs, as a collector gets them: one for each run, with a span for each node. Nothing in them leads to a client's
//! run.

mod collector;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::mpsc::RecvTimeoutError,
    time::Duration,
};

use collector::Receiving;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use prost::Message;
use suf_tests::{
    models::{TEXTS, Tiny},
    npy,
    pages::{page, until},
    processes::{Hosts, expect},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const DONE: i32 = 0;
const FAILED: i32 = 1;

/// How long a trace may be on its way.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was received so far.
struct Collector {
    receiving: Receiving,
    received: Vec<ExportTraceServiceRequest>,
}

impl Collector {
    fn start() -> Self {
        Self { receiving: Receiving::start(), received: Vec::new() }
    }

    /// Hosts whose parties send their traces here.
    fn hosts(&self, model: bool) -> Hosts {
        let mut hosts = Hosts::prepare(Path::new(PROGRAM));
        let table = if model {
            Tiny::load().write(&hosts.folder().join("model"));
            "\n[[models]]\ndir = \"model\"\n"
        } else {
            ""
        };
        hosts.start_daemons(|name, config| match name {
            "dealer" => format!("{config}{table}"),
            _ => format!(
                "admin = \"127.0.0.1:0\"\notlp = \"http://{}\"\n{config}{table}",
                self.receiving.address
            ),
        });
        hosts
    }

    /// Spans by trace, once both parties have told of `runs` runs.
    fn traces(&mut self, runs: usize) -> BTreeMap<Vec<u8>, Vec<Span>> {
        loop {
            let spans = self.received.iter().flat_map(|request| &request.resource_spans);
            let spans = spans.flat_map(|of| &of.scope_spans).flat_map(|scope| &scope.spans);
            let mut traces = BTreeMap::<_, Vec<_>>::new();
            for span in spans {
                traces.entry(span.trace_id.clone()).or_default().push(span.clone());
            }
            let told: usize =
                traces.values().flatten().filter(|span| span.name.starts_with("run at ")).count();
            if told >= 2 * runs {
                return traces;
            }
            match self.receiving.requests.recv_timeout(PATIENCE) {
                Ok(request) => self.received.push(request),
                Err(RecvTimeoutError::Timeout) => panic!("{told} of {} halves came", 2 * runs),
                Err(RecvTimeoutError::Disconnected) => panic!("the collector has ended"),
            }
        }
    }
}

/// The number in an attribute.
fn number(span: &Span, key: &str) -> Option<i64> {
    let found = span.attributes.iter().find(|fact| fact.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::IntValue(number) => Some(*number),
        _ => None,
    }
}

/// The span of `party`'s half of a run.
fn half(spans: &[Span], party: u8) -> &Span {
    let name = format!("run at party{party}");
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name}");
    found[0]
}

/// Checks one trace: both halves are in it, each span is within another of its half, and there is a span for each of `nodes`.
fn check(spans: &[Span], nodes: &BTreeSet<i64>) {
    let halves = [half(spans, 0), half(spans, 1)];
    assert!(halves[0].parent_span_id.is_empty(), "party 0's half is the outermost");
    assert_eq!(halves[1].parent_span_id, halves[0].span_id);
    let known: BTreeMap<_, _> = spans.iter().map(|span| (&span.span_id, span)).collect();
    assert_eq!(known.len(), spans.len(), "two spans have one id");
    for span in spans.iter().filter(|span| !span.parent_span_id.is_empty()) {
        let parent = known.get(&span.parent_span_id).unwrap_or_else(|| panic!("{} has no parent", span.name));
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{}", span.name);
        if !span.name.starts_with("run at ") {
            let within = parent.start_time_unix_nano <= span.start_time_unix_nano
                && span.end_time_unix_nano <= parent.end_time_unix_nano;
            assert!(within, "{} is not within {}", span.name, parent.name);
        }
    }
    for half in halves {
        let own = spans.iter().filter(|span| span.parent_span_id == half.span_id);
        let told: Vec<_> = own.filter_map(|span| number(span, "suf.node")).collect();
        assert_eq!(told.len(), nodes.len(), "{}: a node has two spans, or none", half.name);
        assert_eq!(&told.into_iter().collect::<BTreeSet<_>>(), nodes, "{}", half.name);
    }
    let exchanges = spans.iter().filter(|span| span.name == "exchange");
    assert!(exchanges.count() >= 2, "no exchange was told");
}

#[test]
fn a_run_is_one_trace_with_a_span_for_each_node_and_no_id_of_it() {
    let mut collector = Collector::start();
    let hosts = collector.hosts(true);
    fs::write(hosts.folder().join("texts.txt"), TEXTS[1]).expect("writable");
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 100_000]);
    expect(&hosts.onehot("x.npy"), DONE, &[], "a gate");
    let mut embed = hosts.command(&["embed", "--model", "model", "--out", "v.npy", "--input", "texts.txt"]);
    expect(&embed.args(hosts.as_client()).output().expect("suf starts"), DONE, &[], "a model");

    // What the clients know of their runs: ids, hashes, batches.
    let [option, url, ..] = hosts.as_client_of("party0");
    let list = |who: &str| {
        let listed = hosts.suf(&["runs", "--json", &option, &url, "--identity", &format!("pki/{who}.pem")]);
        expect(&listed, DONE, &[], "listing runs");
        let runs: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        runs.as_array().expect("a list").clone()
    };
    let runs = list("client");
    let traces = collector.traces(runs.len());
    assert_eq!(traces.len(), runs.len(), "one trace for each run");
    for spans in traces.values() {
        let outputs_and_all: BTreeSet<_> = spans
            .iter()
            .filter(|span| span.parent_span_id == half(spans, 0).span_id)
            .filter_map(|span| number(span, "suf.node"))
            .collect();
        let most = outputs_and_all.iter().max().copied().expect("nodes");
        check(spans, &(0..=most).collect());
    }
    // The model's program has a GELU, too: the gate's run is known by its size.
    assert!(traces.values().any(|spans| number(half(spans, 1), "suf.elements") == Some(100_000)));

    let mut ids: Vec<String> = hosts.burnt("party0");
    for run in runs.iter().chain(&list("operator")) {
        for key in ["run_id", "run_hash", "batch_id"] {
            ids.extend(run[key].as_str().map(|id| id.trim_start_matches("hash:").to_owned()));
        }
    }
    ids.retain(|id| !id.is_empty());
    assert!(ids.len() >= 3 * runs.len(), "{ids:?}");
    for request in &collector.received {
        let bytes = request.encode_to_vec();
        for id in &ids {
            let raw: Vec<u8> = (0..id.len() / 2)
                .filter_map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).ok())
                .collect();
            for form in [id.as_bytes(), &raw[..8]] {
                assert!(!bytes.windows(form.len()).any(|window| window == form), "{id} was told");
            }
        }
    }
}

#[test]
fn a_failed_run_is_told_with_its_fault_and_a_collector_that_is_gone_costs_traces_alone() {
    let mut collector = Collector::start();
    let mut hosts = collector.hosts(false);
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 9]);
    hosts.kill("dealer");
    expect(&hosts.onehot("x.npy"), FAILED, &["dealer"], "without a dealer");
    let traces = collector.traces(1);
    let spans = traces.values().next().expect("one");
    for party in [0, 1] {
        let status = half(spans, party).status.clone().expect("a status");
        assert!(status.message.starts_with("fault of "), "{status:?}");
    }
    hosts.restart("dealer");
    drop(collector);
    expect(&hosts.onehot("x.npy"), DONE, &[], "without a collector");
    for party in ["party0", "party1"] {
        let lost = "suf_traces_total{outcome=\"lost\"} 1.0\n";
        until(&mut hosts, party, "/metrics", 2 * PATIENCE, |page| page.text.contains(lost));
        assert!(page(&hosts, party, "/metrics").text.contains("suf_traces_total{outcome=\"told\"} 1.0\n"));
    }
}
