//! Element types: how NumPy spells them, and what a value is in each.

use half::{bf16, f16};

/// Type of the elements, without their byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE 754 half precision.
    F16,
    /// The upper half of a float32.
    Bf16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
}

/// What a header's `descr` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Descr {
    /// Numbers, and whether their first byte is the highest.
    Numbers { dtype: Dtype, big_endian: bool },
    /// Two bytes without a type, which is how `ml_dtypes` saves bfloat16.
    TwoBytes { big_endian: bool },
    /// Anything else, in words that end with what to do.
    Refused(&'static str),
}

impl Descr {
    /// Reads the spellings that `numpy.dtype` takes.
    pub(super) fn parse(text: &str) -> Self {
        let (order, name) = match text.chars().next() {
            Some(order @ ('<' | '>' | '=' | '|')) => (Some(order), &text[1..]),
            _ => (None, text),
        };
        // Without an order, and with `=`, values are in the reader's own.
        let big_endian = order == Some('>') || order != Some('<') && cfg!(target_endian = "big");
        let dtype = match name {
            "f2" | "e" | "half" | "float16" => Dtype::F16,
            "bfloat16" => Dtype::Bf16,
            "f4" | "f" | "single" | "float32" => Dtype::F32,
            "f8" | "d" | "double" | "float" | "float_" | "float64" => Dtype::F64,
            "i1" | "b" | "byte" | "int8" => Dtype::I8,
            "i2" | "h" | "short" | "int16" => Dtype::I16,
            "i4" | "i" | "intc" | "int32" => Dtype::I32,
            "i8" | "l" | "q" | "p" | "n" | "long" | "longlong" | "int" | "int_" | "intp" | "int64" => {
                Dtype::I64
            }
            "u1" | "B" | "ubyte" | "uint8" => Dtype::U8,
            "u2" | "H" | "ushort" | "uint16" => Dtype::U16,
            "u4" | "I" | "uintc" | "uint32" => Dtype::U32,
            "u8" | "L" | "Q" | "P" | "N" | "ulong" | "ulonglong" | "uint" | "uintp" | "uint64" => Dtype::U64,
            "V2" => return Self::TwoBytes { big_endian },
            other => return Self::Refused(why_not(other)),
        };
        Self::Numbers { dtype, big_endian }
    }
}

/// Why the values of a type are not read, and what to save instead.
fn why_not(name: &str) -> &'static str {
    match name {
        "?" | "b1" | "bool" | "bool_" => "Booleans are no numbers; save array.astype('float32')",
        "O" | "object" => "Python objects are not read; save array.astype('float32')",
        "g" | "f16" | "longdouble" | "float128" => {
            "it differs between machines; save array.astype('float64')"
        }
        "F" | "D" | "G" | "c8" | "c16" | "c32" | "complex64" | "complex128" | "complex256" => {
            "complex numbers are not evaluated; save the real and the imaginary part"
        }
        "f1" | "V1" => "it may be one of several 8-bit types; save array.astype('float32')",
        _ => match name.chars().next() {
            Some('S' | 'U' | 'a' | 'T') => "text is no tensor; save array.astype('float32')",
            Some('M' | 'm') => "dates and durations are no numbers; save array.astype('float64')",
            Some('V') => "bytes without a type may be anything; save array.astype('float32')",
            _ => "no such type is known; save array.astype('float32')",
        },
    }
}

/// Decodes little-endian values of `WIDTH` bytes each.
fn decode<const WIDTH: usize>(bytes: &[u8], real: impl Fn([u8; WIDTH]) -> f64) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|value| real(*value)).collect()
}

impl Dtype {
    /// Every type.
    pub const ALL: [Self; 12] = [
        Self::F16,
        Self::Bf16,
        Self::F32,
        Self::F64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
    ];

