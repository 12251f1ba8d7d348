//! The program `suf`, built where the tests find it.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: suf_process::Allocator = suf_process::ALLOCATOR;

fn main() -> ExitCode {
    suf_cli::main()
}
