//! The processor as a [`Backend`].

use std::sync::Arc;

use suf_gate::{
    Backend, BackendError, BackendInfo, DealJob, EvalJob, Gate, KeyBytes, PartEval, SecretBytes, Shape,
    StagedPart, Value,
    ops::{self, Entry, GateOp, Op},
    secret::SecretMemory,
};

use crate::{
    dpf::{self, DpfEval},
    eval::{Evaluation, GateEval},
    host::{Dealer, Evaluator},
    key::{KeyWriter, PartKey},
    onehot::{self, OnehotEval},
    sigma::{self, SigmaEval},
    simd::{Level, model},
    suf::{self, SufEval},
    suf_lut::{self, SufLutEval},
};

/// The processor. One call runs on the thread that makes it: callers spread parts over threads.
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

    /// Its instructions.
    pub(crate) fn level(&self) -> Level {
        self.level
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
        if !job.program.has(job.part) {
            return Err(BackendError::Misuse("a part that the program does not have"));
        }
        let Op::Gate(op) = job.node().op() else {
            return ops::host::deal(job, &Dealer { job, level: self.level });
        };
        let mut key = KeyWriter::new(job, self.level)?;
        deal_gate(op.gate(), &mut key);
        Ok(key.finish())
    }

    fn stage(&self, job: &EvalJob, key: KeyBytes) -> Result<Box<dyn StagedPart>, BackendError> {
        if let Op::Gate(_) = job.node().op() {
            return Ok(Box::new(StagedGate(PartKey::new(job.clone(), self.level, key)?)));
        }
        job.check_key(key.len())?;
        ops::host::stage(job, &key, &Evaluator { job, level: self.level })
    }

    fn check(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn message_room(&self, _: usize) -> Option<Box<dyn SecretMemory>> {
        None
    }
}

fn deal_gate(gate: &Gate, key: &mut KeyWriter<'_>) {
    match gate.shape() {
        Shape::Onehot(gate) => onehot::deal(gate, key),
        Shape::SufLut(gate) => suf_lut::deal(gate, key),
        Shape::Suf(gate) => suf::deal(gate, key),
        Shape::Sigma(gate) => sigma::deal(gate, key),
        Shape::Dpf(gate) => dpf::deal(gate, key),
    }
}

struct StagedGate(PartKey);

impl StagedPart for StagedGate {
    fn begin(self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        let Self(mut key) = *self;
        let mut input = key.job().only_input(inputs)?;
        let entry = key.job().node().op().as_gate().map_or(Entry::WHOLE, GateOp::entry);
        if entry != Entry::WHOLE {
            let enter = |x_hat: &mut u64| {
                let (entered, q) = entry.enter(*x_hat);
                *x_hat = entered;
                q == 0
            };
            key.set_wraps(input.iter_mut().map(enter).collect());
        }
        let eval = gate_eval(key.job().gate(), input);
        Ok(Box::new(Evaluation::new(key, eval)))
    }
}

fn gate_eval(gate: &Gate, input: Vec<u64>) -> Box<dyn GateEval> {
    match gate.shape() {
        Shape::Sigma(gate) => Box::new(SigmaEval::new(gate, input)),
        Shape::Suf(gate) => Box::new(SufEval::new(gate, input)),
        Shape::Dpf(gate) => Box::new(DpfEval::new(gate, input)),
        Shape::Onehot(gate) => Box::new(OnehotEval::new(gate, input)),
        Shape::SufLut(gate) => Box::new(SufLutEval::new(gate, input)),
    }
}
