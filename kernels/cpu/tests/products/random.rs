//! Random programs of products, openings and local operations: every node against its integer function.

use suf_cpu::CpuBackend;
use suf_gate::{
    Form, Mask, NodeId, Program, Ring, TensorShape, Wire,
    ops::{
        Add, DropBits, Extended, Factors, Gain, Heads, Linear, Op, Open, Output, Pad, PadOf, Pads, Product,
        Scale, Shift, Slice, SquareSum, SubtractRow,
    },
};

use super::{
    super::blocks::{assert_right, numbers, parties, shares, weights},
    Nodes,
};

/// A wire, and bits in which its values fit, their sign aside; none if they may wrap.
#[derive(Clone, Copy)]
struct Known {
    id: NodeId,
    wire: Wire,
    bits: Option<u8>,
}

struct Generator<R> {
    random: R,
    nodes: Nodes,
    known: Vec<Known>,
    inputs: Vec<[Vec<u64>; 2]>,
    heads: Heads,
}

impl<R: Iterator<Item = u64>> Generator<R> {
    /// A number in `low..=high`.
    fn number(&mut self, low: u8, high: u8) -> u8 {
        let number = self.random.next().expect("there is no end") >> 32;
        low + (number % (u64::from(high) - u64::from(low) + 1)) as u8
    }

    fn any(&mut self) -> Known {
        let at = self.random.next().expect("there is no end") >> 32;
        self.known[at as usize % self.known.len()]
    }

    fn input(&mut self, shape: TensorShape, form: Form) {
        let bits = self.number(34, 64);
        let frac = self.number(8, 12);
        let fits = self.number(10, bits - 8);
        let seed = self.random.next().expect("there is no end");
        let id = self.nodes.input(shape, bits, frac, form);
        let x = numbers(seed).map(|number| number.cast_signed() >> (63 - fits));
        self.inputs.push(shares(Ring::new(bits), &x.take(shape.elems() as usize).collect::<Vec<_>>()));
        let wire = Wire { form, ..Wire::fresh(shape, Ring::new(bits), frac) };
        self.known.push(Known { id, wire, bits: Some(fits) });
    }

    /// Adds a node if it takes such wires.
    fn add(&mut self, op: Op, inputs: &[NodeId], bits: Option<u8>) -> Option<NodeId> {
        let wires: Vec<Wire> = inputs.iter().map(|input| self.wire(*input)).collect();
        let wire = op.def().wire(&wires).ok().flatten()?;
        let id = self.nodes.add(op, inputs);
        // Two bits less than the ring has are what an extended wire takes.
        let bits = bits.filter(|bits| bits + 2 < wire.ring.bits());
        self.known.push(Known { id, wire, bits });
        Some(id)
    }

    fn wire(&self, id: NodeId) -> Wire {
        self.known.iter().find(|known| known.id == id).expect("it was added").wire
    }

    /// Shares of a function of a wire's mask: the parties' own, or dealt.
    fn pads(&mut self, of: PadOf, from: Extended, to: u8, wire: NodeId) -> Option<NodeId> {
        let to = Ring::new(to);
        let pad = Pad { of, from, to };
        let is_own = self.wire(wire).mask != Mask::Dropped && pad == Pad::whole(from.ring, to);
        let pads = match Pads::own(from.ring, to) {
            Ok(own) if is_own && self.number(0, 1) == 0 => own,
            _ => Pads::dealt(pad),
        };
        self.add(Op::Pads(pads), &[wire], None)
    }

    /// A wire that can be extended, and how.
    fn extendable(&mut self) -> Option<(Known, Extended)> {
        let known = self.any();
        let bits = known.wire.ring.bits();
        let is_fit = known.wire.form == Form::Masked && known.bits.is_some() && known.wire.frac > 0;
        let drop = if is_fit { self.number(1, known.wire.frac) } else { return None };
        Some((known, Extended::new(Ring::new(bits), drop).ok()?))
    }

