//! NVIDIA's management library, which comes with the driver: its version, and how fast the card runs. It is found at run
//! time; without it nothing is told.

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    fmt,
};

use libloading::os::unix::Library;
use suf_gate::Clocks;

/// Room for the driver's version, as the library asks for it (NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE).
const VERSION_BYTES: usize = 80;

/// Clocks of the library's enumeration `nvmlClockType_t`.
const PROCESSORS: c_int = 1;
const MEMORY: c_int = 2;

/// One GPU, as the library sees it.
pub(crate) struct Management {
    clock_of: unsafe extern "C" fn(*mut c_void, c_int, *mut c_uint) -> c_int,
    handle: *mut c_void,
    driver: String,
    // Whose functions these are.
    _library: Library,
}

// SAFETY: the library's functions may be called from any thread, and the handle is a name that it gives a card.
unsafe impl Send for Management {}
// SAFETY: as above.
unsafe impl Sync for Management {}

impl Management {
    /// The GPU at the PCI bus address `bus`, such as `0000:3B:00.0`.
    pub(crate) fn open(bus: &CStr) -> Option<Self> {
        type Start = unsafe extern "C" fn() -> c_int;
        type Version = unsafe extern "C" fn(*mut c_char, c_uint) -> c_int;
        type Find = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;
        // SAFETY: the driver's own library, whose initialisers have no precondition.
        let library = unsafe { Library::new("libnvidia-ml.so.1") }.ok()?;
        let mut version = [0u8; VERSION_BYTES];
        let mut handle = std::ptr::null_mut();
        // SAFETY: the four have these types in every version of the library (nvml.h); they write a version of at most
        // VERSION_BYTES bytes, and a handle.
        unsafe {
            let start = library.get::<Start>(b"nvmlInit_v2\0").ok()?;
            let version_of = library.get::<Version>(b"nvmlSystemGetDriverVersion\0").ok()?;
            let find = library.get::<Find>(b"nvmlDeviceGetHandleByPciBusId_v2\0").ok()?;
            let clock_of = *library.get(b"nvmlDeviceGetClockInfo\0").ok()?;
            let failed = start() != 0
                || version_of(version.as_mut_ptr().cast(), VERSION_BYTES as c_uint) != 0
                || find(bus.as_ptr(), &raw mut handle) != 0;
            let driver = CStr::from_bytes_until_nul(&version).ok()?.to_str().ok()?.to_owned();
            (!failed).then(|| Self { clock_of, handle, driver, _library: library })
        }
    }

    /// The driver's version.
    pub(crate) fn driver(&self) -> &str {
        &self.driver
    }

    /// How fast the card runs now.
    pub(crate) fn clocks(&self) -> Option<Clocks> {
        let clock = |kind| {
            let mut mhz = 0;
            // SAFETY: the handle is the library's, which is still loaded; one number is written.
            let done = unsafe { (self.clock_of)(self.handle, kind, &raw mut mhz) };
            (done == 0).then_some(mhz)
        };
        Some(Clocks { processor_mhz: clock(PROCESSORS)?, memory_mhz: clock(MEMORY)? })
    }
}

impl fmt::Debug for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Management(driver {})", self.driver)
    }
}
