//! How long kernels take, by the GPU's own clock: for benches and records.

mod clock;
mod linear;

use std::{sync::Arc, time::Instant};

use suf_gate::{
    BackendError, DealJob, EvalJob, Gate, HostValue, KeyBytes, NodeId, Part, Party, Program, Seed,
    TwoParties, Value, prg::StreamKey, ring::WIRE,
};

use self::clock::{Clock, WARM_UP, median};
pub use self::linear::LinearTimes;
use crate::{
    CudaBackend,
    backend::put_streams,
    deal::Dealing,
    driver,
    eval::{Eval, Staged},
    layout::{ALIGN, Expansion, TABLE_BYTES},
};

/// One kernel over a whole batch.
#[derive(Clone, Debug)]
pub struct KernelTime {
    /// The kernel; "upload" for the copy of the keys.
    pub kernel: &'static str,
    /// Median over the repeats, one tile after the other, in milliseconds.
    pub median_ms: f64,
    /// The same with each tile on a stream of its own, as in a gate.
    pub together_ms: f64,
    /// Least bytes that it moves in the GPU's memory; for the upload, bytes copied.
    pub bytes: f64,
    /// Least calls of AES.
    pub aes: f64,
}

/// A gate's times for one batch.
#[derive(Clone, Debug)]
pub struct GateTimes {
    /// Both parties' keys: the streams, then the gate's kernels.
    pub deal: Vec<KernelTime>,
    /// The same as the GPU does it, tiles overlapped, and all keys in the host's memory, by the host's clock.
    pub deal_to_host_ms: f64,
    /// One party's preparation: the upload, and the expansion of what is not delivered.
    pub stage: Vec<KernelTime>,
    /// One party's evaluation with its keys on the GPU: each exchange's kernel.
    pub eval: Vec<KernelTime>,
}

/// What the card reaches on its own.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Bytes read and written by a copy within the GPU's memory, per second.
    pub bytes: f64,
    /// AES calls per second in counter mode, the blocks written to memory.
    pub aes: f64,
}

/// The program of one gate to measure with. Times do not depend on its seeds or inputs.
struct GateProgram(TwoParties);

impl GateProgram {
    /// The gate's node.
    const GATE: NodeId = NodeId(1);

    fn new(gate: &Gate, elems: u64) -> Result<Self, BackendError> {
        let program = Program::of_gate(Arc::new(gate.clone()), elems)
            .map_err(|_| BackendError::Misuse("a number of elements that no program takes"))?;
        let seeds = [1, 2, 3].map(|byte| Seed::new([byte; 32]));
        Ok(Self(TwoParties::new(Arc::new(program), [0; 16], seeds)))
    }

    /// Number of tiles.
    fn tiles(&self) -> u32 {
        self.0.program().node(Self::GATE).tiles()
    }

    fn dealing(&self, tile: u32) -> DealJob<'_> {
        self.0.deal_job(Part::new(Self::GATE, tile))
    }

    fn evaluation(&self, party: Party, tile: u32) -> EvalJob {
        self.0.eval_job(party, Part::new(Self::GATE, tile))
    }
}

/// The tile of `elems` elements that a gate takes.
fn input(elems: usize) -> Vec<Arc<dyn Value>> {
    let word = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) & WIRE.mask();
    vec![HostValue::shared((0..elems as u64).map(word).collect())]
}

