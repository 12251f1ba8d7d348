//! Products of masked wires against `tests/vectors/products.json`, which `make_products.py` there makes without this code.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use serde::Deserialize;
use suf_gate::{
    Form, HostValue, KeyBytes, NodeId, Part, Party, Program, Ring, SecretBytes, Seed, Side, TensorShape,
    TwoParties, Value,
    dcf::TreeHash,
    layout::FieldId,
    load::{Dealt, Kept, LoadId},
    ops::{
        Extended, Factors, Heads, Input, Keep, Op, Output, Pad, PadOf, Pads, Product, Scale, SquareSum,
        Weights,
        host::{self, DealHost, EvalHost, Loops, MaskTile, Plain, Rows, StreamBytes},
        private::{self, Chosen, Factor, Left, Private, Term},
    },
    prg::{FixedKeys, MASK, StreamKey},
    two_parties::Loaded,
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
    loaded: Vec<Matrix>,
    made_masks: [Vec<u64>; 2],
    messages: [HexBytes; 2],
    opened: Vec<u64>,
}

/// A matrix of a loaded model: what was opened of it, and the parties' shares of its mask.
#[derive(Deserialize)]
struct Matrix {
    opened: Vec<u64>,
    masks: [Vec<u64>; 2],
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
        "private" => vec![
            input(3, 3, 64, 26),
            input(3, 2, 48, 16),
            dealt(PadOf::Quotient, extended(64, 0), 64, 0),
            dealt(PadOf::Quotient, extended(48, 0), 48, 1),
            node(Op::Private(private()), &[0, 1, 2, 3]),
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

/// Rows, columns and fractional bits of the loaded matrices.
const LOADED: [(u32, u32, u8); 3] = [(4, 5, 10), (1, 2, 10), (1, 5, 36)];

fn load_program() -> Program {
    let input = |(rows, cols, frac)| {
        let shape = TensorShape::new(rows, cols).expect("a tensor");
        (Op::Input(Input::new(shape, FULL, frac, Form::Masked)), Vec::new())
    };
    let keep = |of| (Op::Keep(Keep), vec![NodeId(of)]);
    Program::new(LOADED.map(input).into_iter().chain([0, 1, 2].map(keep))).expect("a program")
}

fn private() -> Private {
    let chosen = |ranges: &[Range<u32>]| Chosen::new(ranges.to_vec()).expect("they lie apart");
    let term = |at: usize, rows: Chosen, cols: Chosen, factor| {
        let (all, width, frac) = LOADED[at];
        let shape = TensorShape::new(all, width).expect("a tensor");
        let matrix = private::Matrix { input: NodeId(at as u16), shape, frac };
        Term { matrix, rows, cols, factor }
    };
    let left = |bits, shift| Left { ring: Ring::new(bits), shift };
    let terms = vec![
        term(0, chosen(&[0..1, 2..4]), chosen(&[1..2, 4..5]), Factor::Rows(left(64, 0))),
        term(1, Chosen::all(1), Chosen::all(2), Factor::Elements(left(48, 10))),
        term(2, Chosen::all(1), chosen(&[1..2, 4..5]), Factor::One),
    ];
    Private::new(*load_program().digest(), terms, Ring::new(50), 36).expect("they fit")
}

const LOAD_BATCH: [u8; 16] = [7; 16];

fn seeds() -> [Seed; 2] {
    [8, 9].map(|byte| Seed::new([byte; 32]))
}

/// The load, at the dealer and at both parties.
fn load(case: &Case) -> Loaded {
    let program = Arc::new(load_program());
    let id = || LoadId { program: Arc::clone(&program), batch: LOAD_BATCH };
    let opened = program.results().zip(&case.loaded);
    let opened: BTreeMap<_, _> = opened.map(|(keep, matrix)| (keep, vec![matrix.opened.clone()])).collect();
    let kept = seeds().map(|seed| Arc::new(Kept::new(id(), seed, opened.clone())));
    Loaded { dealt: Arc::new(Dealt::new(id(), seeds())), kept }
}

/// Streams of the masks of loaded matrices that the file gives.
struct KnownStreams(Vec<(StreamKey, Vec<u8>)>);

impl KnownStreams {
    fn of(case: &Case) -> Self {
        let id = LoadId { program: Arc::new(load_program()), batch: LOAD_BATCH };
        let streams = case.loaded.iter().enumerate().flat_map(|(input, matrix)| {
            let part = Part::new(NodeId(input as u16), 0);
            let stream = |(seed, mask): (Seed, &Vec<u64>)| {
                let bytes = mask.iter().flat_map(|word| word.to_le_bytes()).collect();
                (id.domain(part).stream(&seed, MASK), bytes)
            };
            seeds().into_iter().zip(&matrix.masks).map(stream).collect::<Vec<_>>()
        });
        Self(streams.collect())
    }
}

impl Loops for KnownStreams {
    fn linear(&self, weights: &Weights, tile: &[u64]) -> Vec<u64> {
        Plain.linear(weights, tile)
    }

    fn product(&self, op: &Product, rows: Range<u32>, elems: usize, x: &[u64], y: &[u64]) -> Vec<u64> {
        Plain.product(op, rows, elems, x, y)
    }

    fn matrix(&self, x: Rows<'_>, y: &[u64], out: &mut [u64]) {
        Plain.matrix(x, y, out);
    }

    fn stream(&self, key: &StreamKey, bytes: usize) -> Zeroizing<Vec<u8>> {
        let (_, stream) = self.0.iter().find(|(known, _)| known == key).expect("a known stream");
        assert_eq!(stream.len(), bytes);
        Zeroizing::new(stream.clone())
    }

    fn tree_hash(&self, keys: &FixedKeys) -> Box<dyn TreeHash + Send> {
        Plain.tree_hash(keys)
    }
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
        Arc::new(KnownStreams::of(self.case))
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
        Arc::new(KnownStreams::of(self.case))
    }
}

#[test]
fn keys_and_messages_of_products_are_those_of_another_implementation() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../../../tests/vectors/products.json")).expect("the file");
    assert_eq!(cases.len(), 5);
    for case in &cases {
        let program = Arc::new(program(case));
        let op = program.nodes().find(|(_, node)| node.exchanges() > 0 && !node.is_input());
        let part = Part::new(op.expect("one that is opened").0, 0);
        let parties = TwoParties::new(Arc::clone(&program), [0; 16], [0, 1, 2].map(|i| Seed::new([i; 32])));
        let parties = if program.load().is_some() { parties.with_load(load(case)) } else { parties };
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
