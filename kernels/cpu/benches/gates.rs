//! Rates of whole gates, full tiles on one core: dealing, and both sides' evaluation without the network.
#![allow(missing_docs)]

use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use suf_cpu::{CpuBackend, simd::Level};
use suf_gate::{
    Backend, Gate, HostValue, KeyBytes, NodeId, Part, Party, Program, Protocol, SecretBytes, Seed,
    TILE_ELEMS, TwoParties, Value, catalog, gatefile::GateFile,
};

/// The gate of a program of one.
const GATE: Part = Part::new(NodeId(1), 0);

/// A full tile of each protocol's GELU.
fn gates() -> impl Iterator<Item = (Arc<Gate>, TwoParties)> {
    let file = GateFile::builtin("gelu").expect("gelu is built in");
    let gates =
        Protocol::ALL.into_iter().filter_map(move |protocol| catalog::gate(&file, protocol, None).ok());
    gates.map(|gate| {
        let gate = Arc::new(gate);
        let program = Program::of_gate(Arc::clone(&gate), TILE_ELEMS as u64).expect("a full tile");
        let seeds = [1, 2, 3].map(|byte| Seed::new([byte; 32]));
        (gate, TwoParties::new(Arc::new(program), [0; 16], seeds))
    })
}

fn deal(backend: &CpuBackend, parties: &TwoParties) -> [SecretBytes; 2] {
    backend.deal(&parties.deal_job(GATE)).expect("the processor deals")
}

/// All steps, with this party's own messages in the place of the peer's: they have the same length.
fn evaluate(
    backend: &CpuBackend,
    parties: &TwoParties,
    party: Party,
    key: KeyBytes,
    input: Vec<u64>,
) -> Arc<dyn Value> {
    let staged = backend.stage(&parties.eval_job(party, GATE), key).expect("the key fits");
    let mut eval = staged.begin(vec![HostValue::shared(input)]).expect("the input fits");
    let mut last = Bytes::new();
    for step in 0..parties.program().node(GATE.node).exchanges() {
        last = eval.step(step, &last).expect("a step");
    }
    eval.finish(&last).expect("an output")
}

fn dealing(c: &mut Criterion) {
    let mut group = c.benchmark_group("deal");
    group.sample_size(10).throughput(Throughput::Elements(TILE_ELEMS as u64));
    for (gate, parties) in gates() {
        for level in Level::ALL.into_iter().filter(|level| level.supported()) {
            let backend = CpuBackend::at(level);
            let id = BenchmarkId::new(gate.protocol().name(), level);
            group.bench_function(id, |b| b.iter_with_large_drop(|| deal(&backend, &parties)));
        }
    }
}

fn evaluation(c: &mut Criterion) {
    let mut group = c.benchmark_group("eval");
    group.sample_size(10).throughput(Throughput::Elements(TILE_ELEMS as u64));
    for (gate, parties) in gates() {
        for level in Level::ALL.into_iter().filter(|level| level.supported()) {
            let backend = CpuBackend::at(level);
            let keys = deal(&backend, &parties).map(KeyBytes::from);
            for (party, key) in [Party::P0, Party::P1].into_iter().zip(keys) {
                let input: Vec<u64> = (0..TILE_ELEMS as u64).collect();
                let side = format!("{:?}", parties.program().side(party, GATE)).to_lowercase();
                let id = BenchmarkId::new(format!("{}/{side}", gate.protocol()), level);
                group.bench_function(id, |b| {
                    b.iter_batched(
                        || input.clone(),
                        |input| evaluate(&backend, &parties, party, key.clone(), input),
                        BatchSize::LargeInput,
                    );
                });
            }
        }
    }
}

criterion_group!(benches, dealing, evaluation);
criterion_main!(benches);
