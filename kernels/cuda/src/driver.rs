//! The CUDA driver: found at run time, every failure a typed error. Calls are made on whichever thread needs them; each
//! public function binds the context first.

use std::{
    ffi::{CStr, CString, c_int, c_void},
    sync::Arc,
};

use cudarc::driver::{
    CudaContext, DriverError,
    result::{self, event, graph, stream},
    sys::{self, CUdevice_attribute_enum as Attribute, CUresult},
};
use suf_gate::BackendError;

use crate::{image::Image, management::Management};

/// Room for a PCI bus address, such as `0000:3B:00.0`.
const BUS_BYTES: usize = 32;

/// Oldest driver that is used: CUDA 12.8, the first that the bindings' calls are all in.
const MIN_DRIVER: i32 = 12080;

/// The driver's failures as the backend's.
pub(crate) fn failed(what: &'static str) -> impl Fn(DriverError) -> BackendError {
    move |error| match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => BackendError::OutOfMemory(what.into()),
        code if is_final(code) => BackendError::Lost(format!("{what}: {error}")),
        _ => BackendError::Failed(format!("{what}: {error}")),
    }
}

/// Whether nothing works any more on this GPU in this process. Such are the failures of which the driver's reference says
/// that the process must end, and those of a GPU that is gone.
fn is_final(code: CUresult) -> bool {
    matches!(
        code,
        CUresult::CUDA_ERROR_DEINITIALIZED
            | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
            | CUresult::CUDA_ERROR_NO_DEVICE
            | CUresult::CUDA_ERROR_INVALID_DEVICE
            | CUresult::CUDA_ERROR_INVALID_CONTEXT
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUresult::CUDA_ERROR_CONTAINED
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_EXTERNAL_DEVICE
            | CUresult::CUDA_ERROR_UNKNOWN
    )
}

/// One GPU, opened.
pub(crate) struct Device {
    context: Arc<CudaContext>,
    /// Model name.
    pub(crate) name: String,
    /// Driver version, as 1000 * major + 10 * minor.
    pub(crate) driver: i32,
    /// Compute capability, as 10 * major + minor.
    pub(crate) sm: u32,
    /// Multiprocessors.
    pub(crate) processors: u32,
    /// What the driver tells besides; none where its library is missing.
    pub(crate) management: Option<Management>,
}

