//! The program `suf`, built where the tests find it.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// Keeps the memory of keys and messages between chunks; the system's allocator gives it back and faults it in again, which
/// costs SIGMA's evaluation a quarter of its time. All memory is wiped when it is freed: key bytes pass through buffers of
/// the QUIC stack, which knows nothing of secrets.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    suf_cli::main()
}
