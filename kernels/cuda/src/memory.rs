//! Memory of the GPU, and memory of the host that the GPU copies from and to, and that its kernels write to. Both are pooled by
//! size, so that the steady state allocates nothing, and wiped before they go back to their pool.

use std::{
    any::Any,
    collections::HashMap,
    ffi::c_void,
    ptr::NonNull,
    slice,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use cudarc::driver::{result, sys};
use suf_gate::{BackendError, secret::SecretMemory};

use crate::{
    completion::{COMPLETION_BYTES, Completion},
    driver::{CudaStream, Device, Mark, failed},
};

/// Sizes are rounded up to multiples of this, so that the last tile of one wire fits the place of another's.
const GRAIN: usize = 64 << 10;

/// All memory of one GPU.
pub(crate) struct Memory {
    device: Arc<Device>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    device: HashMap<usize, Vec<DeviceBlock>>,
    pinned: HashMap<usize, Vec<PinnedBlock>>,
    streams: Vec<CudaStream>,
    marks: Vec<Mark>,
    ending: Vec<Ending>,
}

/// What a stream uses until all that is queued on it is done. The last of that wipes the blocks.
pub(crate) struct Ending {
    /// The stream.
    pub(crate) stream: CudaStream,
    /// They go back to the pool.
    pub(crate) blocks: Vec<DeviceBlock>,
    /// Memory of the host.
    pub(crate) pinned: Vec<Pinned>,
    /// Anything else that is in use.
    pub(crate) held: Vec<Arc<dyn Any + Send + Sync>>,
}

/// So many streams may be ending before somebody asks the driver which of them are done.
const ENDING: usize = 32;

impl Memory {
    /// No memory yet.
    pub(crate) fn new(device: Arc<Device>) -> Self {
        Self { device, idle: Mutex::default() }
    }

    /// A stream with `device_len` bytes on the GPU and `pinned_len` on the host.
    pub(crate) fn slot(self: &Arc<Self>, device_len: usize, pinned_len: usize) -> Result<Slot, BackendError> {
        let pinned = self.pinned(pinned_len)?;
        let (block, stream) = (Some(self.block(device_len)?), Some(self.stream()?));
        Ok(Slot { memory: self.clone(), block, stream, pinned, uploading: None })
    }

    /// At least `len` bytes of the GPU. Whoever has them wipes them, and gives them back.
    pub(crate) fn block(&self, len: usize) -> Result<DeviceBlock, BackendError> {
        let len = len.max(1).next_multiple_of(GRAIN);
        let take = || self.idle().device.get_mut(&len).and_then(Vec::pop);
        let idle = take().or_else(|| {
            self.reclaim();
            take()
        });
        if let Some(block) = idle {
            return Ok(block);
        }
        match DeviceBlock::new(&self.device, len) {
            Err(BackendError::OutOfMemory(_)) => {
                self.free_idle();
                DeviceBlock::new(&self.device, len)
            }
            other => other,
        }
    }

    /// A stream on which nothing is queued.
    pub(crate) fn stream(&self) -> Result<CudaStream, BackendError> {
        let take = || self.idle().streams.pop();
        let idle = take().or_else(|| {
            self.reclaim();
            take()
        });
        idle.map_or_else(|| self.device.stream(), Ok)
    }

    /// A mark that nobody waits for.
    pub(crate) fn mark(&self) -> Result<Mark, BackendError> {
        let idle = self.idle().marks.pop();
        idle.map_or_else(Mark::untimed, Ok)
    }

    /// Takes back a mark of [`Memory::mark`] that is past.
    pub(crate) fn give_back_mark(&self, mark: Mark) {
        self.idle().marks.push(mark);
    }

    /// Takes back what `ending` has once its stream is done. Nobody waits for that.
    pub(crate) fn end(&self, ending: Ending) {
        let count = {
            let mut idle = self.idle();
            idle.ending.push(ending);
            idle.ending.len()
        };
        if count.is_multiple_of(ENDING) {
            self.reclaim();
        }
    }

    /// Takes back what streams have that are done.
    fn reclaim(&self) {
        let ending = std::mem::take(&mut self.idle().ending);
        let (done, going): (Vec<_>, Vec<_>) =
            ending.into_iter().partition(|ending| ending.stream.is_idle().unwrap_or(false));
        self.idle().ending.extend(going);
        // What they hold may come back here itself.
        done.into_iter().for_each(|ending| self.ended(ending));
    }

    /// Waits for all streams that are ending: what they hold keeps this alive.
    pub(crate) fn settle(&self) {
        loop {
            let ending = std::mem::take(&mut self.idle().ending);
            if ending.is_empty() {
                return;
            }
            for ending in ending {
                // If the GPU is gone, so are its secrets; then nothing goes back to the pool.
                if ending.stream.wait().is_ok() {
                    self.ended(ending);
                }
            }
        }
    }

    fn ended(&self, ending: Ending) {
        let Ending { stream, blocks, pinned, held } = ending;
        self.give_back(blocks, Some(stream));
        drop((pinned, held));
    }

    /// Takes back wiped blocks, and a stream on which nothing is queued.
    pub(crate) fn give_back(
        &self,
        blocks: impl IntoIterator<Item = DeviceBlock>,
        stream: Option<CudaStream>,
    ) {
        let mut idle = self.idle();
        for block in blocks {
            idle.device.entry(block.len).or_default().push(block);
        }
        idle.streams.extend(stream);
    }

    /// `len` bytes of the host that the GPU can copy from and to, and write to.
    pub(crate) fn pinned(self: &Arc<Self>, len: usize) -> Result<Pinned, BackendError> {
        let size = len.max(1).next_multiple_of(GRAIN);
        let idle = self.idle().pinned.get_mut(&size).and_then(Vec::pop);
        let block = match idle {
            Some(block) => block,
            None => match PinnedBlock::new(&self.device, size) {
                Err(BackendError::OutOfMemory(_)) => {
                    self.free_idle();
                    PinnedBlock::new(&self.device, size)?
                }
                other => other?,
            },
        };
        Ok(Pinned { memory: self.clone(), block: Some(block), len })
    }

    /// Gives idle memory back to the driver; it was wiped when it became idle.
    fn free_idle(&self) {
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        // Lists of blocks stay whole whatever a panicking thread was doing.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where one tile is worked on.
pub(crate) struct Slot {
    memory: Arc<Memory>,
    // Taken by drop alone.
    block: Option<DeviceBlock>,
    stream: Option<CudaStream>,
    /// Memory of the host for what goes to and from the GPU.
    pub(crate) pinned: Pinned,
    /// What was given for an upload, until the slot's stream was waited for.
    uploading: Option<Pinned>,
}

impl Slot {
    /// The tile's stream.
    pub(crate) fn stream(&self) -> &CudaStream {
        self.stream.as_ref().expect("the stream is there until drop")
    }

    /// Address of byte `offset` of the slot's memory on the GPU.
    pub(crate) fn at(&self, offset: usize) -> u64 {
        let block = self.block.as_ref().expect("the block is there until drop");
        debug_assert!(offset <= block.len, "an address inside the slot");
        block.address + offset as u64
    }

    /// Queues a copy of `from`, which may be any memory of the host, to byte `to` of the slot.
    ///
    /// # Safety
    /// `from` stays as it is until the copy is done.
    pub(crate) unsafe fn upload_bytes(&self, from: &[u8], to: usize) -> Result<(), BackendError> {
        self.check(to, from.len());
        // SAFETY: the place lies in the slot, whose memory is used in the order of one stream; the rest is the caller's
        // promise.
        unsafe { self.stream().upload(from, self.at(to)) }
    }

    /// Queues a copy of `len` pinned bytes from `from` on to byte `to` of the slot.
    ///
    /// # Safety
    /// These pinned bytes are not written until the stream has been waited for.
    pub(crate) unsafe fn upload(&self, from: usize, to: usize, len: usize) -> Result<(), BackendError> {
        // SAFETY: the pinned bytes live as long as the slot, whose drop waits; the rest is the caller's promise.
        unsafe { self.upload_bytes(&self.pinned.bytes()[from..from + len], to) }
    }

    /// Queues a copy of all of `from` to the slot's start, and keeps it: until [`Slot::settle`], or the slot's end.
    pub(crate) fn upload_whole(&mut self, from: Pinned) -> Result<(), BackendError> {
        if self.uploading.is_some() {
            self.settle()?;
        }
        self.uploading = Some(from);
        // SAFETY: it is the slot's own stream, and nobody has the bytes until it has been waited for, by settle or by drop.
        unsafe { self.upload_again(self.stream()) }
    }

    /// Queues on `on` the copy of [`Slot::upload_whole`] once more, if it is still kept.
    ///
    /// # Safety
    /// `on` is waited for before the slot is settled, dropped, or used on its own stream.
    pub(crate) unsafe fn upload_again(&self, on: &CudaStream) -> Result<(), BackendError> {
        let Some(from) = &self.uploading else { return Ok(()) };
        self.check(0, from.len);
        // SAFETY: the place lies in the slot; the rest is the caller's promise.
        unsafe { on.upload(from.bytes(), self.at(0)) }
    }

    /// Bytes of what is kept for the upload.
    pub(crate) fn uploading_bytes(&self) -> usize {
        self.uploading.as_ref().map_or(0, |from| from.len)
    }

    /// Waits until everything queued on the slot's stream is done, and wipes what was uploaded.
    pub(crate) fn settle(&mut self) -> Result<(), BackendError> {
        self.stream().wait()?;
        self.uploading = None;
        Ok(())
    }

    /// Queues a copy of `len` bytes from byte `from` of the slot on to pinned byte `to`.
    ///
    /// # Safety
    /// These pinned bytes are neither read nor written until the stream has been waited for.
    pub(crate) unsafe fn download(&mut self, from: usize, to: usize, len: usize) -> Result<(), BackendError> {
        self.check(from, len);
        let address = self.at(from);
        let stream = self.stream.as_ref().expect("the stream is there until drop");
        // SAFETY: as in upload, the other way round.
        unsafe { stream.download(address, &mut self.pinned.bytes_mut()[to..to + len]) }
    }

    /// Queues a copy of `to.len()` bytes from byte `from` of the slot on into another pinned block.
    ///
    /// # Safety
    /// `to` is not touched until the stream has been waited for.
    pub(crate) unsafe fn download_to(&self, from: usize, to: &mut [u8]) -> Result<(), BackendError> {
        self.check(from, to.len());
        // SAFETY: the place lies in the slot; the rest is the caller's promise.
        unsafe { self.stream().download(self.at(from), to) }
    }

    fn check(&self, at: usize, len: usize) {
        let size = self.block.as_ref().map_or(0, |block| block.len);
        assert!(at <= size && len <= size - at, "a copy stays inside its slot");
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (Some(block), Some(stream)) = (self.block.take(), self.stream.take()) else { return };
        // What is still queued may use the pinned memory, which is wiped next. If the GPU is gone, so are its secrets;
        // then nothing goes back to the pool.
        // SAFETY: the block is this slot's.
        let wiped = self.memory.device.bind().is_ok()
            && unsafe { stream.zero(block.address, block.len) }.is_ok()
            && stream.wait().is_ok();
        if wiped {
            self.memory.give_back([block], Some(stream));
        }
    }
}

/// Memory of the host that the GPU copies from and to, and that its kernels write to. Wiped when dropped.
pub(crate) struct Pinned {
    memory: Arc<Memory>,
    // Taken by drop alone.
    block: Option<PinnedBlock>,
    len: usize,
}

impl Pinned {
    /// The first `len` bytes, to be shared; the block goes back to its pool with the last reference, all of it wiped.
    pub(crate) fn share(self, len: usize) -> Bytes {
        let mut bytes = Bytes::from_owner(self);
        bytes.truncate(len);
        bytes
    }

    /// Where a kernel finds it.
    pub(crate) fn address(&self) -> u64 {
        self.block.as_ref().expect("the block is there until drop").address
    }

    /// What a kernel writes to the first [`COMPLETION_BYTES`] bytes, while nothing else is done with them.
    pub(crate) fn completion(&self) -> &Completion {
        assert!(
            self.len >= COMPLETION_BYTES && size_of::<Completion>() <= COMPLETION_BYTES,
            "room for what a kernel tells"
        );
        let block = self.block.as_ref().expect("the block is there until drop");
        // SAFETY: page-locked memory starts with a page, there is room, and any bytes are whole atomics.
        unsafe { block.start.cast::<Completion>().as_ref() }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        let block = self.block.as_ref().expect("the block is there until drop");
        // SAFETY: the block is at least this long, was zeroed when new, and is this value's alone.
        unsafe { slice::from_raw_parts(block.start.as_ptr(), self.len) }
    }

    /// The bytes, writable.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let block = self.block.as_ref().expect("the block is there until drop");
        // SAFETY: as above, and self is borrowed for writing.
        unsafe { slice::from_raw_parts_mut(block.start.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl AsMut<[u8]> for Pinned {
    fn as_mut(&mut self) -> &mut [u8] {
        self.bytes_mut()
    }
}

impl SecretMemory for Pinned {}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The block stays reachable through the pool, so that the compiler cannot leave this out.
        self.bytes_mut().fill(0);
        if let Some(block) = self.block.take() {
            self.memory.idle().pinned.entry(block.len).or_default().push(block);
        }
    }
}

/// A stretch of the GPU's memory.
pub(crate) struct DeviceBlock {
    device: Arc<Device>,
    address: u64,
    len: usize,
}

impl DeviceBlock {
    fn new(device: &Arc<Device>, len: usize) -> Result<Self, BackendError> {
        device.bind()?;
        // SAFETY: nothing reads the memory before a kernel or a copy has written it.
        let address = unsafe { result::malloc_sync(len) }.map_err(failed("memory of the GPU"))?;
        Ok(Self { device: device.clone(), address, len })
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for DeviceBlock {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: allocated by new, freed here alone, and idle: its slot waited for its stream.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

struct PinnedBlock {
    device: Arc<Device>,
    start: NonNull<u8>,
    /// Of the same bytes, for kernels.
    address: u64,
    len: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for PinnedBlock {}
// SAFETY: it is read through shared references only.
unsafe impl Sync for PinnedBlock {}

impl PinnedBlock {
    fn new(device: &Arc<Device>, len: usize) -> Result<Self, BackendError> {
        device.bind()?;
        const WHAT: &str = "memory of the host that the GPU can use";
        const FLAGS: u32 = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: the flags ask for plain page-locked memory, for every context and for kernels.
        let start = unsafe { result::malloc_host(len, FLAGS) }.map_err(failed(WHAT))?;
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| BackendError::OutOfMemory(WHAT.into()))?;
        // SAFETY: the driver gave this many bytes.
        unsafe { start.as_ptr().write_bytes(0, len) };
        let mut block = Self { device: device.clone(), start, address: 0, len };
        // SAFETY: writes one address; the memory was asked for with the flag that this call wants.
        unsafe { sys::cuMemHostGetDevicePointer_v2(&raw mut block.address, start.as_ptr().cast(), 0) }
            .result()
            .map_err(failed(WHAT))?;
        Ok(block)
    }
}

impl Drop for PinnedBlock {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: allocated by new and freed here alone.
            let _ = unsafe { result::free_host(self.start.as_ptr().cast::<c_void>()) };
        }
    }
}
