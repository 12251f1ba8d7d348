//! Where a tensor is read from: a file, a pipe, standard input.

use std::{
    fs::File,
    io::{BufReader, Cursor, IsTerminal, Read, Seek},
    path::Path,
};

use suf_gate::limits::MAX_ELEMS;

use super::{Array, Length, MAGIC, NpyError, Reading, archive, damaged, read_npy};

/// Standard input, as a path.
const STANDARD_INPUT: &str = "-";

/// Longest archive that is taken from a pipe: the largest tensor, and a page around it.
const MAX_PIPED_BYTES: u64 = MAX_ELEMS * 8 + 4096;

/// What is to be read at `path`, for people.
#[must_use]
pub fn name(path: &Path) -> String {
    if path == Path::new(STANDARD_INPUT) { "standard input".into() } else { path.display().to_string() }
}

/// Reads a tensor from the file at `path`, to the end of the pipe there, or for `-` to the end of standard input.
///
/// # Errors
/// When it cannot be read, is damaged, or holds what is not accepted.
pub fn read(path: &Path, reading: Reading) -> Result<Array<'static>, NpyError> {
    if path == Path::new(STANDARD_INPUT) {
        let input = std::io::stdin();
        if input.is_terminal() {
            return Err(damaged("standard input is a terminal; give a file, or pipe one in"));
        }
        return read_pipe(input.lock(), reading);
    }
    let mut file = File::open(path)?;
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(damaged("it is a folder; name a file in it"));
    }
    if !about.is_file() {
        return read_pipe(BufReader::new(file), reading);
    }
    if begins_as_archive(&mut file)? {
        file.rewind()?;
        return archive::read(BufReader::new(file), reading);
    }
    file.rewind()?;
    read_npy(&mut BufReader::new(file), Length::Actual(about.len()), reading)
}

/// Reads a tensor from the bytes of a file.
///
/// # Errors
/// As [`read`].
pub fn read_from(bytes: &[u8], reading: Reading) -> Result<Array<'static>, NpyError> {
    if archive::is_archive(bytes) {
        return archive::read(Cursor::new(bytes), reading);
    }
    read_npy(&mut &bytes[..], Length::Actual(bytes.len() as u64), reading)
}

/// Reads what can be read once only, and has no length. An archive has its table at the end: it is kept until then.
fn read_pipe(mut input: impl Read, reading: Reading) -> Result<Array<'static>, NpyError> {
    let mut start = Vec::new();
    input.by_ref().take(MAGIC.len() as u64).read_to_end(&mut start)?;
    if !archive::is_archive(&start) {
        return read_npy(&mut start.as_slice().chain(input), Length::Unknown, reading);
    }
    input.take(MAX_PIPED_BYTES + 1 - start.len() as u64).read_to_end(&mut start)?;
    if start.len() as u64 > MAX_PIPED_BYTES {
        return Err(damaged(format!("the archive is longer than {MAX_PIPED_BYTES} bytes")));
    }
    archive::read(Cursor::new(start), reading)
}

fn begins_as_archive(file: &mut File) -> Result<bool, NpyError> {
    let mut start = Vec::new();
    file.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(archive::is_archive(&start))
}
