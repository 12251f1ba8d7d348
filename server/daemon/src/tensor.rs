//! The tensors that a client gives and receives: inputs and outputs of its run's program, by their nodes.

use suf_control::failure::CallFailure;
use suf_gate::{NodeId, Program, Ring, Tiles};

/// An input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tensor {
    /// Its node.
    pub(crate) node: NodeId,
    /// Its tiles: it is moved one after another.
    pub(crate) tiles: Tiles,
    /// Number of elements.
    elems: u64,
    /// The ring of its shares.
    pub(crate) ring: Ring,
}

impl Tensor {
    /// The input of `program` that a client calls `node`; 0: the only one.
    ///
    /// # Errors
    /// When there is none, or 0 does not say which.
    pub(crate) fn input(program: &Program, node: u32) -> Result<Self, CallFailure> {
        let node = choose("input", node, program.inputs())?;
        let ring = program.node(node).ring().expect("an input makes a wire");
        Ok(Self::of(program, node, ring))
    }

    /// The output of `program` that a client calls `node`; 0: the only one.
    ///
    /// # Errors
    /// As [`Tensor::input`].
    pub(crate) fn output(program: &Program, node: u32) -> Result<Self, CallFailure> {
        let node = choose("output", node, program.outputs())?;
        let taken = program.node(node).inputs()[0];
        let ring = program.node(taken).ring().expect("an output takes a wire");
        Ok(Self::of(program, node, ring))
    }

    fn of(program: &Program, node: NodeId, ring: Ring) -> Self {
        let found = program.node(node);
        Self { node, tiles: found.cut(), elems: found.shape().elems(), ring }
    }

    /// Number of elements.
    pub(crate) fn elems(&self) -> u64 {
        self.elems
    }
}

fn choose(what: &str, asked: u32, there: impl Iterator<Item = NodeId>) -> Result<NodeId, CallFailure> {
    let there: Vec<_> = there.collect();
    if let Some(node) = there.iter().find(|node| u32::from(node.0) == asked) {
        return Ok(*node);
    }
    if let (0, [only]) = (asked, &there[..]) {
        return Ok(*only);
    }
    let list: Vec<_> = there.iter().map(|node| node.0.to_string()).collect();
    let list = list.join(", ");
    Err(CallFailure::caller(format!("node {asked} is no {what} of this run's program; it has {what} {list}")))
}

#[cfg(test)]
mod tests {
    use suf_gate::{
        Form, TensorShape,
        ops::{Input, Op, Output},
    };

    use super::*;

    #[test]
    fn a_tensor_is_named_by_its_node_and_the_only_one_by_nothing() {
        let input = |elems, bits| {
            let shape = TensorShape::flat(elems).expect("of a size");
            (Op::Input(Input::new(shape, Ring::new(bits), 12, Form::Masked)), vec![])
        };
        let output = |node| (Op::Output(Output), vec![NodeId(node)]);
        let one = Program::new([input(9, 48), output(0)]).expect("a program");
        let two = Program::new([input(9, 48), input(7, 40), output(1), output(0)]).expect("a program");
        let of = |tensor: Result<Tensor, CallFailure>| {
            tensor.map(|tensor| (tensor.node.0, tensor.elems(), tensor.ring.bits()))
        };
        assert_eq!(of(Tensor::input(&one, 0)), Ok((0, 9, 48)));
        for node in [0, 1] {
            assert_eq!(of(Tensor::output(&one, node)), Ok((1, 9, 48)));
        }
        assert_eq!(of(Tensor::input(&two, 0)), Ok((0, 9, 48)));
        assert_eq!(of(Tensor::input(&two, 1)), Ok((1, 7, 40)));
        assert_eq!(of(Tensor::output(&two, 2)), Ok((2, 7, 40)));
        for refused in [Tensor::output(&two, 0), Tensor::output(&two, 1), Tensor::output(&two, 1 << 16)] {
            let refused = refused.expect_err("it is none").to_string();
            assert!(refused.contains("it has output 2, 3"), "{refused}");
        }
        assert!(Tensor::input(&one, 1).is_err(), "it is an output");
    }
}
