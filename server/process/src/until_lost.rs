//! A device until it is lost, and another one from then on.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use suf_gate::{
    Backend, BackendError, BackendInfo, ChunkEval, DealJob, EvalJob, Input, KeyBytes, SecretBytes, Span,
    StagedKey, layout::FieldId, secret::SecretMemory,
};

/// Computes with one backend until that says [`BackendError::Lost`], then with the other, until the process ends. What was at
/// work on the lost device fails, and its runs with it: their keys were there. Backends agree bit for bit, so that a run whose
/// next chunk or mask is made by the other goes on. So does one of a gate that the first does not have
/// ([`BackendError::Unavailable`]): the other computes it.
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
    /// What was said last of what it does not have.
    lacking: Arc<Mutex<String>>,
}

impl UntilLost {
    pub(crate) fn new(first: Arc<dyn Backend>, second: Arc<dyn Backend>) -> Self {
        let (lost, lacking) = Default::default();
        let watch = Watch { device: first.info().device.into(), lost, lacking };
        Self { first, second, watch }
    }

    /// Does `work` on the device that is used now, or on the other where this one does not have what is needed.
    fn with<T>(&self, work: impl Fn(&dyn Backend) -> Result<T, BackendError>) -> Result<T, BackendError> {
        if self.watch.is_lost() {
            return work(&*self.second);
        }
        match work(&*self.first) {
            Err(BackendError::Unavailable(reason)) => {
                self.watch.lacks(&reason);
                work(&*self.second)
            }
            other => self.watch.see(other),
        }
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
        // What the second device has cannot be lost, and watching it does no harm.
        let work = self.with(|backend| backend.stage(job, key.clone()))?;
        Ok(Box::new(Watched { work, watch: self.watch.clone() }))
    }

    fn message_room(&self, bytes: usize) -> Option<Box<dyn SecretMemory>> {
        if self.watch.is_lost() { self.second.message_room(bytes) } else { self.first.message_room(bytes) }
    }
}

impl Watch {
    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Says, once for each reason in turn, that the CPU does what the device cannot.
    fn lacks(&self, reason: &str) {
        let mut last = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != reason {
            reason.clone_into(&mut last);
            tracing::warn!(device = &*self.device, reason, "the CPU computes this");
        }
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

    fn is_prompt(&self) -> bool {
        self.work.is_prompt()
    }
}

#[cfg(test)]
mod tests {
    use suf_cpu::CpuBackend;
    use suf_gate::{Gate, Party, Protocol, Seed, catalog, gatefile::GateFile, layout::R_IN};

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

    const BATCH: [u8; 16] = [4; 16];

    fn gelu() -> (Arc<Gate>, [Seed; 2], Seed) {
        let file = GateFile::builtin("gelu").expect("built in");
        let gate = catalog::gate(&file, Protocol::Onehot, None).expect("in the file");
        (Arc::new(gate), [Seed::new([1; 32]), Seed::new([2; 32])], Seed::new([3; 32]))
    }

    /// Party 1's key of nine elements.
    fn dealt(
        backend: &dyn Backend,
        gate: &Gate,
        party_seeds: &[Seed; 2],
        dealer_seed: &Seed,
    ) -> Result<KeyBytes, BackendError> {
        let job = DealJob { gate, batch: BATCH, chunk: 0, elems: 9, party_seeds, dealer_seed };
        let [_, key] = backend.deal(&job)?;
        Ok(KeyBytes::new(key.expose().to_vec().into()))
    }

    fn evaluated(gate: &Arc<Gate>, seeds: &[Seed; 2]) -> EvalJob {
        let (gate, seed) = (Arc::clone(gate), seeds[1].clone());
        EvalJob { gate, batch: BATCH, chunk: 0, elems: 9, party: Party::P1, seed }
    }

    #[test]
    fn what_is_on_a_lost_device_fails_and_the_rest_is_done_by_the_other() {
        let (gate, seeds, dealer_seed) = gelu();
        let lost = Arc::new(AtomicBool::new(false));
        let backend = UntilLost::new(Arc::new(Losable(Arc::clone(&lost))), Arc::new(CpuBackend::new()));
        let job = evaluated(&gate, &seeds);
        let key = || dealt(&backend, &gate, &seeds, &dealer_seed).expect("a device");
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

    /// A device without any gate.
    struct Lacking;

    impl Backend for Lacking {
        fn info(&self) -> BackendInfo {
            BackendInfo { name: "lacking", ..CpuBackend::new().info() }
        }

        fn deal(&self, _: &DealJob<'_>) -> Result<[SecretBytes; 2], BackendError> {
            Err(BackendError::Unavailable("there are no gates".into()))
        }

        fn wire_mask(&self, job: &EvalJob, field: FieldId) -> Result<Vec<u64>, BackendError> {
            CpuBackend::new().wire_mask(job, field)
        }

        fn stage(&self, _: &EvalJob, _: KeyBytes) -> Result<Box<dyn StagedKey>, BackendError> {
            Err(BackendError::Unavailable("there are no gates".into()))
        }
    }

    #[test]
    fn a_gate_that_the_device_lacks_is_done_by_the_other() {
        let (gate, seeds, dealer_seed) = gelu();
        let backend = UntilLost::new(Arc::new(Lacking), Arc::new(CpuBackend::new()));
        let key = dealt(&backend, &gate, &seeds, &dealer_seed).expect("the other deals");
        let staged = backend.stage(&evaluated(&gate, &seeds), key).expect("the other takes the key");
        let mut eval = staged.begin(Input::Wire(vec![0; 9])).expect("the other");
        eval.step(0, &[]).expect("the other");
        assert_eq!(backend.info().name, "lacking", "it is not lost");
    }
}
