//! Tensors as NumPy's `.npy` files: float32, float64 and int64, little endian, C order, any shape. Anything else is
//! refused, with what to do in NumPy.
//!
//! Format: NEP 1 (<https://numpy.org/neps/nep-0001-npy-format.html>), versions 1.0 to 3.0; version 1.0 is written.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
};

/// First bytes of every file.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest header accepted: NumPy's own limit for headers that it evaluates, 10 kB.
const MAX_HEADER_BYTES: usize = 10_000;

/// The header and the data are aligned to this many bytes.
const ALIGNMENT: usize = 64;

/// Values of a tensor, by element type.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// `<f4`.
    F32(Vec<f32>),
    /// `<f8`.
    F64(Vec<f64>),
    /// `<i8`: fixed point.
    I64(Vec<i64>),
}

/// A tensor: values in C order and their shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Lengths of the axes, outermost first; none for a scalar.
    pub shape: Vec<usize>,
    /// All values.
    pub values: Values,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// From the operating system.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Not a whole, well-formed file.
    #[error("the file is damaged or no .npy file: {0}")]
    Damaged(String),
    /// An element type that is not accepted.
    #[error("its dtype is {0}; save it as float32, float64 or int64, little endian (array.astype('<f4'))")]
    Dtype(String),
    /// Columns first.
    #[error("its values are in Fortran order; save numpy.ascontiguousarray(array)")]
    Fortran,
    /// No element at all.
    #[error("the tensor is empty")]
    Empty,
}

impl Values {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    /// Whether there is none; a file that was read has at least one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn dtype(&self) -> &'static str {
        match self {
            Self::F32(_) => "<f4",
            Self::F64(_) => "<f8",
            Self::I64(_) => "<i8",
        }
    }
}

/// Reads a whole file.
///
/// # Errors
/// When it cannot be read, is damaged, or holds what is not accepted.
pub fn read(path: &Path) -> Result<Array, NpyError> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    read_from(BufReader::new(file), bytes)
}

/// Writes a whole file.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, array: &Array) -> Result<(), NpyError> {
    let mut out = BufWriter::new(File::create(path)?);
    write_to(&mut out, array)?;
    out.flush()?;
    Ok(())
}

/// Reads from `input`, which holds `bytes` bytes in all.
///
/// # Errors
/// As [`read`].
pub fn read_from(mut input: impl Read, bytes: u64) -> Result<Array, NpyError> {
    let mut fixed = [0; 8];
    read_exact(&mut input, &mut fixed)?;
    if fixed[..6] != *MAGIC {
        return Err(damaged("it does not begin with \\x93NUMPY"));
    }
    let (length_bytes, header_bytes) = match fixed[6] {
        1 => {
            let mut length = [0; 2];
            read_exact(&mut input, &mut length)?;
            (2, usize::from(u16::from_le_bytes(length)))
        }
        2 | 3 => {
            let mut length = [0; 4];
            read_exact(&mut input, &mut length)?;
            (4, u32::from_le_bytes(length) as usize)
        }
        version => return Err(damaged(format!("unknown format version {version}"))),
    };
    if header_bytes > MAX_HEADER_BYTES {
        return Err(damaged(format!("a header of {header_bytes} bytes")));
    }
    let mut header = vec![0; header_bytes];
    read_exact(&mut input, &mut header)?;
    let header = std::str::from_utf8(&header).map_err(|_| damaged("the header is not text"))?;
    let Header { descr, fortran, shape } = Header::parse(header)?;

    let width = match descr {
        "<f4" => 4_u64,
        "<f8" | "<i8" => 8,
        other => return Err(NpyError::Dtype(other.to_owned())),
    };
    // One axis has the same layout either way.
    if fortran && shape.iter().filter(|length| **length > 1).count() > 1 {
        return Err(NpyError::Fortran);
    }
    let elements = shape.iter().try_fold(1_u64, |product, length| product.checked_mul(*length as u64));
    let wanted = elements.and_then(|elements| elements.checked_mul(width));
    let present = bytes.saturating_sub(8 + length_bytes + header_bytes as u64);
    if wanted != Some(present) {
        let wanted = wanted.map_or("more than 2^64".to_owned(), |wanted| wanted.to_string());
        return Err(damaged(format!("its shape {shape:?} needs {wanted} bytes of data, it has {present}")));
    }
    if present == 0 {
        return Err(NpyError::Empty);
    }
    let values = match descr {
        "<f4" => Values::F32(read_all(input, f32::from_le_bytes)?),
        "<f8" => Values::F64(read_all(input, f64::from_le_bytes)?),
        _ => Values::I64(read_all(input, i64::from_le_bytes)?),
    };
    Ok(Array { shape, values })
}

fn read_all<const WIDTH: usize, T>(
    mut input: impl Read,
    decode: fn([u8; WIDTH]) -> T,
) -> Result<Vec<T>, NpyError> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    Ok(bytes.as_chunks().0.iter().map(|value| decode(*value)).collect())
}

fn read_exact(input: &mut impl Read, into: &mut [u8]) -> Result<(), NpyError> {
    input.read_exact(into).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged("it ends inside its header"),
        _ => NpyError::Io(error),
    })
}

fn damaged(why: impl Into<String>) -> NpyError {
    NpyError::Damaged(why.into())
}

/// Writes to `out`.
///
/// # Errors
/// Those of `out`.
pub fn write_to(out: &mut impl Write, array: &Array) -> std::io::Result<()> {
    let shape = match &array.shape[..] {
        [length] => format!("({length},)"),
        lengths => {
            let lengths: Vec<_> = lengths.iter().map(ToString::to_string).collect();
            format!("({})", lengths.join(", "))
        }
    };
    let descr = array.values.dtype();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Spaces, then a newline, up to the alignment; 10 bytes stand before the header.
    while (10 + header.len() + 1) % ALIGNMENT != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length =
        u16::try_from(header.len()).map_err(|_| std::io::Error::other("more axes than NumPy has"))?;
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    match &array.values {
        Values::F32(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes())),
        Values::F64(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes())),
        Values::I64(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes())),
    }
}

