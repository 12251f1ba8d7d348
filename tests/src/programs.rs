//! Small programs of one kind of gate, with inputs that look for trouble and what must come out.

use std::sync::Arc;

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
}

/// A program to run.
#[derive(Clone, Debug)]
pub struct Case {
    /// The program.
    pub program: Arc<Program>,
    kind: Kind,
    gate: Arc<Gate>,
    elems: usize,
}

impl Case {
    /// Gates `gate`, joined as `kind` says, on tensors of `elems` elements. None for gates in a row that take shares, since they
    /// make a masked wire.
    ///
    /// # Panics
    /// If there are no elements, or too many.
    #[must_use]
    pub fn new(kind: Kind, gate: &Arc<Gate>, elems: usize) -> Option<Self> {
        let shape = TensorShape::flat(elems as u64).expect("a number of elements");
        let form = if gate.takes_shares() { Form::Shared } else { Form::Masked };
        let input = || (Op::Input(Input::new(shape, WIRE, FRAC, form)), vec![]);
        let on = |node| (Op::Gate(Arc::clone(gate)), vec![NodeId(node)]);
        let output = |node| (Op::Output(Output), vec![NodeId(node)]);
        let nodes = match kind {
            Kind::Single => vec![input(), on(0), output(1)],
            Kind::InARow if gate.takes_shares() => return None,
            Kind::InARow => vec![input(), on(0), on(1), output(2)],
            Kind::SideBySide => vec![input(), input(), on(0), on(1), output(2), output(3)],
        };
        let program = Arc::new(Program::new(nodes).expect("a program"));
        Some(Self { program, kind, gate: Arc::clone(gate), elems })
    }

    /// What the client has for each input: edges of the gate's domain first. Gates in a row get what keeps the second one's input
    /// within its domain.
    #[must_use]
    pub fn inputs(&self, seed: u64) -> Vec<Vec<i64>> {
        let (low, high) = self.gate.domain();
        let fits = |x: &i64| self.kind != Kind::InARow || self.reach(*x).all(|y| (low..=high).contains(&y));
        let of = |seed| -> Vec<i64> {
            let x = inputs::awkward(&self.gate, self.elems, seed);
            x.into_iter().map(|x| if fits(&x) { x } else { 0 }).collect()
        };
        self.program.inputs().zip(seed..).map(|(_, seed)| of(seed)).collect()
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
        if outputs.len() != inputs.len() {
            return Err(format!("{} outputs of {} inputs", outputs.len(), inputs.len()));
        }
        for (x, output) in inputs.iter().zip(outputs) {
            let y = inputs::unite(output);
            if y.len() != x.len() {
                return Err(format!("{} elements of {}", y.len(), x.len()));
            }
            for (x, y) in x.iter().zip(y) {
                let is_right = match self.kind {
                    Kind::Single | Kind::SideBySide => self.reach(*x).any(|right| right == y),
                    Kind::InARow => self.reach(*x).any(|between| self.reach(between).any(|right| right == y)),
                };
                if !is_right {
                    return Err(format!("{:?} of {}: x = {x} gives {y}", self.kind, self.gate.name()));
                }
            }
        }
        Ok(())
    }

    fn reach(&self, x: i64) -> impl Iterator<Item = i64> + use<> {
        self.gate.reference(x).into_iter()
    }
}