impl Device {
    /// How many GPUs there are. Nothing of the driver is touched before it is known to be there.
    pub(crate) fn count() -> Result<usize, BackendError> {
        let unavailable = BackendError::Unavailable;
        // SAFETY: loads a library by name and drops it again; the driver's initialisers have no precondition.
        if !unsafe { sys::is_culib_present() } {
            return Err(unavailable("no NVIDIA driver is installed (libcuda.so is not found)".into()));
        }
        result::init().map_err(|error| unavailable(format!("the driver does not start: {error}")))?;
        let driver =
            driver_version().map_err(|error| unavailable(format!("the driver's version: {error}")))?;
        if driver < MIN_DRIVER {
            return Err(unavailable(format!(
                "the driver supports CUDA {}, 12.8 is the oldest that is used; install a newer driver",
                version(driver)
            )));
        }
        let count = result::device::get_count().map_err(|error| unavailable(error.to_string()))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Opens GPU number `ordinal`.
    pub(crate) fn open(ordinal: usize) -> Result<Self, BackendError> {
        let unavailable = BackendError::Unavailable;
        let count = Self::count()?;
        if ordinal >= count {
            return Err(unavailable(format!("GPU {ordinal} is asked for, {count} are there")));
        }
        let driver = driver_version().map_err(|error| unavailable(error.to_string()))?;
        let context = CudaContext::new(ordinal).map_err(|error| unavailable(error.to_string()))?;
        let attribute = |attribute| {
            context
                .attribute(attribute)
                .map(i32::unsigned_abs)
                .map_err(|error| unavailable(error.to_string()))
        };
        Ok(Self {
            name: context.name().map_err(|error| unavailable(error.to_string()))?,
            driver,
            sm: 10 * attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?
                + attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            processors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            management: bus_address(&context)
                .and_then(|bus| Management::open(CStr::from_bytes_until_nul(&bus).ok()?)),
            context,
        })
    }

    /// Model and driver, for records.
    pub(crate) fn description(&self) -> String {
        let driver =
            self.management.as_ref().map_or_else(String::new, |known| format!(" {}", known.driver()));
        format!("{} (driver{driver} of CUDA {}, sm_{})", self.name, version(self.driver), self.sm)
    }

    /// Makes this GPU the calling thread's.
    pub(crate) fn bind(&self) -> Result<(), BackendError> {
        self.context.bind_to_thread().map_err(failed("binding the GPU to a thread"))
    }

    /// Bytes of the card's memory that are in use, by whichever program.
    pub(crate) fn used_bytes(&self) -> Result<usize, BackendError> {
        self.bind()?;
        let (free, total) = result::mem_get_info().map_err(failed("asking for the GPU's memory"))?;
        Ok(total - free)
    }

    /// A stream of its own order.
    pub(crate) fn stream(&self) -> Result<CudaStream, BackendError> {
        self.bind()?;
        let raw = stream::create(stream::StreamKind::NonBlocking).map_err(failed("a new stream"))?;
        Ok(CudaStream { raw, _context: self.context.clone() })
    }

    /// Loads kernels; PTX is compiled by the driver, which keeps what it made in a cache of its own.
    pub(crate) fn load(&self, image: &Image) -> Result<Module, BackendError> {
        self.bind()?;
        let start: *const c_void = match image {
            Image::Cubin(code) => code.as_ptr().cast(),
            Image::Ptx(text) => text.as_ptr().cast(),
        };
        // SAFETY: the image is a whole cubin, as NVRTC made it for this GPU, or PTX up to a zero byte, and outlives the call.
        let raw = unsafe { result::module::load_data(start) }.map_err(failed("loading kernels"))?;
        Ok(Module { raw, context: self.context.clone() })
    }
}

fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// The card's address, up to the first zero byte.
fn bus_address(context: &CudaContext) -> Option<[u8; BUS_BYTES]> {
    let mut bus = [0u8; BUS_BYTES];
    // SAFETY: writes at most as many bytes as it is told.
    let done =
        unsafe { sys::cuDeviceGetPCIBusId(bus.as_mut_ptr().cast(), BUS_BYTES as c_int, context.cu_device()) };
    done.result().ok().map(|()| bus)
}

fn driver_version() -> Result<i32, DriverError> {
    let mut version = 0;
    // SAFETY: writes one integer to the address given.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(version)
}

/// Work in order on the GPU.
pub(crate) struct CudaStream {
    raw: sys::CUstream,
    // A stream must not outlive its context.
    _context: Arc<CudaContext>,
}

// SAFETY: a stream's handle may be used from any thread on which its context is current.
unsafe impl Send for CudaStream {}
// SAFETY: as above; the driver locks each call on a stream.
unsafe impl Sync for CudaStream {}

impl CudaStream {
    /// Waits until all work given to the stream is done.
    pub(crate) fn wait(&self) -> Result<(), BackendError> {
        // SAFETY: the stream lives as long as self.
        unsafe { stream::synchronize(self.raw) }.map_err(failed("waiting for the GPU"))
    }

