//! The processor as a [`Backend`].

use suf_gate::{
    Backend, BackendError, BackendInfo, ChunkEval, DealJob, EvalJob, Input, KeyBytes, SecretBytes, Shape,
    StagedKey, layout::FieldId,
};

use crate::{
    dpf::{self, DpfEval},
    eval::{Evaluation, GateEval},
    key::{self, ChunkKey, KeyWriter},
    onehot::{self, OnehotEval},
    sigma::{self, SigmaEval},
    simd::{Level, model},
    suf::{self, SufEval},
    suf_lut::{self, SufLutEval},
};

/// The processor. One call runs on the thread that makes it: callers spread chunks over threads.
#[derive(Clone, Copy, Debug)]
pub struct CpuBackend {
    level: Level,
}

impl CpuBackend {
    /// With the widest instructions that the machine has.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Level::best())
    }

    /// With the instructions of `level`, for tests and benchmarks.
    ///
    /// # Panics
    /// If the machine does not have that level.
    #[must_use]
    pub fn at(level: Level) -> Self {
        assert!(level.supported(), "a forced level must be one that the machine has");
        Self { level }
    }
}

impl Default for CpuBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for CpuBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "cpu", device: format!("{} ({})", model::name(), self.level), clocks: None }
    }

    fn deal(&self, job: &DealJob<'_>) -> Result<[SecretBytes; 2], BackendError> {
        check_elems(job.elems)?;
        let mut key = KeyWriter::new(job, self.level)?;
        match job.gate.shape() {
            Shape::Onehot(gate) => onehot::deal(gate, &mut key),
            Shape::SufLut(gate) => suf_lut::deal(gate, &mut key),
            Shape::Suf(gate) => suf::deal(gate, &mut key),
            Shape::Sigma(gate) => sigma::deal(gate, &mut key),
            Shape::Dpf(gate) => dpf::deal(gate, &mut key),
        }
        Ok(key.finish())
    }

    fn wire_mask(&self, job: &EvalJob, field: FieldId) -> Result<Vec<u64>, BackendError> {
        Ok(key::wire_mask(job, self.level, field))
    }

    fn stage(&self, job: &EvalJob, key: KeyBytes) -> Result<Box<dyn StagedKey>, BackendError> {
        check_elems(job.elems)?;
        Ok(Box::new(Staged(ChunkKey::new(job.clone(), self.level, key)?)))
    }
}

struct Staged(ChunkKey);

impl StagedKey for Staged {
    fn begin(self: Box<Self>, input: Input) -> Result<Box<dyn ChunkEval>, BackendError> {
        let Self(key) = *self;
        let (Input::Wire(values) | Input::Shares(values)) = &input;
        if values.len() != key.job().elems {
            return Err(BackendError::Misuse("an input of another length than the chunk's"));
        }
        let eval: Box<dyn GateEval> = match (key.job().gate.shape(), input) {
            (Shape::Sigma(gate), Input::Wire(x_hat)) => Box::new(SigmaEval::new(gate, x_hat)),
            (Shape::Suf(gate), Input::Wire(x_hat)) => Box::new(SufEval::new(gate, x_hat)),
            (Shape::Dpf(gate), Input::Wire(x_hat)) => Box::new(DpfEval::new(gate, x_hat)),
            (Shape::Onehot(gate), Input::Wire(x_hat)) => Box::new(OnehotEval::new(gate, x_hat)),
            (Shape::SufLut(gate), Input::Shares(shares)) => Box::new(SufLutEval::new(gate, shares)),
            _ => {
                return Err(BackendError::Misuse(
                    "shares where the gate takes the wire, or the other way round",
                ));
            }
        };
        Ok(Box::new(Evaluation::new(key, eval)))
    }
}

fn check_elems(elems: usize) -> Result<(), BackendError> {
    if (1..=suf_gate::CHUNK_ELEMS).contains(&elems) {
        Ok(())
    } else {
        Err(BackendError::Misuse("a chunk has 1 to 65536 elements"))
    }
}
