//! `suf`: the operator's and client's command.

use std::process::ExitCode;

/// Keeps the memory of keys and messages between chunks; the system's allocator gives it back and faults it in again, which
/// costs SIGMA's evaluation a quarter of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    suf_cli::main()
}
