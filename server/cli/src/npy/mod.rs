//! Tensors in NumPy's files: `.npy`, and `.npz` with one array. Reads what NumPy reads as a plain array of floats or
//! integers, in either byte order and either order of the axes. For other arrays the error says what to save instead.
//!
//! Format: NEP 1 (<https://numpy.org/neps/nep-0001-npy-format.html>), versions 1.0 to 3.0; version 1.0 is written, little
//! endian. Values stay in memory as they stand in the file, once.

mod archive;
mod dtype;
mod header;
mod source;

use std::{
    borrow::Cow,
    io::{Read, Write},
    ops::Range,
};

use suf_gate::limits::MAX_ELEMS;

pub use self::{
    archive::{Format, read_arrays, write_arrays, write_to},
    dtype::Dtype,
    source::{name, read, read_from},
};
use self::{dtype::Descr, header::Header};

/// First bytes of every `.npy` file.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest header accepted: NumPy's own limit for headers that it evaluates, 10 kB.
const MAX_HEADER_BYTES: usize = 10_000;

/// The header and the data are aligned to this many bytes.
const ALIGNMENT: usize = 64;

/// Bytes read or written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What a file says of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Lengths of the axes, outermost first; none for a scalar.
    pub shape: Vec<usize>,
    /// Whether the first index changes fastest (Fortran's order), not the last (C's).
    pub fortran: bool,
    /// Type of the values.
    pub dtype: Dtype,
}

/// A tensor of at least one value, in the order of its file. The bytes are its own, or lie in a caller's memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Array<'a> {
    form: Form,
    /// Little endian.
    data: Cow<'a, [u8]>,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// From the operating system.
    #[error("it cannot be read: {0}; see its path and its permissions")]
    Io(#[from] std::io::Error),
    /// Not a whole, well-formed file.
    #[error("the file is damaged or no .npy or .npz file: {0}")]
    Damaged(String),
    /// An element type that is not accepted.
    #[error("its dtype is {0}: {1}")]
    Dtype(String, &'static str),
    /// Bytes that may be bfloat16.
    #[error(
        "its dtype is V2, two bytes without a type: --dtype bfloat16 if they are, as ml_dtypes saves them; else save array.astype('float32')"
    )]
    TwoBytes,
    /// A file that is not what `--dtype` says.
    #[error("its dtype is {0}, not bfloat16: leave --dtype out")]
    NotBfloat16(&'static str),
    /// An archive with more or less than one array.
    #[error("{0}; save one with numpy.save")]
    Archive(String),
    /// No element at all.
    #[error("the tensor is empty")]
    Empty,
    /// More elements than a run has.
    #[error("the tensor has {0} elements, and a run at most {most}: cut it into several", most = MAX_ELEMS)]
    TooMany(u128),
}

/// How a file is read where it does not say so itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Two bytes without a type are bfloat16.
    pub bfloat16: bool,
}

impl Form {
    /// Number of values; what was read has at most [`MAX_ELEMS`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is none; what was read has at least one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The index of the value at place `at` of the file.
    #[must_use]
    pub fn index(&self, at: usize) -> Vec<usize> {
        let mut index = vec![0; self.shape.len()];
        let mut rest = at;
        let mut step = |axis: usize| {
            index[axis] = rest % self.shape[axis];
            rest /= self.shape[axis];
        };
        if self.fortran {
            (0..self.shape.len()).for_each(&mut step);
        } else {
            (0..self.shape.len()).rev().for_each(&mut step);
        }
        index
    }
}

impl Array<'static> {
    /// An array of `units`, multiples of 2^-`frac`, in `form`, whose type has to hold them.
    #[must_use]
    pub fn of_units(form: Form, units: &[i64], frac: u8) -> Self {
        debug_assert_eq!(form.len(), units.len());
        let mut data = Vec::with_capacity(units.len() * form.dtype.width());
        form.dtype.encode(units, frac, &mut data);
        Self { form, data: data.into() }
    }
}

impl<'a> Array<'a> {
    /// The little-endian values in `data`, which are not copied.
    ///
    /// # Errors
    /// When there are none, or too many of them.
    ///
    /// # Panics
    /// When there are more or fewer than `form` says.
    pub fn borrowed(form: Form, data: &'a [u8]) -> Result<Self, NpyError> {
        check_shape(&form.shape)?;
        assert_eq!(form.len() * form.dtype.width(), data.len(), "as many bytes as the form has");
        Ok(Self { form, data: data.into() })
    }

    /// What the file says of the values.
    #[must_use]
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// The values as they are written.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Values as real numbers, by their places in the file.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn reals(&self, places: Range<usize>) -> Vec<f64> {
        let width = self.form.dtype.width();
        self.form.dtype.reals(&self.data[places.start * width..places.end * width])
    }

    /// The value at place `at` in digits.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn text(&self, at: usize) -> String {
        let width = self.form.dtype.width();
        self.form.dtype.text(&self.data[at * width..(at + 1) * width])
    }
}

/// What is known of the length of a file, in bytes, before it is read.
#[derive(Debug, Clone, Copy)]
enum Length {
    /// Nothing: it comes from a pipe.
    Unknown,
    /// An archive says it.
    Declared(u64),
    /// The system says it.
    Actual(u64),
}

/// The values are the client's secret.
impl std::fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Array").field("form", &self.form).finish_non_exhaustive()
    }
}

