//! What a gate costs on one core: nanoseconds per element, for the dealer and for each step of both roles. Also how
//! many calls of AES its definition asks for. `suf bench kernel` and this crate's example `costs` use it.

mod calls;
mod limit;

use std::{hint::black_box, sync::Arc};

use rustix::time::{ClockId, clock_gettime};
use suf_gate::{
    Backend, BackendError, Gate, HostValue, KeyBytes, NodeId, Part, Party, Program, Seed, TILE_ELEMS,
    TwoParties, prg::StreamKey,
};

pub use calls::Calls;
pub use limit::{Limit, Rates, Work};

use crate::{
    prg::Stream,
    simd::{BLOCK_BYTES, Level},
};

/// Half of the first-level cache of common processors.
const STREAM_BYTES: usize = 1 << 14;
/// Fillings of that memory in one sample: long enough for the clock.
const FILLINGS: u32 = 64;

/// One figure over all samples, in nanoseconds per element.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times(Vec<f64>);

impl Times {
    /// The samples, in the order in which they were taken.
    #[must_use]
    pub fn samples(&self) -> &[f64] {
        &self.0
    }

    /// The middle sample, the upper one of two.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    /// The least sample: the one that other programs have disturbed least.
    #[must_use]
    pub fn least(&self) -> f64 {
        self.0.iter().copied().reduce(f64::min).unwrap_or(0.0)
    }

    fn push_seconds(&mut self, seconds: f64) {
        self.0.push(seconds * 1e9 / TILE_ELEMS as f64);
    }
}

/// One side's evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct SideCosts {
    /// All of it.
    pub eval: Times,
    /// Its parts: the making of each exchange's message, and last the finish.
    pub steps: Vec<Times>,
}

/// A gate's costs on full tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// The dealer: both parties' keys.
    pub deal: Times,
    /// The side whose shares come out of its seed.
    pub seeded: SideCosts,
    /// The side that is sent bytes.
    pub explicit: SideCosts,
}

/// Measures `gate` on `samples` full tiles, after one to warm up. Only time that this thread spends on a processor
/// counts, so other programs on a busy machine do not matter. Nothing is sent; the messages go from one evaluation to
/// the other in memory.
///
/// # Errors
/// When the backend fails.
pub fn measure(backend: &dyn Backend, gate: &Arc<Gate>, samples: usize) -> Result<Costs, BackendError> {
    let steps = gate.exchanges().len() + 1;
    let side = || SideCosts { eval: Times::default(), steps: vec![Times::default(); steps] };
    // Contents do not matter for the time, and none of this is anybody's key.
    let program = Program::of_gate(Arc::clone(gate), TILE_ELEMS as u64).expect("a full tile is a tensor");
    let seeds = [1, 2, 3].map(|byte| Seed::new([byte; 32]));
    let parties = TwoParties::new(Arc::new(program), [0; 16], seeds);
    // In tile 0 party 0 is the seeded side.
    let (mut deal, mut sides) = (Times::default(), [side(), side()]);
    for sample in 0..=samples {
        let seconds = one_tile(backend, &parties)?;
        if sample == 0 {
            continue;
        }
        deal.push_seconds(seconds.deal);
        for (side, times) in sides.iter_mut().zip(seconds.steps) {
            side.eval.push_seconds(times.iter().sum());
            side.steps.iter_mut().zip(times).for_each(|(step, time)| step.push_seconds(time));
        }
    }
    let [seeded, explicit] = sides;
    Ok(Costs { deal, seeded, explicit })
}

/// Nanoseconds of a call of AES in a long stream, at the least of `samples`: the fastest that this processor does them.
#[must_use]
pub fn nanoseconds_per_call(samples: usize) -> f64 {
    let stream = Stream::new(Level::best(), &StreamKey { key: [1; BLOCK_BYTES], nonce: [2; BLOCK_BYTES] });
    let mut out = vec![0; STREAM_BYTES];
    let calls = f64::from(FILLINGS) * (STREAM_BYTES / BLOCK_BYTES) as f64;
    let mut once = || {
        let start = cpu_seconds();
        (0..FILLINGS).for_each(|_| stream.fill(0, black_box(&mut out)));
        (cpu_seconds() - start) * 1e9 / calls
    };
    (0..samples.max(1)).map(|_| once()).fold(f64::INFINITY, f64::min)
}

/// Seconds that the calling thread has spent on a processor.
#[must_use]
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Processor seconds of one tile: the dealer's, and each party's by step.
struct Seconds {
    deal: f64,
    steps: [Vec<f64>; 2],
}

fn one_tile(backend: &dyn Backend, parties: &TwoParties) -> Result<Seconds, BackendError> {
    let part = Part::new(NodeId(1), 0);
    let start = cpu_seconds();
    let keys = backend.deal(&parties.deal_job(part))?;
    let deal = cpu_seconds() - start;

    let input: Vec<u64> = (0..TILE_ELEMS as u64).map(|i| i.wrapping_mul(0x1234_5678_9ABB) >> 16).collect();
    let inputs = [(); 2].map(|()| vec![HostValue::shared(input.clone())]);
    let mut run = parties.begin([backend; 2], part, keys.map(KeyBytes::from), inputs)?;
    let exchanges = parties.program().node(part.node).exchanges();
    let mut steps = [Vec::new(), Vec::new()];
    for step in 0..=exchanges {
        for party in [Party::P0, Party::P1] {
            let start = cpu_seconds();
            if step < exchanges {
                run.send(party)?;
            } else {
                run.finish_one(party)?;
            }
            steps[party.index()].push(cpu_seconds() - start);
        }
        run.deliver();
    }
    Ok(Seconds { deal, steps })
}

#[cfg(test)]
mod tests {
    use suf_gate::{Protocol, catalog, gatefile::GateFile};

    use super::*;
    use crate::CpuBackend;

    #[test]
    fn every_step_of_both_sides_is_measured() {
        let file = GateFile::builtin("gelu").expect("built in");
        let gate = Arc::new(catalog::gate(&file, Protocol::Onehot, None).expect("in the file"));
        let costs = measure(&CpuBackend::new(), &gate, 2).expect("the CPU does not fail");
        assert_eq!(costs.deal.samples().len(), 2);
        for side in [&costs.seeded, &costs.explicit] {
            assert_eq!(side.steps.len(), gate.exchanges().len() + 1);
            assert!(side.eval.least() > 0.0 && side.eval.least() <= side.eval.median());
            let sum: f64 = side.steps.iter().map(|step| step.samples()[0]).sum();
            assert!((sum - side.eval.samples()[0]).abs() < 1e-6, "the parts make the whole");
        }
    }

    #[test]
    fn the_middle_and_the_least_sample() {
        let times = Times(vec![3.0, 1.0, 2.0]);
        assert_eq!((times.median(), times.least()), (2.0, 1.0));
        assert_eq!((Times::default().median(), Times::default().least()), (0.0, 0.0));
    }
}
