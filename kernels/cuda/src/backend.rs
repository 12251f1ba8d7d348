//! The GPU as a [`Backend`].

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use suf_gate::{
    Backend, BackendError, BackendInfo, DealJob, EvalJob, Gate, KeyBytes, SecretBytes, StagedPart,
    layout::FieldId,
    ops::{Op, Weights, host},
    secret::SecretMemory,
};
use zeroize::Zeroize;

use crate::{
    deal::Dealing,
    driver::{self, CudaKernel, Device, Module},
    eval::Staged,
    gates::{Masks, Plan, Task},
    header::{self, STREAM_THREADS, THREADS},
    hosted::{Dealer, Evaluator},
    image::ImageSource,
    layout::{self, Expansion, FEW_STREAMS, Job, MAX_STREAMS, STREAM_BYTES, TABLE_BYTES},
    management::Management,
    memory::Memory,
    ops::{self, DeviceWeights, Operations},
    recent::Recent,
};

/// Blocks of streams for each multiprocessor: as many as its shared memory holds.
const STREAM_BLOCKS: u32 = 4;

/// One GPU. Calls may come from any number of threads: each tile has a stream of its own.
pub struct CudaBackend {
    shared: Arc<Shared>,
}

/// What parts in work share.
pub(crate) struct Shared {
    pub(crate) device: Arc<Device>,
    pub(crate) memory: Arc<Memory>,
    images: ImageSource,
    /// Keeps the code of the kernel below, which is started from every thread.
    _base: Module,
    streams: CudaKernel,
    few_streams: CudaKernel,
    gates: Recent<Kernels>,
    /// Of operations on whole wires, once one is there.
    operations: OnceLock<Operations>,
    weights: Recent<DeviceWeights>,
}

/// Gates whose kernels stay loaded when nobody uses them: more than the built-in ones, and some 20 MB of the GPU's memory.
const KEPT_GATES: usize = 64;

/// Matrices of public weights that stay on the GPU when nobody uses them.
const KEPT_WEIGHTS: usize = 1 << 10;

/// A gate's kernels, loaded.
pub(crate) struct Kernels {
    /// Keeps the functions' code.
    _module: Module,
    pub(crate) deal: Vec<(CudaKernel, Task)>,
    pub(crate) steps: Vec<(CudaKernel, Task)>,
    pub(crate) dealer_streams: Vec<(FieldId, usize)>,
    pub(crate) masks: Masks,
}

impl CudaBackend {
    /// Opens GPU number `device`, counted from 0.
    ///
    /// # Errors
    /// When there is no driver or no such GPU, or when the driver is too old. Also when it takes neither the
    /// compiler's kernels nor, where the compiler is missing, the embedded PTX.
    pub fn new(device: usize) -> Result<Self, BackendError> {
        Self::open(Device::open(device)?, ImageSource::find(), KEPT_GATES)
    }

    /// The same with the kernels of `kept` gates at most, and of those in use, for tests.
    ///
    /// # Errors
    /// As [`CudaBackend::new`].
    pub fn keeping(device: usize, kept: usize) -> Result<Self, BackendError> {
        Self::open(Device::open(device)?, ImageSource::find(), kept)
    }

    /// The same as where the kernels' compiler is missing, for tests.
    ///
    /// # Errors
    /// As [`CudaBackend::new`].
    pub fn from_ptx(device: usize) -> Result<Self, BackendError> {
        Self::open(Device::open(device)?, ImageSource::Embedded, KEPT_GATES)
    }

    fn open(device: Device, images: ImageSource, kept: usize) -> Result<Self, BackendError> {
        let device = Arc::new(device);
        let base = device.load(&images.image(base_source().text(), device.sm)?)?;
        let (streams, few_streams) = (base.kernel("streams")?, base.kernel("few_streams")?);
        let memory = Arc::new(Memory::new(device.clone()));
        let (gates, weights) = (Recent::new(kept), Recent::new(KEPT_WEIGHTS));
        let operations = OnceLock::new();
        let shared =
            Shared { device, memory, images, _base: base, streams, few_streams, gates, operations, weights };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Opens GPU number `index` modulo how many there are: who counts differently gets different GPUs, as far as they go.
    ///
    /// # Errors
    /// As [`CudaBackend::new`].
    pub fn spread(index: usize) -> Result<Self, BackendError> {
        Self::new(index % Device::count()?.max(1))
    }

    /// Gates whose kernels are loaded.
    #[must_use]
    pub fn loaded_gates(&self) -> usize {
        self.shared.gates.len()
    }

    /// What parts in work share, for measurements.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for CudaBackend {
    fn drop(&mut self) {
        if self.shared.device.bind().is_ok() {
            self.shared.memory.settle();
        }
    }
}

impl fmt::Debug for CudaBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaBackend({})", self.shared.description())
    }
}

