//! One chunk under one protocol, for `tests/same_path.py`, which steps through it instruction by instruction: whether what is
//! executed depends on secrets. `same_path PROTOCOL SECRETS`: every secret follows from the number SECRETS, everything public is
//! always the same. All is done twice; the second time, a call of the system (`getppid`) parts one operation from the next.

use std::{hint::black_box, os::unix::process::parent_id, sync::Arc};

use suf_cpu::CpuBackend;
use suf_gate::{
    Backend, DealJob, EvalJob, Gate, Input, KeyBytes, Party, Protocol, Seed, catalog, gatefile::GateFile,
    layout::R_IN, ring::WIRE,
};

/// Elements of the chunk: whole vector blocks and a rest.
const ELEMS: usize = 300;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, protocol, secrets] = &arguments[..] else { panic!("same_path PROTOCOL SECRETS") };
    let protocol = Protocol::ALL.into_iter().find(|known| known.name() == protocol).expect("a protocol");
    let secrets: u8 = secrets.parse().expect("a small number");
    let file = GateFile::builtin("gelu").expect("gelu is built in");
    let gate = Arc::new(catalog::gate(&file, protocol, None).expect("in the file"));
    let backend = CpuBackend::new();
    run(&backend, &gate, secrets, || {});
    run(&backend, &gate, secrets, || {
        black_box(parent_id());
    });
}

/// Dealing, both parties' evaluations and a mask, with `mark` before each and after the last.
fn run(backend: &CpuBackend, gate: &Arc<Gate>, secrets: u8, mark: impl Fn()) {
    let seed = |who: u8| *blake3::hash(&[who, secrets]).as_bytes();
    let party_seeds = [0, 1].map(|who| Seed::new(seed(who)));
    let dealer_seed = Seed::new(seed(2));
    mark();
    let job = DealJob {
        gate,
        batch: [0; 16],
        chunk: 0,
        elems: ELEMS,
        party_seeds: &party_seeds,
        dealer_seed: &dealer_seed,
    };
    let mut keys = backend.deal(&job).expect("the processor deals").map(KeyBytes::from).into_iter();
    for party in [Party::P0, Party::P1] {
        let key = keys.next().expect("a key for each party");
        let (batch, chunk) = ([0; 16], 0);
        let seed = party_seeds[party.index()].clone();
        let job = EvalJob { gate: Arc::clone(gate), batch, chunk, elems: ELEMS, party, seed };
        let input = match gate.takes_shares() {
            true => Input::Shares(elements(&[3, secrets])),
            false => Input::Wire(elements(&[4])),
        };
        let incoming: Vec<Vec<u8>> = (0..gate.exchanges().len())
            .map(|step| bytes(&[5, step as u8], gate.message_bytes(step, ELEMS)))
            .collect();
        mark();
        let mut eval = backend.stage(&job, key).expect("the key fits").begin(input).expect("the input fits");
        let mut last: &[u8] = &[];
        for (step, next) in incoming.iter().enumerate() {
            black_box(eval.step(step, last).expect("a step"));
            last = next;
        }
        black_box(eval.finish(last).expect("an output"));
        drop(eval);
        mark();
        black_box(backend.wire_mask(&job, R_IN).expect("a mask"));
    }
    mark();
}

fn elements(name: &[u8]) -> Vec<u64> {
    let eight = bytes(name, 8 * ELEMS);
    eight.as_chunks().0.iter().map(|element| WIRE.reduce(u64::from_le_bytes(*element))).collect()
}

fn bytes(name: &[u8], len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(name).finalize_xof().fill(&mut out);
    out
}
