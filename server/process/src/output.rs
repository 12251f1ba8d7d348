//! Standard output and standard error. A stream that is closed, full or no longer read never ends a process by a panic.
//!
//! Nothing else writes to the two streams: `tests/tests/tidy.rs` forbids the standard library's macros, which panic.

use std::{
    fmt::Display,
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::fs::FileType;

/// Whether standard output may still have a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The text was accepted.
    Present,
    /// The other end of the pipe is closed: its reader, such as `head`, has seen enough. This is no failure.
    Gone,
}

/// Writes `text` and the end of a line to standard output, at once.
///
/// A process that was started with a closed standard output has `/dev/null` there: the standard library sees to it.
///
/// # Errors
/// When the text cannot be written for another reason than a reader that is gone, such as a full disk.
pub fn line(text: impl Display) -> io::Result<Reader> {
    judge(write_line(&mut io::stdout().lock(), text))
}

/// As [`line`], for text that ends its lines itself.
///
/// # Errors
/// As there.
pub fn raw(text: &[u8]) -> io::Result<Reader> {
    let mut out = io::stdout().lock();
    judge(out.write_all(text).and_then(|()| out.flush()))
}

/// Writes `text` and the end of a line to standard error. A message that cannot be written is lost.
pub fn note(text: impl Display) {
    // There is no third stream to say it on.
    let _ = write_line(&mut io::stderr().lock(), text);
}

/// Whether `path` leads to the file or the pipe that is standard output.
#[must_use]
pub fn is_stdout(path: &Path) -> bool {
    let own = rustix::fs::fstat(io::stdout());
    fs::metadata(path)
        .is_ok_and(|there| own.is_ok_and(|own| (own.st_dev, own.st_ino) == (there.dev(), there.ino())))
}

/// Whether standard output is a pipe: a process that started this one can read it.
#[must_use]
pub fn is_pipe() -> bool {
    rustix::fs::fstat(io::stdout()).is_ok_and(|own| FileType::from_raw_mode(own.st_mode) == FileType::Fifo)
}

/// Answers a command line that asks for help or the version, or is wrong. The exit status is 0, or 1 if the answer cannot
/// be written, or 2 for wrong usage.
#[must_use]
pub fn answer(program: &str, error: &clap::Error) -> u8 {
    let written = error.print();
    if error.use_stderr() {
        return u8::try_from(error.exit_code()).unwrap_or(2);
    }
    match judge(written.and_then(|()| io::stdout().flush())) {
        Ok(_) => 0,
        Err(error) => {
            note(format_args!("{program}: {}", unwritten(&error)));
            1
        }
    }
}

/// In words, that standard output does not take what is written.
#[must_use]
pub fn unwritten(error: &io::Error) -> String {
    format!("standard output cannot be written: {error}; what was to be printed is lost")
}

/// Standard error as a log writes to it: what cannot be written is lost, and the log goes on.
#[derive(Debug, Clone, Copy, Default)]
pub struct LossyStderr;

impl Write for LossyStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full disk or a closed pipe must not end a daemon.
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_line(out: &mut impl Write, text: impl Display) -> io::Result<()> {
    // In one piece: a line of one process is not mixed with another's.
    out.write_all(format!("{text}\n").as_bytes())?;
    out.flush()
}

fn judge(written: io::Result<()>) -> io::Result<Reader> {
    match written {
        Ok(()) => Ok(Reader::Present),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn a_reader_that_is_gone_is_no_failure_and_a_full_disk_is_one() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert_eq!(judge(write_line(&mut writer, 1)).unwrap(), Reader::Present);
        drop(reader);
        assert_eq!(judge(write_line(&mut writer, 2)).unwrap(), Reader::Gone);
        let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = judge(write_line(&mut full, 3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(unwritten(&error).contains("standard output"));
    }
}
