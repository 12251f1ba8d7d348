//! Agreement with the scalar definition to the bit: keys and messages of one element, dealt from the same randomness.

use std::collections::VecDeque;

use crate::{
    specs::{self, Random},
    two_party::{GateBatch, Run, Seeded, run_at},
};
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use suf_cpu::{CpuBackend, prg::Stream, simd::Level};
use suf_gate::{
    Gate, NodeId, Party, Seed, Shape, Side, catalog,
    layout::{FieldId, Width},
    prg::{FixedKeys, MASK},
    ring::WIRE,
    spec::{
        CompiledSpec,
        compile::{Part, Switch},
        dpf::{Block, TreePrg},
        scalar::{self, Entropy, Eval},
    },
};

/// The tree's hash functions by the library's AES.
struct AesPrg {
    node: aes::Aes128,
    leaf: aes::Aes128,
}

impl AesPrg {
    fn new(fixed: FixedKeys) -> Self {
        Self { node: aes::Aes128::new(&fixed.node.into()), leaf: aes::Aes128::new(&fixed.leaf.into()) }
    }

    fn hash(key: &aes::Aes128, seed: Block) -> Block {
        let (high, low) = (seed >> 64, seed & u128::from(u64::MAX));
        let x = (high ^ low) << 64 | high;
        let mut block = x.to_le_bytes().into();
        key.encrypt_block(&mut block);
        Block::from_le_bytes(block.into()) ^ x
    }
}

impl TreePrg for AesPrg {
    fn node(&self, seed: Block) -> Block {
        Self::hash(&self.node, seed)
    }

    fn leaf(&self, seed: Block) -> Block {
        Self::hash(&self.leaf, seed)
    }
}

/// Numbers in the order in which the scalar dealer asks for them.
struct Script(VecDeque<u64>);

impl Entropy for Script {
    fn fill(&mut self, _: &mut [u8]) {
        unreachable!("the dealer asks for numbers");
    }

    fn bits(&mut self, bits: u8) -> u64 {
        if bits == 0 {
            return 0;
        }
        self.0.pop_front().expect("a number for each question") & (u64::MAX >> (64 - bits))
    }
}

/// The streams of a gate's first tile, of one element, of which party 0 is the seeded side.
struct Streams<'b> {
    run: &'b Run,
    spec: &'b CompiledSpec,
}

impl Streams<'_> {
    fn seed(&self, party: Party) -> Seed {
        self.run.parties.eval_job(party, self.run.part(0)).seed
    }

    /// The numbers of a field: its planes, or pieces of `len` bytes.
    fn numbers(&self, seed: &Seed, id: FieldId, len: usize) -> Vec<u64> {
        let job = self.run.parties.deal_job(self.run.part(0));
        let width = job.key_shape().field(id).width;
        let mut bytes = vec![0; width.bytes(1)];
        Stream::new(Level::best(), &job.domain().stream(seed, id)).fill(0, &mut bytes);
        numbers_of(&bytes, if let Width::Planes(_) = width { 1 } else { len })
    }

    /// Party 0's share of the mask of a wire.
    fn mask(&self, wire: NodeId) -> Vec<u64> {
        let job = self.run.parties.deal_job(self.run.part(0));
        let mut bytes = [0; 6];
        let key = job.mask_domain(wire).stream(&self.seed(Party::P0), MASK);
        Stream::new(Level::best(), &key).fill(0, &mut bytes);
        numbers_of(&bytes, 6)
    }

    /// Both parties' numbers, in turn.
    fn own(&self, part: Part, len: usize) -> Vec<u64> {
        let Some(id) = self.spec.field(part) else { return Vec::new() };
        let [a, b] = Party::BOTH.map(|party| self.numbers(&self.seed(party), id, len));
        a.into_iter().zip(b).flat_map(|(a, b)| [a, b]).collect()
    }

    /// Party 0's numbers.
    fn shared(&self, part: Part, len: usize) -> Vec<u64> {
        self.spec.field(part).map_or_else(Vec::new, |id| self.numbers(&self.seed(Party::P0), id, len))
    }

    /// Roots of both parties, the high half of each first.
    fn roots(&self, part: Part) -> Vec<u64> {
        let Some(id) = self.spec.field(part) else { return Vec::new() };
        let halves = Party::BOTH.into_iter().flat_map(|party| {
            let [low, high] = self.numbers(&self.seed(party), id, 8)[..] else {
                panic!("a root has 16 bytes")
            };
            [high, low]
        });
        halves.collect()
    }

    fn script(&self) -> Script {
        let mut all = self.roots(Part::Root);
        all.extend(self.roots(Part::LowRoot));
        all.extend(self.own(Part::ComparisonMasks, 1));
        all.extend(
            self.own(Part::TableMask, self.spec.table().map_or(1, |t| t.mask_bits.div_ceil(8)).into()),
        );
        all.extend(self.own(Part::SignMask, 1));
        all.extend(self.own(Part::CoefficientMasks, 6));
        let dealer_seed = self.run.parties.deal_job(self.run.part(0)).dealer_seed;
        let omegas = self.spec.field(Part::HelperMasks).map(|id| self.numbers(dealer_seed, id, 1));
        let mut omegas = omegas.into_iter().flatten();
        for (g, gate) in self.spec.gates().iter().enumerate() {
            if let Switch::Helper { .. } = gate {
                all.extend(omegas.next());
                all.extend(self.shared(Part::HelperTable(g), 1));
            }
        }
        all.extend(self.shared(Part::Elements, 6));
        for wire in [NodeId(0), self.run.gate] {
            all.extend(self.mask(wire));
        }
        all.extend(self.shared(Part::TopBit, 1));
        Script(all.into())
    }
}

