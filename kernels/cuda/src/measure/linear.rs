//! Batches of any size, a window of tiles at a time, as the daemons work on them.

use std::{ops::Range, sync::Arc, time::Instant};

use suf_gate::{BackendError, Gate, Party};

use super::{GateProgram, clock::between_ms, input};
use crate::{CudaBackend, deal::Dealing, driver::CudaStream, eval::Staged};

/// Tiles that are on the card at a time: as many as a party has in flight.
const WINDOW: u32 = 32;

/// What a batch took, tile after tile.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinearTimes {
    /// The kernels that make both parties' keys, in milliseconds.
    pub deal_ms: f64,
    /// Those of one party's evaluation, the expansion of what is not delivered included.
    pub eval_ms: f64,
    /// Everything, by the host's clock: the keys to the host and back to the card as well.
    pub whole_ms: f64,
    /// Memory of the card in use at the end, in bytes; nothing is given back before. Of all programs on it.
    pub card_bytes: usize,
}

impl CudaBackend {
    /// Deals a batch of `gate` of `elems` elements and evaluates party 0's half, once, [`WINDOW`] tiles at a time.
    ///
    /// # Errors
    /// When the GPU fails or has too little memory.
    pub fn measure_linear(&self, gate: &Gate, elems: u64) -> Result<LinearTimes, BackendError> {
        self.shared().device.bind()?;
        let batch = GateProgram::new(gate, elems)?;
        let stream = self.shared().device.stream()?;
        let tiles = batch.tiles();
        // Loads the kernels and raises the clocks.
        self.window(&batch, &stream, 0..WINDOW.min(tiles), &mut LinearTimes::default())?;
        let mut times = LinearTimes::default();
        let begun = Instant::now();
        for first in (0..tiles).step_by(WINDOW as usize) {
            self.window(&batch, &stream, first..tiles.min(first + WINDOW), &mut times)?;
        }
        times.whole_ms = begun.elapsed().as_secs_f64() * 1e3;
        times.card_bytes = self.shared().device.used_bytes()?;
        Ok(times)
    }

    /// One window: dealt, fetched, uploaded, evaluated.
    fn window(
        &self,
        batch: &GateProgram,
        stream: &CudaStream,
        tiles: Range<u32>,
        times: &mut LinearTimes,
    ) -> Result<(), BackendError> {
        let shared = self.shared();
        let dealings = tiles.clone().map(|tile| Dealing::prepare(shared, &batch.dealing(tile)));
        let dealings = dealings.collect::<Result<Vec<_>, _>>()?;
        dealings.iter().try_for_each(Dealing::wait)?;
        let start = stream.mark()?;
        dealings.iter().try_for_each(|dealing| dealing.run_on(stream))?;
        times.deal_ms += between_ms(&start, &stream.mark()?)?;

        let mut evals = Vec::with_capacity(dealings.len());
        for (dealing, tile) in dealings.into_iter().zip(tiles) {
            let [key, _] = dealing.fetch()?;
            let staged = Staged::new(Arc::clone(shared), &batch.evaluation(Party::P0, tile), &key.into())?;
            let taken = input(staged.elems());
            evals.push(staged.settle()?.evaluate(taken)?);
        }
        evals.iter().try_for_each(|eval| eval.wait())?;
        let start = stream.mark()?;
        for eval in &mut evals {
            eval.expand(stream)?;
            for step in 0..eval.exchanges() {
                eval.address(step);
                eval.launch(step, stream)?;
            }
        }
        times.eval_ms += between_ms(&start, &stream.mark()?)?;
        Ok(())
    }
}
