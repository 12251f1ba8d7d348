//! TOML files that people write: configurations, gates, specifications, link profiles, models.
//!
//! A library for TOML speaks of fields, variants and integer types, to programmers. Whoever writes a file reads here which line
//! and key are wrong, what is expected there, and which file of the repository explains it.

mod place;
mod syntax;
mod value;

use serde::de::DeserializeOwned;
use toml::de::DeTable;

pub use place::{column_at, line_at, line_of};

/// Largest file that is read, in bytes: a gate's table of samples of the widest window, generously.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Which key, what is wrong with it, and what to write.
    pub problem: String,
}

impl Mistake {
    /// A mistake at a byte offset of `text`.
    #[must_use]
    pub fn at(text: &str, offset: usize, problem: impl Into<String>) -> Self {
        Self { line: line_at(text, offset), column: column_at(text, offset), problem: problem.into() }
    }

    /// A mistake at the key that `path` leads to; at the beginning where the file has no such key.
    #[must_use]
    pub fn of_key(text: &str, path: &[&str], problem: impl Into<String>) -> Self {
        Self { line: line_of(text, path).unwrap_or(1), column: 1, problem: problem.into() }
    }
}

/// A file's bytes as text.
///
/// # Errors
/// When it is too large, or no text.
pub fn text(bytes: &[u8]) -> Result<&str, Mistake> {
    if bytes.len() > MAX_FILE_BYTES {
        let problem =
            format!("the file has {} bytes, and at most {MAX_FILE_BYTES} are read: cut it", bytes.len());
        return Err(Mistake { line: 1, column: 1, problem });
    }
    str::from_utf8(bytes).map_err(|error| {
        let before = str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        Mistake::at(before, before.len(), "this is no text in UTF-8: save the file as UTF-8")
    })
}

/// The document that `text` is, as a `T`; what it means is for the caller to check. `explained` is the file of the repository that
/// explains every key.
///
/// # Errors
/// Which line and key are wrong, what is expected, and where it is explained.
pub fn parse<T: DeserializeOwned>(text: &str, explained: &str) -> Result<T, Mistake> {
    self::text(text.as_bytes())?;
    toml::from_str(text).map_err(|error| {
        let (offset, problem) = match DeTable::parse(text) {
            Err(error) => syntax::mistake(text, &error),
            Ok(table) => value::mistake(table.get_ref(), &error),
        };
        Mistake::at(text, offset, format!("{problem}; {explained} explains every key"))
    })
}

#[cfg(test)]
mod tests;
