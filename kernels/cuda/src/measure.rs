//! How long kernels take, by the GPU's own clock: for benches and records.

use std::sync::Arc;

use suf_gate::{
    BackendError, DealJob, EvalJob, Gate, Input, KeyBytes, Party, Seed,
    layout::{chunk_count, chunk_elems},
    ring::WIRE,
};

use crate::{
    CudaBackend,
    backend::{Dealing, put_streams},
    driver::Stream,
    eval::{Eval, Staged},
    layout::ALIGN,
};

/// Runs before the first that counts: clocks rise and caches fill.
const WARM_UP: usize = 3;

/// One kernel over a whole batch.
#[derive(Clone, Debug)]
pub struct KernelTime {
    /// The kernel; "upload" for the copy of the keys.
    pub kernel: &'static str,
    /// Median over the repeats, all chunks together, in milliseconds.
    pub median_ms: f64,
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
    /// The same as the GPU does it, chunks overlapped, and all keys in the host's memory, by the host's clock.
    pub deal_to_host_ms: f64,
    /// One party's preparation: the upload, and the expansion of what is not delivered.
    pub stage: Vec<KernelTime>,
    /// One party's evaluation with its keys on the GPU: each exchange, then the opening of the last.
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

impl CudaBackend {
    /// Times every kernel of `gate` on `elems` elements, party 0 evaluating, `repeats` times after a warm-up.
    ///
    /// # Errors
    /// When the GPU fails or has too little memory: all chunks are there at once.
    pub fn measure(&self, gate: &Gate, elems: u64, repeats: usize) -> Result<GateTimes, BackendError> {
        let shared = self.shared();
        shared.device.bind()?;
        let gate = Arc::new(gate.clone());
        let seeds = [Seed::new([1; 32]), Seed::new([2; 32])];
        let dealer_seed = Seed::new([3; 32]);
        let job = |chunk| DealJob {
            gate: &gate,
            batch: [0; 16],
            chunk,
            elems: chunk_elems(elems, chunk),
            party_seeds: &seeds,
            dealer_seed: &dealer_seed,
        };
        let clock = Clock { stream: shared.device.stream()?, repeats };

        let chunks = 0..chunk_count(elems);
        let dealings = chunks
            .clone()
            .map(|chunk| Dealing::prepare(shared, &job(chunk)))
            .collect::<Result<Vec<_>, _>>()?;
        dealings.iter().try_for_each(Dealing::wait)?;
        let kernels = shared.kernels(&gate)?;
        let stream_bytes: usize = dealings.iter().map(Dealing::stream_bytes).sum();
        let mut deal = vec![clock.streams(stream_bytes, || {
            dealings.iter().try_for_each(|dealing| dealing.expand(&clock.stream))
        })?];
        for (i, (_, task)) in kernels.deal.iter().enumerate() {
            let run = || dealings.iter().try_for_each(|dealing| dealing.combine(i, &clock.stream));
            deal.push(KernelTime {
                kernel: task.name,
                median_ms: clock.median_ms(run)?,
                bytes: task.bytes * elems as f64,
                aes: task.aes * elems as f64,
            });
        }
        drop(dealings);

        let deal_all = || {
            let dealings = chunks.clone().map(|chunk| {
                let dealing = Dealing::prepare(shared, &job(chunk))?;
                dealing.run()?;
                Ok(dealing)
            });
            let dealings = dealings.collect::<Result<Vec<_>, BackendError>>()?;
            dealings.into_iter().map(Dealing::fetch).collect::<Result<Vec<_>, _>>()
        };
        let mut samples = Vec::new();
        for run in 0..WARM_UP + repeats {
            let start = std::time::Instant::now();
            let keys = deal_all()?;
            if run >= WARM_UP {
                samples.push(start.elapsed().as_secs_f64() * 1e3);
            }
            drop(keys);
        }
        let deal_to_host_ms = median(samples);

        let staged = deal_all()?.into_iter().zip(chunks).map(|([key, _], chunk)| {
            let eval = EvalJob {
                gate: gate.clone(),
                batch: [0; 16],
                chunk,
                elems: chunk_elems(elems, chunk),
                party: Party::P0,
                seed: seeds[0].clone(),
            };
            Staged::new(shared.clone(), &eval, &KeyBytes::from(key))
        });
        let staged = staged.collect::<Result<Vec<_>, _>>()?;
        staged.iter().try_for_each(Staged::wait)?;
        let (uploaded, expanded) =
            staged.iter().map(Staged::bytes).fold((0, 0), |sum, (up, own)| (sum.0 + up, sum.1 + own));
        let upload = || staged.iter().try_for_each(|staged| staged.upload(&clock.stream));
        let stage = vec![
            KernelTime {
                kernel: "upload",
                median_ms: clock.median_ms(upload)?,
                bytes: uploaded as f64,
                aes: 0.0,
            },
            clock.streams(expanded, || staged.iter().try_for_each(|staged| staged.expand(&clock.stream)))?,
        ];

        let input = |staged: Staged| {
            // Any public input will do: times do not depend on it.
            let words = (0..staged.elems() as u64)
                .map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) & WIRE.mask())
                .collect();
            staged.evaluate(&if gate.takes_shares() { Input::Shares(words) } else { Input::Wire(words) })
        };
        let mut evals = staged.into_iter().map(input).collect::<Result<Vec<_>, _>>()?;
        evals.iter().try_for_each(Eval::wait)?;
        let mut eval = Vec::new();
        for step in 0..=kernels.steps.len() {
            evals.iter_mut().for_each(|eval| eval.address(step));
            let median_ms =
                clock.median_ms(|| evals.iter().try_for_each(|eval| eval.launch(step, &clock.stream)))?;
            let (kernel, bytes, aes) = match kernels.steps.get(step) {
                Some((_, task)) => (task.name, task.bytes, task.aes),
                // Two packed elements read, a word written.
                None => ("open_output", 20.0, 0.0),
            };
            let elems = elems as f64;
            eval.push(KernelTime { kernel, median_ms, bytes: bytes * elems, aes: aes * elems });
        }
        Ok(GateTimes { deal, deal_to_host_ms, stage, eval })
    }

    /// Measures what the card reaches on its own.
    ///
    /// # Errors
    /// When the GPU fails.
    pub fn rates(&self) -> Result<Rates, BackendError> {
        const BYTES: usize = 1 << 30;
        let shared = self.shared();
        let clock = Clock { stream: shared.device.stream()?, repeats: 20 };
        let (table, at) = (crate::layout::TABLE_BYTES, crate::layout::TABLE_BYTES + BYTES);
        let mut slot = shared.memory.slot(at + BYTES, table)?;
        // SAFETY: both places lie in the slot and do not overlap.
        let copy = || unsafe { clock.stream.copy(slot.at(table), slot.at(at), BYTES) };
        let bytes = 2.0 * BYTES as f64 / clock.median_ms(copy)? * 1e3;
        let whole = crate::layout::Stream { key: [0; 16], to: table, bytes: BYTES };
        put_streams(slot.at(0), slot.pinned.bytes_mut(), &[whole])?;
        slot.upload(0, 0, table)?;
        slot.stream().wait()?;
        let aes = clock.median_ms(|| shared.expand(&slot, &clock.stream, &[BYTES]))?;
        Ok(Rates { bytes, aes: (BYTES / ALIGN) as f64 / aes * 1e3 })
    }
}

/// A stream to time work on.
struct Clock {
    stream: Stream,
    repeats: usize,
}

impl Clock {
    /// The expansion of `bytes` bytes of streams.
    fn streams(
        &self,
        bytes: usize,
        run: impl Fn() -> Result<(), BackendError>,
    ) -> Result<KernelTime, BackendError> {
        let aes = bytes.div_ceil(ALIGN) as f64;
        Ok(KernelTime { kernel: "streams", median_ms: self.median_ms(run)?, bytes: bytes as f64, aes })
    }

    /// Median time of what `run` queues.
    fn median_ms(&self, run: impl Fn() -> Result<(), BackendError>) -> Result<f64, BackendError> {
        let mut marks = Vec::with_capacity(self.repeats);
        for _ in 0..WARM_UP {
            run()?;
        }
        // Queued without waiting in between: the time of starting a kernel hides behind the one before.
        for _ in 0..self.repeats {
            let start = self.stream.mark()?;
            run()?;
            marks.push((start, self.stream.mark()?));
        }
        let samples = marks.iter().map(|(start, end)| {
            end.wait()?;
            Ok(f64::from(end.since_ms(start)?))
        });
        Ok(median(samples.collect::<Result<Vec<_>, BackendError>>()?))
    }
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
