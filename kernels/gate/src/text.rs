//! Files that people write: their text with its name, and errors that point at the place.

use serde::de::DeserializeOwned;
use suf_toml::Mistake;
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

/// A file's text with its name, to turn byte offsets into positions.
pub(crate) struct Text<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
}

impl Text<'_> {
    /// The TOML document that the text is; what it means is for the caller to check. `explained` is the file that explains its keys.
    pub(crate) fn parse<T: DeserializeOwned>(&self, explained: &str) -> Result<T, FileError> {
        suf_toml::parse(self.text, explained).map_err(|mistake| self.mistake(mistake))
    }

    /// An error at a byte offset.
    pub(crate) fn error(&self, offset: usize, message: impl Into<String>) -> FileError {
        self.mistake(Mistake::at(self.text, offset, message))
    }

    fn mistake(&self, Mistake { line, column, problem }: Mistake) -> FileError {
        FileError { file: self.file.to_owned(), line, column, message: problem }
    }

    /// An error at a value.
    pub(crate) fn at<T>(&self, place: &Spanned<T>, message: impl ToString) -> FileError {
        self.error(place.span().start, message.to_string())
    }
}
