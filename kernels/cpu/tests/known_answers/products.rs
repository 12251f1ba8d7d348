//! Products of masked wires against `tests/vectors/products.json`, which `make_products.py` there makes without this code.

use std::sync::Arc;

use serde::Deserialize;
use suf_gate::{
    Form, HostValue, KeyBytes, NodeId, Part, Party, Program, Ring, SecretBytes, Seed, Side, TensorShape,
    TwoParties, Value,
    layout::FieldId,
    ops::{
        Extended, Factors, Heads, Input, Op, Output, Pad, PadOf, Pads, Product, Scale, SquareSum,
        host::{self, DealHost, EvalHost, Loops, MaskTile, Plain, StreamBytes},
    },
};
use zeroize::Zeroizing;

use super::HexBytes;

#[derive(Deserialize)]
struct Case {
    name: String,
    /// The party that expands its shares.
    seeded: usize,
    masks: Vec<Vec<u64>>,
    x_hat: Vec<Vec<u64>>,
    /// Each by party.
    pads: Vec<[Vec<u64>; 2]>,
    streams: Vec<HexBytes>,
    explicit: HexBytes,
    made_masks: [Vec<u64>; 2],
    messages: [HexBytes; 2],
    opened: Vec<u64>,
}

const FULL: Ring = Ring::new(64);

/// Two wires, or one, dealt shares of their masks, and the operation.
fn program(case: &Case) -> Program {
    let node = |op, inputs: &[u16]| (op, inputs.iter().copied().map(NodeId).collect::<Vec<_>>());
    let input = |rows, cols, bits, frac| {
        let shape = TensorShape::new(rows, cols).expect("a tensor");
        node(Op::Input(Input::new(shape, Ring::new(bits), frac, Form::Masked)), &[])
    };
    let dealt =
        |of, from, to, wire| node(Op::Pads(Pads::dealt(Pad { of, from, to: Ring::new(to) })), &[wire]);
    let extended = |bits, drop| Extended::new(Ring::new(bits), drop).expect("bits are left");
    let (matrix, values) = (extended(52, 22), extended(48, 20));
    let heads = Heads { heads: 2, tokens: 3 };
    let mut nodes = match case.name.as_str() {
        "scores" | "mix" => {
            let is_mix = case.name == "mix";
            let x = if is_mix { input(12, 3, 36, 0) } else { input(6, 4, 36, 0) };
            let factors = if is_mix { Factors::Mix(heads) } else { Factors::Scores(heads) };
            let product = Product::new(factors, [Ring::new(36), Ring::new(40)], Ring::new(33));
            vec![
                x,
                input(6, 4, 40, 0),
                dealt(PadOf::Quotient, extended(36, 0), 33, 0),
                dealt(PadOf::Quotient, extended(40, 0), 33, 1),
                node(Op::Product(product.expect("they fit")), &[0, 1, 2, 3]),
            ]
        }
        "scale" => vec![
            input(3, 4, 52, 34),
            input(3, 1, 48, 36),
            dealt(PadOf::Quotient, matrix, 64, 0),
            dealt(PadOf::Top, matrix, 34, 0),
            dealt(PadOf::Quotient, values, 64, 1),
            dealt(PadOf::Top, values, 36, 1),
            node(
                Op::Scale(Scale::new(matrix, values, None, FULL).expect("bits are left")),
                &[0, 1, 2, 3, 4, 5],
            ),
        ],
        _ => vec![
            input(3, 4, 52, 34),
            dealt(PadOf::Quotient, matrix, 64, 0),
            dealt(PadOf::Top, matrix, 34, 0),
            dealt(PadOf::TopQuotient, matrix, 33, 0),
            node(Op::SquareSum(SquareSum::new(matrix, FULL).expect("bits are left")), &[0, 1, 2, 3]),
        ],
    };
    nodes.push(node(Op::Output(Output), &[nodes.len() as u16 - 1]));
    Program::new(nodes).expect("a program")
}

/// What the file says instead of streams and masks.
struct Known<'a> {
    case: &'a Case,
    party: usize,
}

impl Known<'_> {
    fn stream(&self, id: FieldId, bytes: usize) -> StreamBytes {
        let stream = &self.case.streams[usize::from(id.0)].0;
        assert_eq!(stream.len(), bytes, "{}", self.case.name);
        Ok(Zeroizing::new(stream.clone()))
    }
}

impl DealHost for Known<'_> {
    fn field(&self, party: Party, id: FieldId, bytes: usize) -> StreamBytes {
        assert_eq!(party.index(), self.case.seeded);
        self.stream(id, bytes)
    }

    fn mask(&self, part: Part) -> MaskTile {
        Ok(Zeroizing::new(self.case.masks[part.node.index()].clone()))
    }

    fn loops(&self) -> Arc<dyn Loops> {
        Arc::new(Plain)
    }
}

impl EvalHost for Known<'_> {
    fn field(&self, id: FieldId, bytes: usize) -> StreamBytes {
        self.stream(id, bytes)
    }

    fn mask(&self, _: Part) -> MaskTile {
        Ok(Zeroizing::new(self.case.made_masks[self.party].clone()))
    }

    fn loops(&self) -> Arc<dyn Loops> {
        Arc::new(Plain)
    }
}

#[test]
fn keys_and_messages_of_products_are_those_of_another_implementation() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../../../tests/vectors/products.json")).expect("the file");
    assert_eq!(cases.len(), 4);
    for case in &cases {
        let program = Arc::new(program(case));
        let op = program.nodes().find(|(_, node)| node.exchanges() > 0 && !node.is_input());
        let part = Part::new(op.expect("one that is opened").0, 0);
        let parties = TwoParties::new(Arc::clone(&program), [0; 16], [0, 1, 2].map(|i| Seed::new([i; 32])));
        let keys = host::deal(&parties.deal_job(part), &Known { case, party: 0 }).expect("it deals");
        let explicit = 1 - case.seeded;
        assert_eq!(keys[explicit].expose(), case.explicit.0, "{}: key", case.name);
        assert!(keys[case.seeded].expose().is_empty(), "{}", case.name);
        for party in Party::BOTH {
            let job = parties.eval_job(party, part);
            assert_eq!(job.side() == Side::Seeded, party.index() == case.seeded, "{}", case.name);
            let bytes = if party.index() == explicit { case.explicit.0.clone() } else { Vec::new() };
            let key: KeyBytes = SecretBytes::new(bytes).into();
            let known = Known { case, party: party.index() };
            let wires = case.x_hat.iter().chain(case.pads.iter().map(|pads| &pads[party.index()]));
            let inputs: Vec<Arc<dyn Value>> = wires.map(|wire| HostValue::shared(wire.clone())).collect();
            let staged = host::stage(&job, &key, &known).expect("the key fits");
            let mut eval = staged.begin(inputs).expect("the inputs fit");
            let message = eval.step(0, &[]).expect("the exchange");
            assert_eq!(message, case.messages[party.index()].0, "{}: message of {party}", case.name);
            let theirs = &case.messages[party.other().index()].0;
            let opened = eval.finish(theirs).expect("the other's message").words().expect("on the host");
            assert_eq!(opened, case.opened, "{}", case.name);
        }
    }
}
