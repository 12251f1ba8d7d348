//! One tile under one protocol, for `tests/same_path.py`, which steps through it instruction by instruction: whether what is
//! executed depends on secrets. `same_path PROTOCOL SECRETS`: every secret follows from the number SECRETS, everything public is
//! always the same. All is done twice; the second time, a call of the system (`getppid`) parts one operation from the next.

use std::{hint::black_box, os::unix::process::parent_id, sync::Arc};

use suf_cpu::CpuBackend;
use suf_gate::{
    Backend, Form, HostValue, KeyBytes, NodeId, Part, Party, Program, Protocol, SecretBytes, Seed,
    TwoParties, catalog, gatefile::GateFile, ring::WIRE,
};

/// The opening of the input, and the gate.
const OPENING: Part = Part::new(NodeId(0), 0);
const GATE: Part = Part::new(NodeId(1), 0);

/// Elements of the tile: whole vector blocks and a rest.
const ELEMS: usize = 300;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, protocol, secrets] = &arguments[..] else { panic!("same_path PROTOCOL SECRETS") };
    let protocol = Protocol::ALL.into_iter().find(|known| known.name() == protocol).expect("a protocol");
    let secrets: u8 = secrets.parse().expect("a small number");
    let file = GateFile::builtin("gelu").expect("gelu is built in");
    let gate = Arc::new(catalog::gate(&file, protocol, None).expect("in the file"));
    let program = Arc::new(Program::of_gate(gate, ELEMS as u64).expect("few elements"));
    let backend = CpuBackend::new();
    run(&backend, &program, secrets, || {});
    run(&backend, &program, secrets, || {
        black_box(parent_id());
    });
}

/// Dealing, both parties' evaluations and openings of an input, with `mark` before each and after the last.
fn run(backend: &CpuBackend, program: &Arc<Program>, secrets: u8, mark: impl Fn()) {
    let seeds = [0, 1, 2].map(|who: u8| Seed::new(*blake3::hash(&[who, secrets]).as_bytes()));
    let parties = TwoParties::new(Arc::clone(program), [0; 16], seeds);
    let wire = *program.node(OPENING.node).wire().expect("an input makes a wire");
    mark();
    let mut keys = parties.deal(backend, GATE).expect("the processor deals").into_iter();
    for party in Party::BOTH {
        let key = keys.next().expect("a key for each party");
        let input = match wire.form {
            Form::Shared | Form::Pad => elements(&[3, secrets]),
            Form::Masked => elements(&[4]),
        };
        mark();
        evaluate(backend, &parties, party, GATE, key, input);
        mark();
        if wire.form == Form::Masked {
            let no_key = SecretBytes::default().into();
            evaluate(backend, &parties, party, OPENING, no_key, elements(&[6, secrets]));
        }
    }
    mark();
}

fn evaluate(
    backend: &CpuBackend,
    parties: &TwoParties,
    party: Party,
    part: Part,
    key: KeyBytes,
    input: Vec<u64>,
) {
    let program = parties.program();
    let message = |step| {
        let len = program.message_bytes(part, step).expect("an exchange of the part");
        bytes(&[5, step as u8], len)
    };
    let incoming: Vec<Vec<u8>> = (0..program.node(part.node).exchanges()).map(message).collect();
    let staged = backend.stage(&parties.eval_job(party, part), key).expect("the key fits");
    let mut eval = staged.begin(vec![HostValue::shared(input)]).expect("the input fits");
    let mut last: &[u8] = &[];
    for (step, next) in incoming.iter().enumerate() {
        black_box(eval.step(step, last).expect("a step"));
        last = next;
    }
    black_box(eval.finish(last).expect("an output"));
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
