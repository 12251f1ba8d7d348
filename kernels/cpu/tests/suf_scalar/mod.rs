//! Agreement with the scalar definition to the bit: keys and messages of one element, dealt from the same randomness.

use std::collections::VecDeque;

use crate::{
    specs::{self, Random},
    two_party::{Batch, run_chunk},
};
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use suf_cpu::{CpuBackend, prg::Stream, simd::Level};
use suf_gate::{
    Gate, Party, Seed, Shape, catalog,
    layout::{FieldId, R_IN, R_OUT, Role, Width},
    prg::{LEAF_KEY, StreamDomain, TREE_KEY},
    ring::WIRE,
    spec::{
        CompiledSpec,
        compile::{Gate as Switch, Part},
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
    fn new() -> Self {
        Self { node: aes::Aes128::new(&TREE_KEY.into()), leaf: aes::Aes128::new(&LEAF_KEY.into()) }
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

/// The streams of a batch's chunk 0 of one element, of which party 0 is the seeded side.
struct Streams<'b> {
    batch: &'b Batch,
    spec: &'b CompiledSpec,
}

impl Streams<'_> {
    fn bytes(&self, seed: &Seed, id: FieldId) -> Vec<u8> {
        let gate = &self.batch.gate;
        let domain = StreamDomain { batch: &self.batch.id, gate: gate.digest(), chunk: 0 };
        let mut bytes = vec![0; gate.key_shape().field(id).width.bytes(1)];
        Stream::new(domain.key(seed, id)).fill(0, &mut bytes);
        bytes
    }

    /// The numbers of a field: its planes, or pieces of `len` bytes.
    fn numbers(&self, seed: &Seed, id: FieldId, len: usize) -> Vec<u64> {
        let bytes = self.bytes(seed, id);
        let len = if let Width::Planes(_) = self.batch.gate.key_shape().field(id).width { 1 } else { len };
        let number = |piece: &[u8]| piece.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        bytes.chunks_exact(len).map(number).collect()
    }

    /// Both parties' numbers, in turn.
    fn own(&self, part: Part, len: usize) -> Vec<u64> {
        let Some(id) = self.spec.field(part) else { return Vec::new() };
        let [a, b] = self.batch.party_seeds.each_ref().map(|seed| self.numbers(seed, id, len));
        a.into_iter().zip(b).flat_map(|(a, b)| [a, b]).collect()
    }

    /// Party 0's numbers.
    fn shared(&self, part: Part, len: usize) -> Vec<u64> {
        self.spec.field(part).map_or_else(Vec::new, |id| self.numbers(&self.batch.party_seeds[0], id, len))
    }

    /// Roots of both parties, the high half of each first.
    fn roots(&self, part: Part) -> Vec<u64> {
        let Some(id) = self.spec.field(part) else { return Vec::new() };
        let halves = self.batch.party_seeds.iter().flat_map(|seed| {
            let [low, high] = self.numbers(seed, id, 8)[..] else { panic!("a root has 16 bytes") };
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
        let omegas =
            self.spec.field(Part::HelperMasks).map(|id| self.numbers(&self.batch.dealer_seed, id, 1));
        let mut omegas = omegas.into_iter().flatten();
        for (g, gate) in self.spec.gates().iter().enumerate() {
            if let Switch::Helper { .. } = gate {
                all.extend(omegas.next());
                all.extend(self.shared(Part::HelperTable(g), 1));
            }
        }
        all.extend(self.shared(Part::Elements, 6));
        for id in [R_IN, R_OUT] {
            all.extend(self.numbers(&self.batch.party_seeds[0], id, 6));
        }
        all.extend(self.shared(Part::TopBit, 1));
        Script(all.into())
    }
}

fn agrees(gate: &Gate, salt: u8, x: i64) {
    let Shape::Suf(suf) = gate.shape() else { panic!("not a suf gate") };
    let spec = suf.compiled();
    let batch = Batch::new(gate, salt);
    let backend = CpuBackend::new();
    let masks = [R_IN, R_OUT].map(|id| batch.mask(&backend, id, 0, 1)[0]);

    let prg = AesPrg::new();
    let mut script = Streams { batch: &batch, spec }.script();
    let keys = scalar::deal(spec, &prg, masks[0], masks[1], &mut script);
    assert!(script.0.is_empty(), "all numbers are used");

    let found = batch.deal(&backend, 0, 1);
    for (party, (expected, found)) in [Party::P0, Party::P1].into_iter().zip(keys.iter().zip(&found)) {
        for (part, _) in spec.parts() {
            let id = spec.field(*part).expect("its own part");
            if let Some(range) = gate.key_shape().range(id, party.role(0), 1) {
                assert_eq!(found.expose()[range], expected.bytes(spec, *part), "{party:?} {part:?}");
            } else {
                assert!(
                    party.role(0) == Role::Seeded
                        || gate.key_shape().field(id).source != suf_gate::Source::Shared
                );
            }
        }
    }

    let x_hat = WIRE.add(WIRE.encode(x), masks[0]);
    let transcript = run_chunk(&batch, [Level::best(); 3], 0, &[x]);
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
