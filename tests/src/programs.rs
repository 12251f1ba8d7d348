//! Small programs, with inputs that look for trouble and what must come out.

mod whole;

use std::sync::Arc;

pub use whole::{Whole, hold};

use suf_gate::{
    Form, Gate, NodeId, Program, TensorShape,
    ops::{Input, Op, Output},
    ring::{FRAC, WIRE},
};

use crate::inputs;

/// How gates are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One gate.
    Single,
    /// Two equal gates, the second on what the first one makes.
    InARow,
    /// Two equal gates, each on an input of its own.
    SideBySide,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Single, Self::InARow, Self::SideBySide];

    /// Number of inputs, and of gates in a row on each.
    #[must_use]
    pub const fn size(self) -> [u16; 2] {
        match self {
            Self::Single => [1, 1],
            Self::InARow => [1, 2],
            Self::SideBySide => [2, 1],
        }
    }
}

/// A program to run: its gates are all equal, and its tensors all of one size.
#[derive(Clone, Debug)]
pub struct Case {
    /// The program.
    pub program: Arc<Program>,
    gate: Arc<Gate>,
    elems: usize,
}

impl Case {
    /// Gates `gate`, joined as `kind` says, on tensors of `elems` elements. None for gates in a row that take shares, since they
    /// make a masked wire.
    #[must_use]
    pub fn new(kind: Kind, gate: &Arc<Gate>, elems: usize) -> Option<Self> {
        Self::grid(kind.size(), gate, elems)
    }

    /// So many inputs, and on each so many gates in a row. None as for [`Case::new`].
    #[must_use]
    pub fn grid([inputs, in_a_row]: [u16; 2], gate: &Arc<Gate>, elems: usize) -> Option<Self> {
        if gate.takes_shares() && in_a_row > 1 {
            return None;
        }
        let mut nodes: Vec<_> = (0..inputs).map(|_| Self::input(gate, elems)).collect();
        for row in 0..in_a_row {
            nodes.extend((0..inputs).map(|input| Self::gate(gate, row * inputs + input)));
        }
        nodes.extend((0..inputs).map(|input| Self::output(in_a_row * inputs + input)));
        Some(Self::of(nodes, gate, elems))
    }

    /// A program of a node `input`, gates and outputs of any wire: of the input itself, of a wire that a gate takes, too.
    #[must_use]
    pub fn with_many_takers(gate: &Arc<Gate>, elems: usize) -> Self {
        let gate_on = |node| Self::gate(gate, node);
        let nodes = vec![
            Self::input(gate, elems),
            gate_on(0),
            Self::output(0),
            gate_on(1),
            gate_on(1),
            Self::output(1),
            Self::output(3),
            Self::output(4),
        ];
        Self::of(nodes, gate, elems)
    }

    /// The input comes out as it is: a program without keys.
    #[must_use]
    pub fn without_gates(gate: &Arc<Gate>, elems: usize) -> Self {
        Self::of(vec![Self::input(gate, elems), Self::output(0)], gate, elems)
    }

    fn of(nodes: Vec<(Op, Vec<NodeId>)>, gate: &Arc<Gate>, elems: usize) -> Self {
        let program = Arc::new(Program::new(nodes).expect("a program"));
        Self { program, gate: Arc::clone(gate), elems }
    }

    fn input(gate: &Gate, elems: usize) -> (Op, Vec<NodeId>) {
        let shape = TensorShape::flat(elems as u64).expect("a number of elements");
        let form = if gate.takes_shares() { Form::Shared } else { Form::Masked };
        (Op::Input(Input::new(shape, WIRE, FRAC, form)), vec![])
    }

    fn gate(gate: &Arc<Gate>, node: u16) -> (Op, Vec<NodeId>) {
        (Op::gate(Arc::clone(gate)), vec![NodeId(node)])
    }

    fn output(node: u16) -> (Op, Vec<NodeId>) {
        (Op::Output(Output), vec![NodeId(node)])
    }

    /// What the client has for each input: edges of the gate's domain first. An element that would lead a gate out of its domain
    /// is 0 instead.
    #[must_use]
    pub fn inputs(&self, seed: u64) -> Vec<Vec<i64>> {
        let of = |seed| inputs::awkward(&self.gate, self.elems, seed);
        let mut inputs: Vec<_> = self.program.inputs().zip(seed..).map(|(_, seed)| of(seed)).collect();
        for element in 0..self.elems {
            let x: Vec<i64> = inputs.iter().map(|input| input[element]).collect();
            if self.reach(&x).is_none() {
                inputs.iter_mut().for_each(|input| input[element] = 0);
            }
        }
        inputs
    }

    /// Both parties' shares of each input.
    #[must_use]
    pub fn share(inputs: &[Vec<i64>], seed: u64) -> Vec<[Vec<u64>; 2]> {
        inputs.iter().zip(seed..).map(|(x, seed)| inputs::share(x, seed)).collect()
    }

    /// Compares what came out with what the plain functions give.
    ///
    /// # Errors
    /// The first element that is wrong, in words.
    pub fn check(&self, inputs: &[Vec<i64>], outputs: &[[Vec<u64>; 2]]) -> Result<(), String> {
        let outputs: Vec<_> = outputs.iter().map(inputs::unite).collect();
        if outputs.len() != self.program.outputs().count() || outputs.iter().any(|y| y.len() != self.elems) {
            return Err(format!("{:?} elements came out", outputs.iter().map(Vec::len).collect::<Vec<_>>()));
        }
        for element in 0..self.elems {
            let x: Vec<i64> = inputs.iter().map(|input| input[element]).collect();
            let right = self.reach(&x).ok_or_else(|| format!("{x:?} leads out of the domain"))?;
            for (right, y) in right.iter().zip(outputs.iter().map(|output| output[element])) {
                if !right.contains(&y) {
                    return Err(format!("{}: x = {x:?} gives {y}, right are {right:?}", self.gate.name()));
                }
            }
        }
        Ok(())
    }

    /// What each output may be for one element of each input; none where a gate's domain is left.
    fn reach(&self, x: &[i64]) -> Option<Vec<Vec<i64>>> {
        let (mut x, mut outputs) = (x.iter(), Vec::new());
        let mut wires: Vec<Vec<i64>> = Vec::new();
        for (_, node) in self.program.nodes() {
            let taken = node.inputs().first().map(|input| &wires[input.index()]);
            let made = match (node.op(), taken) {
                (Op::Gate(op), Some(taken)) => {
                    let gate = op.gate();
                    let (low, high) = gate.domain();
                    if taken.iter().any(|x| !(low..=high).contains(x)) {
                        return None;
                    }
                    let mut made: Vec<i64> = taken.iter().flat_map(|x| gate.reference(*x)).collect();
                    made.sort_unstable();
                    made.dedup();
                    made
                }
                (Op::Output(_), Some(taken)) => {
                    outputs.push(taken.clone());
                    Vec::new()
                }
                _ => vec![*x.next()?],
            };
            wires.push(made);
        }
        Some(outputs)
    }
}
