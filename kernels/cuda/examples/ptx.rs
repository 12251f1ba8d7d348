//! Makes the archive of PTX that is embedded for machines without NVRTC, `kernels/cuda/ptx/builtin.ptx.br`. The same sources give
//! the same bytes. It takes some minutes.
//!
//! `SUF_NVRTC_DIR=DIRECTORY cargo run --release -p suf-cuda --example ptx`, with the libraries of NVRTC 12.8 in the directory

#[macro_use]
#[path = "../../gate/examples/output/mod.rs"]
mod output;

use std::{
    error::Error,
    fs,
    path::Path,
    process::ExitCode,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use brotli::enc::{BrotliCompress, BrotliEncoderParams};
use suf_cuda::{
    nvrtc::{Compiler, NVRTC_DIR},
    ptx,
};
use suf_gate::BackendError;

/// The wheel to make it with: another build of 12.8 may make other PTX.
const WHEEL: &str = "nvidia-cuda-nvrtc-cu12==12.8.93";

/// Logarithm of brotli's largest window, 16 MiB: like kernels stand far from each other.
const WINDOW_LOG: i32 = 24;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ptx: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let (major, minor) = ptx::NVRTC;
    let wanted = format!(
        "NVRTC {major}.{minor} is wanted, the newest of which every driver that is used takes PTX: `pip install --target \
         DIRECTORY {WHEEL}`, then set {NVRTC_DIR}=DIRECTORY/nvidia/cuda_nvrtc/lib"
    );
    let compiler = Compiler::find().map_err(|_| format!("no NVRTC is found; {wanted}"))?;
    let found = compiler.version();
    if found != ptx::NVRTC {
        return Err(format!("NVRTC {}.{} is found; {wanted}", found.0, found.1).into());
    }
    let sources = ptx::sources();
    say!("compiling {} sources", sources.len());
    let made = compile(compiler, &sources)?;
    let packed = ptx::pack(&sources.into_iter().zip(made).collect::<Vec<_>>());
    say!("compressing {} bytes", packed.len());
    let mut archive = Vec::new();
    let parameters = BrotliEncoderParams { quality: 11, lgwin: WINDOW_LOG, ..BrotliEncoderParams::default() };
    BrotliCompress(&mut &*packed, &mut archive, &parameters)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ptx").join("builtin.ptx.br");
    fs::write(&path, &archive)?;
    say!("{}: {} bytes", path.display(), archive.len());
    Ok(())
}

/// The PTX of each source, made on all cores.
fn compile(compiler: Compiler, sources: &[String]) -> Result<Vec<String>, BackendError> {
    let next = AtomicUsize::new(0);
    let made: Vec<OnceLock<_>> = sources.iter().map(|_| OnceLock::new()).collect();
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((source, place)) = sources.get(at).zip(made.get(at)) else { return };
            place.get_or_init(|| compiler.ptx(source, ptx::SM));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    made.into_iter().map(|place| place.into_inner().expect("every source had its turn")).collect()
}
