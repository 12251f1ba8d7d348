//! A device until it is lost, and another one from then on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use suf_gate::{
    Backend, BackendError, BackendInfo, ChunkEval, DealJob, EvalJob, Input, KeyBytes, SecretBytes, Span,
    StagedKey, layout::FieldId, secret::SecretMemory,
};

/// Computes with one backend until that says [`BackendError::Lost`], then with the other, until the process ends. What was at
/// work on the lost device fails, and its runs with it: their keys were there. Backends agree bit for bit, so that a run whose
/// next chunk or mask is made by the other goes on.
pub(crate) struct UntilLost {
    first: Arc<dyn Backend>,
    second: Arc<dyn Backend>,
    watch: Watch,
}

/// Whether the first device is lost, for all that is at work on it.
#[derive(Clone)]
struct Watch {
    device: Arc<str>,
    lost: Arc<AtomicBool>,
}

impl UntilLost {
    pub(crate) fn new(first: Arc<dyn Backend>, second: Arc<dyn Backend>) -> Self {
        let watch = Watch { device: first.info().device.into(), lost: Arc::default() };
        Self { first, second, watch }
    }

    /// Does `work` on the device that is used now.
    fn with<T>(&self, work: impl FnOnce(&dyn Backend) -> Result<T, BackendError>) -> Result<T, BackendError> {
        if self.watch.is_lost() { work(&*self.second) } else { self.watch.see(work(&*self.first)) }
    }
}

impl Backend for UntilLost {
    fn info(&self) -> BackendInfo {
        if self.watch.is_lost() { self.second.info() } else { self.first.info() }
    }

    fn deal(&self, job: &DealJob<'_>) -> Result<[SecretBytes; 2], BackendError> {
        self.with(|backend| backend.deal(job))
    }

    fn wire_mask(&self, job: &EvalJob, field: FieldId) -> Result<Vec<u64>, BackendError> {
        self.with(|backend| backend.wire_mask(job, field))
    }

    fn stage(&self, job: &EvalJob, key: KeyBytes) -> Result<Box<dyn StagedKey>, BackendError> {
        if self.watch.is_lost() {
            return self.second.stage(job, key);
        }
        let work = self.watch.see(self.first.stage(job, key))?;
        Ok(Box::new(Watched { work, watch: self.watch.clone() }))
    }

    fn message_room(&self, bytes: usize) -> Option<Box<dyn SecretMemory>> {
        if self.watch.is_lost() { self.second.message_room(bytes) } else { self.first.message_room(bytes) }
    }

    fn is_prompt(&self) -> bool {
        if self.watch.is_lost() { self.second.is_prompt() } else { self.first.is_prompt() }
    }
}

impl Watch {
    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Passes `result` on, and notes a loss.
    fn see<T>(&self, result: Result<T, BackendError>) -> Result<T, BackendError> {
        if let Err(error @ BackendError::Lost(_)) = &result
            && !self.lost.swap(true, Ordering::Relaxed)
        {
            let device = &*self.device;
            tracing::error!(device, %error, "the CPU computes until this daemon is started again");
        }
        result
    }
}

/// A chunk at work on the first device.
struct Watched<T> {
    work: T,
    watch: Watch,
}

impl StagedKey for Watched<Box<dyn StagedKey>> {
    fn begin(self: Box<Self>, input: Input) -> Result<Box<dyn ChunkEval>, BackendError> {
        let Self { work, watch } = *self;
        let work = watch.see(work.begin(input))?;
        Ok(Box::new(Watched { work, watch }))
    }
}

impl ChunkEval for Watched<Box<dyn ChunkEval>> {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        self.watch.see(self.work.step(step, incoming))
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Vec<u64>, BackendError> {
        self.watch.see(self.work.finish(incoming))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        self.work.take_spans()
    }
}

#[cfg(test)]
mod tests {
    use suf_cpu::CpuBackend;
    use suf_gate::{Party, Protocol, Seed, catalog, gatefile::GateFile, layout::R_IN};

    use super::*;

    /// The CPU under another name, until it is told to be lost.
    struct Losable(Arc<AtomicBool>);

    impl Losable {
        fn now(&self) -> Result<CpuBackend, BackendError> {
            if self.0.load(Ordering::Relaxed) {
                return Err(BackendError::Lost("it fell off the bus".into()));
            }
            Ok(CpuBackend::new())
        }
    }

    impl Backend for Losable {
        fn info(&self) -> BackendInfo {
            BackendInfo { name: "losable", ..CpuBackend::new().info() }
        }

        fn deal(&self, job: &DealJob<'_>) -> Result<[SecretBytes; 2], BackendError> {
            self.now()?.deal(job)
        }

        fn wire_mask(&self, job: &EvalJob, field: FieldId) -> Result<Vec<u64>, BackendError> {
            self.now()?.wire_mask(job, field)
        }

        fn stage(&self, job: &EvalJob, key: KeyBytes) -> Result<Box<dyn StagedKey>, BackendError> {
            let staged = self.now()?.stage(job, key)?;
            Ok(Box::new(LosableKey(staged, Arc::clone(&self.0))))
        }
    }

    struct LosableKey(Box<dyn StagedKey>, Arc<AtomicBool>);

    impl StagedKey for LosableKey {
        fn begin(self: Box<Self>, input: Input) -> Result<Box<dyn ChunkEval>, BackendError> {
            Losable(self.1).now()?;
            self.0.begin(input)
        }
    }

    #[test]
    fn what_is_on_a_lost_device_fails_and_the_rest_is_done_by_the_other() {
        let file = GateFile::builtin("gelu").expect("built in");
        let gate = Arc::new(catalog::gate(&file, Protocol::Onehot, None).expect("in the file"));
        let (seeds, dealer_seed) = ([Seed::new([1; 32]), Seed::new([2; 32])], Seed::new([3; 32]));
        let lost = Arc::new(AtomicBool::new(false));
        let backend = UntilLost::new(Arc::new(Losable(Arc::clone(&lost))), Arc::new(CpuBackend::new()));
        let batch = [4; 16];
        let deal = || {
            let (party_seeds, dealer_seed) = (&seeds, &dealer_seed);
            backend.deal(&DealJob { gate: &gate, batch, chunk: 0, elems: 9, party_seeds, dealer_seed })
        };
        let job = EvalJob {
            gate: Arc::clone(&gate),
            batch,
            chunk: 0,
            elems: 9,
            party: Party::P1,
            seed: seeds[1].clone(),
        };
        let key = || KeyBytes::new(deal().expect("a device")[1].expose().to_vec().into());
        let staged = backend.stage(&job, key()).expect("a device");
        let mask = backend.wire_mask(&job, R_IN).expect("a device");
        assert_eq!(backend.info().name, "losable");

        lost.store(true, Ordering::Relaxed);
        let error = staged.begin(Input::Wire(vec![0; 9])).err().expect("the key is lost");
        assert!(matches!(error, BackendError::Lost(_)), "{error}");
        assert_eq!(backend.info().name, "cpu");
        assert_eq!(backend.wire_mask(&job, R_IN).expect("the other"), mask);
        let staged = backend.stage(&job, key()).expect("the other");
        let mut eval = staged.begin(Input::Wire(vec![0; 9])).expect("the other");
        eval.step(0, &[]).expect("the other");
    }
}