/// The kernels that no gate has of its own.
pub(crate) fn base_source() -> header::Source {
    let mut source = header::Source::new();
    source.code(include_str!("../cu/streams.cu"));
    source
}

impl Backend for CudaBackend {
    fn info(&self) -> BackendInfo {
        let Device { management, .. } = &*self.shared.device;
        let clocks = management.as_ref().and_then(Management::clocks);
        BackendInfo { name: "cuda", device: self.shared.description(), clocks }
    }

    fn deal(&self, job: &DealJob<'_>) -> Result<[SecretBytes; 2], BackendError> {
        if !job.program.has(job.part) {
            return Err(BackendError::Misuse("a part that the program does not have"));
        }
        if !matches!(job.node().op(), Op::Gate(_)) {
            let on_gpu = ops::deal(&self.shared, job);
            return on_gpu.unwrap_or_else(|| host::deal(job, &Dealer { shared: &self.shared, job }));
        }
        let dealing = Dealing::prepare(&self.shared, job)?;
        dealing.run()?;
        dealing.fetch()
    }

    fn stage(&self, job: &EvalJob, key: KeyBytes) -> Result<Box<dyn StagedPart>, BackendError> {
        job.check_key(key.len())?;
        if !matches!(job.node().op(), Op::Gate(_)) {
            let on_gpu = ops::stage(&self.shared, job, &key);
            let host = || host::stage(job, &key, &Evaluator { shared: &self.shared, job });
            return on_gpu.unwrap_or_else(host);
        }
        Ok(Box::new(Staged::new(self.shared.clone(), job, &key)?.settle()?))
    }

    fn check(&self) -> Result<(), BackendError> {
        // Asks the card, and every call of the driver's tells of a failure that has ended its context.
        self.shared.device.used_bytes().map(drop)
    }

    fn message_room(&self, bytes: usize) -> Option<Box<dyn SecretMemory>> {
        let room = self.shared.memory.pinned(bytes).ok()?;
        Some(Box::new(room))
    }
}

impl Shared {
    /// Model and driver, and whose kernels they are where the compiler's are not, for records.
    fn description(&self) -> String {
        let device = self.device.description();
        match self.images {
            ImageSource::Nvrtc(_) => device,
            ImageSource::Embedded => format!("{device}, embedded PTX"),
        }
    }

    /// The kernels of operations on whole wires, compiled and loaded when the first is there.
    pub(crate) fn operations(&self) -> Result<&Operations, BackendError> {
        if let Some(loaded) = self.operations.get() {
            return Ok(loaded);
        }
        // Two threads may load them at once; one is kept.
        let loaded = Operations::load(self)?;
        Ok(self.operations.get_or_init(|| loaded))
    }

    /// Compiles and loads the kernels of a source.
    pub(crate) fn load(&self, source: &str) -> Result<Module, BackendError> {
        self.device.load(&self.images.image(source, self.device.sm)?)
    }

    /// A copy of `weights` on the GPU.
    pub(crate) fn weights(&self, weights: &Weights) -> Result<Arc<DeviceWeights>, BackendError> {
        self.weights.get(*weights.digest(), || DeviceWeights::new(self, weights))
    }

    /// The kernels of `gate`, compiled and loaded when it is first seen.
    pub(crate) fn kernels(&self, gate: &Gate) -> Result<Arc<Kernels>, BackendError> {
        self.gates.get(*gate.digest(), || {
            let plan = Plan::of(gate)?;
            let module = self.load(plan.source.text())?;
            let load = |tasks: &[Task]| {
                tasks
                    .iter()
                    .map(|task| Ok((module.kernel(task.name)?, *task)))
                    .collect::<Result<Vec<_>, BackendError>>()
            };
            let (deal, steps) = (load(&plan.deal)?, load(&plan.steps)?);
            let Plan { dealer_streams, masks, .. } = plan;
            Ok(Kernels { deal, steps, dealer_streams, masks, _module: module })
        })
    }

