//! Two parties and a dealer in one process, on inputs in the clear.

use std::sync::Arc;

use suf_cpu::{CpuBackend, simd::Level};
use suf_gate::{
    Form, Gate, NodeId, Part, Party, Program, Seed, TILE_ELEMS, TensorShape, TwoParties,
    ops::{Input, Op, Output},
    prg::MASK,
    ring::{FRAC, WIRE},
};

/// A gate, and what fixes a batch's id and seeds.
pub(crate) struct GateBatch {
    pub(crate) gate: Arc<Gate>,
    salt: u8,
}

/// Which party is the seeded side of a gate.
#[derive(Clone, Copy)]
pub(crate) enum Seeded {
    P0,
    P1,
}

impl Seeded {
    pub(crate) const BOTH: [Self; 2] = [Self::P0, Self::P1];
}

/// A program in which the batch's gate is one node.
pub(crate) struct Run {
    pub(crate) parties: TwoParties,
    pub(crate) gate: NodeId,
}

impl GateBatch {
    pub(crate) fn new(gate: &Gate, salt: u8) -> Self {
        Self { gate: Arc::new(gate.clone()), salt }
    }

    /// The gate on `elems` elements.
    pub(crate) fn run(&self, seeded: Seeded, elems: usize) -> Run {
        let gate = |from| (Op::gate(Arc::clone(&self.gate)), vec![NodeId(from)]);
        let form = if self.gate.takes_shares() { Form::Shared } else { Form::Masked };
        let input = |elems| {
            let shape = TensorShape::flat(elems).expect("some elements");
            (Op::Input(Input::new(shape, WIRE, FRAC, form)), vec![])
        };
        let output = |from| (Op::Output(Output), vec![NodeId(from)]);
        let elems = elems as u64;
        // Sides alternate: after another gate, party 1 is the seeded one.
        let (nodes, at) = match seeded {
            Seeded::P0 => (vec![input(elems), gate(0), output(1)], 1),
            Seeded::P1 => (vec![input(1), gate(0), input(elems), gate(2), output(3)], 3),
        };
        let program = Arc::new(Program::new(nodes).expect("a program"));
        let seeds = [0, 1, 2].map(|who: u8| Seed::new(*blake3::hash(&[who, self.salt]).as_bytes()));
        Run { parties: TwoParties::new(program, [self.salt; 16], seeds), gate: NodeId(at) }
    }
}

impl Run {
    pub(crate) fn part(&self, tile: u32) -> Part {
        Part::new(self.gate, tile)
    }

    /// The mask of tile `tile` of the wire that the gate takes, or makes: both parties' streams, added.
    pub(crate) fn mask(&self, made: bool, tile: u32) -> Vec<u64> {
        let part = self.part(tile);
        let wire = if made { self.gate } else { self.parties.program().node(self.gate).inputs()[0] };
        let [a, b] = [Party::P0, Party::P1].map(|party| {
            let job = self.parties.eval_job(party, part);
            let mut bytes = vec![0; 6 * job.elems()];
            let key = job.mask_domain(wire).stream(&job.seed, MASK);
            suf_cpu::prg::Stream::new(Level::Portable, &key).fill(0, &mut bytes);
            bytes
        });
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        a.chunks(6).zip(b.chunks(6)).map(|(a, b)| WIRE.add(number(a), number(b))).collect()
    }
}

/// What happened to a gate.
pub(crate) struct Transcript {
    /// Party by party, the messages of all exchanges of the first tile.
    pub(crate) messages: [Vec<Vec<u8>>; 2],
    /// The outputs in the clear.
    pub(crate) outputs: Vec<i64>,
}

/// Evaluates on inputs in the clear; `levels` are those of party 0, party 1 and the dealer.
pub(crate) fn run_at(batch: &GateBatch, levels: [Level; 3], seeded: Seeded, inputs: &[i64]) -> Transcript {
    let run = batch.run(seeded, inputs.len());
    let program = run.parties.program();
    let [backend_0, backend_1, dealer] = levels.map(CpuBackend::at);
    // Any two summands will do.
    let noise = |i: usize| WIRE.reduce((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16);
    let shares = [
        (0..inputs.len()).map(noise).collect(),
        inputs.iter().enumerate().map(|(i, x)| WIRE.sub(WIRE.encode(*x), noise(i))).collect(),
    ];
    let mut all: Vec<[Vec<u64>; 2]> = program.inputs().skip(1).map(|_| [vec![0], vec![0]]).collect();
    all.push(shares);
    let transcript =
        run.parties.run(&dealer, [&backend_0, &backend_1], &all).expect("the processor computes");

    let node = program.node(run.gate);
    let messages = [0, 1].map(|party| {
        let message = |step| {
            let message: &[u8] = &transcript.messages[&(run.part(0), step)][party];
            assert_eq!(Some(message.len()), program.message_bytes(run.part(0), step), "exchange {step}");
            message.to_vec()
        };
        (0..node.exchanges()).map(message).collect()
    });
    let [y_0, y_1] = transcript.value(program, run.gate);
    assert_eq!(y_0, y_1, "both parties open the same output");
    let output = program.outputs().next().expect("an output");
    let [mine, theirs] = transcript.value(program, output);
    let outputs: Vec<_> =
        mine.iter().zip(&theirs).map(|(mine, theirs)| batch.gate.output(*mine, *theirs)).collect();
    let unmasked = y_0.iter().zip(run.mask(true, 0)).map(|(y, r)| batch.gate.output(*y, WIRE.sub(0, r)));
    assert!(
        unmasked.eq(outputs.iter().copied().take(TILE_ELEMS)),
        "the output node takes the wire's mask off"
    );
    Transcript { messages, outputs }
}

/// Evaluates a tensor of any size at the fastest level; the outputs in the clear.
pub(crate) fn run(gate: &Gate, salt: u8, inputs: &[i64]) -> Vec<i64> {
    run_at(&GateBatch::new(gate, salt), [Level::best(); 3], Seeded::P0, inputs).outputs
}

/// Chi-square test of the bytes against the uniform distribution.
pub(crate) fn assert_uniform(bytes: &[u8], what: &str) {
    let mut counts = [0u64; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let expected = bytes.len() as f64 / 256.0;
    let chi: f64 = counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    // 255 degrees of freedom, standard deviation 22.6: six of them on either side.
    assert!((120.0..390.0).contains(&chi), "{what}: {chi}");
}