impl CudaBackend {
    /// Times every kernel of `gate` on `elems` elements, party 0 evaluating, `repeats` times after a warm-up.
    ///
    /// # Errors
    /// When the GPU fails or has too little memory: all tiles are there at once.
    pub fn measure(&self, gate: &Gate, elems: u64, repeats: usize) -> Result<GateTimes, BackendError> {
        let shared = self.shared();
        shared.device.bind()?;
        let batch = GateProgram::new(gate, elems)?;
        let tiles = 0..batch.tiles();
        let clock = Clock::new(&shared.device, tiles.len(), repeats)?;
        let kernels = shared.kernels(gate)?;
        let all = |each: f64| each * elems as f64;

        let prepare = |tile| Dealing::prepare(shared, &batch.dealing(tile));
        let dealings = tiles.clone().map(prepare).collect::<Result<Vec<_>, _>>()?;
        dealings.iter().try_for_each(Dealing::wait)?;
        let stream_bytes: usize = dealings.iter().map(Dealing::stream_bytes).sum();
        let mut deal = vec![clock.streams(stream_bytes, |i, on| dealings[i].expand(on))?];
        for (k, (_, task)) in kernels.deal.iter().enumerate() {
            let least = (all(task.bytes), all(task.aes));
            deal.push(clock.kernel(task.name, least, |i, on| dealings[i].combine(k, on))?);
        }
        drop(dealings);

        let deal_all = || {
            let dealings = tiles.clone().map(|tile| {
                let dealing = prepare(tile)?;
                dealing.run()?;
                Ok(dealing)
            });
            let dealings = dealings.collect::<Result<Vec<_>, BackendError>>()?;
            dealings.into_iter().map(Dealing::fetch).collect::<Result<Vec<_>, _>>()
        };
        let mut samples = Vec::new();
        for run in 0..WARM_UP + repeats {
            let start = Instant::now();
            let keys = deal_all()?;
            if run >= WARM_UP {
                samples.push(start.elapsed().as_secs_f64() * 1e3);
            }
            drop(keys);
        }
        let deal_to_host_ms = median(samples);

        let staged = deal_all()?.into_iter().zip(tiles).map(|([key, _], tile)| {
            Staged::new(shared.clone(), &batch.evaluation(Party::P0, tile), &KeyBytes::from(key))
        });
        let staged = staged.collect::<Result<Vec<_>, _>>()?;
        staged.iter().try_for_each(Staged::wait)?;
        let (uploaded, expanded) =
            staged.iter().map(Staged::bytes).fold((0, 0), |sum, (up, own)| (sum.0 + up, sum.1 + own));
        // One after the other: the bus is one.
        // SAFETY: the clock waits for its stream, and the tiles are evaluated afterwards.
        let upload = |i: usize, on: &driver::CudaStream| unsafe { staged[i].upload_again(on) };
        let median_ms = clock.in_turn_ms(&upload)?;
        let (kernel, bytes) = ("upload", uploaded as f64);
        let stage = vec![
            KernelTime { kernel, median_ms, together_ms: median_ms, bytes, aes: 0.0 },
            clock.streams(expanded, |i, on| staged[i].expand(on))?,
        ];

        let evals = staged.into_iter().map(|staged| {
            let taken = input(staged.elems());
            staged.evaluate(taken)
        });
        let mut evals = evals.collect::<Result<Vec<_>, _>>()?;
        evals.iter().try_for_each(Eval::wait)?;
        let mut eval = Vec::new();
        for (step, (_, task)) in kernels.steps.iter().enumerate() {
            evals.iter_mut().for_each(|eval| eval.address(step));
            let least = (all(task.bytes), all(task.aes));
            eval.push(clock.kernel(task.name, least, |i, on| evals[i].launch(step, on))?);
        }
        Ok(GateTimes { deal, deal_to_host_ms, stage, eval })
    }

    /// Measures what the card reaches on its own.
    ///
    /// # Errors
    /// When the GPU fails.
    pub fn rates(&self) -> Result<Rates, BackendError> {
        const BYTES: usize = 1 << 30;
        const REPEATS: usize = 20;
        let shared = self.shared();
        let clock = Clock::new(&shared.device, 1, REPEATS)?;
        let at = TABLE_BYTES + BYTES;
        let mut slot = shared.memory.slot(at + BYTES, TABLE_BYTES)?;
        // SAFETY: both places lie in the slot and do not overlap.
        let copy =
            |_: usize, on: &driver::CudaStream| unsafe { on.copy(slot.at(TABLE_BYTES), slot.at(at), BYTES) };
        let bytes = 2.0 * BYTES as f64 / clock.in_turn_ms(&copy)? * 1e3;
        let key = StreamKey { key: [0; 16], nonce: [0; 16] };
        let whole = Expansion { key, to: TABLE_BYTES, bytes: BYTES };
        put_streams(slot.at(0), slot.pinned.bytes_mut(), &[whole])?;
        // SAFETY: the table is not written again.
        unsafe { slot.upload(0, 0, TABLE_BYTES) }?;
        slot.stream().wait()?;
        let expand = |_: usize, on: &driver::CudaStream| shared.expand(slot.at(0), on, &[BYTES]);
        let aes = clock.in_turn_ms(&expand)?;
        Ok(Rates { bytes, aes: (BYTES / ALIGN) as f64 / aes * 1e3 })
    }
}
