//! Programs of the tiny model by a dealer and two parties in one thread. Vectors are compared with the reference in floats, and
//! each node with the integer function of its operation.

#[path = "../examples/disk/mod.rs"]
mod disk;
#[path = "two_parties/private.rs"]
mod private;
mod tiny;

use std::sync::Arc;

use disk::Disk;

use suf_cpu::CpuBackend;
use suf_gate::{
    NodeId, Part, Program, Ring, Seed, TwoParties,
    check::{self, Observed},
    layout::FieldId,
    two_parties::Transcript,
};
use suf_model::{
    Plan,
    bert::{
        ACTIVATIONS, Bert, Compiled, Quantised, Reference, TYPE, TextBatch, batches, compile, compile_with,
    },
    builtin,
    ranges::Ranges,
};
use suf_skip::{Need, skip};

/// Texts of several lengths, of words that the tokenizer cuts into letters.
const TEXTS: [&str; 8] = [
    "a",
    "the quick brown fox",
    "jumps over the lazy dog",
    "zz zz zz zz zz zz",
    "sphinx of black quartz judge my vow",
    "q",
    "hello",
    "world",
];

struct Model {
    bert: Bert,
    integers: Quantised,
    plan: Plan,
    texts: Vec<Vec<u32>>,
}

fn model() -> Model {
    let bert = Bert::load(&tiny::folder()).expect("a model");
    let integers = Quantised::new(&bert).expect("its weights are small");
    let texts: Vec<_> =
        TEXTS.iter().map(|text| bert.tokens.encode(text, tiny::POSITIONS).expect("a text")).collect();
    let reference = Reference::new(&bert);
    let mut ranges = Ranges::none(tiny::LAYERS, tiny::HEADS);
    texts.iter().for_each(|ids| reference.measure(ids, tiny::POSITIONS, &mut ranges));
    let plan = Plan::new(TYPE, *integers.digest(), &ranges);
    Model { bert, integers, plan, texts }
}

/// A run, and what a checker sees of it.
struct Seen {
    world: TwoParties,
    transcript: Transcript,
    backend: CpuBackend,
    /// The matrices of the owner of private weights, in the order of the load program's inputs.
    loaded: Vec<Vec<i64>>,
}

impl Seen {
    fn new(compiled: &Compiled, model: &Bert, ids: &[&[u32]]) -> Self {
        let seeds = [1, 2, 3].map(|byte| Seed::new([byte; 32]));
        let world = TwoParties::new(Arc::clone(&compiled.program), [7; 16], seeds);
        Self::of(world, compiled, model, ids)
    }

    fn of(world: TwoParties, compiled: &Compiled, model: &Bert, ids: &[&[u32]]) -> Self {
        let nodes = compiled.program.inputs().map(|node| ring(&compiled.program, node));
        let inputs = compiled.inputs(model, ids).into_iter().zip(nodes);
        let inputs: Vec<_> = inputs.map(|(values, ring)| shares(ring, &values)).collect();
        let backend = CpuBackend::new();
        let transcript = world.run(&backend, [&backend, &backend], &inputs).expect("a run");
        Self { world, transcript, backend, loaded: Vec::new() }
    }

    fn output(&self) -> Vec<i64> {
        let program = self.world.program();
        let output = program.outputs().next().expect("a program has an output");
        let ring = ring(program, program.node(output).inputs()[0]);
        let [first, second] = self.transcript.value(program, output);
        first.iter().zip(&second).map(|(a, b)| ring.decode(ring.add(*a, *b))).collect()
    }
}

impl Observed for Seen {
    fn made(&self, part: Part) -> [&[u64]; 2] {
        self.transcript.values[&part].each_ref().map(Vec::as_slice)
    }

    fn mask(&self, part: Part) -> Vec<u64> {
        self.backend.mask(&self.world, part)
    }

    fn loaded(&self, input: NodeId) -> &[i64] {
        &self.loaded[input.index()]
    }

    fn streams(&self, part: Part, field: FieldId, bytes: usize) -> [Vec<u8>; 2] {
        self.backend.streams(&self.world, part, field, bytes)
    }
}

fn ring(program: &Program, node: NodeId) -> Ring {
    program.node(node).ring().expect("it makes a wire")
}

