//! Times work by the GPU's own clock.

use suf_gate::BackendError;

use super::KernelTime;
use crate::{
    driver::{CudaStream, Device, Mark},
    layout::ALIGN,
};

/// Runs before the first that counts: clocks rise and caches fill.
pub(super) const WARM_UP: usize = 3;

/// Streams to time work on.
pub(super) struct Clock {
    /// Where one thing is done after the other.
    pub(super) stream: CudaStream,
    /// One for each tile, as in a gate.
    lanes: Vec<CudaStream>,
    repeats: usize,
}

/// What is timed: queues the work on tile `i`, counted from 0.
pub(super) trait Queue: Fn(usize, &CudaStream) -> Result<(), BackendError> {}

impl<F: Fn(usize, &CudaStream) -> Result<(), BackendError>> Queue for F {}

impl Clock {
    /// For work on `tiles` tiles, `repeats` times.
    pub(super) fn new(device: &Device, tiles: usize, repeats: usize) -> Result<Self, BackendError> {
        let lanes = (0..tiles).map(|_| device.stream()).collect::<Result<_, _>>()?;
        Ok(Self { stream: device.stream()?, lanes, repeats })
    }

    /// A kernel of which `bytes` and `aes` are the least that it moves and computes, over all tiles.
    pub(super) fn kernel(
        &self,
        kernel: &'static str,
        (bytes, aes): (f64, f64),
        queue: impl Queue,
    ) -> Result<KernelTime, BackendError> {
        let median_ms = self.in_turn_ms(&queue)?;
        Ok(KernelTime { kernel, median_ms, together_ms: self.together_ms(&queue)?, bytes, aes })
    }

    /// The expansion of `bytes` bytes of streams.
    pub(super) fn streams(&self, bytes: usize, queue: impl Queue) -> Result<KernelTime, BackendError> {
        self.kernel("streams", (bytes as f64, bytes.div_ceil(ALIGN) as f64), queue)
    }

    /// Median time of one tile after the other.
    pub(super) fn in_turn_ms(&self, queue: &impl Queue) -> Result<f64, BackendError> {
        self.median_ms(|| (0..self.lanes.len()).try_for_each(|i| queue(i, &self.stream)))
    }

    /// Median time of all tiles at once. Queued as one graph: else the host could not keep up with short kernels.
    fn together_ms(&self, queue: &impl Queue) -> Result<f64, BackendError> {
        let graph = self.stream.capture(|| {
            let start = self.stream.mark()?;
            for (i, lane) in self.lanes.iter().enumerate() {
                lane.after(&start)?;
                queue(i, lane)?;
                self.stream.after(&lane.mark()?)?;
            }
            Ok(())
        })?;
        self.median_ms(|| self.stream.replay(&graph))
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
        let samples = marks.iter().map(|(start, end)| between_ms(start, end));
        Ok(median(samples.collect::<Result<Vec<_>, BackendError>>()?))
    }
}

/// Milliseconds between two marks, once the second is past.
pub(super) fn between_ms(start: &Mark, end: &Mark) -> Result<f64, BackendError> {
    end.wait()?;
    Ok(f64::from(end.since_ms(start)?))
}

pub(super) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