/// Reads a `.npy` file. No data is read when the header is refused, and no more memory is taken than there is data.
fn read_npy(input: &mut impl Read, length: Length, reading: Reading) -> Result<Array<'static>, NpyError> {
    let mut fixed = [0; 8];
    read_exact(input, &mut fixed)?;
    if fixed[..6] != *MAGIC {
        return Err(damaged("it does not begin with \\x93NUMPY"));
    }
    let (length_bytes, header_bytes) = match fixed[6] {
        1 => {
            let mut length = [0; 2];
            read_exact(input, &mut length)?;
            (2, usize::from(u16::from_le_bytes(length)))
        }
        2 | 3 => {
            let mut length = [0; 4];
            read_exact(input, &mut length)?;
            (4, u32::from_le_bytes(length) as usize)
        }
        version => return Err(damaged(format!("unknown format version {version}"))),
    };
    if header_bytes > MAX_HEADER_BYTES {
        return Err(damaged(format!("a header of {header_bytes} bytes")));
    }
    let mut header = vec![0; header_bytes];
    read_exact(input, &mut header)?;
    let (form, big_endian) = form(&header, fixed[6], reading)?;

    let wanted = form.len() * form.dtype.width();
    if let Length::Declared(known) | Length::Actual(known) = length {
        let present = known.saturating_sub(8 + length_bytes + header_bytes as u64);
        if present != wanted as u64 {
            return Err(damaged(format!(
                "its shape {:?} of {} needs {wanted} bytes of data, it has {present}",
                form.shape,
                form.dtype.name()
            )));
        }
    }
    let mut data = read_data(input, wanted, matches!(length, Length::Actual(_)))?;
    if big_endian {
        data.chunks_exact_mut(form.dtype.width()).for_each(<[u8]>::reverse);
    }
    Ok(Array { form, data: data.into() })
}

/// What the header of a file of format `version` says, and whether the values are big endian.
fn form(header: &[u8], version: u8, reading: Reading) -> Result<(Form, bool), NpyError> {
    // Versions 1 and 2 are Latin-1, whose characters are the first of Unicode.
    let header = match version {
        3 => std::str::from_utf8(header).map_err(|_| damaged("the header is not text"))?.to_owned(),
        _ => header.iter().copied().map(char::from).collect(),
    };
    let header = Header::parse(&header)
        .ok_or_else(|| damaged("the header is not a dictionary of descr, fortran_order and shape"))?;
    let Some(descr) = header.descr else {
        let why =
            "its elements are records of several fields; save one field, array['name'].astype('float32')";
        return Err(NpyError::Dtype("structured".into(), why));
    };
    let (dtype, big_endian) = match Descr::parse(&descr) {
        Descr::Numbers { dtype, .. } if reading.bfloat16 && dtype != Dtype::Bf16 => {
            return Err(NpyError::NotBfloat16(dtype.name()));
        }
        Descr::Numbers { dtype, big_endian } => (dtype, big_endian),
        Descr::TwoBytes { big_endian } if reading.bfloat16 => (Dtype::Bf16, big_endian),
        Descr::TwoBytes { .. } => return Err(NpyError::TwoBytes),
        Descr::Refused(why) => return Err(NpyError::Dtype(descr, why)),
    };
    let shape: Vec<_> =
        header.shape.iter().map(|length| usize::try_from(*length).unwrap_or(usize::MAX)).collect();
    check_shape(&shape)?;
    Ok((Form { shape, fortran: header.fortran, dtype }, big_endian))
}

/// Checks that a run takes a tensor of this shape.
fn check_shape(shape: &[usize]) -> Result<(), NpyError> {
    // Any zero makes it empty, however large the rest.
    if shape.contains(&0) {
        return Err(NpyError::Empty);
    }
    let elements = shape.iter().fold(1, |product: u128, length| product.saturating_mul(*length as u128));
    if elements > MAX_ELEMS.into() { Err(NpyError::TooMany(elements)) } else { Ok(()) }
}

/// Reads `wanted` bytes, after which the input must end. Memory is taken at once only if that many are `sure` to come.
fn read_data(input: &mut impl Read, wanted: usize, sure: bool) -> Result<Vec<u8>, NpyError> {
    let mut data = Vec::new();
    if sure {
        data.reserve_exact(wanted);
    }
    while data.len() < wanted {
        let piece = PIECE_BYTES.min(wanted - data.len());
        // Doubled, but never beyond what is wanted.
        if data.capacity() - data.len() < piece {
            data.reserve_exact(data.len().max(piece).min(wanted - data.len()));
        }
        let read = input.by_ref().take(piece as u64).read_to_end(&mut data)?;
        if read == 0 {
            return Err(damaged(format!("it ends after {} of {wanted} bytes of data", data.len())));
        }
    }
    match input.read(&mut [0])? {
        0 => Ok(data),
        _ => Err(damaged(format!("there is more behind its {wanted} bytes of data"))),
    }
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

/// Writes the start of a `.npy` file.
fn write_header(out: &mut impl Write, form: &Form) -> std::io::Result<()> {
    let shape = match &form.shape[..] {
        [length] => format!("({length},)"),
        lengths => {
            let lengths: Vec<_> = lengths.iter().map(ToString::to_string).collect();
            format!("({})", lengths.join(", "))
        }
    };
    let order = if form.fortran { "True" } else { "False" };
    let mut header =
        format!("{{'descr': '{}', 'fortran_order': {order}, 'shape': {shape}, }}", form.dtype.descr());
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
    out.write_all(header.as_bytes())
}

#[cfg(test)]
mod tests;
