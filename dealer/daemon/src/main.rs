//! `suf-dealer`: makes one-time keys for the two parties.

use std::process::ExitCode;

use clap::Parser;

/// Makes one-time keys for the two parties and ships them. It sees no input and no message between the parties.
#[derive(Parser)]
#[command(name = "suf-dealer", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    args: suf_process::Args,
}

#[global_allocator]
static ALLOCATOR: suf_process::Allocator = suf_process::ALLOCATOR;

fn main() -> ExitCode {
    suf_dealer::run(&Cli::parse().args)
}
