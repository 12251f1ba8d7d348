//! Where one part is worked on: a stream of the GPU, and memory for it that is wiped at the end.

use std::{any::Any, sync::Arc};

use suf_gate::{BackendError, prg::StreamKey};

use super::{
    tasks::{How, Packing, Task, Unpacking},
    value::DeviceValue,
};
use crate::{
    backend::{Shared, put_streams},
    driver::{CudaStream, Mark},
    header::THREADS,
    layout::{Expansion, FEW_STREAMS, MAX_STREAMS, TABLE_BYTES},
    memory::{DeviceBlock, Ending, Pinned},
};

/// Memory is taken from the pool in pieces of this size, if they are not larger.
const PIECE: usize = 1 << 20;

/// Places begin at multiples of this.
const ALIGN: usize = 256;

/// Kernels read whole words of fields, hence up to so many bytes behind one.
const SPARE: usize = 16;

/// A stream, and what is queued on it works with.
pub(crate) struct Lane {
    shared: Arc<Shared>,
    // Taken by drop alone.
    stream: Option<CudaStream>,
    pieces: Vec<Piece>,
    /// What is uploaded from.
    uploading: Vec<Pinned>,
    /// What else the stream uses.
    held: Vec<Arc<dyn Any + Send + Sync>>,
}

struct Piece {
    block: DeviceBlock,
    used: usize,
}

