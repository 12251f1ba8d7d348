//! `suf-party`: evaluates gates with its peer.

use std::process::ExitCode;

use clap::Parser;

/// One of the two parties: evaluates gates on masked values with its peer, with one-time keys from the dealer.
#[derive(Parser)]
#[command(name = "suf-party", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    args: suf_process::Args,
}

#[global_allocator]
static ALLOCATOR: suf_process::Allocator = suf_process::ALLOCATOR;

fn main() -> ExitCode {
    suf_server::run(&Cli::parse().args)
}
