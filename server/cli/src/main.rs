//! `suf`: the operator's and client's command.

use std::process::ExitCode;

fn main() -> ExitCode {
    suf_cli::main()
}
