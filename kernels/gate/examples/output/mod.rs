//! Standard output of examples and benches. Its reader may go, as `head` does: the program then ends quietly.

use std::{
    fmt::Arguments,
    io::{self, ErrorKind, Write},
    process,
};

/// Prints a line, as `println!` does.
macro_rules! say {
    ($($words:tt)*) => { crate::output::line(format_args!($($words)*)) };
}

/// Prints `text` and the end of a line.
///
/// # Panics
/// When it cannot be written for another reason than a reader that is gone.
pub(crate) fn line(text: Arguments<'_>) {
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => panic!("standard output: {error}"),
    }
}
