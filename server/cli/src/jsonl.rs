//! Files of records: one JSON object per line.

use std::{fs::File, io::Read, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use crate::{error::Error, out};

/// Largest file that is read, in bytes: some hundred thousand records.
const MOST_BYTES: u64 = 256 << 20;

/// Damaged lines that are named one by one; of the others, their number is told.
const NAMED_LINES: usize = 3;

/// What a file of records holds.
#[derive(Debug)]
pub(crate) struct Lines<T> {
    /// The records, in order.
    pub(crate) records: Vec<T>,
    /// What is wrong with each line that is no record, with file and line.
    pub(crate) damaged: Vec<String>,
}

/// The records as lines.
///
/// # Errors
/// When one cannot be JSON; that is a defect.
pub(crate) fn lines<T: Serialize>(records: &[T]) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    for record in records {
        serde_json::to_writer(&mut text, record)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// Writes the records to `path`; the file is made anew.
///
/// # Errors
/// When it cannot be written; what stood there is then as it was.
pub(crate) fn write<T: Serialize>(path: &Path, records: &[T]) -> Result<(), Error> {
    let text = lines(records).map_err(|error| Error::write(path, error))?;
    suf_files::write(path, &text).map_err(|error| Error::write(path, error))
}

/// Reads a file of records. A line that is no record is left out, for example half a line that a full disk left.
///
/// # Errors
/// When the file cannot be read, or is larger than any that we write.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Lines<T>, Error> {
    let unread = |why: &dyn std::fmt::Display| {
        let hint =
            if path.exists() { "" } else { "; `suf bench` writes them, and --from names another file" };
        Error::usage(format!("cannot read the records {}: {why}{hint}", path.display()))
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| unread(&error))?;
    file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(|error| unread(&error))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(unread(&format_args!("it has more than {MOST_BYTES} bytes")));
    }
    let mut found = Lines { records: Vec::new(), damaged: Vec::new() };
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(record) => found.records.push(record),
            Err(error) => found.damaged.push(format!(
                "{}:{}: no record of this version: {error}",
                path.display(),
                number + 1
            )),
        }
    }
    Ok(found)
}

impl<T> Lines<T> {
    /// The records, after a warning about each line that is no record.
    pub(crate) fn warned(self) -> Vec<T> {
        for damage in self.damaged.iter().take(NAMED_LINES) {
            out::note(format_args!("warning: {damage}; the line is left out"));
        }
        if self.damaged.len() > NAMED_LINES {
            out::note(format_args!("warning: {} more lines are left out", self.damaged.len() - NAMED_LINES));
        }
        self.records
    }
}

/// Saves records that their folder did not take, so that no measurement is lost. They go to the folder for temporary
/// files, or else to standard output. Says where they are.
pub(crate) fn rescue<T: Serialize>(records: &[T]) {
    let Ok(text) = lines(records) else { return };
    let saved =
        tempfile::Builder::new().prefix("suf-records-").suffix(".jsonl").tempfile().and_then(|mut file| {
            std::io::Write::write_all(&mut file, &text)?;
            file.as_file().sync_all()?;
            file.keep().map_err(|error| error.error)
        });
    match saved {
        Ok((_, path)) => out::note(format_args!("what was measured is in {}", path.display())),
        Err(error) => {
            out::note(format_args!("no temporary file takes the records either: {error}; they are printed"));
            // There is no further place; a failed print is told by the tables that follow.
            let _ = out::raw(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_line_costs_that_line_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.jsonl");
        write(&path, &[1, 2]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole, b"1\n2\n");
        // Half a line at the end, text that is none, an empty line.
        std::fs::write(&path, b"1\n\xff\n\n2\n[3").unwrap();
        let found: Lines<u8> = read(&path).unwrap();
        assert_eq!(found.records, [1, 2]);
        assert_eq!(found.damaged.len(), 2);
        assert!(found.damaged[0].contains("numbers.jsonl:2:"), "{}", found.damaged[0]);
        assert!(found.damaged[1].contains("numbers.jsonl:5:"), "{}", found.damaged[1]);
        assert!(read::<u8>(&folder.path().join("none")).is_err());
    }
}
