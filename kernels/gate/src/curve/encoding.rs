//! The canonical bytes of a curve.

use super::{Curve, CurveError, Line, MAX_MASK_BITS, check_name, check_parameters};

/// First byte of an encoded curve.
const ENCODING_VERSION: u8 = 1;

impl Curve {
    /// Canonical bytes: version, name, frac, shift, window bits, both lines, and the residuals as 16-bit numbers; all
    /// little endian. See [`Self::decode`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + self.name.len() + 3 + 32 + 2 * self.residual.len());
        // The name's length is at most MAX_NAME_BYTES.
        out.extend([ENCODING_VERSION, self.name.len() as u8]);
        out.extend(self.name.as_bytes());
        out.extend([self.frac, self.shift, self.window_bits]);
        for line in [self.left, self.right] {
            out.extend(line.slope.to_le_bytes());
            out.extend(line.intercept.to_le_bytes());
        }
        for &r in &self.residual {
            // |r| < 2^(MAX_MASK_BITS - 2) fits.
            out.extend((r as i16).to_le_bytes());
        }
        out
    }

    /// Reads what [`Self::encode`] wrote and nothing else: every range is checked and the length must match to the byte.
    ///
    /// # Errors
    /// [`CurveError`] with what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, CurveError> {
        let mut reader = Reader { bytes };
        let [version, name_len] = reader.array()?;
        if version != ENCODING_VERSION {
            return Err(CurveError::Encoding { reason: "unknown version" });
        }
        let name = str::from_utf8(reader.slice(usize::from(name_len))?)
            .map_err(|_| CurveError::Encoding { reason: "the name is not UTF-8" })?;
        check_name(name)?;
        let [frac, shift, window_bits] = reader.array()?;
        let left = Line {
            slope: i64::from_le_bytes(reader.array()?),
            intercept: i64::from_le_bytes(reader.array()?),
        };
        let right = Line {
            slope: i64::from_le_bytes(reader.array()?),
            intercept: i64::from_le_bytes(reader.array()?),
        };
        check_parameters(frac, shift, window_bits, left, right)?;
        if reader.bytes.len() != 2 << window_bits {
            return Err(CurveError::Encoding { reason: "the table's length is not that of the window" });
        }
        let residual: Vec<i32> =
            reader.bytes.as_chunks::<2>().0.iter().map(|&pair| i32::from(i16::from_le_bytes(pair))).collect();
        let limit = 1_i64 << (MAX_MASK_BITS - 2);
        if residual.iter().any(|&r| i64::from(r).abs() >= limit) {
            return Err(CurveError::Encoding { reason: "a residual exceeds the mask" });
        }
        Ok(Self { name: name.to_owned(), frac, shift, window_bits, left, right, residual })
    }
}

/// Takes bytes from the front of a slice.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn slice(&mut self, len: usize) -> Result<&'a [u8], CurveError> {
        let (head, rest) =
            self.bytes.split_at_checked(len).ok_or(CurveError::Encoding { reason: "it ends early" })?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CurveError> {
        let mut out = [0; N];
        out.copy_from_slice(self.slice(N)?);
        Ok(out)
    }
}
