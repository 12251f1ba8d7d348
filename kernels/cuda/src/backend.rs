//! The GPU as a [`Backend`].

use std::{fmt, sync::Arc};

use suf_gate::{
    Backend, BackendError, BackendInfo, CHUNK_ELEMS, DealJob, EvalJob, Gate, KeyBytes, Party, Protocol,
    SecretBytes, Seed, Source, StagedKey,
    layout::{FieldId, R_IN, R_OUT},
    prg::StreamDomain,
    secret::SecretMemory,
};

use crate::{
    driver::{self, Device, Kernel, Module},
    eval::Staged,
    gates::{Plan, Task},
    header::{self, STREAM_THREADS, THREADS},
    image::Maker,
    layout::{self, Job, Layout, MAX_STREAMS, Run, STREAM_BYTES, Stream, TABLE_BYTES},
    management::Management,
    memory::{Memory, Slot},
    opening::{self, PACKED},
    recent::Recent,
};

/// Blocks of streams for each multiprocessor: as many as its shared memory holds.
const STREAM_BLOCKS: u32 = 4;

/// One GPU. Calls may come from any number of threads: each chunk has a stream of its own.
pub struct CudaBackend {
    shared: Arc<Shared>,
}

/// What chunks in work share.
pub(crate) struct Shared {
    pub(crate) device: Arc<Device>,
    pub(crate) memory: Arc<Memory>,
    maker: Maker,
    /// Keeps the code of the kernel below, which is started from every thread.
    _base: Module,
    streams: Kernel,
    gates: Recent<Kernels>,
}

/// Gates whose kernels stay loaded when nobody uses them: more than the built-in ones, and some 20 MB of the GPU's memory.
const KEPT_GATES: usize = 64;

/// A gate's kernels, loaded.
pub(crate) struct Kernels {
    /// Keeps the functions' code.
    _module: Module,
    pub(crate) deal: Vec<(Kernel, Task)>,
    pub(crate) steps: Vec<(Kernel, Task)>,
    pub(crate) dealer_streams: Vec<(FieldId, usize)>,
}

impl CudaBackend {
    /// Opens GPU number `device`, counted from 0.
    ///
    /// # Errors
    /// When there is no driver, it is too old, there is no such GPU, or it takes neither what the kernels' compiler makes
    /// nor, where that is missing, the embedded PTX.
    pub fn new(device: usize) -> Result<Self, BackendError> {
        Self::open(Device::open(device)?, Maker::find(), KEPT_GATES)
    }

    /// The same with the kernels of `kept` gates at most, and of those in use, for tests.
    ///
    /// # Errors
    /// As [`CudaBackend::new`].
    pub fn keeping(device: usize, kept: usize) -> Result<Self, BackendError> {
        Self::open(Device::open(device)?, Maker::find(), kept)
    }

    /// The same as where the kernels' compiler is missing, for tests.
    ///
    /// # Errors
    /// As [`CudaBackend::new`].
    pub fn from_ptx(device: usize) -> Result<Self, BackendError> {
        Self::open(Device::open(device)?, Maker::Embedded, KEPT_GATES)
    }

    fn open(device: Device, maker: Maker, kept: usize) -> Result<Self, BackendError> {
        let device = Arc::new(device);
        let base = device.load(&maker.image(base_source().text(), device.sm)?)?;
        let streams = base.kernel("streams")?;
        let memory = Arc::new(Memory::new(device.clone()));
        let shared = Shared { device, memory, maker, _base: base, streams, gates: Recent::new(kept) };
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

    /// What chunks in work share, for measurements.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
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
        let dealing = Dealing::prepare(&self.shared, job)?;
        dealing.run()?;
        dealing.fetch()
    }

    fn wire_mask(&self, job: &EvalJob, field: FieldId) -> Result<Vec<u64>, BackendError> {
        check_elems(job.elems)?;
        let bytes = PACKED * job.elems;
        let mut layout = Layout::from(TABLE_BYTES);
        let at = layout.take(bytes);
        let mut slot = self.shared.memory.slot(layout.end(), layout.end())?;
        let stream = Stream { key: eval_key(job, field), to: at, bytes };
        put_streams(slot.at(0), slot.pinned.bytes_mut(), &[stream])?;
        // SAFETY: the table is not written again, and the mask's place is read after the wait.
        unsafe {
            slot.upload(0, 0, TABLE_BYTES)?;
            self.shared.expand(&slot, slot.stream(), &[bytes])?;
            slot.download(at, at, bytes)?;
        }
        slot.stream().wait()?;
        let packed = slot.pinned.bytes()[at..at + bytes].as_chunks().0;
        Ok(packed.iter().map(|packed| opening::element(*packed)).collect())
    }

    fn stage(&self, job: &EvalJob, key: KeyBytes) -> Result<Box<dyn StagedKey>, BackendError> {
        check_elems(job.elems)?;
        Ok(Box::new(Staged::new(self.shared.clone(), job, &key)?.settle()?))
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
        match self.maker {
            Maker::Nvrtc(_) => device,
            Maker::Embedded => format!("{device}, embedded PTX"),
        }
    }