/// The Python dictionary at the start of a file.
struct Header<'a> {
    descr: &'a str,
    fortran: bool,
    shape: Vec<usize>,
}

impl<'a> Header<'a> {
    /// Parses exactly the form that NumPy writes: three keys in any order, a trailing comma or none.
    fn parse(text: &'a str) -> Result<Self, NpyError> {
        let bad = || damaged("the header is not a dictionary of descr, fortran_order and shape");
        let mut rest =
            text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or_else(bad)?.trim();
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        while !rest.is_empty() {
            let (key, after) = quoted(rest).ok_or_else(bad)?;
            let value = after.trim_start().strip_prefix(':').ok_or_else(bad)?.trim_start();
            rest = match key {
                "descr" if value.starts_with('[') => {
                    return Err(NpyError::Dtype("a record of several fields".into()));
                }
                "descr" => {
                    let (name, after) = quoted(value).ok_or_else(bad)?;
                    descr.replace(name).is_none().then_some(after).ok_or_else(bad)?
                }
                "fortran_order" => {
                    let (order, after) = boolean(value).ok_or_else(bad)?;
                    fortran.replace(order).is_none().then_some(after).ok_or_else(bad)?
                }
                "shape" => {
                    let (lengths, after) =
                        value.strip_prefix('(').and_then(|value| value.split_once(')')).ok_or_else(bad)?;
                    let lengths = lengths.trim().trim_end_matches(',');
                    let lengths: Result<Vec<usize>, _> = match lengths {
                        "" => Ok(Vec::new()),
                        lengths => lengths.split(',').map(|length| length.trim().parse()).collect(),
                    };
                    let lengths = lengths.map_err(|_| bad())?;
                    shape.replace(lengths).is_none().then_some(after).ok_or_else(bad)?
                }
                _ => return Err(bad()),
            }
            .trim_start();
            rest = match rest.strip_prefix(',') {
                Some(rest) => rest.trim_start(),
                None if rest.is_empty() => rest,
                None => return Err(bad()),
            };
        }
        match (descr, fortran, shape) {
            (Some(descr), Some(fortran), Some(shape)) => Ok(Self { descr, fortran, shape }),
            _ => Err(bad()),
        }
    }
}

/// The text between a quote and the next of its kind, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    text[1..].split_once(quote)
}

fn boolean(text: &str) -> Option<(bool, &str)> {
    let strip = |word, value| text.strip_prefix(word).map(|rest| (value, rest));
    strip("True", true).or_else(|| strip("False", false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(array: &Array) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_to(&mut bytes, array).unwrap();
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Array, NpyError> {
        read_from(bytes, bytes.len() as u64)
    }

    /// A file of version 1 with this header and this much data.
    fn with_header(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    #[test]
    fn what_is_written_is_read_back_and_aligned() {
        for array in [
            Array { shape: vec![], values: Values::F64(vec![-0.5]) },
            Array { shape: vec![3], values: Values::F32(vec![1.5, f32::NAN, -0.0]) },
            Array { shape: vec![2, 1, 2], values: Values::I64(vec![i64::MIN, -1, 0, i64::MAX]) },
        ] {
            let bytes = file(&array);
            let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
            assert_eq!(header % ALIGNMENT, 0);
            let back = parse(&bytes).unwrap();
            // NaN differs from itself: compare what would be written.
            assert_eq!(file(&back), bytes);
        }
    }

    #[test]
    fn the_header_of_numpy_itself_is_understood() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 128, 1536), }";
        let parsed = Header::parse(header).unwrap();
        assert_eq!((parsed.descr, parsed.fortran, parsed.shape), ("<f4", false, vec![6, 128, 1536]));
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_damage() {
        let whole = file(&Array { shape: vec![2], values: Values::F32(vec![1.0, 2.0]) });
        for end in 0..whole.len() {
            assert!(matches!(parse(&whole[..end]), Err(NpyError::Damaged(_))), "cut at {end}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(matches!(parse(&longer), Err(NpyError::Damaged(_))));
    }

    #[test]
    fn what_is_not_accepted_says_so() {
        let header = |descr: &str, fortran: &str, shape: &str| {
            format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}")
        };
        for descr in ["'>f4'", "'<f2'", "'<i4'", "'|O'", "[('a', '<f4')]"] {
            let bytes = with_header(&header(descr, "False", "(1,)"), 4);
            assert!(matches!(parse(&bytes), Err(NpyError::Dtype(_))), "{descr}");
        }
        let two_axes = with_header(&header("'<f4'", "True", "(2, 2)"), 16);
        assert!(matches!(parse(&two_axes), Err(NpyError::Fortran)));
        let one_axis = with_header(&header("'<f4'", "True", "(4,)"), 16);
        assert!(parse(&one_axis).is_ok());
        let empty = with_header(&header("'<f4'", "False", "(0, 3)"), 0);
        assert!(matches!(parse(&empty), Err(NpyError::Empty)));
        for shape in ["(-1,)", "(4294967296, 4294967296, 4)", "(a,)", "4"] {
            let bytes = with_header(&header("'<f4'", "False", shape), 4);
            assert!(matches!(parse(&bytes), Err(NpyError::Damaged(_))), "{shape}");
        }
        let twice = with_header("{'shape': (1,), 'shape': (1,), 'descr': '<f4'}", 4);
        assert!(matches!(parse(&twice), Err(NpyError::Damaged(_))));
    }
}