    /// Bytes of one value.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// NumPy's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
        }
    }

    /// How a file's header says it; bfloat16 as `ml_dtypes` does.
    pub(super) fn descr(self) -> &'static str {
        match self {
            Self::F16 => "<f2",
            Self::Bf16 => "<V2",
            Self::F32 => "<f4",
            Self::F64 => "<f8",
            Self::I8 => "|i1",
            Self::I16 => "<i2",
            Self::I32 => "<i4",
            Self::I64 => "<i8",
            Self::U8 => "|u1",
            Self::U16 => "<u2",
            Self::U32 => "<u4",
            Self::U64 => "<u8",
        }
    }

    /// Whether values are integers, which are taken as fixed point.
    #[must_use]
    pub fn is_integer(self) -> bool {
        !matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// The type that has room for every output of a gate, for those that [`Self::holds`] does not admit.
    #[must_use]
    pub fn widened(self) -> Self {
        match self {
            Self::F16 | Self::Bf16 | Self::F32 => Self::F32,
            Self::F64 => Self::F64,
            _ => Self::I64,
        }
    }

    /// Little-endian values as real numbers. Integers beyond 2^53 are rounded: no gate's domain reaches as far as that.
    #[must_use]
    pub fn reals(self, bytes: &[u8]) -> Vec<f64> {
        match self {
            Self::F16 => decode(bytes, |value| f16::from_le_bytes(value).to_f64()),
            Self::Bf16 => decode(bytes, |value| bf16::from_le_bytes(value).to_f64()),
            Self::F32 => decode(bytes, |value| f32::from_le_bytes(value).into()),
            Self::F64 => decode(bytes, f64::from_le_bytes),
            Self::I8 => decode(bytes, |value| i8::from_le_bytes(value).into()),
            Self::I16 => decode(bytes, |value| i16::from_le_bytes(value).into()),
            Self::I32 => decode(bytes, |value| i32::from_le_bytes(value).into()),
            Self::I64 => decode(bytes, |value| i64::from_le_bytes(value) as f64),
            Self::U8 => decode(bytes, |value| u8::from_le_bytes(value).into()),
            Self::U16 => decode(bytes, |value| u16::from_le_bytes(value).into()),
            Self::U32 => decode(bytes, |value| u32::from_le_bytes(value).into()),
            Self::U64 => decode(bytes, |value| u64::from_le_bytes(value) as f64),
        }
    }

    /// One little-endian value in digits, exactly.
    pub(super) fn text(self, bytes: &[u8]) -> String {
        match self {
            Self::I64 => i64::from_le_bytes(bytes.try_into().expect("8 bytes")).to_string(),
            Self::U64 => u64::from_le_bytes(bytes.try_into().expect("8 bytes")).to_string(),
            _ => self.reals(bytes)[0].to_string(),
        }
    }

    /// Whether `units`, a multiple of 2^-`frac`, has its place within the range of this type.
    #[must_use]
    pub fn holds(self, units: i64, frac: u8) -> bool {
        let bits = self.width() as u32 * 8;
        match self {
            Self::F16 => f16::from_f64(scaled(units, frac)).is_finite(),
            Self::Bf16 | Self::F32 | Self::F64 => true,
            Self::I8 | Self::I16 | Self::I32 | Self::I64 => {
                (i64::MIN >> (64 - bits)..=i64::MAX >> (64 - bits)).contains(&units)
            }
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => {
                u64::try_from(units).is_ok_and(|units| units <= u64::MAX >> (64 - bits))
            }
        }
    }

    /// Appends `units`, multiples of 2^-`frac`: floats as real numbers, rounded to the nearest; integers as they are, which
    /// [`Self::holds`] has to admit.
    pub fn encode(self, units: &[i64], frac: u8, into: &mut Vec<u8>) {
        let real = |units: &i64| scaled(*units, frac);
        match self {
            Self::F16 => into.extend(units.iter().flat_map(|y| f16::from_f64(real(y)).to_le_bytes())),
            Self::Bf16 => into.extend(units.iter().flat_map(|y| bf16::from_f64(real(y)).to_le_bytes())),
            Self::F32 => into.extend(units.iter().flat_map(|y| (real(y) as f32).to_le_bytes())),
            Self::F64 => into.extend(units.iter().flat_map(|y| real(y).to_le_bytes())),
            // Two's complement: the low bytes.
            _ => into.extend(units.iter().flat_map(|y| y.to_le_bytes().into_iter().take(self.width()))),
        }
    }
}

fn scaled(units: i64, frac: u8) -> f64 {
    units as f64 / (1_u64 << frac) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dtype(text: &str) -> Option<(Dtype, bool)> {
        match Descr::parse(text) {
            Descr::Numbers { dtype, big_endian } => Some((dtype, big_endian)),
            _ => None,
        }
    }

    #[test]
    fn spellings_of_numpy_are_read_as_their_type() {
        for text in ["<f4", "=f4", "|f4", "f4", "f", "float32", "single"] {
            assert_eq!(dtype(text), Some((Dtype::F32, false)), "{text}");
        }
        assert_eq!(dtype(">f8"), Some((Dtype::F64, true)));
        assert_eq!(dtype("<bfloat16"), dtype("bfloat16"));
        for dtype in Dtype::ALL {
            for text in [dtype.name(), dtype.descr()] {
                match Descr::parse(text) {
                    Descr::Numbers { dtype: found, big_endian: false } => assert_eq!(found, dtype, "{text}"),
                    Descr::TwoBytes { big_endian: false } => assert_eq!(dtype, Dtype::Bf16),
                    other => panic!("{text}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn types_that_are_not_read_are_refused_in_words_of_their_own() {
        for (text, word) in [
            ("|b1", "Booleans"),
            ("|O", "objects"),
            ("<U8", "text"),
            ("|S3", "text"),
            ("<c8", "complex"),
            ("<M8[ns]", "dates"),
            ("<f16", "float64"),
            ("|V12", "anything"),
            ("<f1", "8-bit"),
            ("<V1", "8-bit"),
            ("quux", "no such type"),
            ("", "no such type"),
        ] {
            match Descr::parse(text) {
                Descr::Refused(why) => assert!(why.contains(word), "{text}: {why}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn values_are_what_they_were_in_every_type() {
        for dtype in Dtype::ALL {
            // Seven bits of 2^-2 fit every float; as integers, every type.
            let units: Vec<i64> = (0..64).collect();
            let mut bytes = Vec::new();
            dtype.encode(&units, 2, &mut bytes);
            assert_eq!(bytes.len(), units.len() * dtype.width());
            let scale = if dtype.is_integer() { 1.0 } else { 4.0 };
            let back: Vec<i64> = dtype.reals(&bytes).iter().map(|x| (x * scale) as i64).collect();
            assert_eq!(back, units, "{dtype:?}");
        }
    }

    #[test]
    fn the_range_of_a_type_is_known() {
        for (dtype, least, most) in [
            (Dtype::I8, -128, 127),
            (Dtype::U16, 0, 65_535),
            (Dtype::I32, i32::MIN.into(), i32::MAX.into()),
            (Dtype::U32, 0, u32::MAX.into()),
        ] {
            assert!(dtype.holds(least, 12) && dtype.holds(most, 12), "{dtype:?}");
            assert!(!dtype.holds(least - 1, 12) && !dtype.holds(most + 1, 12), "{dtype:?}");
        }
        assert!(
            Dtype::I64.holds(i64::MIN, 12) && Dtype::U64.holds(i64::MAX, 12) && !Dtype::U64.holds(-1, 12)
        );
        assert!(Dtype::F16.holds(65_504 << 12, 12) && !Dtype::F16.holds(65_536 << 12, 12));
    }
}