    fn local(&mut self) -> Option<NodeId> {
        let (x, y) = (self.any(), self.any());
        let (cols, seed) = (x.wire.shape.cols(), u64::from(self.number(0, 255)));
        let grown = |by: u8| x.bits.map(|bits| bits.max(30) + by);
        let larger = x.bits.max(y.bits).map(|bits| bits + 1).filter(|_| x.bits.and(y.bits).is_some());
        match self.number(0, 6) {
            0 => {
                let made = if self.number(0, 1) == 0 { cols } else { 1 };
                let linear = Linear::new(weights(seed, cols, made, 6), 3);
                self.add(Op::Linear(linear), &[x.id], grown(12))
            }
            1 => self.add(Op::Add(Add), &[x.id, y.id], larger),
            2 => {
                let shift = self.number(1, 6);
                self.add(Op::Shift(Shift(shift)), &[x.id], x.bits.map(|bits| bits + shift))
            }
            3 => {
                let drop = self.number(1, 9);
                self.add(Op::Drop(DropBits(drop)), &[x.id], x.bits)
            }
            4 => {
                let first = u32::from(self.number(0, cols as u8 - 1));
                let count = u32::from(self.number(1, (cols - first) as u8));
                self.add(Op::Slice(Slice { first, count }), &[x.id], x.bits)
            }
            5 => self.add(Op::Gain(Gain::new(weights(seed, 1, cols, 6), 2)), &[x.id], grown(7)),
            _ => self.add(Op::SubtractRow(SubtractRow), &[x.id, y.id], larger),
        }
    }

    fn opened(&mut self) -> Option<NodeId> {
        let x = self.any();
        if x.wire.form == Form::Shared {
            return self.add(Op::Open(Open::shared(x.wire.ring)), &[x.id], x.bits);
        }
        let (x, from) = self.extendable()?;
        let to = Ring::new(self.number(20, 64));
        let open = Open::masked(from.ring, from.drop, to).ok()?;
        self.add(Op::Open(open), &[x.id], x.bits.map(|bits| bits.saturating_sub(from.drop) + 1))
    }

    fn product(&mut self) -> Option<NodeId> {
        let (x, y) = (self.any(), self.any());
        let rings = [x.wire.ring, y.wire.ring];
        let to = self.number(20, 64).min(rings[0].bits()).min(rings[1].bits());
        let is_masked = self.number(0, 3) == 0;
        let product = match self.number(0, 2) {
            0 => Product::new(Factors::Elements, rings, Ring::new(to)),
            1 if is_masked => Product::masked_scores(self.heads, rings, Ring::new(to)),
            1 => Product::new(Factors::Scores(self.heads), rings, Ring::new(to)),
            _ => Product::new(Factors::Mix(self.heads), rings, Ring::new(to)),
        };
        let product = product.ok()?;
        let mut wires = vec![x.wire, y.wire];
        let pad = Wire { form: Form::Pad, ring: Ring::new(to), ..x.wire };
        wires.extend([pad; 2]);
        let mut added = None;
        if product.is_added() {
            let frac = x.wire.frac + y.wire.frac;
            let fits = |known: &&Known| {
                known.wire.form == Form::Shared && (known.wire.ring.bits(), known.wire.frac) == (to, frac)
            };
            added = Some(*self.known.iter().find(fits)?);
            wires.extend(added.map(|added| added.wire));
        }
        // Whether they fit together, before shares are made for them.
        Op::Product(product.clone()).def().wire(&wires).ok()?;
        let pads = [x, y].map(|known| {
            let whole = Extended { ring: known.wire.ring, drop: 0 };
            self.pads(PadOf::Quotient, whole, to, known.id)
        });
        let mut inputs = vec![x.id, y.id, pads[0]?, pads[1]?];
        inputs.extend(added.map(|added| added.id));
        let bits =
            x.bits.zip(y.bits).map(|(x, y)| x.saturating_add(y).saturating_add(8)).filter(|bits| *bits < 64);
        self.add(Op::Product(product), &inputs, bits)
    }

