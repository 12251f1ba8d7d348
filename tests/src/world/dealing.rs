//! The dealer of the world, honest or not, and the parties' stores.

use std::{ops::Range, sync::Arc};

use rand::Rng;
use suf_deal::{Batch, Entropy, KeyPart, Order, Standing};
use suf_gate::{KeyShape, Program, Seed, WeightStore, ops::Op};
use suf_party::{Event, RunFailure};
use suf_wire::{CommonParts, Digest, Fault, KeyRequest, Part, Party};

use super::World;

impl World {
    pub(super) fn deal(&mut self, request: &KeyRequest) {
        let program = Program::decode(&request.program, &self.weights).map(Arc::new);
        let load = request.load_batch.and_then(|batch| self.dealt.get(&batch).cloned());
        if request.load_batch.is_some() != load.is_some() {
            let failure = RunFailure::new(Fault::Dealer, "the dealer has no such load");
            return self.local(request.party, Event::Failed(failure));
        }
        let order = Order::new(request, program);
        let program = match order.and_then(|order| self.pairing.request(order)) {
            Ok(Standing::Agreed { program, .. }) => program,
            Ok(Standing::Waiting) => return,
            Err(refusal) => {
                for me in Party::BOTH {
                    let event = Event::Failed(RunFailure::new(Fault::Peer, refusal.to_string()));
                    self.local(me, event);
                }
                return;
            }
        };
        let mut seed = || Seed::new(self.rng.random());
        let seeds = [seed(), seed(), seed()];
        self.seeds = Some(seeds.clone());
        let [first, second, dealer] = seeds;
        let entropy = Entropy { parties: [first, second], dealer };
        let batch = Batch::new(request.batch, program, entropy);
        let batch = load.into_iter().fold(batch, Batch::with_load);
        if batch.program().loads() {
            self.dealt.insert(batch.id(), Arc::new(batch.dealt()));
        }
        assert_eq!(batch.parts() as usize, batch.program().keyed_parts().count());
        let unequal = self.rng.random_bool(self.faults.unequal).then(|| self.public_part(&batch)).flatten();
        // Either is right, whatever the other party does.
        let on_disk: [bool; 2] = self.rng.random();
        let mut ready_us = [self.now_us; 2];
        for segment in 0..batch.program().segments() {
            let intact = self.deal_segment(&batch, segment, unequal);
            for me in Party::BOTH {
                let event = match intact[me.index()] {
                    Some(common) => Event::KeysStored {
                        segment,
                        seed: batch.header(me).seed,
                        common,
                        on_disk: on_disk[me.index()],
                    },
                    None => Event::Failed(RunFailure::new(
                        Fault::Dealer,
                        "the integrity tag of a part's key does not fit",
                    )),
                };
                let at_us = &mut ready_us[me.index()];
                *at_us += 1 + self.rng.random_range(0..super::LONGEST_US);
                let at_us = *at_us;
                self.at(at_us, super::Happening::Local(me, event));
            }
        }
    }

    /// Makes, ships and stores the keys of a segment. For each party the hash of what is public of them; none if one was damaged.
    fn deal_segment(&mut self, batch: &Batch, segment: u16, unequal: Option<Part>) -> [Option<[u8; 32]>; 2] {
        let (id, program) = (batch.id(), Arc::clone(batch.program()));
        let mut intact = [true; 2];
        let mut common = Party::BOTH.map(|_| CommonParts::new(id, Digest(*program.digest()), segment));
        for part in program.segment_parts(segment) {
            let mut pair = batch.deal(part, &self.backend).expect("the CPU does not fail");
            if unequal == Some(part) {
                self.make_unequal(batch, &mut pair);
                self.unequal = Some(segment);
            }
            for (key, me) in pair.into_iter().zip(Party::BOTH) {
                let key = self.ship(key);
                intact[me.index()] &= key.is_intact(id, me);
                let ranges = common_ranges(&program, part, me);
                common[me.index()].absorb(part, ranges.iter().map(|range| &key.bytes[range.clone()]));
                self.processes[me.index()].keys.insert(part, key.bytes);
            }
        }
        Party::BOTH.map(|me| intact[me.index()].then(|| common[me.index()].digest()))
    }

    /// Some part whose keys have public parts; none if there is none.
    fn public_part(&mut self, batch: &Batch) -> Option<Part> {
        let has_common = |part: &Part| !common_ranges(batch.program(), *part, Party::P0).is_empty();
        let parts: Vec<_> = batch.program().keyed_parts().filter(has_common).collect();
        (!parts.is_empty()).then(|| parts[self.rng.random_range(0..parts.len())])
    }

    /// Changes a bit of the public parts of one party's key and tags it anew, as a lying dealer would.
    fn make_unequal(&mut self, batch: &Batch, pair: &mut [KeyPart; 2]) {
        let victim = Party::BOTH[self.rng.random_range(0..2)];
        let KeyPart { part, bytes, .. } = pair[victim.index()].clone();
        let ranges = common_ranges(batch.program(), part, victim);
        let range = ranges[self.rng.random_range(0..ranges.len())].clone();
        let mut bytes = bytes.to_vec();
        bytes[self.rng.random_range(range)] ^= 1 << self.rng.random_range(0..8);
        pair[victim.index()] = KeyPart::new(batch.id(), victim, part, bytes.into());
    }

    fn ship(&mut self, mut key: KeyPart) -> KeyPart {
        if !key.bytes.is_empty() && self.rng.random_bool(self.faults.damage) {
            let mut bytes = key.bytes.to_vec();
            let at = self.rng.random_range(0..bytes.len());
            bytes[at] ^= 1;
            key.bytes = bytes.into();
        }
        key
    }
}

/// The matrices that a program names.
pub(super) fn weights_of(program: &Program) -> WeightStore {
    let mut store = WeightStore::default();
    for (_, node) in program.nodes() {
        match node.op() {
            Op::Linear(op) => store.add(Arc::clone(op.weights())),
            Op::Gain(op) => store.add(Arc::clone(op.weights())),
            _ => {}
        }
    }
    store
}

/// Where the public parts stand in `party`'s key of `part`.
fn common_ranges(program: &Program, part: Part, party: Party) -> Vec<Range<usize>> {
    let shape: &KeyShape = program.node(part.node).op().def().key_shape();
    shape.common_ranges(program.side(party, part), program.counts(part)).collect()
}
