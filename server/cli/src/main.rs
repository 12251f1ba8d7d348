//! `suf`: the operator's and client's command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: suf_process::Allocator = suf_process::ALLOCATOR;

fn main() -> ExitCode {
    suf_cli::main()
}
