//! `suf-dealer`: makes one-time keys for the two parties.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// Makes one-time keys for the two parties and ships them. It sees no input and no message between the parties.
#[derive(Parser)]
#[command(name = "suf-dealer", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    args: suf_dealer::Args,
}

/// Keeps the memory of keys and messages between chunks; the system's allocator gives it back and faults it in again, which
/// costs SIGMA's evaluation a quarter of its time. All memory is wiped when it is freed: key bytes pass through buffers of
/// the QUIC stack, which knows nothing of secrets.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    suf_dealer::run(Cli::parse().args)
}
