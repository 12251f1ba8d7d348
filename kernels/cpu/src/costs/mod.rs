//! What a gate costs on one core: nanoseconds per element for the dealer and for each step of both roles, and how many
//! calls of AES its definition asks for. Used by `suf bench kernel` and by this crate's example `costs`.

mod calls;

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use suf_gate::{
    Backend, BackendError, CHUNK_ELEMS, ChunkEval, DealJob, EvalJob, Gate, Input, KeyBytes, Party, Seed,
};

pub use calls::Calls;

use crate::{prg::Stream, simd::BLOCK_BYTES};

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
        self.0.push(seconds * 1e9 / CHUNK_ELEMS as f64);
    }
}

/// One role's evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleCosts {
    /// All of it.
    pub eval: Times,
    /// Its parts: the making of each exchange's message, and last the finish.
    pub steps: Vec<Times>,
}

/// A gate's costs on full chunks.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// The dealer: both parties' keys.
    pub deal: Times,
    /// The side whose shares come out of its seed.
    pub seeded: RoleCosts,
    /// The side that is sent bytes.
    pub explicit: RoleCosts,
}

/// Measures `gate` on `samples` full chunks, after one to warm up: time that this thread spends on a processor, so that
/// other programs' share of a busy machine does not count. Nothing is sent; the messages go from one evaluation to the
/// other in memory.
///
/// # Errors
/// When the backend fails.
pub fn measure(backend: &dyn Backend, gate: &Arc<Gate>, samples: usize) -> Result<Costs, BackendError> {
    let steps = gate.exchanges().len() + 1;
    let role = || RoleCosts { eval: Times::default(), steps: vec![Times::default(); steps] };
    // In chunk 0 party 0 is the seeded side.
    let (mut deal, mut roles) = (Times::default(), [role(), role()]);
    for sample in 0..=samples {
        let seconds = one_chunk(backend, gate)?;
        if sample == 0 {
            continue;
        }
        deal.push_seconds(seconds.deal);
        for (role, times) in roles.iter_mut().zip(seconds.steps) {
            role.eval.push_seconds(times.iter().sum());
            role.steps.iter_mut().zip(times).for_each(|(step, time)| step.push_seconds(time));
        }
    }
    let [seeded, explicit] = roles;
    Ok(Costs { deal, seeded, explicit })
}

/// Nanoseconds of a call of AES in a long stream, at the least of `samples`: the fastest that this processor does them.
#[must_use]
pub fn nanoseconds_per_call(samples: usize) -> f64 {
    let stream = Stream::new([1; BLOCK_BYTES]);
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

/// Processor seconds of one chunk: the dealer's, and each party's by step.
struct Seconds {
    deal: f64,
    steps: [Vec<f64>; 2],
}

fn one_chunk(backend: &dyn Backend, gate: &Arc<Gate>) -> Result<Seconds, BackendError> {
    // Contents do not matter for the time, and none of this is anybody's key.
    let party_seeds = [Seed::new([1; 32]), Seed::new([2; 32])];
    let dealer_seed = Seed::new([3; 32]);
    let job = DealJob {
        gate,
        batch: [0; 16],
        chunk: 0,
        elems: CHUNK_ELEMS,
        party_seeds: &party_seeds,
        dealer_seed: &dealer_seed,
    };
    let start = cpu_seconds();
    let [key_0, key_1] = backend.deal(&job)?;
    let deal = cpu_seconds() - start;

    let begin = |party: Party, key: KeyBytes| -> Result<Box<dyn ChunkEval>, BackendError> {
        let seed = party_seeds[party.index()].clone();
        let job = EvalJob { gate: gate.clone(), batch: [0; 16], chunk: 0, elems: CHUNK_ELEMS, party, seed };
        let input = (0..CHUNK_ELEMS as u64).map(|i| i.wrapping_mul(0x1234_5678_9ABB) >> 16).collect();
        backend.stage(&job, key)?.begin(if gate.takes_shares() {
            Input::Shares(input)
        } else {
            Input::Wire(input)
        })
    };
    let mut evals = [begin(Party::P0, key_0.into())?, begin(Party::P1, key_1.into())?];
    let mut received = [Bytes::new(), Bytes::new()];
    let mut steps = [Vec::new(), Vec::new()];
    for step in 0..=gate.exchanges().len() {
        let mut sent = [Bytes::new(), Bytes::new()];
        for (party, eval) in evals.iter_mut().enumerate() {
            let start = cpu_seconds();
            if step < gate.exchanges().len() {
                sent[party] = eval.step(step, &received[party])?;
            } else {
                eval.finish(&received[party])?;
            }
            steps[party].push(cpu_seconds() - start);
        }
        sent.swap(0, 1);
        received = sent;
    }
    Ok(Seconds { deal, steps })
}

#[cfg(test)]
mod tests {
    use suf_gate::{Protocol, catalog, gatefile::GateFile};

    use super::*;
    use crate::CpuBackend;

    #[test]
    fn every_step_of_both_roles_is_measured() {
        let file = GateFile::builtin("gelu").expect("built in");
        let gate = Arc::new(catalog::gate(&file, Protocol::Onehot, None).expect("in the file"));
        let costs = measure(&CpuBackend::new(), &gate, 2).expect("the CPU does not fail");
        assert_eq!(costs.deal.samples().len(), 2);
        for role in [&costs.seeded, &costs.explicit] {
            assert_eq!(role.steps.len(), gate.exchanges().len() + 1);
            assert!(role.eval.least() > 0.0 && role.eval.least() <= role.eval.median());
            let sum: f64 = role.steps.iter().map(|step| step.samples()[0]).sum();
            assert!((sum - role.eval.samples()[0]).abs() < 1e-6, "the parts make the whole");
        }
    }

    #[test]
    fn the_middle_and_the_least_sample() {
        let times = Times(vec![3.0, 1.0, 2.0]);
        assert_eq!((times.median(), times.least()), (2.0, 1.0));
        assert_eq!((Times::default().median(), Times::default().least()), (0.0, 0.0));
    }
}