/// Two shares; any will do here.
fn shares(ring: Ring, values: &[i64]) -> [Vec<u64>; 2] {
    let mine = (1..=values.len() as u64).map(|at| ring.reduce(at.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let mine: Vec<u64> = mine.collect();
    let theirs = values.iter().zip(&mine).map(|(x, mine)| ring.sub(ring.encode(*x), *mine)).collect();
    [mine, theirs]
}

/// Runs a batch, and compares vectors and nodes.
fn assert_right(model: &Bert, compiled: &Compiled, ids: &[&[u32]]) {
    assert_seen(&Seen::new(compiled, model, ids), model, compiled, ids);
}

fn assert_seen(run: &Seen, model: &Bert, compiled: &Compiled, ids: &[&[u32]]) {
    let reference = Reference::new(model);
    for found in check::check(&compiled.program, run) {
        let name = &compiled.about[found.node.index()].name;
        assert_eq!((found.wrong, found.out_of_range), (0, 0), "{name} of {:?}", compiled.length);
    }
    for (ids, made) in ids.iter().zip(compiled.vectors(model, ids, &run.output())) {
        let cosine: f64 = made.iter().zip(&reference.embed(ids)).map(|(a, b)| a * b).sum();
        assert!(cosine >= 0.9998, "{:?}, {} tokens: cosine {cosine}", compiled.length, ids.len());
    }
}

#[test]
fn vectors_are_those_of_the_reference_and_every_node_is_right() {
    let Model { bert, integers, plan, texts } = model();
    for (padded, most) in [(false, 1), (false, 4), (true, 1), (true, 4)] {
        for TextBatch { length, texts: indices } in batches(&texts, tiny::POSITIONS as u32, padded, most) {
            let compiled = compile(&bert.config, &integers, &plan, length).expect("a program");
            let ids: Vec<&[u32]> = indices.iter().map(|at| &texts[*at][..]).collect();
            assert_right(&bert, &compiled, &ids);
        }
    }
}

/// With `dpf` each layer takes a round less, and its keys are longer.
#[test]
fn an_activation_of_fewer_rounds_gives_the_same() {
    let Model { bert, integers, plan, texts } = model();
    let TextBatch { length, texts: indices } = batches(&texts, tiny::POSITIONS as u32, false, 4).remove(0);
    let ids: Vec<&[u32]> = indices.iter().map(|at| &texts[*at][..]).collect();
    let [onehot, dpf] = ACTIVATIONS.map(|activation| {
        compile_with(&bert.config, &integers, &plan, length, activation).expect("a program")
    });
    assert_right(&bert, &dpf, &ids);
    let layers = bert.config.layers as u16;
    assert_eq!(dpf.program.rounds() + layers, onehot.program.rounds());
    let [few, many] = [&onehot, &dpf].map(|compiled| {
        suf_gate::Party::BOTH.map(|party| compiled.program.key_bytes(party)).iter().sum::<u64>()
    });
    assert!(many > few, "{few} and {many} bytes of keys");
}

#[test]
fn vectors_of_the_real_model_are_those_of_the_reference_and_every_node_is_right() {
    let Some(folder) = std::env::var_os("SUF_MINILM") else {
        return skip(Need::MiniLm, "no real model: SUF_MINILM names no folder with MiniLM");
    };
    let model = Bert::load(&Disk(folder.into())).expect("a model");
    let integers = Quantised::new(&model).expect("its weights are small");
    let plan = builtin::plan(integers.digest()).expect("a plan is part of the program");
    let texts = ["hi", "The quick brown fox jumps over the lazy dog.", "[PAD] [MASK]"];
    for (text, padded) in texts.into_iter().zip([false, true, true]) {
        let ids = model.tokens.encode(text, 512).expect("a text");
        let batches = batches(std::slice::from_ref(&ids), model.config.positions, padded, 1);
        let compiled = compile(&model.config, &integers, &plan, batches[0].length).expect("a program");
        assert_right(&model, &compiled, &[&ids]);
    }
}

#[test]
fn batches_are_powers_of_two_of_texts_of_one_length() {
    let texts: Vec<Vec<u32>> = [3, 5, 3, 17, 3, 16, 3, 3].map(|tokens| vec![2; tokens]).to_vec();
    let made = |padded, most| {
        let batches = batches(&texts, 64, padded, most);
        batches.into_iter().map(|batch| (batch.length.tokens, batch.texts)).collect::<Vec<_>>()
    };
    let exact = [(3, vec![0, 2, 4, 6]), (3, vec![7]), (5, vec![1]), (16, vec![5]), (17, vec![3])];
    assert_eq!(made(false, 8), exact);
    assert_eq!(made(true, 4), [(16, vec![0, 1, 2, 4]), (16, vec![5, 6]), (16, vec![7]), (32, vec![3])]);
}
