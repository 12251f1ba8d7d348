//! A device until it is lost, and another one from then on.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use suf_gate::{
    Backend, BackendError, BackendInfo, DealJob, EvalJob, KeyBytes, PartEval, SecretBytes, Span, StagedPart,
    Value, secret::SecretMemory,
};

/// Computes with one backend until that says [`BackendError::Lost`], then with the other, until the process ends. What was at
/// work on the lost device fails, and its runs with it: their keys were there. Backends agree bit for bit, so that a run whose
/// next part is staged by the other goes on. So does one of a gate that the first does not have
/// ([`BackendError::Unavailable`]): the other computes it.
pub(crate) struct WithFallback {
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

impl WithFallback {
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

impl Backend for WithFallback {
    fn info(&self) -> BackendInfo {
        if self.watch.is_lost() { self.second.info() } else { self.first.info() }
    }

    fn deal(&self, job: &DealJob<'_>) -> Result<[SecretBytes; 2], BackendError> {
        self.with(|backend| backend.deal(job))
    }

    fn stage(&self, job: &EvalJob, key: KeyBytes) -> Result<Box<dyn StagedPart>, BackendError> {
        // What the second device has cannot be lost, and watching it does no harm.
        let work = self.with(|backend| backend.stage(job, key.clone()))?;
        Ok(Box::new(Watched { work, watch: self.watch.clone() }))
    }

    fn check(&self) -> Result<(), BackendError> {
        if self.watch.is_lost() {
            let device = &*self.watch.device;
            return Err(BackendError::Lost(format!("{device} was lost, and the CPU computes")));
        }
        self.watch.see(self.first.check())
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

/// A part at work.
struct Watched<T> {
    work: T,
    watch: Watch,
}

impl StagedPart for Watched<Box<dyn StagedPart>> {
    fn begin(self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        let Self { work, watch } = *self;
        let work = watch.see(work.begin(inputs))?;
        Ok(Box::new(Watched { work, watch }))
    }
}

impl PartEval for Watched<Box<dyn PartEval>> {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        self.watch.see(self.work.step(step, incoming))
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
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
    use suf_cpu::{CpuBackend, KeyMemory};
    use suf_gate::{
        HostValue, NodeId, Part, Party, Program, Protocol, Seed, TwoParties, catalog, gatefile::GateFile,
    };

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

        fn stage(&self, job: &EvalJob, key: KeyBytes) -> Result<Box<dyn StagedPart>, BackendError> {
            let staged = self.now()?.stage(job, key)?;
            Ok(Box::new(LosablePart(staged, Arc::clone(&self.0))))
        }

        fn check(&self) -> Result<(), BackendError> {
            self.now().map(drop)
        }

        fn message_room(&self, bytes: usize) -> Option<Box<dyn SecretMemory>> {
            Some(Box::new(KeyMemory::zeroed(bytes).expect("memory")))
        }
    }

    struct LosablePart(Box<dyn StagedPart>, Arc<AtomicBool>);

    impl StagedPart for LosablePart {
        fn begin(self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
            Losable(self.1).now()?;
            self.0.begin(inputs)
        }
    }

    /// Its gate's only tile.
    const PART: Part = Part::new(NodeId(1), 0);

    /// A batch of nine elements.
    fn gelu() -> TwoParties {
        let file = GateFile::builtin("gelu").expect("built in");
        let gate = catalog::gate(&file, Protocol::Onehot, None).expect("in the file");
        let program = Program::of_gate(Arc::new(gate), 9).expect("of a size");
        TwoParties::new(Arc::new(program), [4; 16], [1, 2, 3].map(|byte| Seed::new([byte; 32])))
    }

    /// What both devices do of party 1's part.
    fn staged(batch: &TwoParties, part: Part, backend: &dyn Backend) -> Box<dyn StagedPart> {
        let [_, key] = batch.deal(backend, part).expect("a device");
        backend.stage(&batch.eval_job(Party::P1, part), key).expect("a device")
    }

    fn nine_words() -> Vec<Arc<dyn Value>> {
        vec![HostValue::shared(vec![5; 9])]
    }

    #[test]
    fn what_is_on_a_lost_device_fails_and_the_rest_is_done_by_the_other() {
        let batch = gelu();
        let lost = Arc::new(AtomicBool::new(false));
        let backend = WithFallback::new(Arc::new(Losable(Arc::clone(&lost))), Arc::new(CpuBackend::new()));
        let half = || {
            let mut input = staged(&batch, Part::new(NodeId(0), 0), &backend).begin(nine_words());
            input.as_mut().expect("a device").step(0, &[]).expect("a device")
        };
        let begun = staged(&batch, PART, &backend);
        let mine = half();
        assert_eq!(backend.info().name, "losable");
        assert!(backend.message_room(9).is_some(), "of the first device");

        lost.store(true, Ordering::Relaxed);
        let error = begun.begin(nine_words()).err().expect("the key is lost");
        assert!(matches!(error, BackendError::Lost(_)), "{error}");
        assert_eq!(backend.info().name, "cpu");
        assert!(backend.message_room(9).is_none(), "the other takes messages from any memory");
        assert_eq!(half(), mine, "the other opens the same");
        let mut eval = staged(&batch, PART, &backend).begin(nine_words()).expect("the other");
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

        fn stage(&self, _: &EvalJob, _: KeyBytes) -> Result<Box<dyn StagedPart>, BackendError> {
            Err(BackendError::Unavailable("there are no gates".into()))
        }

        fn check(&self) -> Result<(), BackendError> {
            Ok(())
        }

        fn message_room(&self, _: usize) -> Option<Box<dyn SecretMemory>> {
            None
        }
    }

    #[test]
    fn a_loss_that_a_check_finds_is_one_from_then_on() {
        let lost = Arc::new(AtomicBool::new(false));
        let backend = WithFallback::new(Arc::new(Losable(Arc::clone(&lost))), Arc::new(CpuBackend::new()));
        backend.check().expect("it is there");
        lost.store(true, Ordering::Relaxed);
        assert!(matches!(backend.check(), Err(BackendError::Lost(_))));
        assert_eq!(backend.info().name, "cpu", "nothing is given to the lost device any more");
        lost.store(false, Ordering::Relaxed);
        assert!(matches!(backend.check(), Err(BackendError::Lost(_))), "until the process ends");
    }

    #[test]
    fn a_gate_that_the_device_lacks_is_done_by_the_other() {
        let backend = WithFallback::new(Arc::new(Lacking), Arc::new(CpuBackend::new()));
        let mut eval = staged(&gelu(), PART, &backend).begin(nine_words()).expect("the other");
        eval.step(0, &[]).expect("the other");
        assert_eq!(backend.info().name, "lacking", "it is not lost");
    }
}
