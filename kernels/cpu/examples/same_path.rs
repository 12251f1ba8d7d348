//! Tiles of a program, for `tests/same_path.py`, which steps through it instruction by instruction: whether what is executed
//! depends on secrets. `same_path PROGRAM SECRETS`: PROGRAM is a protocol, whose gate gelu is the program, or `products` or
//! `softmax`, which have every other operation. Every secret follows from the number SECRETS, everything public is always
//! the same. All is done twice; the second time, a call of the system (`getppid`) parts one operation from the next.

mod operations;

use std::{hint::black_box, os::unix::process::parent_id, sync::Arc};

use suf_cpu::CpuBackend;
use suf_gate::{
    Backend, Form, HostValue, KeyBytes, Part, Party, Program, Protocol, SecretBytes, Seed, TwoParties, Value,
    catalog, gatefile::GateFile, ops::Heads,
};

/// Elements of the tile: whole vector blocks and a rest.
const ELEMS: usize = 300;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, secrets] = &arguments[..] else { panic!("same_path PROGRAM SECRETS") };
    let secrets: u8 = secrets.parse().expect("a small number");
    let program = Arc::new(match &name[..] {
        "products" => operations::products(6, Heads { heads: 2, tokens: 5 }, 5),
        "softmax" => operations::softmax(2, 10),
        protocol => of_gate(protocol),
    });
    let backend = CpuBackend::new();
    run(&backend, &program, secrets, || {});
    run(&backend, &program, secrets, || {
        black_box(parent_id());
    });
}

fn of_gate(protocol: &str) -> Program {
    let protocol = Protocol::ALL.into_iter().find(|known| known.name() == protocol).expect("a protocol");
    let file = GateFile::builtin("gelu").expect("gelu is built in");
    let gate = Arc::new(catalog::gate(&file, protocol, None).expect("in the file"));
    Program::of_gate(gate, ELEMS as u64).expect("few elements")
}

/// Dealing, both parties' evaluations and openings of the inputs, with `mark` before each and after the last.
fn run(backend: &CpuBackend, program: &Arc<Program>, secrets: u8, mark: impl Fn()) {
    let seeds = [0, 1, 2].map(|who: u8| Seed::new(*blake3::hash(&[who, secrets]).as_bytes()));
    let parties = TwoParties::new(Arc::clone(program), [0; 16], seeds);
    mark();
    let deal = |part| parties.deal(backend, part).expect("the processor deals");
    let dealt: Vec<[KeyBytes; 2]> = program.parts().map(deal).collect();
    for party in Party::BOTH {
        mark();
        for (part, keys) in program.parts().zip(&dealt) {
            let node = program.node(part.node);
            if !node.is_input() && !node.is_output() {
                let taken = program.taken(part).flat_map(|taken| taken.parts());
                let inputs = taken.map(|part| value(program, part, secrets)).collect();
                evaluate(backend, &parties, party, part, keys[party.index()].clone(), inputs);
            }
        }
        mark();
        for input in program.inputs().filter(|input| program.node(*input).exchanges() > 0) {
            let (part, no_key) = (Part::new(input, 0), SecretBytes::default().into());
            let shares = elements(program, part, &[6, secrets]);
            evaluate(backend, &parties, party, part, no_key, vec![shares]);
        }
    }
    mark();
}

/// What a node made: public, or shares.
fn value(program: &Program, part: Part, secrets: u8) -> Arc<dyn Value> {
    let node = part.node.0 as u8;
    match program.node(part.node).wire().map(|wire| wire.form) {
        Some(Form::Masked) => elements(program, part, &[4, node]),
        _ => elements(program, part, &[3, node, secrets]),
    }
}

fn evaluate(
    backend: &CpuBackend,
    parties: &TwoParties,
    party: Party,
    part: Part,
    key: KeyBytes,
    inputs: Vec<Arc<dyn Value>>,
) {
    let program = parties.program();
    let message = |step| {
        let len = program.message_bytes(part, step).expect("an exchange of the part");
        bytes(&[5, step as u8], len)
    };
    let incoming: Vec<Vec<u8>> = (0..program.node(part.node).exchanges()).map(message).collect();
    let staged = backend.stage(&parties.eval_job(party, part), key).expect("the key fits");
    let mut eval = staged.begin(inputs).expect("the inputs fit");
    let mut last: &[u8] = &[];
    for (step, next) in incoming.iter().enumerate() {
        black_box(eval.step(step, last).expect("a step"));
        last = next;
    }
    black_box(eval.finish(last).expect("an output"));
}

fn elements(program: &Program, part: Part, name: &[u8]) -> Arc<dyn Value> {
    let ring = program.node(part.node).ring().expect("it makes a wire");
    let eight = bytes(name, 8 * program.elems(part));
    let words = eight.as_chunks().0.iter().map(|element| ring.reduce(u64::from_le_bytes(*element)));
    HostValue::shared(words.collect())
}

fn bytes(name: &[u8], len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(name).finalize_xof().fill(&mut out);
    out
}
