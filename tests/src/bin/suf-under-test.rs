//! The program `suf`, built where the tests find it.

use std::process::ExitCode;

fn main() -> ExitCode {
    suf_cli::main()
}
