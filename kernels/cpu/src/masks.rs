//! Masks of wires. The dealer makes whole masks, and a party its share. Checkers of tests and benchmarks, which made a
//! batch's seeds, get whole masks too.

use suf_gate::{
    DealJob, NodeId, Part, Program, Seed, TwoParties,
    layout::FieldId,
    ops::{self, MaskCache},
    prg::{Domain, MASK},
};
use zeroize::Zeroizing;

use crate::{CpuBackend, loops::LevelLoops, pack, prg::Stream, simd::Level};

/// One tile of the mask of the wire that `domain`'s part makes, as far as `seeds` make it. It is the sum of their
/// owners' shares, in the wire's ring. The masks of `cache` are of the same seeds.
pub(crate) fn of_wire(
    program: &Program,
    domain: Domain<'_>,
    level: Level,
    seeds: &[&Seed],
    cache: Option<&MaskCache>,
) -> Zeroizing<Vec<u64>> {
    let fresh = |wire: NodeId| {
        let ring = program.node(wire).ring().expect("the wire has a mask, hence it is there");
        let domain = Domain { part: Part { node: wire, ..domain.part }, ..domain };
        let mut sums = Zeroizing::new(vec![0; program.elems(domain.part)]);
        for seed in seeds {
            let share = expand(program, domain, level, seed);
            sums.iter_mut().zip(share.iter()).for_each(|(sum, share)| *sum = ring.add(*sum, *share));
        }
        std::mem::take(&mut *sums)
    };
    Zeroizing::new(ops::mask(program, domain.part, &LevelLoops(level), cache, &fresh))
}

/// The same of the dealer of a batch.
pub(crate) fn of_dealer(job: &DealJob<'_>, domain: Domain<'_>, level: Level) -> Zeroizing<Vec<u64>> {
    of_wire(job.program, domain, level, &job.party_seeds.each_ref(), Some(job.masks))
}

/// One party's stream of the fresh mask of the wire's tile that `domain` names.
fn expand(program: &Program, domain: Domain<'_>, level: Level, seed: &Seed) -> Zeroizing<Vec<u64>> {
    let ring = program.node(domain.part.node).ring().expect("the wire has a mask, hence it is there");
    let (width, elems) = (usize::from(ring.bits()).div_ceil(8), program.elems(domain.part));
    let mut bytes = Zeroizing::new(vec![0; elems * width]);
    Stream::new(level, &domain.stream(seed, MASK)).fill(0, &mut bytes);
    let mut elements = Zeroizing::new(vec![0; elems]);
    pack::unpack(8 * width as u32, &bytes, &mut elements);
    if !ring.bits().is_multiple_of(8) {
        elements.iter_mut().for_each(|element| *element = ring.reduce(*element));
    }
    elements
}

impl CpuBackend {
    /// The mask of a tile of the masked wire that `part`'s node makes, in the wire's ring.
    #[must_use]
    pub fn mask(&self, batch: &TwoParties, part: Part) -> Vec<u64> {
        let job = batch.deal_job(part);
        of_dealer(&job, job.domain(), self.level()).to_vec()
    }

    /// The first bytes of each party's stream of a field of `part`.
    #[must_use]
    pub fn streams(&self, batch: &TwoParties, part: Part, field: FieldId, bytes: usize) -> [Vec<u8>; 2] {
        let job = batch.deal_job(part);
        job.party_seeds.each_ref().map(|seed| {
            let mut out = vec![0; bytes];
            Stream::new(self.level(), &job.domain().stream(seed, field)).fill(0, &mut out);
            out
        })
    }
}
