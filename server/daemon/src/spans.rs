//! The trace of a run, made of its clocks when it is over.

use std::{collections::BTreeMap, time::Duration};

use suf_admin::{Fact, Span, Trace};
use suf_control::v1;
use suf_gate::Program;
use suf_link::Connection;
use suf_party::{Phase, Plan};
use suf_wire::{NodeId, Part, Party};

use crate::timing::{Clocks, Stretch};

/// What the names of a run's trace are exported for.
const LABEL: &[u8] = b"EXPORTER-suf-trace";

/// The trace's id, and from which number on each party counts its spans. Both parties export the same from their connection, and
/// nobody else can. So a client cannot find its run in a collector, and who reads a collector cannot find the run's client.
type Names = [u8; 32];

/// The trace of the run of `plan`, which has ended as `last`, with these `clocks`. None without a connection: then both parties
/// have no name for it in common.
pub(crate) fn trace(plan: &Plan, connection: &Connection, clocks: &Clocks, last: &v1::Run) -> Option<Trace> {
    let names: Names = connection.exported(LABEL, &plan.batch.0)?;
    let (id, bases) = names.split_at(16);
    let base = |party: Party| {
        let bytes = &bases[8 * party.index()..][..8];
        u64::from_be_bytes(bytes.try_into().expect("8 bytes"))
    };
    let parent = (plan.me == Party::P1).then(|| base(Party::P0));
    let mut trace = Trace::new(id.try_into().expect("16 bytes"), base(plan.me), parent);
    let phases = &clocks.phases;
    let (begun, ended) = (phases.first()?.1, phases.last()?.1);
    let run = trace.add(Span {
        name: format!("run at {}", plan.me),
        within: None,
        stretch: (begun, ended),
        facts: run_facts(plan, last),
        failure: last.failure.as_ref().map(why),
    });
    for pair in phases.windows(2) {
        let [(phase, from), (_, until)] = pair else { continue };
        trace.add(Span {
            name: phase_name(*phase).to_owned(),
            within: Some(run),
            stretch: (*from, *until),
            facts: Vec::new(),
            failure: None,
        });
    }
    add_nodes(&mut trace, run, &plan.program, clocks, last);
    Some(trace)
}

/// A span for each node that was worked on, and within it one for each of its exchanges. That is from when the first tile waits for the
/// peer's message until the last has it.
fn add_nodes(trace: &mut Trace, run: usize, program: &Program, clocks: &Clocks, last: &v1::Run) {
    let mut nodes: BTreeMap<NodeId, BTreeMap<Part, Vec<Stretch>>> = BTreeMap::new();
    for (part, stretch) in &clocks.works {
        nodes.entry(part.node).or_default().entry(*part).or_default().push(*stretch);
    }
    for (id, mut parts) in nodes {
        parts.values_mut().for_each(|works| works.sort_unstable());
        let all = || parts.values().flatten();
        let (Some(begin), Some(end)) =
            (all().map(|stretch| stretch.0).min(), all().map(|stretch| stretch.1).max())
        else {
            continue;
        };
        let node = program.node(id);
        let within = trace.add(Span {
            name: node.op().def().name(),
            within: Some(run),
            stretch: (begin, end),
            facts: node_facts(id, node.tiles(), last),
            failure: None,
        });
        let exchanges = node.exchanges();
        for step in 0..exchanges {
            // The last works of a tile are one for each exchange, and the one that ends it.
            let waits = parts.values().filter_map(|works| {
                let works = &works[works.len().checked_sub(exchanges + 1)?..];
                Some((works[step].1, works[step + 1].0))
            });
            let waits: Vec<_> = waits.collect();
            let from = waits.iter().map(|wait| wait.0).min();
            let until = waits.iter().map(|wait| wait.1).max();
            if let (Some(from), Some(until)) = (from, until) {
                let facts = vec![("suf.exchange", Fact::Number(step as u64))];
                let name = "exchange".to_owned();
                trace.add(Span { name, within: Some(within), stretch: (from, until), facts, failure: None });
            }
        }
    }
}

fn run_facts(plan: &Plan, last: &v1::Run) -> Vec<(&'static str, Fact)> {
    let mut facts = vec![
        ("suf.party", Fact::Number(plan.me.index() as u64)),
        ("suf.elements", Fact::Number(last.elements)),
        ("suf.outcome", Fact::Text(crate::entry::step_name(last.state()))),
    ];
    if let Some(figures) = &last.figures {
        facts.extend([
            ("suf.rounds", Fact::Number(figures.rounds.into())),
            ("suf.bits_sent", Fact::Number(figures.bits_sent)),
            ("suf.bits_received", Fact::Number(figures.bits_received)),
            ("suf.key_bytes", Fact::Number(figures.key_bytes)),
        ]);
    }
    facts
}

fn node_facts(id: NodeId, tiles: u32, last: &v1::Run) -> Vec<(&'static str, Fact)> {
    let mut facts = vec![("suf.node", Fact::Number(id.0.into())), ("suf.tiles", Fact::Number(tiles.into()))];
    let figures = last
        .figures
        .as_ref()
        .and_then(|figures| figures.nodes.iter().find(|node| node.node == u32::from(id.0)));
    if let Some(node) = figures {
        facts.extend([
            ("suf.bits_sent", Fact::Number(node.bits_sent)),
            ("suf.bits_received", Fact::Number(node.bits_received)),
            ("suf.key_bytes", Fact::Number(node.key_bytes)),
            (
                "suf.computing_us",
                Fact::Number(Duration::from_secs_f64(node.comp_ms / 1e3).as_micros() as u64),
            ),
        ]);
    }
    facts
}

/// Whose fault it was, and at which step. The reason itself may name a batch or a client's tensor.
fn why(failure: &v1::Failure) -> String {
    let fault = failure.fault().as_str_name().trim_start_matches("FAULT_").to_lowercase();
    format!("fault of {fault} while {}", failure.step)
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Proposing => "propose",
        Phase::Dealing => "deal keys",
        Phase::AwaitingInput => "await input",
        Phase::Opening => "open inputs",
        Phase::AwaitingPeer => "await peer",
        Phase::Evaluating => "evaluate",
        Phase::Closing => "close",
        Phase::Ended => "end",
    }
}
