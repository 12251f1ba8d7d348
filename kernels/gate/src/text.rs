//! Files that people write: parsing with a bound on their size, and errors that point at the place.

use serde::de::DeserializeOwned;
use toml::Spanned;

/// What is wrong with a gate or specification file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct FileError {
    /// The file as the caller named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Largest file accepted, in bytes: a table of samples of the widest window, generously.
pub(crate) const MAX_FILE_BYTES: usize = 1 << 20;

/// A file's text with its name, to turn byte offsets into positions.
pub(crate) struct Text<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
}

impl Text<'_> {
    /// The TOML document that the text is; what it means is for the caller to check.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        if self.text.len() > MAX_FILE_BYTES {
            let message = format!("{} bytes, the limit is {MAX_FILE_BYTES}", self.text.len());
            return Err(self.error(0, message));
        }
        toml::from_str(self.text)
            .map_err(|e| self.error(e.span().map_or(0, |span| span.start), e.message().to_owned()))
    }

    /// An error at a byte offset.
    pub(crate) fn error(&self, offset: usize, message: impl Into<String>) -> FileError {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        FileError {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }

    /// An error at a value.
    pub(crate) fn at<T>(&self, place: &Spanned<T>, message: impl ToString) -> FileError {
        self.error(place.span().start, message.to_string())
    }
}
