//! Rates of whole gates, full chunks on one core: dealing, and both roles' evaluation without the network.
#![allow(missing_docs)]

use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use suf_cpu::{CpuBackend, simd::Level};
use suf_gate::{
    Backend, CHUNK_ELEMS, DealJob, EvalJob, Gate, Input, KeyBytes, Party, Protocol, SecretBytes, Seed,
    catalog, gatefile::GateFile,
};

fn gates() -> impl Iterator<Item = Arc<Gate>> {
    let file = GateFile::builtin("gelu").expect("gelu is built in");
    Protocol::ALL
        .into_iter()
        .filter_map(move |protocol| catalog::gate(&file, protocol, None).ok())
        .map(Arc::new)
}

fn seeds() -> [Seed; 2] {
    [1, 2].map(|byte| Seed::new([byte; 32]))
}

fn deal(backend: &CpuBackend, gate: &Gate) -> [SecretBytes; 2] {
    let (party_seeds, dealer_seed) = (seeds(), Seed::new([3; 32]));
    let job = DealJob {
        gate,
        batch: [0; 16],
        chunk: 0,
        elems: CHUNK_ELEMS,
        party_seeds: &party_seeds,
        dealer_seed: &dealer_seed,
    };
    backend.deal(&job).expect("the processor deals")
}

/// All steps, with this party's own messages in the place of the peer's: they have the same length.
fn evaluate(backend: &CpuBackend, job: &EvalJob, key: KeyBytes, input: Input) -> Vec<u64> {
    let mut eval = backend.stage(job, key).expect("the key fits").begin(input).expect("the input fits");
    let mut last = Bytes::new();
    for step in 0..job.gate.exchanges().len() {
        last = eval.step(step, &last).expect("a step");
    }
    eval.finish(&last).expect("an output")
}

fn dealing(c: &mut Criterion) {
    let mut group = c.benchmark_group("deal");
    group.sample_size(10).throughput(Throughput::Elements(CHUNK_ELEMS as u64));
    for gate in gates() {
        for level in Level::ALL.into_iter().filter(|level| level.supported()) {
            let backend = CpuBackend::at(level);
            let id = BenchmarkId::new(gate.protocol().name(), level);
            group.bench_function(id, |b| b.iter_with_large_drop(|| deal(&backend, &gate)));
        }
    }
}

fn evaluation(c: &mut Criterion) {
    let mut group = c.benchmark_group("eval");
    group.sample_size(10).throughput(Throughput::Elements(CHUNK_ELEMS as u64));
    for gate in gates() {
        for level in Level::ALL.into_iter().filter(|level| level.supported()) {
            let backend = CpuBackend::at(level);
            let keys = deal(&backend, &gate).map(KeyBytes::from);
            for (party, key) in [Party::P0, Party::P1].into_iter().zip(keys) {
                let [seed_0, seed_1] = seeds();
                let seed = if party == Party::P0 { seed_0 } else { seed_1 };
                let job =
                    EvalJob { gate: gate.clone(), batch: [0; 16], chunk: 0, elems: CHUNK_ELEMS, party, seed };
                let input: Vec<u64> = (0..CHUNK_ELEMS as u64).collect();
                let input = if gate.takes_shares() { Input::Shares(input) } else { Input::Wire(input) };
                let role = format!("{:?}", party.role(0)).to_lowercase();
                let id = BenchmarkId::new(format!("{}/{role}", gate.protocol()), level);
                group.bench_function(id, |b| {
                    b.iter_batched(
                        || input.clone(),
                        |input| evaluate(&backend, &job, key.clone(), input),
                        BatchSize::LargeInput,
                    );
                });
            }
        }
    }
}

criterion_group!(benches, dealing, evaluation);
criterion_main!(benches);