    /// The kernels of `gate`, compiled and loaded when it is first seen.
    pub(crate) fn kernels(&self, gate: &Gate) -> Result<Arc<Kernels>, BackendError> {
        self.gates.get(*gate.digest(), || {
            let plan = Plan::of(gate)?;
            let module = self.device.load(&self.maker.image(plan.source.text(), self.device.sm)?)?;
            let load = |tasks: &[Task]| {
                tasks
                    .iter()
                    .map(|task| Ok((module.kernel(task.name)?, *task)))
                    .collect::<Result<Vec<_>, BackendError>>()
            };
            let (deal, steps) = (load(&plan.deal)?, load(&plan.steps)?);
            Ok(Kernels { deal, steps, dealer_streams: plan.dealer_streams, _module: module })
        })
    }

    /// Queues on `on` the expansion of the streams of the given lengths, whose table stands at the slot's start.
    pub(crate) fn expand(
        &self,
        slot: &Slot,
        on: &driver::Stream,
        lengths: &[usize],
    ) -> Result<(), BackendError> {
        #[repr(C)]
        struct Streams {
            table: u64,
            count: u32,
            tiles: u32,
        }
        let tiles = lengths.iter().map(|bytes| tiles(*bytes)).sum();
        if tiles == 0 {
            return Ok(());
        }
        // At most MAX_STREAMS.
        let job = Streams { table: slot.at(0), count: lengths.len() as u32, tiles };
        let blocks = tiles.min(STREAM_BLOCKS * self.device.processors);
        // SAFETY: the structure is the kernel's; the table was written by put_streams, and its addresses lie in the slot.
        unsafe { on.launch(self.streams, blocks, STREAM_THREADS, &job) }
    }
}

/// Writes the table of `streams` to the start of `to`, for a slot at the GPU's address `base`.
pub(crate) fn put_streams(base: u64, to: &mut [u8], streams: &[Stream]) -> Result<(), BackendError> {
    if streams.len() > MAX_STREAMS {
        return Err(BackendError::Misuse("a gate with more streams than the GPU's table holds"));
    }
    let mut first_tile = 0u32;
    for (row, stream) in to[..TABLE_BYTES].chunks_exact_mut(STREAM_BYTES).zip(streams) {
        row[..16].copy_from_slice(&stream.key);
        row[16..24].copy_from_slice(&(base + stream.to as u64).to_le_bytes());
        row[24..28].copy_from_slice(&first_tile.to_le_bytes());
        row[28..].copy_from_slice(&blocks(stream.bytes).to_le_bytes());
        first_tile += tiles(stream.bytes);
    }
    Ok(())
}

/// Queues a kernel with a thread for each element.
///
/// # Safety
/// The job's addresses lie in a slot that is used in the order of this stream, with room for what the gate's layout says.
pub(crate) unsafe fn start(on: &driver::Stream, kernel: Kernel, job: &Job) -> Result<(), BackendError> {
    // SAFETY: `Job` is the parameter of all these kernels; the rest is the caller's promise.
    unsafe { on.launch(kernel, job.elems.div_ceil(THREADS), THREADS, job) }
}

/// Cipher blocks of a stream of `bytes` bytes. A chunk's field is below 2^32 bytes.
fn blocks(bytes: usize) -> u32 {
    bytes.div_ceil(layout::ALIGN) as u32
}

fn tiles(bytes: usize) -> u32 {
    blocks(bytes).div_ceil(STREAM_THREADS)
}

fn check_elems(elems: usize) -> Result<(), BackendError> {
    if (1..=CHUNK_ELEMS).contains(&elems) {
        Ok(())
    } else {
        Err(BackendError::Misuse("a chunk has 1 to 65536 elements"))
    }
}

/// The cipher's key of a party's stream of `field`.
pub(crate) fn eval_key(job: &EvalJob, field: FieldId) -> [u8; 16] {
    StreamDomain { batch: &job.batch, gate: job.gate.digest(), chunk: job.chunk }.key(&job.seed, field)
}

/// Both parties' keys of a chunk in the making.
pub(crate) struct Dealing {
    shared: Arc<Shared>,
    slot: Slot,
    /// After the slot, whose drop waits for what is queued of them.
    kernels: Arc<Kernels>,
    job: Job,
    lengths: Vec<usize>,
    /// For each party, where its delivered fields stand and where they go.
    runs: [Vec<Run>; 2],
    bytes: [usize; 2],
}