    /// Whether all work given to the stream is done.
    pub(crate) fn is_idle(&self) -> Result<bool, BackendError> {
        // SAFETY: the stream lives as long as self.
        match unsafe { sys::cuStreamQuery(self.raw) }.result() {
            Err(DriverError(CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
            known => known.map(|()| true).map_err(failed("waiting for a kernel")),
        }
    }

    /// Copies `from` to the device address `to`.
    ///
    /// # Safety
    /// `from.len()` bytes at `to` are the caller's, and `from` stays as it is until the stream has been waited for.
    pub(crate) unsafe fn upload(&self, from: &[u8], to: u64) -> Result<(), BackendError> {
        // SAFETY: by the caller's promise.
        unsafe { result::memcpy_htod_async(to, from, self.raw) }.map_err(failed("a copy to the GPU"))
    }

    /// Copies the device address `from` to `to`.
    ///
    /// # Safety
    /// `to.len()` bytes at `from` are the caller's, and `to` is not touched until the stream has been waited for.
    pub(crate) unsafe fn download(&self, from: u64, to: &mut [u8]) -> Result<(), BackendError> {
        // SAFETY: by the caller's promise.
        unsafe { result::memcpy_dtoh_async(to, from, self.raw) }.map_err(failed("a copy from the GPU"))
    }

    /// Copies within the GPU's memory.
    ///
    /// # Safety
    /// `len` bytes at both addresses are the caller's and do not overlap.
    pub(crate) unsafe fn copy(&self, from: u64, to: u64, len: usize) -> Result<(), BackendError> {
        // SAFETY: by the caller's promise.
        unsafe { result::memcpy_dtod_async(to, from, len, self.raw) }.map_err(failed("a copy within the GPU"))
    }

    /// Zeroes device memory.
    ///
    /// # Safety
    /// `len` bytes at `at` are the caller's.
    pub(crate) unsafe fn zero(&self, at: u64, len: usize) -> Result<(), BackendError> {
        // SAFETY: by the caller's promise.
        unsafe { result::memset_d8_async(at, 0, len, self.raw) }.map_err(failed("wiping memory"))
    }

    /// Starts `kernel` on `blocks` blocks of `threads` threads, with `job` as its one parameter.
    ///
    /// # Safety
    /// `Job` is laid out as the kernel's parameter, and what its addresses point to is the caller's until the stream has
    /// been waited for.
    pub(crate) unsafe fn launch<Job>(
        &self,
        kernel: CudaKernel,
        blocks: u32,
        threads: u32,
        job: &Job,
    ) -> Result<(), BackendError> {
        let parameter: *const Job = job;
        let mut parameters = [parameter.cast_mut().cast::<c_void>()];
        // SAFETY: the driver copies the parameter during the call; the rest is the caller's promise.
        unsafe {
            result::launch_kernel(kernel.raw, (blocks, 1, 1), (threads, 1, 1), 0, self.raw, &mut parameters)
        }
        .map_err(failed("starting a kernel"))
    }

    /// Marks this point of the stream in time.
    pub(crate) fn mark(&self) -> Result<Mark, BackendError> {
        let mark = Mark::new()?;
        // SAFETY: both handles are live.
        unsafe { event::record(mark.raw, self.raw) }.map_err(failed("an event"))?;
        Ok(mark)
    }

    /// Moves `mark` to this point of the stream.
    pub(crate) fn record(&self, mark: &Mark) -> Result<(), BackendError> {
        // SAFETY: both handles are live.
        unsafe { event::record(mark.raw, self.raw) }.map_err(failed("an event"))
    }

    /// Has what is queued from now on wait for `mark`.
    pub(crate) fn after(&self, mark: &Mark) -> Result<(), BackendError> {
        // SAFETY: both handles are live.
        unsafe { stream::wait_event(self.raw, mark.raw, sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT) }
            .map_err(failed("waiting for another stream"))
    }

    /// Makes a graph of what `queue` queues on this stream, and on others after it and before it goes on. None of it is done
    /// yet.
    pub(crate) fn capture(
        &self,
        queue: impl FnOnce() -> Result<(), BackendError>,
    ) -> Result<Graph, BackendError> {
        const WHAT: &str = "making a graph";
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is live.
        unsafe { stream::begin_capture(self.raw, mode) }.map_err(failed(WHAT))?;
        let queued = queue();
        // SAFETY: the stream is live, and captures since the call above.
        let plan = unsafe { stream::end_capture(self.raw) }.map_err(failed(WHAT));
        queued?;
        let plan = plan?;
        // SAFETY: the plan is whole, used once, and destroyed once, here.
        unsafe {
            let graph = graph::instantiate(plan, sys::CUgraphInstantiate_flags(0));
            graph::destroy(plan).and(graph).map(|raw| Graph { raw }).map_err(failed(WHAT))
        }
    }

    /// Queues all of `graph`, whose addresses are still the caller's.
    pub(crate) fn replay(&self, graph: &Graph) -> Result<(), BackendError> {
        // SAFETY: both handles are live; what the graph works on was promised where it was captured.
        unsafe { graph::launch(graph.raw, self.raw) }.map_err(failed("starting a graph"))
    }
}

impl Drop for CudaStream {
    fn drop(&mut self) {
        // SAFETY: the handle is live and not used again. A failure here has been or will be reported by other calls.
        let _ = unsafe { stream::destroy(self.raw) };
    }
}

/// Work that is queued as a whole.
pub(crate) struct Graph {
    raw: sys::CUgraphExec,
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the handle is live and not used again; what is still under way ends first.
        let _ = unsafe { graph::exec_destroy(self.raw) };
    }
}

/// A point of a stream in time.
pub(crate) struct Mark {
    raw: sys::CUevent,
}

// SAFETY: an event's handle may be used from any thread on which its context is current.
unsafe impl Send for Mark {}
// SAFETY: as above; the driver locks each call on an event.
unsafe impl Sync for Mark {}

impl Mark {
    /// A mark that stands nowhere yet, on the GPU that is the calling thread's.
    fn new() -> Result<Self, BackendError> {
        let raw = event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map_err(failed("a new event"))?;
        Ok(Self { raw })
    }

