//! Just enough of the .npy format to make inputs and read outputs: one-dimensional int64, little endian.

use std::{fs, path::Path};

/// Writes `values`.
///
/// # Panics
/// When the file cannot be written.
pub fn write_i64(path: &Path, values: &[i64]) {
    let mut header = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': ({},), }}", values.len());
    let unpadded = 10 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    fs::write(path, bytes).expect("the folder is writable");
}

/// Reads what [`write_i64`] writes.
///
/// # Panics
/// When the file is another kind.
#[must_use]
pub fn read_i64(path: &Path) -> Vec<i64> {
    let bytes = fs::read(path).expect("an output file");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert!(String::from_utf8_lossy(&bytes[..header]).contains("'<i8'"), "not int64");
    bytes[header..]
        .chunks_exact(8)
        .map(|value| i64::from_le_bytes(value.try_into().expect("8 bytes")))
        .collect()
}