impl Dealing {
    /// Lays the chunk out and uploads the table of its streams.
    pub(crate) fn prepare(shared: &Arc<Shared>, job: &DealJob<'_>) -> Result<Self, BackendError> {
        check_elems(job.elems)?;
        let kernels = shared.kernels(job.gate)?;
        let shape = job.gate.key_shape();
        let seeded = layout::seeded(job.chunk);
        let domain = StreamDomain { batch: &job.batch, gate: job.gate.digest(), chunk: job.chunk };
        let stream = |seed: &Seed, id: FieldId, to: usize, bytes: usize| Stream {
            key: domain.key(seed, id),
            to,
            bytes,
        };

        let mut layout = Layout::from(TABLE_BYTES);
        let mut addresses = Job {
            elems: job.elems as u32,
            plane_bytes: job.elems.div_ceil(8) as u32,
            seeded: seeded.index() as u32,
            ..Job::default()
        };
        let mut streams = Vec::new();
        let mut runs = [Vec::new(), Vec::new()];
        for party in [Party::P0, Party::P1] {
            let mut places = layout.fields(shape, party.role(job.chunk), job.elems, false);
            for place in &mut places {
                let index = usize::from(place.id.0);
                // Correction words are made once.
                if shape.field(place.id).source == Source::Common && party == Party::P1 {
                    place.at = addresses.key[0][index] as usize;
                }
                addresses.key[party.index()][index] = place.at as u64;
                match shape.field(place.id).source {
                    Source::Own => {
                        streams.push(stream(
                            &job.party_seeds[party.index()],
                            place.id,
                            place.at,
                            place.bytes,
                        ));
                    }
                    // Both sides start as the seeded side's.
                    Source::Shared => {
                        streams.push(stream(
                            &job.party_seeds[seeded.index()],
                            place.id,
                            place.at,
                            place.bytes,
                        ));
                    }
                    Source::Common | Source::Dealer => {}
                }
            }
            runs[party.index()] = layout::runs(&places);
        }
        let own = shape.fields().iter().enumerate().filter(|(_, field)| field.source == Source::Dealer);
        let own = own.map(|(id, field)| (FieldId(id as u16), field.width.bytes(job.elems)));
        let further = kernels.dealer_streams.iter().map(|(id, bytes)| (*id, bytes * job.elems));
        for (id, bytes) in own.chain(further) {
            let at = layout.take(bytes);
            addresses.dealer[usize::from(id.0)] = at as u64;
            streams.push(stream(job.dealer_seed, id, at, bytes));
        }

        let mut slot = shared.memory.slot(layout.end(), TABLE_BYTES)?;
        let base = slot.at(0);
        let rows = addresses.key.iter_mut().flatten().chain(&mut addresses.dealer);
        rows.filter(|at| **at != 0).for_each(|at| *at += base);
        put_streams(base, slot.pinned.bytes_mut(), &streams)?;
        // SAFETY: the table is not written again.
        unsafe { slot.upload(0, 0, TABLE_BYTES) }?;
        Ok(Self {
            shared: shared.clone(),
            slot,
            kernels,
            job: addresses,
            lengths: streams.iter().map(|stream| stream.bytes).collect(),
            runs,
            bytes: [Party::P0, Party::P1].map(|party| shape.chunk_bytes(party.role(job.chunk), job.elems)),
        })
    }

    /// Queues the making of the chunk.
    pub(crate) fn run(&self) -> Result<(), BackendError> {
        self.run_on(self.slot.stream())
    }

    /// The same on another stream, once the upload is done; it is waited for before the chunk's own is used.
    pub(crate) fn run_on(&self, on: &driver::Stream) -> Result<(), BackendError> {
        self.expand(on)?;
        (0..self.kernels.deal.len()).try_for_each(|i| self.combine(i, on))
    }

    /// Queues the expansion of the streams.
    pub(crate) fn expand(&self, on: &driver::Stream) -> Result<(), BackendError> {
        self.shared.expand(&self.slot, on, &self.lengths)
    }

    /// Queues the gate's kernel `i`.
    pub(crate) fn combine(&self, i: usize, on: &driver::Stream) -> Result<(), BackendError> {
        // SAFETY: prepare laid out every field that the gate's key has.
        unsafe { start(on, self.kernels.deal[i].0, &self.job) }
    }

    /// Waits until the upload and everything queued on the chunk's own stream is done.
    pub(crate) fn wait(&self) -> Result<(), BackendError> {
        self.slot.stream().wait()
    }

    /// Bytes that are expanded from streams.
    pub(crate) fn stream_bytes(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Copies the keys to the host, waits, and hands them over.
    pub(crate) fn fetch(self) -> Result<[SecretBytes; 2], BackendError> {
        let [mut key_0, mut key_1] =
            [self.shared.memory.pinned(self.bytes[0])?, self.shared.memory.pinned(self.bytes[1])?];
        let mut copied = Ok(());
        for (key, runs) in [&mut key_0, &mut key_1].into_iter().zip(&self.runs) {
            for (at, range) in runs {
                // SAFETY: the keys are not touched before the wait below, whatever fails.
                copied =
                    copied.and(unsafe { self.slot.download_to(*at, &mut key.bytes_mut()[range.clone()]) });
            }
        }
        let done = self.slot.stream().wait();
        copied.and(done)?;
        Ok([key_0, key_1].map(|key| SecretBytes::from_memory(Box::new(key))))
    }
}

/// Whether the gate's evaluation needs this party's share of the wire's mask `id`.
pub(crate) fn wants_mask(gate: &Gate, id: FieldId) -> bool {
    match gate.protocol() {
        Protocol::SufLut => id == R_IN,
        Protocol::Suf => id == R_IN || id == R_OUT,
        Protocol::Sigma | Protocol::Onehot | Protocol::Dpf => false,
    }
}
