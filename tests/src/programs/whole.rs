//! Programs of many operations, small enough for thousands of runs: every operation is in one of them. What comes out is held
//! against the integer functions of all nodes.

use std::sync::Arc;

use suf_cpu::CpuBackend;
use suf_gate::{
    Form, NodeId, Part, Program, Ring, Seed, TensorShape, TwoParties,
    check::{self, Observed},
    layout::FieldId,
    ops::{Add, DropBits, Entry, Gain, GateOp, Input, Linear, Op, Open, Output, Shift, Slice, Weights},
    two_parties::Transcript,
};

use crate::{inputs, models::Tiny};

/// A program, and values for its inputs.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The program.
    pub program: Arc<Program>,
    /// For each node `input`, in order.
    values: Vec<Vec<i64>>,
}

impl Whole {
    /// The tiny BERT on a text whose length stays hidden, hence with an input for the mask of padding.
    #[must_use]
    pub fn bert() -> Self {
        let tiny = Tiny::load();
        // Three tokens, and one of padding.
        let task = tiny.task("a", 4);
        let values = tiny.inputs(&task);
        Self { program: Arc::clone(task.program()), values }
    }

    /// What the tiny BERT does without: every operation that both parties do by themselves, both ways of opening, and `gate`.
    ///
    /// # Panics
    /// When the gate does not take the wire.
    #[must_use]
    pub fn operations(gate: GateOp) -> Self {
        const ROWS: u32 = 5;
        const COLS: u32 = 4;
        let shape = TensorShape::new(ROWS, COLS).expect("a tensor");
        let [wide, narrow, dropped] = [51, 45, 36].map(Ring::new);
        let matrix = |rows: u32, cols: u32, seed: i32| {
            let values = (0..(rows * cols) as i32).map(|at| (at * 7 + seed) % 31 - 15).collect();
            let bias = (0..i64::from(cols)).map(|at| (at << 20) - (3 << 19)).collect();
            Arc::new(Weights::new(rows, cols, values, bias).expect("they fit"))
        };
        let node = |op, inputs: &[u16]| (op, inputs.iter().copied().map(NodeId).collect::<Vec<_>>());
        let Entry { ring, .. } = gate.entry();
        let program = Program::new([
            node(Op::Input(Input::new(shape, wide, 20, Form::Masked)), &[]),
            node(Op::Input(Input::new(shape, narrow, 20, Form::Shared)), &[]),
            // 2
            node(Op::Open(Open::shared(narrow)), &[1]),
            node(Op::Add(Add), &[0, 2]),
            node(Op::Linear(Linear::new(matrix(COLS, 2 * COLS, 1), 4)), &[3]),
            node(Op::Slice(Slice { first: 3, count: COLS }), &[4]),
            // 6
            node(Op::Gain(Gain::new(matrix(1, COLS, 5), 3)), &[5]),
            node(Op::Drop(DropBits(9)), &[6]),
            node(Op::Shift(Shift(2)), &[7]),
            node(Op::Open(Open::masked(dropped, 8, ring).expect("bits are left")), &[8]),
            // 10
            node(Op::Gate(gate), &[9]),
            node(Op::Output(Output), &[10]),
            node(Op::Output(Output), &[6]),
        ]);
        let program = Arc::new(program.expect("a program"));
        let elems = i64::from(ROWS * COLS);
        let values = vec![
            (0..elems).map(|at| (at - elems / 2) * 12_345).collect(),
            (0..elems).map(|at| (at % 7 - 3) * 4_321).collect(),
        ];
        Self { program, values }
    }

    /// Both parties' shares of each input.
    #[must_use]
    pub fn share(&self, seed: u64) -> Vec<[Vec<u64>; 2]> {
        let rings = self.program.inputs().map(|id| ring_of(&self.program, id));
        let inputs = self.values.iter().zip(rings).zip(seed..);
        inputs.map(|((x, ring), seed)| inputs::share_in(ring, x, seed)).collect()
    }
}

/// Compares the outputs of a run with those that its operations define. Roundings follow from the seeds of the batch. So the program
/// is evaluated once more under them, without a network, and every node of that is checked.
///
/// # Errors
/// What differs, in words.
///
/// # Panics
/// When the processor does not compute.
pub fn hold(
    program: &Arc<Program>,
    (batch, seeds): ([u8; 16], [Seed; 3]),
    inputs: &[[Vec<u64>; 2]],
    outputs: &[[Vec<u64>; 2]],
) -> Result<(), String> {
    let parties = TwoParties::new(Arc::clone(program), batch, seeds);
    let backend = CpuBackend::new();
    let transcript = parties.run(&backend, [&backend, &backend], inputs).expect("the processor computes");
    let seen = Seen { parties: &parties, transcript: &transcript, backend: &backend };
    for found in check::check(program, &seen) {
        if (found.wrong, found.out_of_range) != (0, 0) {
            return Err(format!("{} {}: {found:?}", found.node, program.node(found.node).op().def().name()));
        }
    }
    for (id, made) in program.outputs().zip(outputs) {
        let ring = ring_of(program, program.node(id).inputs()[0]);
        if inputs::unite_in(ring, made) != inputs::unite_in(ring, &transcript.value(program, id)) {
            return Err(format!("{id} is not what its operations define"));
        }
    }
    let expected = program.outputs().count();
    (outputs.len() == expected)
        .then_some(())
        .ok_or_else(|| format!("{} of {expected} outputs", outputs.len()))
}

fn ring_of(program: &Program, id: NodeId) -> Ring {
    program.node(id).ring().expect("it makes a wire")
}

/// What a checker sees of a run.
struct Seen<'a> {
    parties: &'a TwoParties,
    transcript: &'a Transcript,
    backend: &'a CpuBackend,
}

impl Observed for Seen<'_> {
    fn made(&self, part: Part) -> [&[u64]; 2] {
        self.transcript.values[&part].each_ref().map(Vec::as_slice)
    }

    fn mask(&self, part: Part) -> Vec<u64> {
        self.backend.mask(self.parties, part)
    }

    fn loaded(&self, _: NodeId) -> &[i64] {
        &[]
    }

    fn streams(&self, part: Part, field: FieldId, bytes: usize) -> [Vec<u8>; 2] {
        self.backend.streams(self.parties, part, field, bytes)
    }
}