    /// Whether this point is past.
    pub(crate) fn is_past(&self) -> bool {
        // SAFETY: the handle is live.
        unsafe { event::query(self.raw) }.is_ok()
    }

    /// The same, which others may wait for, and which knows no time.
    pub(crate) fn untimed() -> Result<Self, BackendError> {
        let raw =
            event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(failed("a new event"))?;
        Ok(Self { raw })
    }

    /// Waits until this point is past.
    pub(crate) fn wait(&self) -> Result<(), BackendError> {
        // SAFETY: the handle is live.
        unsafe { event::synchronize(self.raw) }.map_err(failed("waiting for an event"))
    }

    /// Milliseconds from `earlier` to this point; both are past.
    pub(crate) fn since_ms(&self, earlier: &Self) -> Result<f32, BackendError> {
        // SAFETY: both handles are live.
        unsafe { event::elapsed(earlier.raw, self.raw) }.map_err(failed("reading an event"))
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: the handle is live and not used again.
        let _ = unsafe { event::destroy(self.raw) };
    }
}

/// Loaded kernels. They outlive what is queued of them: whoever starts one holds the module until its stream was waited for.
pub(crate) struct Module {
    raw: sys::CUmodule,
    context: Arc<CudaContext>,
}

// SAFETY: a module's handle may be used from any thread on which its context is current.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    /// The kernel called `name`.
    pub(crate) fn kernel(&self, name: &str) -> Result<CudaKernel, BackendError> {
        let symbol =
            CString::new(name).map_err(|_| BackendError::Misuse("a kernel's name with a zero byte"))?;
        // SAFETY: the module is loaded and stays so.
        let raw = unsafe { result::module::get_function(self.raw, symbol) }
            .map_err(|error| BackendError::Failed(format!("kernel {name}: {error}")))?;
        Ok(CudaKernel { raw })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: loaded by Device::load and unloaded here alone; nothing of it is queued any more.
            let _ = unsafe { result::module::unload(self.raw) };
        }
    }
}

/// A kernel of a module, which it must not outlive.
#[derive(Clone, Copy)]
pub(crate) struct CudaKernel {
    raw: sys::CUfunction,
}

// SAFETY: a function's handle may be used from any thread on which its context is current.
unsafe impl Send for CudaKernel {}
// SAFETY: as above.
unsafe impl Sync for CudaKernel {}