impl Lane {
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Self, BackendError> {
        shared.device.bind()?;
        let stream = Some(shared.memory.stream()?);
        Ok(Self {
            shared: Arc::clone(shared),
            stream,
            pieces: Vec::new(),
            uploading: Vec::new(),
            held: Vec::new(),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Keeps `used` until the stream is done.
    pub(crate) fn hold(&mut self, used: Arc<dyn Any + Send + Sync>) {
        self.held.push(used);
    }

    /// Has the stream wait until `value` is whole, and keeps it. Its address.
    pub(crate) fn take(&mut self, value: &Arc<DeviceValue>) -> Result<u64, BackendError> {
        if let Some(ready) = value.ready() {
            self.stream().after(ready)?;
        }
        self.hold(Arc::clone(value) as _);
        Ok(value.address())
    }

    /// What is queued so far makes a value whole.
    pub(crate) fn point(&self) -> Result<Mark, BackendError> {
        let mark = self.shared.memory.mark()?;
        self.stream().record(&mark)?;
        Ok(mark)
    }

    fn stream(&self) -> &CudaStream {
        self.stream.as_ref().expect("the stream is there until drop")
    }

    /// The address of `bytes` bytes.
    pub(crate) fn bytes(&mut self, bytes: usize) -> Result<u64, BackendError> {
        let due = (bytes + SPARE).next_multiple_of(ALIGN);
        let has_room = |piece: &Piece| piece.block.len() - piece.used >= due;
        if !self.pieces.last().is_some_and(has_room) {
            let block = self.shared.memory.block(due.max(PIECE))?;
            self.pieces.push(Piece { block, used: 0 });
        }
        let piece = self.pieces.last_mut().expect("one was made");
        let at = piece.block.address() + piece.used as u64;
        piece.used += due;
        Ok(at)
    }

    /// The address of `count` words.
    pub(crate) fn words(&mut self, count: usize) -> Result<u64, BackendError> {
        self.bytes(8 * count)
    }

    /// Queues a copy of `from` to memory of its own.
    pub(crate) fn upload(&mut self, from: &[u8]) -> Result<u64, BackendError> {
        let mut pinned = self.shared.memory.pinned(from.len())?;
        pinned.bytes_mut()[..from.len()].copy_from_slice(from);
        let to = self.bytes(from.len())?;
        // SAFETY: the place was taken for these bytes, and the copy is kept until the stream has been waited for.
        unsafe { self.stream().upload(pinned.bytes(), to) }?;
        self.uploading.push(pinned);
        Ok(to)
    }

    /// Queues a copy of numbers of 32 bits to memory of their own.
    pub(crate) fn upload_indices(&mut self, from: impl Iterator<Item = usize>) -> Result<u64, BackendError> {
        // Rows and columns of a tensor are below 2^32.
        let bytes: Vec<u8> = from.flat_map(|index| (index as u32).to_le_bytes()).collect();
        self.upload(&bytes)
    }

    /// Queues a copy of words to the device address `to`.
    ///
    /// # Safety
    /// There is room for them.
    pub(crate) unsafe fn upload_words(&mut self, from: &[u64], to: u64) -> Result<(), BackendError> {
        let mut pinned = self.shared.memory.pinned(8 * from.len())?;
        for (place, word) in pinned.bytes_mut().as_chunks_mut::<8>().0.iter_mut().zip(from) {
            *place = word.to_le_bytes();
        }
        // SAFETY: the caller's promise, and the copy is kept until the stream has been waited for.
        unsafe { self.stream().upload(pinned.bytes(), to) }?;
        self.uploading.push(pinned);
        Ok(())
    }

    /// Queues a copy of `bytes` bytes from one device address to another.
    ///
    /// # Safety
    /// Both are whole and the caller's, and do not overlap.
    pub(crate) unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), BackendError> {
        // SAFETY: by the caller's promise.
        unsafe { self.stream().copy(from, to, bytes) }
    }

    /// Queues the expansion of streams, and gives the address of each.
    pub(crate) fn expand(&mut self, wanted: &[(StreamKey, usize)]) -> Result<Vec<u64>, BackendError> {
        let mut places = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(MAX_STREAMS) {
            let mut streams = Vec::with_capacity(wanted.len());
            for (key, bytes) in wanted {
                // Whole blocks of the cipher are written.
                let to = self.bytes(bytes.next_multiple_of(crate::layout::ALIGN))?;
                places.push(to);
                streams.push(Expansion { key: key.clone(), to: to as usize, bytes: *bytes });
            }
            if streams.len() <= FEW_STREAMS {
                // SAFETY: each place was taken for whole blocks.
                unsafe { self.shared.expand_few(self.stream(), &streams) }?;
                continue;
            }
            let mut table = zeroize::Zeroizing::new(vec![0; TABLE_BYTES]);
            put_streams(0, &mut table, &streams)?;
            let table = self.upload(&table)?;
            let lengths: Vec<_> = streams.iter().map(|stream| stream.bytes).collect();
            self.shared.expand(table, self.stream(), &lengths)?;
        }
        Ok(places)
    }

    /// Starts the kernel of `task`.
    ///
    /// # Safety
    /// The task's addresses have room for its sizes, and stay so until the stream has been waited for.
    pub(crate) unsafe fn start<T: Task>(&self, task: &T) -> Result<(), BackendError> {
        // SAFETY: by the caller's promise.
        unsafe { start(&self.shared, self.stream(), task) }
    }

    /// Queues `how` with entries of `width` bits from `from`, on `elems` words at `out`, modulo 2^ring.
    ///
    /// # Safety
    /// There are as many words and entries, and [`SPARE`] bytes behind the entries.
    pub(crate) unsafe fn unpack(
        &self,
        (out, how): (u64, How),
        from: u64,
        (width, ring): (u8, u8),
        elems: usize,
    ) -> Result<(), BackendError> {
        let task = Unpacking { out, from, elems: elems as u32, width: width.into(), ring: ring.into(), how };
        // SAFETY: by the caller's promise.
        unsafe { self.start(&task) }
    }

    /// Queues `from` modulo 2^bits, to `out`.
    ///
    /// # Safety
    /// There are `elems` words at both.
    pub(crate) unsafe fn reduce(
        &self,
        out: u64,
        from: u64,
        bits: u8,
        elems: usize,
    ) -> Result<(), BackendError> {
        // SAFETY: by the caller's promise; entries of 64 bits are words.
        unsafe { self.unpack((out, How::Set), from, (64, bits), elems) }
    }

    /// Queues the sum of the words at `out` and those at `from` modulo 2^bits, to `out`.
    ///
    /// # Safety
    /// As for [`Lane::reduce`].
    pub(crate) unsafe fn plus(
        &self,
        out: u64,
        from: u64,
        bits: u8,
        elems: usize,
    ) -> Result<(), BackendError> {
        // SAFETY: as there.
        unsafe { self.unpack((out, How::Add), from, (64, bits), elems) }
    }

    /// Queues the words at `from`, or zeros if that is 0, minus those at `less`, modulo 2^bits, to `out`.
    ///
    /// # Safety
    /// As for [`Lane::reduce`].
    pub(crate) unsafe fn minus(
        &self,
        out: u64,
        from: u64,
        less: u64,
        bits: u8,
        elems: usize,
    ) -> Result<(), BackendError> {
        // SAFETY: as there.
        unsafe {
            match from {
                0 => self.zero(out, elems)?,
                from => self.reduce(out, from, bits, elems)?,
            }
            self.unpack((out, How::Subtract), less, (64, bits), elems)
        }
    }

    /// Queues zeros.
    ///
    /// # Safety
    /// There are as many words.
    pub(crate) unsafe fn zero(&self, out: u64, words: usize) -> Result<(), BackendError> {
        // SAFETY: by the caller's promise.
        unsafe { self.stream().zero(out, 8 * words) }
    }

    /// Queues the packing of `elems` words at `from` into page-locked memory, and gives that. It is whole after a wait.
    ///
    /// # Safety
    /// There are as many words.
    pub(crate) unsafe fn pack(&self, from: u64, bits: u8, elems: usize) -> Result<Pinned, BackendError> {
        let bytes = (elems * usize::from(bits)).div_ceil(8);
        let to = self.shared.memory.pinned(bytes.next_multiple_of(4))?;
        let task = Packing { out: to.address(), from, elems: elems as u32, bits: bits.into() };
        // SAFETY: the caller's promise, and room for whole words of 32 bits.
        unsafe { self.start(&task) }?;
        Ok(to)
    }

    /// Queues a copy of words from the device address `from`, whole after a wait.
    ///
    /// # Safety
    /// There are as many words.
    pub(crate) unsafe fn download(&self, from: u64, words: usize) -> Result<Pinned, BackendError> {
        let mut to = self.shared.memory.pinned(8 * words)?;
        // SAFETY: by the caller's promise; nobody has the memory before the wait, since this is its only name.
        unsafe { self.stream().download(from, to.bytes_mut()) }?;
        Ok(to)
    }

    /// Waits until all that is queued is done.
    pub(crate) fn wait(&mut self) -> Result<(), BackendError> {
        self.stream().wait()?;
        self.uploading.clear();
        self.held.clear();
        Ok(())
    }
}

/// Starts the kernel of `task` on the stream `on`.
///
/// # Safety
/// As for [`Lane::start`].
pub(crate) unsafe fn start<T: Task>(shared: &Shared, on: &CudaStream, task: &T) -> Result<(), BackendError> {
    let kernel = shared.operations()?.kernel(T::KERNEL);
    // SAFETY: the task is the kernel's parameter, by its trait; the rest is the caller's promise.
    unsafe { on.launch(kernel, task.blocks(), THREADS, task) }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        // If the GPU is gone, so are its secrets; then nothing goes back to the pool.
        let wipe = |piece: &Piece| {
            // SAFETY: the bytes are this lane's.
            unsafe { stream.zero(piece.block.address(), piece.used) }.is_ok()
        };
        if self.shared.device.bind().is_ok() && self.pieces.iter().all(wipe) {
            let blocks = std::mem::take(&mut self.pieces).into_iter().map(|piece| piece.block).collect();
            let (pinned, held) = (std::mem::take(&mut self.uploading), std::mem::take(&mut self.held));
            self.shared.memory.end(Ending { stream, blocks, pinned, held });
        }
    }
}