    /// Queues on `on` the expansion of the streams of the given lengths, whose table stands at the address `table`.
    pub(crate) fn expand(
        &self,
        table: u64,
        on: &driver::CudaStream,
        lengths: &[usize],
    ) -> Result<(), BackendError> {
        #[repr(C)]
        struct Streams {
            table: u64,
            count: u32,
            spans: u32,
        }
        let spans = lengths.iter().map(|bytes| spans(*bytes)).sum();
        if spans == 0 {
            return Ok(());
        }
        // At most MAX_STREAMS.
        let job = Streams { table, count: lengths.len() as u32, spans };
        let blocks = spans.min(STREAM_BLOCKS * self.device.processors);
        // SAFETY: the structure is the kernel's; the table was written by put_streams, and its addresses lie in the slot.
        unsafe { on.launch(self.streams, blocks, STREAM_THREADS, &job) }
    }
}

/// The parameter of the kernel `few_streams`.
#[repr(C, align(16))]
struct FewStreams {
    table: [u8; STREAM_BYTES * FEW_STREAMS],
    count: u32,
    spans: u32,
}

impl Shared {
    /// Queues on `on` the expansion of at most [`FEW_STREAMS`] streams, whose places are addresses.
    ///
    /// # Safety
    /// There is room for whole blocks of the cipher at each.
    pub(crate) unsafe fn expand_few(
        &self,
        on: &driver::CudaStream,
        streams: &[Expansion],
    ) -> Result<(), BackendError> {
        let spans: u32 = streams.iter().map(|stream| spans(stream.bytes)).sum();
        if spans == 0 {
            return Ok(());
        }
        let count = streams.len() as u32;
        let mut job = FewStreams { table: [0; STREAM_BYTES * FEW_STREAMS], count, spans };
        put_rows(0, &mut job.table, streams);
        let blocks = spans.min(STREAM_BLOCKS * self.device.processors);
        // SAFETY: the structure is the kernel's; the rest is the caller's promise.
        let started = unsafe { on.launch(self.few_streams, blocks, STREAM_THREADS, &job) };
        job.table.zeroize();
        started
    }
}

/// Writes the table of `streams` to the start of `to`, for a slot at the GPU's address `base`.
pub(crate) fn put_streams(base: u64, to: &mut [u8], streams: &[Expansion]) -> Result<(), BackendError> {
    if streams.len() > MAX_STREAMS {
        return Err(BackendError::Misuse("a gate with more streams than the GPU's table holds"));
    }
    put_rows(base, &mut to[..TABLE_BYTES], streams);
    Ok(())
}

/// Writes a row for each stream.
fn put_rows(base: u64, to: &mut [u8], streams: &[Expansion]) {
    let mut first_span = 0u32;
    for (row, stream) in to.chunks_exact_mut(STREAM_BYTES).zip(streams) {
        row[..16].copy_from_slice(&stream.key.key);
        row[16..32].copy_from_slice(&stream.key.nonce);
        row[32..40].copy_from_slice(&(base + stream.to as u64).to_le_bytes());
        row[40..44].copy_from_slice(&first_span.to_le_bytes());
        row[44..].copy_from_slice(&blocks(stream.bytes).to_le_bytes());
        first_span += spans(stream.bytes);
    }
}

/// Queues a kernel with a thread for each element.
///
/// # Safety
/// The job's addresses lie in a slot that is used in the order of this stream, with room for what the gate's layout says.
pub(crate) unsafe fn start(
    on: &driver::CudaStream,
    kernel: CudaKernel,
    job: &Job,
) -> Result<(), BackendError> {
    // SAFETY: `Job` is the parameter of all these kernels; the rest is the caller's promise.
    unsafe { on.launch(kernel, job.elems.div_ceil(THREADS), THREADS, job) }
}

/// Cipher blocks of a stream of `bytes` bytes. A tile's field is below 2^32 bytes.
fn blocks(bytes: usize) -> u32 {
    bytes.div_ceil(layout::ALIGN) as u32
}

/// Stretches of a stream that a block of threads expands at a time.
fn spans(bytes: usize) -> u32 {
    blocks(bytes).div_ceil(STREAM_THREADS)
}
