//! Kernels are compiled at run time to machine code of the very GPU: PTX of a newer compiler than the driver would be
//! refused. What was compiled is kept in the user's cache directory.

use std::{
    env,
    ffi::{CString, c_char},
    fs,
    path::Path,
    sync::OnceLock,
};

use cudarc::nvrtc::{result, sys};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use suf_gate::BackendError;

use crate::cache::Cache;

/// Directory of a libnvrtc that the loader does not find by itself, such as that of the PyPI wheel `nvidia-cuda-nvrtc`.
pub const NVRTC_DIR: &str = "SUF_NVRTC_DIR";

/// The language of the kernels.
const STANDARD: &str = "--std=c++17";

/// The compiler of kernels.
#[derive(Clone, Copy, Debug)]
pub struct Compiler {
    version: (i32, i32),
}

/// A kernel's use of the machine, as the assembler reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The kernel.
    pub kernel: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of registers that are spilled to memory and loaded again, for each thread.
    pub spill_bytes: u32,
}

/// Machine code and what its making said.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The machine code.
    pub cubin: Vec<u8>,
    /// Each kernel's use of the machine.
    pub usage: Vec<Usage>,
}

impl Compiler {
    /// Finds NVRTC.
    ///
    /// # Errors
    /// When it is not installed; the message says what to install.
    pub fn find() -> Result<Self, BackendError> {
        preload();
        // SAFETY: loads a library by name and drops it again.
        if !unsafe { sys::is_culib_present() } {
            return Err(BackendError::Unavailable(format!(
                "the kernels' compiler is missing (libnvrtc.so.13 or .12); {}",
                install()
            )));
        }
        let mut version = (0, 0);
        // SAFETY: writes two integers to the addresses given.
        unsafe { sys::nvrtcVersion(&raw mut version.0, &raw mut version.1) }.result().map_err(|error| {
            BackendError::Unavailable(format!("NVRTC does not tell its version: {error}"))
        })?;
        Ok(Self { version })
    }

    /// Major and minor version.
    #[must_use]
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// Compiles `source` for compute capability `sm` (10 * major + minor).
    ///
    /// # Errors
    /// When the compiler refuses; the message holds its own.
    pub fn compile(&self, source: &str, sm: u32) -> Result<Compiled, BackendError> {
        let (program, log) = Program::compile(source, &options(sm))?;
        let mut len = 0;
        // SAFETY: writes one integer to the address given.
        unsafe { sys::nvrtcGetCUBINSize(program.0, &raw mut len) }.result().map_err(failed)?;
        let mut cubin = vec![0u8; len];
        // SAFETY: the buffer has the length asked for above.
        unsafe { sys::nvrtcGetCUBIN(program.0, cubin.as_mut_ptr().cast()) }.result().map_err(failed)?;
        Ok(Compiled { cubin, usage: usage(&log) })
    }

    /// Compiles `source` to PTX, which a driver compiles for any GPU of compute capability `sm` or later.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn ptx(&self, source: &str, sm: u32) -> Result<String, BackendError> {
        let (program, _) =
            Program::compile(source, &[format!("--gpu-architecture=compute_{sm}"), STANDARD.into()])?;
        // SAFETY: the program is compiled, and lives until the end of this function.
        let ptx = unsafe { result::get_ptx(program.0) }.map_err(failed)?;
        Ok(text(&ptx))
    }

    /// As [`Compiler::compile`], from the user's cache where it is there.
    pub(crate) fn cached(&self, source: &str, sm: u32) -> Result<Vec<u8>, BackendError> {
        let compile = || Ok(self.compile(source, sm)?.cubin);
        match Cache::of_user() {
            Some(cache) => cache.get(&self.cache_name(source, sm), compile),
            None => compile(),
        }
    }

    fn cache_name(&self, source: &str, sm: u32) -> String {
        let mut hash = blake3::Hasher::new();
        let (major, minor) = self.version;
        for part in [source, &options(sm).join(" "), &format!("{major}.{minor}")] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().to_hex().to_string()
    }
}

/// How to come by a compiler.
pub(crate) fn install() -> String {
    format!(
        "install cuda-nvrtc of CUDA 12.8 or later, or `pip install nvidia-cuda-nvrtc` and name the directory of its libraries \
         in {NVRTC_DIR}"
    )
}

struct Program(sys::nvrtcProgram);

impl Program {
    /// Compiles `source`; the program and what the compiler said.
    fn compile(source: &str, options: &[String]) -> Result<(Self, String), BackendError> {
        let source = CString::new(source).map_err(|_| BackendError::Misuse("a source with a zero byte"))?;
        let program = Self(result::create_program(&source, Some(c"suf.cu")).map_err(failed)?);
        // SAFETY: the program was made above.
        let outcome = unsafe { result::compile_program(program.0, options) };
        // SAFETY: as above.
        let log = text(&unsafe { result::get_program_log(program.0) }.map_err(failed)?);
        if outcome.is_err() {
            return Err(BackendError::Failed(format!(
                "kernels do not compile with {}:\n{log}",
                options.join(" ")
            )));
        }
        Ok((program, log))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by create_program and destroyed here alone.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn options(sm: u32) -> [String; 3] {
    [format!("--gpu-architecture=sm_{sm}"), STANDARD.into(), "--ptxas-options=-v".into()]
}

fn failed(error: result::NvrtcError) -> BackendError {
    BackendError::Failed(format!("NVRTC: {error}"))
}

/// A text of NVRTC's, without the zero byte at its end.
fn text(bytes: &[c_char]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Loads the libraries of [`NVRTC_DIR`], so that the loader finds them by name from then on.
fn preload() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let Some(dir) = env::var_os(NVRTC_DIR) else { return };
        let Ok(entries) = fs::read_dir(&dir) else {
            tracing::warn!(dir = %Path::new(&dir).display(), "{NVRTC_DIR} is not a directory that can be read");
            return;
        };
        let is_nvrtc = |name: &str| name.starts_with("libnvrtc") && name.contains(".so") && !name.contains(".alt.");
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.file_name().and_then(|name| name.to_str()).is_some_and(is_nvrtc) {
                // SAFETY: the user names the directory as NVRTC's; its initialisers have no precondition.
                match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
                    // Stays loaded for the rest of the process.
                    Ok(library) => std::mem::forget(library),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "a library of NVRTC does not load"),
                }
            }
        }
    });
}

/// Reads the assembler's report: `Compiling entry function 'name'`, `N bytes spill stores, N bytes spill loads`,
/// `Used N registers`.
fn usage(log: &str) -> Vec<Usage> {
    let mut all: Vec<Usage> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("entry function '") {
            let kernel = rest.split('\'').next().unwrap_or_default().to_owned();
            all.push(Usage { kernel, registers: 0, spill_bytes: 0 });
        } else if let Some(last) = all.last_mut() {
            last.spill_bytes +=
                number_before(line, " bytes spill stores") + number_before(line, " bytes spill loads");
            last.registers += number_before(line, " registers");
        }
    }
    all
}

fn number_before(line: &str, what: &str) -> u32 {
    let Some((before, _)) = line.split_once(what) else { return 0 };
    before.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assemblers_report_is_read() {
        let log = "ptxas info    : Compiling entry function 'deal' for 'sm_90'\n\
                   ptxas info    : Function properties for deal\n\
                   \x20   8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n\
                   ptxas info    : Used 40 registers, used 1 barriers, 32768 bytes smem\n";
        assert_eq!(usage(log), [Usage { kernel: "deal".into(), registers: 40, spill_bytes: 16 }]);
    }
}
