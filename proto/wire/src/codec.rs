//! Encode and decode by hand, over a cursor that cannot run past its end. Model: libprio-rs's `codec`.

use thiserror::Error;

/// Why bytes are not a message. Always names the field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("{field}: cut short, {needed} bytes needed, {left} left")]
    Truncated {
        /// The field that is cut.
        field: &'static str,
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// Bytes follow the end of the message.
    #[error("{field}: {bytes} bytes left over")]
    LeftOver {
        /// The message that ended too early.
        field: &'static str,
        /// Bytes after its end.
        bytes: usize,
    },
    /// A type, role, party or fault that this version does not know.
    #[error("{field}: unknown value {value}")]
    Unknown {
        /// The field.
        field: &'static str,
        /// What stood there.
        value: u64,
    },
    /// A length or count above its limit, or a count of zero where one is the least.
    #[error("{field}: {value} is out of range, {limit} is the most")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What stood there.
        value: u64,
        /// The limit, see [`crate::limits`].
        limit: u64,
    },
    /// A length that differs from the one that the agreed parameters give.
    #[error("{field}: {got} bytes, {expected} expected")]
    Length {
        /// The field.
        field: &'static str,
        /// Bytes that the agreed parameters give.
        expected: u64,
        /// Bytes announced.
        got: u64,
    },
    /// Reserved or padding bits that are not zero.
    #[error("{field}: padding bits are not zero")]
    Padding {
        /// The field.
        field: &'static str,
    },
    /// Text that is not UTF-8, or holds control characters.
    #[error("{field}: not plain UTF-8 text")]
    Text {
        /// The field.
        field: &'static str,
    },
    /// A payload that is not due at this point of the exchange.
    #[error("{field}: not expected now (node {node}, tile {tile}, step {step})")]
    Unexpected {
        /// The message.
        field: &'static str,
        /// Its node.
        node: u16,
        /// Its tile.
        tile: u32,
        /// Its step; 0 for keys, which have none.
        step: u8,
    },
    /// A causal depth that cannot be: zero, or past the last.
    #[error("{field}: causal depth {value} is outside 1..=65534")]
    Depth {
        /// The field.
        field: &'static str,
        /// What stood there.
        value: u16,
    },
}

/// A value with exactly one encoding.
pub trait Encode {
    /// Appends the encoding to `out`. A value over a limit of [`crate::limits`] is an error: the caller's bug, not the
    /// peer's.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError>;
}

/// The inverse of [`Encode`].
pub trait Decode: Sized {
    /// Takes one value from the front of the cursor.
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError>;
}

/// The undecoded rest of a message.
#[derive(Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// A cursor at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Ends the message: left-over bytes are an error.
    pub fn finish(self, field: &'static str) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(WireError::LeftOver { field, bytes }),
        }
    }

    /// The next `needed` bytes, not copied.
    pub fn take(&mut self, field: &'static str, needed: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(needed).ok_or(WireError::Truncated {
            field,
            needed,
            left: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.array(field)?))
    }

    /// Two bytes, little endian.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    /// Four bytes, little endian.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    /// Eight bytes, little endian.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A u32 length of at most `limit`, then so many bytes.
    pub(crate) fn blob(&mut self, field: &'static str, limit: usize) -> Result<&'a [u8], WireError> {
        let length = self.u32(field)? as usize;
        at_most(field, length, limit)?;
        self.take(field, length)
    }

    /// A u16 length of at most `limit`, then so many bytes of UTF-8 without control characters.
    pub(crate) fn text(&mut self, field: &'static str, limit: usize) -> Result<String, WireError> {
        let length = usize::from(self.u16(field)?);
        at_most(field, length, limit)?;
        let text = std::str::from_utf8(self.take(field, length)?).map_err(|_| WireError::Text { field })?;
        plain(field, text)?;
        Ok(text.to_owned())
    }
}

/// The inverse of [`Cursor::blob`].
pub(crate) fn put_blob(
    out: &mut Vec<u8>,
    field: &'static str,
    bytes: &[u8],
    limit: usize,
) -> Result<(), WireError> {
    at_most(field, bytes.len(), limit)?;
    // `limit` is at most MAX_PROGRAM_BYTES, so the length fits in 32 bits.
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// The inverse of [`Cursor::text`].
pub(crate) fn put_text(
    out: &mut Vec<u8>,
    field: &'static str,
    text: &str,
    limit: usize,
) -> Result<(), WireError> {
    at_most(field, text.len(), limit)?;
    plain(field, text)?;
    // `limit` is at most MAX_REASON_BYTES, so the length fits in 16 bits.
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// `value` if it is in 1..=limit.
pub(crate) fn counted<T: Copy + Into<u64>>(
    field: &'static str,
    value: T,
    limit: u64,
) -> Result<T, WireError> {
    if (1..=limit).contains(&value.into()) {
        Ok(value)
    } else {
        Err(WireError::OutOfRange { field, value: value.into(), limit })
    }
}

/// `value` if it is the number of one of `count` things, counted from 0.
pub(crate) fn below<T: Copy + Into<u64>>(field: &'static str, value: T, count: u64) -> Result<T, WireError> {
    if value.into() < count {
        Ok(value)
    } else {
        Err(WireError::OutOfRange { field, value: value.into(), limit: count - 1 })
    }
}

pub(crate) fn at_most(field: &'static str, length: usize, limit: usize) -> Result<(), WireError> {
    if length <= limit {
        Ok(())
    } else {
        Err(WireError::OutOfRange { field, value: length as u64, limit: limit as u64 })
    }
}

/// Text from a peer ends on terminals and in logs, where control characters would be commands.
fn plain(field: &'static str, text: &str) -> Result<(), WireError> {
    if text.chars().any(char::is_control) { Err(WireError::Text { field }) } else { Ok(()) }
}
