//! `.npz`: a ZIP archive of `.npy` files. A tensor is one of them; what the program keeps for itself may be several.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, BufWriter, Read, Seek, Write},
    path::Path,
};

use zip::{CompressionMethod, ZipArchive, ZipWriter, result::ZipError, write::SimpleFileOptions};

use super::{Array, Form, Length, NpyError, PIECE_BYTES, Reading, damaged, read_npy, write_header};

/// First bytes of an archive: those of its first file, or of its end if it has none.
const MAGIC: [&[u8; 4]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// Ending of the arrays' names in an archive.
const ENDING: &str = ".npy";

/// Name of the array in an archive that is written: what `numpy.savez(file, array)` calls it.
const ARRAY: &str = "arr_0.npy";

/// How many names of an archive's files a message lists.
const LISTED: usize = 5;

/// Kinds of files that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One array.
    Npy,
    /// An archive with one array, not compressed: outputs are as good as random in their low bits.
    Npz,
}

impl Format {
    /// The format of a file that is called `path`: `.npz` if it ends so.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path.extension() {
            Some(ending) if ending.eq_ignore_ascii_case("npz") => Self::Npz,
            _ => Self::Npy,
        }
    }
}

/// Whether a file that begins with `start` is an archive.
pub(super) fn is_archive(start: &[u8]) -> bool {
    MAGIC.iter().any(|magic| start.starts_with(*magic))
}

/// Reads the one array of an archive. What it unpacks to is bounded by what its header says, and that by the largest tensor.
pub(super) fn read(input: impl Read + Seek, reading: Reading) -> Result<Array<'static>, NpyError> {
    let mut archive = ZipArchive::new(input).map_err(unread)?;
    if archive.len() != 1 {
        return Err(NpyError::Archive(listed(&archive)));
    }
    let mut file = archive.by_index(0).map_err(unread)?;
    let name = file.name().map_err(unread)?.into_owned();
    if !name.ends_with(ENDING) {
        return Err(NpyError::Archive(format!("the archive holds {name:?}, which is no array")));
    }
    let declared = Length::Declared(file.size());
    // Reading to the end compares the checksum.
    read_npy(&mut file, declared, reading)
}

/// Reads the arrays of the archive at `path` that is of our own making, by their names. At most `most` are taken.
///
/// # Errors
/// When it cannot be read, is no archive of arrays, or has more.
pub fn read_arrays(path: &Path, most: usize) -> Result<BTreeMap<String, Array<'static>>, NpyError> {
    let mut archive = ZipArchive::new(BufReader::new(File::open(path)?)).map_err(unread)?;
    if archive.len() > most {
        return Err(damaged(format!("it holds {} arrays, and at most {most} are read", archive.len())));
    }
    let mut arrays = BTreeMap::new();
    for at in 0..archive.len() {
        let mut file = archive.by_index(at).map_err(unread)?;
        let name = file.name().map_err(unread)?.into_owned();
        let name =
            name.strip_suffix(ENDING).ok_or_else(|| damaged(format!("{name:?} is no array")))?.to_owned();
        let declared = Length::Declared(file.size());
        arrays.insert(name, read_npy(&mut file, declared, Reading::default())?);
    }
    Ok(arrays)
}

/// Writes an archive of arrays: the name, the form and the bytes of each.
///
/// # Errors
/// Those of `out`.
pub fn write_arrays(out: impl Write, arrays: &[(&str, Form, &[u8])]) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(PIECE_BYTES, out);
    let mut archive = ZipWriter::new_stream(&mut out);
    for (name, form, bytes) in arrays {
        archive.start_file(format!("{name}{ENDING}"), stored())?;
        write_header(&mut archive, form)?;
        archive.write_all(bytes)?;
    }
    archive.finish()?;
    out.flush()
}

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true)
}

/// What an archive of several files, or of none, holds.
fn listed<R: Read + Seek>(archive: &ZipArchive<R>) -> String {
    let count = archive.len();
    if count == 0 {
        return "the archive is empty".into();
    }
    let name = |name| format!("{:?}", String::from_utf8_lossy(name));
    let names: Vec<_> = archive.file_names_raw().take(LISTED).map(name).collect();
    let more = if count > LISTED { ", ..." } else { "" };
    format!(
        "the archive holds {count} files ({}{more}), but one array is evaluated: save that one alone",
        names.join(", ")
    )
}

/// The library's errors, in words that fit a tensor.
fn unread(error: ZipError) -> NpyError {
    match error {
        ZipError::Io(error) => error.into(),
        ZipError::UnsupportedArchive(_) => damaged(
            "its array is encrypted or packed in a way that NumPy does not write; use numpy.savez or numpy.savez_compressed",
        ),
        _ => damaged("it begins as an archive, and has no whole table of files at its end"),
    }
}

/// Writes an array in `format`: its `form`, and its values as `data` writes them.
///
/// # Errors
/// Those of `out`, and of `data`.
pub fn write_to(
    out: impl Write,
    format: Format,
    form: &Form,
    data: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(PIECE_BYTES, out);
    match format {
        Format::Npy => {
            write_header(&mut out, form)?;
            data(&mut out)?;
        }
        Format::Npz => {
            let mut archive = ZipWriter::new_stream(&mut out);
            archive.start_file(ARRAY, stored())?;
            write_header(&mut archive, form)?;
            data(&mut archive)?;
            archive.finish()?;
        }
    }
    out.flush()
}
