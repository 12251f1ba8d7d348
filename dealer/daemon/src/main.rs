//! `suf-dealer`: makes one-time keys for the two parties.

use std::process::ExitCode;

use clap::Parser;

/// Makes one-time keys for the two parties and ships them. It sees no input and no message between the parties.
#[derive(Parser)]
#[command(name = "suf-dealer", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    args: suf_dealer::Args,
}

/// Keeps the memory of keys and messages between chunks; the system's allocator gives it back and faults it in again, which
/// costs SIGMA's evaluation a quarter of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    suf_dealer::run(Cli::parse().args)
}