    fn scaled(&mut self) -> Option<NodeId> {
        let ((x, of_x), (y, of_y)) = (self.extendable()?, self.extendable()?);
        let (a, b) = (of_x.kept(), of_y.kept());
        let to = self.number(62, 64);
        if a + 2 > to || b + 2 > to {
            return None;
        }
        let heads = (x.wire.shape.rows() != y.wire.shape.rows()).then_some(self.heads);
        let scale = Scale::new(of_x, of_y, heads, Ring::new(to)).ok()?;
        let pad = Wire { form: Form::Pad, ..x.wire };
        Op::Scale(scale.clone()).def().wire(&[x.wire, y.wire, pad, pad, pad, pad]).ok()?;
        let mu = self.pads(PadOf::Quotient, of_x, to, x.id)?;
        let c = self.pads(PadOf::Top, of_x, to - a, x.id)?;
        let both = self.pads(PadOf::TopQuotient, of_x, to - a - 1, x.id)?;
        let nu = self.pads(PadOf::Quotient, of_y, to, y.id)?;
        let c_row = self.pads(PadOf::Top, of_y, to - b, y.id)?;
        let squares = SquareSum::new(of_x, Ring::new(to)).ok()?;
        self.add(Op::SquareSum(squares), &[x.id, mu, c, both], None);
        self.add(Op::Scale(scale), &[x.id, y.id, mu, c, nu, c_row], None)
    }

    fn finish(mut self) -> (Program, Vec<[Vec<u64>; 2]>) {
        for known in self.known {
            if known.wire.form == Form::Masked && known.wire.mask != Mask::Dropped {
                self.nodes.add(Op::Output(Output), &[known.id]);
            }
        }
        (self.nodes.finish(), self.inputs)
    }
}

fn random(seed: u64) -> (Program, Vec<[Vec<u64>; 2]>) {
    let random = numbers(seed);
    let heads = Heads { heads: 0, tokens: 0 };
    let mut generator = Generator { random, nodes: Nodes::default(), known: vec![], inputs: vec![], heads };
    let [heads, tokens, dim, batch] = [3, 4, 3, 2].map(|most| u32::from(generator.number(1, most)));
    generator.heads = Heads { heads, tokens };
    let shape = |rows, cols| TensorShape::new(rows, cols).expect("a tensor");
    let of_tokens = shape(batch * tokens, heads * dim);
    let of_scores = shape(batch * heads * tokens, tokens);
    for shape in [of_tokens, of_tokens, of_scores, of_tokens.column(), of_scores.column()] {
        let form = if generator.number(0, 4) == 0 { Form::Shared } else { Form::Masked };
        generator.input(shape, form);
    }
    for _ in 0..60 {
        match generator.number(0, 5) {
            0..=2 => generator.local(),
            3 => generator.opened(),
            4 => generator.product(),
            _ => generator.scaled(),
        };
    }
    generator.finish()
}

#[test]
fn random_programs_are_right_and_are_read_as_they_are_written() {
    let mut made = std::collections::BTreeMap::<String, usize>::new();
    for seed in 0..2000 {
        let (program, inputs) = random(seed);
        for (_, node) in program.nodes() {
            let name = node.op().def().name();
            *made.entry(name.split_whitespace().next().expect("a name").to_owned()).or_default() += 1;
        }
        let found = Program::decode(program.encoded(), &super::store(&program));
        assert_eq!(found.as_ref(), Ok(&program), "seed {seed}");
        assert_right(&CpuBackend::new(), &parties(program, seed as u8), &inputs);
    }
    for name in ["scores", "mix", "product", "scale", "square", "shares", "open", "slice", "gain", "subtract"]
    {
        assert!(made.get(name).is_some_and(|count| *count >= 20), "{name}: {made:?}");
    }
}