fn numbers_of(bytes: &[u8], len: usize) -> Vec<u64> {
    let number = |piece: &[u8]| piece.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
    bytes.chunks_exact(len).map(number).collect()
}

fn agrees(gate: &Gate, salt: u8, x: i64) {
    let Shape::Suf(suf) = gate.shape() else { panic!("not a suf gate") };
    let spec = suf.compiled();
    let batch = GateBatch::new(gate, salt);
    let run = batch.run(Seeded::P0, 1);
    let masks = [false, true].map(|made| run.mask(made, 0)[0]);

    let prg = AesPrg::new(run.parties.deal_job(run.part(0)).domain().fixed_keys());
    let mut script = Streams { run: &run, spec }.script();
    let keys = scalar::deal(spec, &prg, masks[0], masks[1], &mut script);
    assert!(script.0.is_empty(), "all numbers are used");

    let found = run.parties.deal(&CpuBackend::new(), run.part(0)).expect("a key");
    for (party, (expected, found)) in [Party::P0, Party::P1].into_iter().zip(keys.iter().zip(&found)) {
        for (part, _) in spec.parts() {
            let id = spec.field(*part).expect("its own part");
            if let Some(range) = gate.key_shape().range(id, Side::of(party, 0), 1) {
                assert_eq!(found.expose()[range], expected.bytes(spec, *part), "{party:?} {part:?}");
            } else {
                assert!(
                    Side::of(party, 0) == Side::Seeded
                        || gate.key_shape().field(id).source != suf_gate::Source::Shared
                );
            }
        }
    }

    let x_hat = WIRE.add(WIRE.encode(x), masks[0]);
    let transcript = run_at(&batch, [Level::best(); 3], Seeded::P0, &[x]);
    let mut evals = keys.each_ref().map(|key| Eval::new(spec, &prg, key, x_hat));
    for (step, segments) in spec.exchanges().iter().enumerate() {
        let messages = evals.each_ref().map(Eval::message);
        for (party, message) in messages.iter().enumerate() {
            let bytes: Vec<u8> = segments
                .iter()
                .zip(message)
                .flat_map(|(segment, number)| number.to_le_bytes().into_iter().take(segment.bytes(1)))
                .collect();
            assert_eq!(
                transcript.messages[party][step], bytes,
                "exchange {step} of party {party}: {segments:?}"
            );
        }
        let opened = scalar::open(segments, [&messages[0], &messages[1]]);
        evals.iter_mut().for_each(|eval| eval.receive(opened.clone()));
    }
}

#[test]
fn named_gates() {
    let mut gates: Vec<Gate> =
        catalog::builtin().filter(|gate| matches!(gate.shape(), Shape::Suf(_))).collect();
    gates.extend(specs::shipped().iter().map(|file| catalog::from_spec_file(file).expect("a gate")));
    for gate in &gates {
        let Shape::Suf(suf) = gate.shape() else { continue };
        for (salt, x) in (0..).zip(specs::inputs(suf.spec(), &mut Random(1), 12)) {
            agrees(gate, salt, x);
        }
    }
}

#[test]
fn random_specifications() {
    let mut random = Random(4);
    for salt in 0..250 {
        let gate = specs::gate(specs::random(&mut random));
        let Shape::Suf(suf) = gate.shape() else { continue };
        let x = specs::inputs(suf.spec(), &mut random, 1)[0];
        agrees(&gate, salt, x);
    }
}
