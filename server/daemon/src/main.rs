//! `suf-party`: evaluates gates with its peer.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// One of the two parties: evaluates gates on masked values with its peer, with one-time keys from the dealer.
#[derive(Parser)]
#[command(name = "suf-party", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    args: suf_server::Args,
}

/// Keeps the memory of keys and messages between chunks; the system's allocator gives it back and faults it in again, which
/// costs SIGMA's evaluation a quarter of its time. All memory is wiped when it is freed: key bytes pass through buffers of
/// the QUIC stack, which knows nothing of secrets.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    suf_server::run(Cli::parse().args)
}
