//! What the daemons' configuration files have in common: how they are read, what is said of mistakes, and the keys that mean
//! the same everywhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use serde::de::DeserializeOwned;
use suf_gate::catalog::AllowedGates;

/// A configuration file, as written.
pub trait Configuration: DeserializeOwned {
    /// Checks the values, and takes relative paths from `folder`, that of the file.
    ///
    /// # Errors
    /// Which key is wrong, and what it may be.
    fn check(&mut self, folder: &Path) -> Result<(), String>;

    /// Reads and checks the file at `path`. Relative paths in it are taken from its folder.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key, or a value out of range.
    fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// As [`Configuration::load`], for the `text` of the file at `path`.
    ///
    /// # Errors
    /// As there.
    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), error: Box::new(error) })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        config.check(folder).map_err(|reason| ConfigError::Value { path: path.to_owned(), reason })?;
        Ok(config)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is not understood; the message shows the line.
    #[error("the configuration {path} is wrong: {error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("the configuration {path} is wrong: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Which key, and what it may be.
        reason: String,
    },
}

/// Whether the value of `key` is from `least` to `most`.
///
/// # Errors
/// In words, if it is not.
pub fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{key} = {value}; it is {least} to {most}"))
}

/// The key `link`: a name of `config/links`, or a path, taken from `folder`. As for `LinkProfile::find`, what has a slash or
/// a dot is a path.
#[must_use]
pub fn link_in(folder: &Path, link: &str) -> String {
    if link.contains(['/', '.']) { folder.join(link).display().to_string() } else { link.to_owned() }
}

/// The key `gates`: digests or names of built-in gates; none where the file does not have it, which allows all gates.
///
/// # Errors
/// Which entry is neither.
pub fn allowed_gates(entries: Option<&[String]>) -> Result<Option<Arc<AllowedGates>>, String> {
    let parse = |entries: &[String]| AllowedGates::parse(entries.iter().map(String::as_str));
    let allowed = entries.map(parse).transpose().map_err(|error| format!("gates: {error}"))?;
    Ok(allowed.map(Arc::new))
}

/// The key `threads`: 0 is one for each core.
#[must_use]
pub fn threads(configured: usize) -> usize {
    match configured {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// `link`, where the file does not say.
#[must_use]
pub fn default_link() -> String {
    "loopback".into()
}

/// `lock_memory`, where the file does not say.
#[must_use]
pub fn default_lock_memory() -> bool {
    true
}

/// `max_elems`, where the file does not say.
#[must_use]
pub fn default_max_elems() -> u64 {
    suf_gate::gate::MAX_ELEMS
}
